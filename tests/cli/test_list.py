"""``devbench list``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devbench import registry
from devbench.registry import Broken, Catalog
from tests.cli.command import devbench

SUITE = '''
from devbench import Work, benchmark


@benchmark(name="sorting", axes={"n": [10, 1000], "kind": ["random", "sorted"]}, size="n")
class Sorting:
    """Sort numbers."""

    def torch(self, ctx):
        import torch

        return lambda: torch.sort(torch.arange(10))
'''


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "my_suite.py"
    path.write_text(SUITE)
    return path


def _row(text: str, name: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[1:2] == [name])


def test_list_shows_the_axes_as_param_takes_them_and_what_is_not_implemented(suite: Path) -> None:
    answer = devbench("list", "--suite-path", suite)
    assert (answer.code, answer.err) == (0, "")
    row = _row(answer.out, "sorting")
    assert row[:5] == ["my_suite", "sorting", "n=10,1000", "kind=random,sorted", "n"]
    assert "not implemented" in " ".join(row)  # TensorFlow has no builder


def test_list_as_json_has_every_suite_benchmark_and_framework(suite: Path) -> None:
    data = json.loads(devbench("list", "--json", "--suite-path", suite).out)
    assert data["schema"] == "devbench.list/1"
    mine = next(one for one in data["suites"] if one["name"] == "my_suite")
    assert (mine["kind"], mine["location"]) == ("file", str(suite))
    (sorting,) = mine["benchmarks"]
    assert sorting["axes"] == {"n": [10, 1000], "kind": ["random", "sorted"]}
    assert (sorting["size"], sorting["doc"]) == ("n", "Sort numbers.")
    assert sorting["where"].startswith(f"{suite}:")
    assert sorting["frameworks"]["tensorflow"] == "not implemented"
    frameworks = {one["name"]: one for one in data["frameworks"]}
    assert {"torch", "tensorflow"} <= set(frameworks)
    expected = "ready" if frameworks["torch"]["installed"] else "not installed"
    assert sorting["frameworks"]["torch"] == expected


def test_a_framework_that_is_not_installed_is_named_with_its_remedy(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda framework: False)
    out = devbench("list", "--suite-path", suite).out
    assert "not installed" in " ".join(_row(out, "sorting"))
    assert "pip install 'devbench[torch]'" in out


def test_a_broken_plugin_is_a_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(
        "devbench.suites", "theirs", "suite 'theirs' failed on import at x.py:3: KeyError: 'a'"
    )
    monkeypatch.setattr(registry, "load_catalog", lambda paths: Catalog({}, {}, (broken,)))
    answer = devbench("list")
    assert answer.code == 0
    assert "theirs" in answer.out
    assert "failed on import at x.py:3" in answer.out
    assert json.loads(devbench("list", "--json").out)["broken"][0]["error"] == broken.error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no suite file"),
        ("x = 1", "declares no benchmark"),
        ("1 / 0", "failed on import"),
        ("def (", "my_suite.py:1: "),
    ],
)
def test_a_wrong_suite_file_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "my_suite.py"
    if text is not None:
        path.write_text(text)
    answer = devbench("list", "--suite-path", path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert message in answer.err
