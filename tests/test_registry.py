from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from devbench.errors import DeclarationError, UsageError
from devbench.registry import Catalog, Source, frameworks, is_installed, load_catalog, load_suite
from devbench.registry import reporter as find_reporter

GOOD = """
from devbench import benchmark

@benchmark(name="probe", axes={"n": [1, 2]})
class Probe:
    def torch(self):
        return lambda: None
"""


@pytest.fixture(autouse=True)
def _imports_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Suite files put their folder on the path and themselves among the modules."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("devbench_suite_", "registry_test_")):
            del sys.modules[name]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return tmp_path / "my_suite.py"


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """The one line that a suite file is refused with."""
    with pytest.raises(UsageError) as caught:
        load_catalog([path])
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


# ---- what is installed


def test_the_built_in_suites_are_found_by_entry_point_alone() -> None:
    catalog = load_catalog()
    assert {"matmul", "mlp", "cnn"} <= set(catalog.suites)
    assert catalog.broken == ()
    for name, benchmark in catalog.benchmarks.items():
        assert benchmark.name == name
        assert catalog.sources[benchmark.suite].kind == "module"
        assert benchmark.where.startswith(str(Path(__file__).parents[1] / "suites")), (
            benchmark.where
        )


def test_both_frameworks_are_known_without_being_imported() -> None:
    assert {"torch", "tensorflow"} <= set(frameworks())


def test_a_framework_whose_module_is_missing_is_not_installed() -> None:
    class Absent:
        module = "no_such_framework"

    class Inside:
        module = "no_such_package.inside"

    assert not is_installed(Absent())  # type: ignore[arg-type]
    assert not is_installed(Inside())  # type: ignore[arg-type]


def test_an_unknown_report_format_is_answered_with_close_matches() -> None:
    with pytest.raises(
        UsageError, match="there is no report format 'markdow'; did you mean 'markdown'"
    ):
        find_reporter("markdow")


# ---- a user's file


def test_a_suite_file_is_loaded_under_its_own_name(suite: Path) -> None:
    catalog = load_catalog([write(suite, GOOD)])
    probe = catalog.benchmarks["probe"]
    assert (probe.suite, probe.axes) == ("my_suite", {"n": (1, 2)})
    assert probe.where == f"{suite}:4"
    assert catalog.sources["my_suite"] == Source("my_suite", "file", str(suite))


def test_a_relative_path_means_the_same_file_to_a_worker(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, GOOD)
    monkeypatch.chdir(suite.parent)
    assert load_catalog([Path(suite.name)]).sources["my_suite"].location == str(suite)


def test_a_suite_file_may_import_what_lies_beside_it(suite: Path) -> None:
    write(suite.with_name("registry_test_helper.py"), "SIZES = [5, 6]")
    write(suite, GOOD.replace("[1, 2]", "SIZES") + "\n")
    suite.write_text("from registry_test_helper import SIZES\n" + suite.read_text())
    assert load_catalog([suite]).benchmarks["probe"].axes == {"n": (5, 6)}


def test_a_byte_order_mark_is_no_syntax_error(suite: Path) -> None:
    suite.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert "probe" in load_catalog([suite]).benchmarks


def test_a_second_name_for_a_benchmark_is_not_a_second_benchmark(suite: Path) -> None:
    catalog = load_catalog([write(suite, GOOD + "\nSame = Probe\n")])
    assert catalog.benchmarks["probe"].suite == "my_suite"


def test_a_benchmark_that_was_imported_belongs_to_its_own_suite(suite: Path) -> None:
    write(suite, GOOD + "\nfrom devbench_suites.matmul import MatMul\n")
    catalog = load_catalog([suite])
    assert catalog.benchmarks["matmul"].suite == "matmul"
    assert [b.name for b in catalog.benchmarks.values() if b.suite == "my_suite"] == ["probe"]


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.py") == f"there is no suite file {tmp_path / 'absent.py'}"


def test_a_folder_is_no_suite_file(tmp_path: Path) -> None:
    message = f"{tmp_path} is a folder; name a suite file, e.g. {tmp_path / 'my_suite.py'}"
    assert refusal(tmp_path) == message


def test_a_file_that_cannot_be_read_is_named_with_the_system_s_reason(suite: Path) -> None:
    path = write(suite, GOOD) / "inside.py"
    assert refusal(path) == f"the suite file {path} cannot be read: Not a directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00binary", "is not a Python file in UTF-8"),
        (b"x = 1\x00", "is not a Python file: it holds null bytes"),
    ],
)
def test_a_binary_file_is_named(suite: Path, content: bytes, message: str) -> None:
    suite.write_bytes(content)
    assert refusal(suite) == f"{suite} {message}"


def test_a_syntax_error_is_told_with_its_line(suite: Path) -> None:
    write(suite, "x = 1\ny = = 2\n")
    assert refusal(suite) == f"{suite}:2: invalid syntax"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        (
            "import registry_test_absent",
            "ModuleNotFoundError: No module named 'registry_test_absent'",
        ),
        (
            "open('/no/such/data')",
            "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/data'",
        ),
        ("import json; json.loads('{')", "JSONDecodeError: "),
        ("import sys; sys.exit()", "SystemExit: "),
        ("print(undefined)", "NameError: name 'undefined' is not defined"),
        (
            "import importlib; importlib.import_module('registry_test_absent')",
            "ModuleNotFoundError: ",
        ),
    ],
)
def test_a_suite_that_raises_on_import_is_told_with_its_own_line(
    suite: Path, line: str, error: str
) -> None:
    write(suite, f"x = 1\n\n{line}\n")
    prefix = f"suite 'my_suite' failed on import at {suite}:3: {error}"
    assert refusal(suite).startswith(prefix)


def test_an_error_in_a_helper_is_told_where_it_happened(suite: Path) -> None:
    helper = write(suite.with_name("registry_test_broken.py"), "\n1 / 0\n")
    write(suite, "import registry_test_broken\n")
    assert f"failed on import at {helper}:2: ZeroDivisionError" in refusal(suite)


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("import torch", 1, "torch"),
        ("x = 1\nimport torch.nn as nn", 2, "torch.nn"),
        ("import os, tensorflow", 1, "tensorflow"),
        ("from tensorflow import keras", 1, "tensorflow"),
        ("from keras.layers import Dense", 1, "keras.layers"),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", 2, "torch"),
        ("if True:\n    from torch import nn", 2, "torch"),
        ("class Nets:\n    import torch", 2, "torch"),
    ],
)
def test_a_framework_at_the_top_of_a_suite_is_refused_before_it_loads(
    suite: Path, text: str, line: int, name: str
) -> None:
    write(suite, f"{text}\nraise RuntimeError('it was loaded')\n")
    assert refusal(suite) == (
        f"{suite}:{line}: {name} is imported at the top of a suite; import it inside the builder, "
        "so that each worker loads one framework only"
    )


@pytest.mark.parametrize(
    "text",
    [
        "def build():\n    import torch\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n",
        "import typing\nif typing.TYPE_CHECKING:\n    from tensorflow import Tensor\n",
        "torch = 'import torch'\n",
    ],
)
def test_a_framework_that_importing_the_suite_does_not_load_is_fine(suite: Path, text: str) -> None:
    assert "probe" in load_catalog([write(suite, text + GOOD)]).benchmarks


@pytest.mark.parametrize("text", ["", "x = 1\n", "from devbench_suites.matmul import MatMul\n"])
def test_a_file_that_declares_nothing_is_refused_with_the_cure(suite: Path, text: str) -> None:
    write(suite, text)
    assert refusal(suite) == (
        f"{suite} declares no benchmark; put @devbench.benchmark(...) on a class in it"
    )


def test_a_wrong_declaration_is_told_with_its_line(suite: Path) -> None:
    write(suite, GOOD.replace('"n": [1, 2]', '"n": []'))
    assert refusal(suite).startswith(f"{suite}:4: benchmark 'probe': axis 'n' needs a list")


# ---- names that clash


def test_the_name_of_an_installed_benchmark_is_refused_with_both_places(suite: Path) -> None:
    write(suite, GOOD.replace('"probe"', '"matmul"'))
    there = load_catalog().benchmarks["matmul"].where
    assert refusal(suite) == (
        f"{suite}:4: the benchmark 'matmul' exists already, at {there}; give it another name"
    )


def test_two_benchmarks_of_one_name_in_one_file_are_refused_with_both_places(suite: Path) -> None:
    write(suite, GOOD + GOOD.replace("class Probe", "class Other"))
    assert refusal(suite) == (
        f"{suite}:11: the benchmark 'probe' exists already, at {suite}:4; give it another name"
    )


def test_two_files_that_declare_one_name_are_refused(suite: Path) -> None:
    other = write(suite.with_name("other.py"), GOOD)
    with pytest.raises(DeclarationError, match="the benchmark 'probe' exists already"):
        load_catalog([write(suite, GOOD), other])


def test_a_file_named_like_an_installed_suite_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mlp.py", GOOD)
    message = f"{path}: there is already a suite 'mlp'; give this one another name"
    assert refusal(path) == message


# ---- source that travels


def source(text: str, name: str = "cell") -> Source:
    return Source(name, "source", textwrap.dedent(text))


def test_a_class_whose_source_travels_is_loaded_and_knows_its_line() -> None:
    travelled = source(GOOD)
    (probe,) = load_suite(Source.from_json(json.loads(json.dumps(travelled.to_json()))))
    assert (probe.name, probe.suite) == ("probe", "cell")
    assert re.fullmatch(r"<devbench cell \w{12}>:4", probe.where)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = = 2\n", r"<devbench cell \w{12}>:2: invalid syntax"),
        (
            "\nundefined\n",
            r"suite 'cell' failed on import at <devbench cell \w{12}>:2: NameError: .*",
        ),
        ("\nimport torch\n", r"<devbench cell \w{12}>:2: torch is imported at the top .*"),
        ("x = 1", r"the source of 'cell' declares no benchmark; put @devbench\.benchmark.*"),
    ],
)
def test_an_error_in_source_that_travels_tells_the_line_and_not_the_source(
    text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_catalog(extra=[source(text)])
    assert re.fullmatch(message, str(caught.value))


def test_source_that_is_named_like_a_suite_is_refused_without_printing_it() -> None:
    with pytest.raises(UsageError) as caught:
        load_catalog(extra=[source(GOOD, "matmul")])
    assert str(caught.value) == (
        "the source of 'matmul': there is already a suite 'matmul'; give this one another name"
    )


# ---- broken plugins

LISTING = """
import json
from devbench.registry import broken_frameworks, frameworks, load_catalog, reporter
from devbench.errors import UsageError
catalog = load_catalog()
try:
    reporter("fake-report")
    refusal = None
except UsageError as error:
    refusal = str(error)
print(json.dumps({
    "suites": sorted(catalog.suites),
    "benchmarks": sorted(catalog.benchmarks),
    "frameworks": sorted(frameworks()),
    "broken": {one.name: one.error for one in (*catalog.broken, *broken_frameworks())},
    "reporter": refusal,
}))
"""
ENTRY_POINTS = """
[devbench.suites]
fake-absent = registry_fake_absent
fake-attribute = registry_fake_good:Probe
fake-duplicate = registry_fake_duplicate
fake-exits = registry_fake_exits
fake-good = registry_fake_good
fake-raises = registry_fake_raises
fake-syntax = registry_fake_syntax
fake-torch = registry_fake_torch
matmul = registry_fake_good

[devbench.frameworks]
fake-framework = registry_fake_raises:Framework
fake-lacking = registry_fake_good:Lacking

[devbench.reporters]
fake-report = registry_fake_absent:to_text
"""


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a process finds that has a distribution full of broken plugins on its path."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "fake-1.0.dist-info"
    info.mkdir()
    write(info / "METADATA", "Metadata-Version: 2.1\nName: fake\nVersion: 1.0\n")
    write(info / "entry_points.txt", ENTRY_POINTS)
    lacking = "class Lacking:\n    name = module = extra = 'lacking'\n"
    for name, text in {
        "good": GOOD + lacking,
        "duplicate": GOOD.replace('"probe"', '"cnn"'),
        "exits": "raise SystemExit(0)",
        "raises": "\nraise RuntimeError('no luck')",
        "syntax": "x = = 1",
        "torch": "import torch",
    }.items():
        write(folder / f"registry_fake_{name}.py", text)
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return {**found, "folder": str(folder)}


def broken(listing: dict[str, object]) -> dict[str, str]:
    rows = listing["broken"]
    assert isinstance(rows, dict)
    return rows


def test_a_plugin_that_works_is_found_beside_broken_ones(listing: dict[str, object]) -> None:
    assert {"cnn", "fake-good", "matmul", "mlp"} <= set(listing["suites"])  # type: ignore[call-overload]
    assert {"cnn", "matmul", "mlp", "probe"} <= set(listing["benchmarks"])  # type: ignore[call-overload]
    assert listing["frameworks"] == ["tensorflow", "torch"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fake-absent", "ModuleNotFoundError: No module named 'registry_fake_absent'"),
        ("fake-attribute", "ModuleNotFoundError: "),
        ("fake-duplicate", "the benchmark 'cnn' exists already, at "),
        ("fake-exits", "registry_fake_exits.py:1: SystemExit: 0"),
        ("fake-raises", "registry_fake_raises.py:2: RuntimeError: no luck"),
        ("fake-syntax", "registry_fake_syntax.py:1: invalid syntax"),
        ("fake-torch", "registry_fake_torch.py:1: torch is imported at the top of a suite"),
        ("fake-framework", "RuntimeError: no luck"),
        ("fake-lacking", "TypeError: it lacks modes, environment, start"),
    ],
)
def test_a_broken_plugin_is_a_row_that_says_why(
    listing: dict[str, object], name: str, error: str
) -> None:
    assert error in broken(listing)[name]
    assert "\n" not in broken(listing)[name]


def test_nothing_else_is_broken(listing: dict[str, object]) -> None:
    assert len(broken(listing)) == 9


def test_a_reporter_that_cannot_be_loaded_is_a_usage_error(listing: dict[str, object]) -> None:
    message = "the reporter 'fake-report' cannot be loaded: No module named 'registry_fake_absent'"
    assert listing["reporter"] == message


def test_an_empty_catalog_has_no_suites() -> None:
    assert Catalog({}, {}, ()).suites == ()
