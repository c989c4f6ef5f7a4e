"""The two variants that an interleaved comparison times: which interpreter runs what code."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import devbench
from devbench.errors import UsageError
from devbench.registry import Source
from devbench.regress.checkout import Repository

#: The oldest Python that the engine runs under.
OLDEST: Final = (3, 11)


@dataclass(frozen=True, slots=True)
class Variant:
    """One of them, ready to be timed.

    name: as it was asked for. python: what its workers run under; version: of that. commit: of its
    code, where that is a commit. tree: where its state of the repository `top` lies. roots: folders of
    the tree that its modules are looked for in, before anything that is installed.
    """

    name: str
    python: Path
    version: str = platform.python_version()
    commit: str | None = None
    top: Path | None = None
    tree: Path | None = None
    roots: tuple[Path, ...] = ()

    def variables(self, stage: Path) -> dict[str, str]:
        """The environment of its workers: the engine of `stage` first, the same on both sides, so that
        a repository of devbench itself is no exception."""
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = [str(stage), *map(str, self.roots), *filter(None, given)]
        return {"PYTHONPATH": os.pathsep.join(path)}

    def source(self, source: Source) -> Source:
        """A suite file of the repository is this side's own file, whether it is there or not."""
        if source.kind != "file" or self.top is None or self.tree is None:
            return source
        file = Path(source.location)
        if not file.is_relative_to(self.top):
            return source
        return replace(source, location=str(self.tree / file.relative_to(self.top)))

    def has(self, source: Source) -> bool:
        """Whether a suite file is there on this side."""
        return source.kind != "file" or Path(self.source(source).location).is_file()

    def has_another(self, source: Source) -> bool:
        """Whether its suite file is not what the one at `source` is."""
        if source.kind != "file" or self.source(source) == source:
            return False
        return Path(self.source(source).location).read_bytes() != Path(source.location).read_bytes()


@contextmanager
def variants(base: str, head: str | None) -> Iterator[tuple[Variant, Variant]]:
    """The sides that are named; gone afterwards.

    base, head: an interpreter (or the folder of a virtual environment), or a git ref of the repository
    around the working folder. head None: the files as they are now, or this interpreter.

    Raises UsageError for what is neither, and for a head that leaves uncommitted changes out.
    """
    with ExitStack() as stack:
        # First of all: where the folder for temporary files lies in the repository, so does the base's tree.
        if head is not None and _interpreter(head) is None:
            _refuse_stale(head, _repository(head))
        first = stack.enter_context(_side(base))
        if head is not None:
            second = stack.enter_context(_side(head))
        elif first.top is not None:
            second = _of_tree("the work tree", None, first.top, first.top)
        else:
            second = Variant("this Python", Path(sys.executable))
        yield first, second


@contextmanager
def _side(text: str) -> Iterator[Variant]:
    python = _interpreter(text)
    if python is not None:
        yield Variant(text, python, _version(text, python))
        return
    repository = _repository(text)
    with repository.worktree(text) as tree:
        yield _of_tree(text, repository.commit(text), repository.top, tree)


def _repository(text: str) -> Repository:
    """The one whose commit `text` could be."""
    try:
        return Repository.around(Path.cwd())
    except UsageError as error:
        raise UsageError(f"{text!r} is no Python interpreter, and {error}") from None


def _interpreter(text: str) -> Path | None:
    """The interpreter that a path or the folder of a virtual environment means."""
    path = Path(text).expanduser()
    if path.is_dir() and (path / "pyvenv.cfg").is_file():
        path = path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if path.is_file() and os.access(path, os.X_OK):
        # Not resolved: the link of a virtual environment tells Python which one it is.
        return path.absolute()
    return None


def _version(text: str, python: Path) -> str:
    """What an interpreter is, as ``3.12.4``. Raises UsageError for a program that is none, and for one
    that is too old."""
    ask = "import sys; print('devbench', *sys.version_info[:3])"
    try:
        done = subprocess.run(
            [str(python), "-c", ask],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{text} does not run: {error}") from None
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 4 or words[0] != "devbench":
        raise UsageError(f"{text} is no Python interpreter: asked for its version it did not tell")
    found = ".".join(words[1:])
    if tuple(int(word) for word in words[1:]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UsageError(f"{text} is Python {found}; devbench needs {oldest} or later there too")
    return found


def _refuse_stale(ref: str, repository: Repository) -> None:
    """Whoever names HEAD and has changed files means those."""
    if repository.commit(ref) != repository.commit("HEAD"):
        return
    if changed := repository.uncommitted():
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UsageError(
            f"{ref} leaves out what is not committed: {', '.join(changed[:3])}{more}. Commit it, or leave "
            "--head out to compare the files as they are"
        )


def _of_tree(name: str, commit: str | None, top: Path, tree: Path) -> Variant:
    """A state of a repository under this interpreter, with what is installed in it.

    What is on the path of this process and lies in the repository (a package that is installed in
    editable mode) is looked for in the tree instead.
    """
    own = [
        entry.relative_to(top)
        for entry in (Path(word).resolve() for word in sys.path if word)
        if entry.is_relative_to(top) and "site-packages" not in entry.parts
    ]
    folders = dict.fromkeys([Path(), Path("src"), *own])
    roots = tuple(tree / folder for folder in folders if (tree / folder).is_dir())
    return Variant(name, Path(sys.executable), commit=commit, top=top, tree=tree, roots=roots)


def stage(folder: Path, sources: Iterable[Source], sides: Iterable[Variant]) -> None:
    """Put into `folder` what the workers of all sides share: this engine, and for another interpreter
    the packages of the suites, never the rest of what is installed here."""
    own = Path(devbench.__file__).parent
    _copy(own, folder)
    info = folder / f"devbench-{devbench.__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: devbench\nVersion: {devbench.__version__}\n"
    )
    points = importlib.metadata.distribution("devbench").entry_points
    groups = dict.fromkeys(point.group for point in points)
    (info / "entry_points.txt").write_text(
        "\n".join(
            line
            for group in groups
            for line in (
                f"[{group}]",
                *(f"{point.name} = {point.value}" for point in points if point.group == group),
            )
        )
    )
    if all(side.python == Path(sys.executable) for side in sides):
        return
    for package in {source.location.split(".")[0] for source in sources if source.kind == "module"}:
        found = importlib.util.find_spec(package)
        if found is not None and found.origin is not None:
            origin = Path(found.origin)
            _copy(origin.parent if origin.name == "__init__.py" else origin, folder)


def _copy(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    else:
        shutil.copy(source, folder)
