from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import devbench

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "tensorflow", "keras", "jax"),
    *("numpy", "pandas", "plotly", "scipy", "sqlalchemy", "matplotlib", "jinja2", "pynvml"),
}


def modules_after(code: str, tmp_path: Path) -> set[str]:
    """Top-level names of what a fresh process has imported once it ran `code`."""
    answer = tmp_path / "modules.json"
    script = f"{code}\nimport json, sys\njson.dump(sorted(sys.modules), open({str(answer)!r}, 'w'))"
    subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    return {name.split(".")[0] for name in json.loads(answer.read_text())}


def test_imports_go_in_the_directions_of_the_house() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_importing_devbench_loads_the_standard_library_only(tmp_path: Path) -> None:
    # What the interpreter itself loads at its start (site, .pth files) is no matter of ours.
    ours = modules_after("import devbench", tmp_path) - modules_after("", tmp_path)
    assert ours - set(sys.stdlib_module_names) == {"devbench"}


def test_declaring_a_benchmark_loads_the_standard_library_only(tmp_path: Path) -> None:
    code = "from devbench import Benchmark, Context, DType, Step, Unsupported, Work, benchmark"
    ours = modules_after(code, tmp_path) - modules_after("", tmp_path)
    assert ours - set(sys.stdlib_module_names) == {"devbench"}


HELP = """
import sys
from devbench.cli import main
sys.argv = ["devbench", {words}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["run", "--help"], ["detect", "--help"], ["list", "--help"]],
)
def test_help_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    loaded = modules_after(HELP.format(words=", ".join(map(repr, words))), tmp_path)
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_finding_the_suites_imports_no_framework(tmp_path: Path) -> None:
    code = "from devbench.registry import frameworks, load_catalog; load_catalog(); frameworks()"
    assert modules_after(code, tmp_path) & {"torch", "tensorflow", "keras", "pandas"} == set()


def test_the_public_names_are_these_and_no_others() -> None:
    public = {
        "Benchmark",
        "Context",
        "DType",
        "DevbenchError",
        "DoesNotFit",
        "Product",
        "RunHandle",
        "Step",
        "Unsupported",
        "Work",
        "__version__",
        "benchmark",
        "detect",
        "run",
        "time",
    }
    assert set(devbench.__all__) == public
    assert dir(devbench) == sorted(public)
    for name in public:
        assert getattr(devbench, name) is not None


def test_a_name_that_devbench_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'devbench' has no attribute 'benchmrk'"):
        devbench.benchmrk  # noqa: B018


@pytest.mark.parametrize(
    "package", ["devbench", "suites/devbench_suites", "reports/devbench_reports"]
)
def test_type_checkers_are_told_that_the_package_has_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
