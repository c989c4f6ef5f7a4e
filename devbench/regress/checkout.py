"""States of a git repository as folders: a worktree each, made and removed by the tool."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devbench.errors import UsageError

#: What git tells its hooks. A command for another folder would take the caller's index for its own.
_OF_A_HOOK: Final = frozenset(
    {
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)


@dataclass(frozen=True, slots=True)
class Repository:
    """The git repository that a folder lies in."""

    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Raises UsageError where there is none, or where git will not read it."""
        try:
            return cls(Path(_git(folder, "rev-parse", "--show-toplevel")))
        except UsageError as error:
            if "not a git repository" not in str(error):
                raise
            raise UsageError(f"{folder} is in no git repository") from None

    def commit(self, ref: str) -> str:
        """The full name of the commit that `ref` means. Raises UsageError when there is none."""
        try:
            return _git(self.top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        except UsageError:
            recent = _git(self.top, "for-each-ref", "--format=%(refname:short)", "--count=8")
            known = ", ".join(recent.split()) or "none"
            shallow = _git(self.top, "rev-parse", "--is-shallow-repository") == "true"
            hint = "; it is a shallow clone, which `git fetch --unshallow` completes"
            raise UsageError(
                f"{ref!r} is neither a Python interpreter nor a commit of {self.top}; "
                f"branches and tags there: {known}{hint if shallow else ''}"
            ) from None

    def uncommitted(self) -> list[str]:
        """Files of the work tree that differ from HEAD, those that git does not know included."""
        status = _git(self.top, "status", "--porcelain", "--untracked-files=all")
        return [line[3:] for line in status.splitlines()]

    def installed_copies(self) -> list[str]:
        """Packages of the repository that this interpreter finds somewhere else, where they are installed."""
        files = _git(self.top, "ls-files", "-z", "*__init__.py").split("\0")
        folders = {Path(file).parent for file in files if file}
        names = {folder.name for folder in folders if folder.parent not in folders}
        specs = {name: importlib.util.find_spec(name) for name in names if name.isidentifier()}
        return sorted(
            name
            for name, spec in specs.items()
            if spec and spec.origin and not Path(spec.origin).is_relative_to(self.top)
        )

    @contextmanager
    def worktree(self, ref: str) -> Iterator[Path]:
        """The files of `ref` in a folder of their own, which is gone afterwards, also where making it was
        interrupted."""
        commit = self.commit(ref)
        with tempfile.TemporaryDirectory(prefix="devbench-tree-") as folder:
            tree = Path(folder).resolve() / "tree"
            try:
                _git(self.top, "worktree", "add", "--detach", "--quiet", str(tree), commit)
                yield tree
            finally:
                self._forget(tree)

    def _forget(self, tree: Path) -> None:
        """Remove a worktree, whatever state it is in: git keeps one locked while it is being made."""
        shutil.rmtree(tree, ignore_errors=True)
        known = _git(self.top, "worktree", "list", "--porcelain").splitlines()
        if f"worktree {tree.as_posix()}" in known:
            _git(self.top, "worktree", "remove", "--force", "--force", str(tree))


def _git(folder: Path, *words: str) -> str:
    """Standard output of a git command, run without the project's hooks: what they do after a checkout
    (install, fetch large files) is meant for people. Raises UsageError with what git said."""
    kept = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "-c", f"core.hooksPath={os.devnull}", *words],
            env=kept | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("git is not installed; name Python interpreters instead") from None
    if done.returncode != 0:
        raise UsageError(f"git {' '.join(words[:2])}: {done.stderr.strip() or 'failed'}")
    return done.stdout.rstrip("\n")
