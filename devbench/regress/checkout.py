"""States of a git repository as folders: a worktree each, made and removed by the tool."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devbench.errors import UsageError


@dataclass(frozen=True, slots=True)
class Repository:
    """The git repository that a folder lies in."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """None where there is no repository, or no git."""
        try:
            return cls(Path(_git(folder, "rev-parse", "--show-toplevel")))
        except UsageError:
            return None

    def commit(self, ref: str) -> str:
        """The full name of the commit that `ref` means. Raises UsageError when there is none."""
        try:
            return _git(self.top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        except UsageError:
            recent = _git(self.top, "for-each-ref", "--format=%(refname:short)", "--count=8")
            known = ", ".join(recent.split()) or "none"
            raise UsageError(
                f"{ref!r} is neither a Python interpreter nor a commit of {self.top}; "
                f"branches and tags there: {known}"
            ) from None

    def uncommitted(self) -> list[str]:
        """Files of the work tree that differ from HEAD, those that git does not know included."""
        status = _git(self.top, "status", "--porcelain", "--untracked-files=all")
        return [line[3:] for line in status.splitlines()]

    @contextmanager
    def worktree(self, ref: str) -> Iterator[Path]:
        """The files of `ref` in a folder of their own, which is gone afterwards."""
        commit = self.commit(ref)
        with tempfile.TemporaryDirectory(prefix="devbench-tree-") as folder:
            tree = Path(folder) / "tree"
            _git(self.top, "worktree", "add", "--detach", "--quiet", str(tree), commit)
            try:
                yield tree
            finally:
                _git(self.top, "worktree", "remove", "--force", str(tree))


def _git(folder: Path, *words: str) -> str:
    """Standard output of a git command. Raises UsageError with what git said."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UsageError("git is not installed; name Python interpreters instead") from None
    if done.returncode != 0:
        raise UsageError(f"git {' '.join(words[:2])}: {done.stderr.strip() or 'failed'}")
    return done.stdout.rstrip("\n")
