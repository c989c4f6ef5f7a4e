"""Finds suites, frameworks and reporters by entry point, and suites by file.

A plugin that cannot be loaded becomes a `Broken` row; a file that the user named and that cannot be
loaded is an error, since it was asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import linecache
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from devbench.declare import Benchmark
from devbench.errors import DeclarationError, UsageError, unknown
from devbench.frameworks.base import Framework
from devbench.model import Json

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True, slots=True)
class Source:
    """Where a suite comes from, in a form that a worker in another process can load it from.

    kind ``source``: the text itself, for a class that was written in a notebook cell.
    """

    suite: str
    kind: Literal["module", "file", "source"]
    location: str

    def __str__(self) -> str:
        return self.location if self.kind != "source" else f"the source of {self.suite!r}"

    def to_json(self) -> Json:
        return {"suite": self.suite, "kind": self.kind, "location": self.location}

    @classmethod
    def from_json(cls, data: Json) -> Source:
        return cls(data["suite"], data["kind"], data["location"])


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded, and why."""

    group: str
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All benchmarks that can be chosen, with the source of each suite."""

    benchmarks: Mapping[str, Benchmark]
    sources: Mapping[str, Source]
    broken: tuple[Broken, ...]

    @property
    def suites(self) -> tuple[str, ...]:
        return tuple(self.sources)


def load_catalog(paths: Iterable[Path] = (), extra: Iterable[Source] = ()) -> Catalog:
    """The installed suites, then `extra`, then the files in `paths`.

    Raises UsageError for a file that cannot be loaded or that repeats a benchmark's name.
    """
    benchmarks: dict[str, Benchmark] = {}
    sources: dict[str, Source] = {}
    broken: list[Broken] = []
    for point in _points("devbench.suites"):
        source = Source(point.name, "module", point.value)
        try:
            loaded = load_suite(source)
            _refuse_duplicates(loaded, benchmarks)
        except UsageError as error:
            broken.append(Broken("devbench.suites", point.name, str(error)))
            continue
        sources[source.suite] = source
        benchmarks |= {benchmark.name: benchmark for benchmark in loaded}
    for source in (*extra, *(Source(path.stem, "file", str(path.resolve())) for path in paths)):
        if source.suite in sources:
            raise UsageError(
                f"{source}: there is already a suite {source.suite!r}; give this one another name"
            )
        loaded = load_suite(source)
        if not loaded:
            raise UsageError(
                f"{source} declares no benchmark; put @devbench.benchmark(...) on a class in it"
            )
        _refuse_duplicates(loaded, benchmarks)
        sources[source.suite] = source
        benchmarks |= {benchmark.name: benchmark for benchmark in loaded}
    return Catalog(benchmarks, sources, tuple(broken))


def load_suite(source: Source) -> tuple[Benchmark, ...]:
    """Import a suite and return what it declares. Raises UsageError naming the culprit and the line."""
    try:
        module = _import(source)
    except UsageError:
        raise
    except SyntaxError as error:
        raise UsageError(f"{error.filename}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:  # whatever a foreign module does when it is imported
        raise UsageError(
            f"suite {source.suite!r} failed on import at {_last_frame(error)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    own: dict[str, Benchmark] = {}
    for value in vars(module).values():
        # A benchmark that was imported from another suite belongs to that one.
        if not isinstance(value, Benchmark) or type(value.definition).__module__ != module.__name__:
            continue
        if own.setdefault(value.name, value) is not value:
            raise DeclarationError(
                f"the benchmark {value.name!r} exists already, at {own[value.name].where}; "
                "give it another name",
                value.where,
            )
    return tuple(replace(benchmark, suite=source.suite) for benchmark in own.values())


def _refuse_duplicates(loaded: Iterable[Benchmark], known: Mapping[str, Benchmark]) -> None:
    for benchmark in loaded:
        if benchmark.name in known:
            raise DeclarationError(
                f"the benchmark {benchmark.name!r} exists already, at {known[benchmark.name].where}; "
                "give it another name",
                benchmark.where,
            )


def _import(source: Source) -> ModuleType:
    if source.kind == "module":
        spec = importlib.util.find_spec(source.location)
        origin = spec.origin if spec is not None else None
        if origin is not None and origin.endswith(".py") and source.location not in sys.modules:
            _refuse_framework_imports(_read(Path(origin)), origin)
        return importlib.import_module(source.location)
    if source.kind == "file":
        text, filename = _read(Path(source.location)), source.location
        folder = str(Path(source.location).parent)
        if folder not in sys.path:  # its own helpers lie beside it, as with `python file.py`
            sys.path.insert(0, folder)
    else:
        import hashlib

        digest = hashlib.sha256(source.location.encode()).hexdigest()[:12]
        text, filename = source.location, f"<devbench {source.suite} {digest}>"
        # inspect finds file and line of a declaration through linecache.
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    _refuse_framework_imports(text, filename)
    name = f"devbench_suite_{source.suite}".replace("-", "_")
    module = ModuleType(name)
    module.__file__ = filename
    sys.modules[name] = module
    exec(compile(text, filename, "exec"), vars(module))
    return module


def _read(path: Path) -> str:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a suite file, e.g. {path / 'my_suite.py'}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except FileNotFoundError:
        raise UsageError(f"there is no suite file {path}") from None
    except OSError as error:
        raise UsageError(f"the suite file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a Python file in UTF-8") from None
    if "\0" in text:
        raise UsageError(f"{path} is not a Python file: it holds null bytes")
    return text


def _refuse_framework_imports(text: str, filename: str) -> None:
    """torch and TensorFlow in one process can crash or hang by import order alone, so a suite, which
    every worker loads, imports its framework inside the builder."""
    modules = {framework.module for framework in frameworks().values()}
    for node in _run_on_import(ast.parse(text, filename)):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
        for name in names:
            if name.split(".")[0] in modules | {"keras"}:
                raise DeclarationError(
                    f"{name} is imported at the top of a suite; import it inside the builder, so that "
                    "each worker loads one framework only",
                    f"{filename}:{node.lineno}",
                )


_NOT_AT_RUN_TIME = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _run_on_import(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements that importing a module runs: not those in functions or for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in _NOT_AT_RUN_TIME:
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _run_on_import(child)


def _last_frame(error: BaseException) -> str:
    """Where in the suite's own code it happened, rather than in a library that it called."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = (f"{Path(__file__).parent}{os.sep}", sysconfig.get_paths()["stdlib"], "<frozen ")
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith(foreign) and "site-packages" not in frame.filename
    ]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"


#: What `Framework` declares: attributes by annotation, then methods.
_FRAMEWORK_MEMBERS = (
    *Framework.__annotations__,
    *(name for name in vars(Framework) if not name.startswith("_")),
)


@cache
def _loaded_frameworks() -> tuple[Mapping[str, Framework], tuple[Broken, ...]]:
    loaded: dict[str, Framework] = {}
    broken = []
    for point in _points("devbench.frameworks"):
        try:
            framework = point.load()()
            missing = [name for name in _FRAMEWORK_MEMBERS if not hasattr(framework, name)]
            if missing:
                raise TypeError(f"it lacks {', '.join(missing)}")
            loaded[point.name] = framework
        except Exception as error:  # noqa: BLE001  # a foreign plugin; it becomes a row
            broken.append(
                Broken("devbench.frameworks", point.name, f"{type(error).__name__}: {error}")
            )
    return loaded, tuple(broken)


def frameworks() -> Mapping[str, Framework]:
    """Framework adapters by name, installed or not. Importing an adapter imports no framework."""
    return _loaded_frameworks()[0]


def broken_frameworks() -> tuple[Broken, ...]:
    return _loaded_frameworks()[1]


def is_installed(framework: Framework) -> bool:
    """Whether the framework's module can be found, without importing it."""
    try:
        return importlib.util.find_spec(framework.module) is not None
    except (ImportError, ValueError):
        return False


def reporter(name: str, group: str = "devbench.reporters") -> Callable[..., Any]:
    """The reporter of that name. Raises UsageError.

    group: what it reports on. ``devbench.reporters`` are called with a `Run` and its results,
    ``devbench.comparison_reporters`` with a `devbench.regress.compare.Comparison`, and
    ``devbench.history_reporters`` with a `devbench.regress.history.History`.
    """
    points = {point.name: point for point in _points(group)}
    if name not in points:
        raise UsageError(unknown("report format", name, points))
    try:
        return points[name].load()  # type: ignore[no-any-return]
    except Exception as error:  # a foreign plugin
        raise UsageError(f"the reporter {name!r} cannot be loaded: {error}") from error


def _points(group: str) -> list[EntryPoint]:
    """Entry points of a group, the built-in ones first, each name once."""
    # Here, since it brings the modules of e-mail with it, and most verbs ask for no plugin.
    from importlib.metadata import entry_points

    points: dict[str, EntryPoint] = {}
    own = [
        point for point in entry_points(group=group) if point.dist and point.dist.name == "devbench"
    ]
    for point in (*own, *entry_points(group=group)):
        points.setdefault(point.name, point)
    return list(points.values())
