"""Reading a side: what is a side, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devbench.errors import DevbenchError, RunFileError, UsageError
from devbench.regress.compare import compare
from devbench.regress.sides import Side, read_side
from devbench.store import Store
from devbench.store.exchange import dump_run
from tests.regress.factory import QUIET, make_case, make_run, timed

CASE = make_case()
RUN = make_run("20260131-120000-ab12", {CASE: timed(CASE, QUIET)}, label="nightly")
NAME = "tests/test_speed.py::test_sort[10]"


def pytest_json(median: Any = 0.002, **changes: Any) -> dict[str, Any]:
    """A file of pytest-benchmark 5.3 with one benchmark, cut down to what is read and a little more."""
    return {
        "machine_info": {
            "node": "host-1",
            "python_version": "3.11.7",
            "system": "Linux",
            "release": "6.1",
            "cpu": {"brand_raw": "A CPU", "count": 2},
        },
        "commit_info": {"id": "c0ffee" + "0" * 34, "dirty": False, "branch": "main"},
        "benchmarks": [
            {
                "fullname": NAME,
                "name": "test_sort[10]",
                "params": {"n": 10},
                "extra_info": {},
                "stats": {
                    "min": 0.001,
                    "median": median,
                    "mean": 0.003,
                    "rounds": 9,
                    "iterations": 1,
                },
            }
        ],
        "datetime": "2026-01-31T12:00:00+00:00",
        "version": "5.3.1",
    } | changes


def write(path: Path, data: Any) -> str:
    path.write_text(json.dumps(data))
    return str(path)


def test_a_stored_run_and_its_file_are_the_same_side(tmp_path: Path) -> None:
    location = str(tmp_path / "store.sqlite")
    with Store.open(location) as store:
        store.import_run(RUN)
    path = tmp_path / "run.json"
    path.write_text(dump_run(RUN))
    assert read_side(str(path), None) == read_side("nightly", location) == read_side(None, location)
    side = read_side("nightly", location)
    assert (side.name, side.id, side.kind) == ("nightly", RUN.info.id, "run")
    assert side.cases[CASE.id].medians == pytest.approx(QUIET)
    assert side.target_facts["torch:cpu"]["mode"] == ["eager"]


def test_a_label_that_is_also_a_folder_is_still_a_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightly").mkdir()
    with Store.open("store.sqlite") as store:
        store.import_run(RUN)
    assert read_side("nightly", "store.sqlite").id == RUN.info.id


def test_a_file_of_pytest_benchmark_is_one_round(tmp_path: Path) -> None:
    side = read_side(write(tmp_path / "0001.json", pytest_json()), None)
    assert side.kind == "pytest-benchmark"
    assert side.cases[NAME].medians == (0.002,)
    assert side.cases[NAME].benchmark == "tests/test_speed.py::test_sort"
    assert side.facts["cpu model"] == "A CPU"
    other = read_side(write(tmp_path / "0002.json", pytest_json(0.009)), None)
    comparison = compare(side, other)
    assert (comparison.counts, comparison.exit_code) == ({"inconclusive": 1}, 4)


def test_a_folder_of_such_files_has_a_round_each_and_can_be_judged(tmp_path: Path) -> None:
    for name, factor in (("base", 1.0), ("new", 1.2)):
        (tmp_path / name).mkdir()
        for place, seconds in enumerate(QUIET):
            write(tmp_path / name / f"{place}.json", pytest_json(factor * seconds))
    base, new = (read_side(str(tmp_path / name), None) for name in ("base", "new"))
    assert base.cases[NAME].medians == pytest.approx(QUIET)
    assert compare(base, new).counts == {"regressed": 1}


def test_files_of_a_folder_from_two_machines_are_no_rounds_of_one_side(tmp_path: Path) -> None:
    write(tmp_path / "1.json", pytest_json())
    elsewhere = pytest_json()["machine_info"] | {"python_version": "3.13.0"}
    write(tmp_path / "2.json", pytest_json(machine_info=elsewhere))
    with pytest.raises(
        UsageError, match=r"1\.json and .*2\.json differ in python \(3\.11\.7 and 3\.13"
    ):
        read_side(str(tmp_path), None)


def test_what_the_plugin_says_of_the_device_decides_what_may_be_compared(tmp_path: Path) -> None:
    sides = []
    for gpu in ("GPU-1", "GPU-2"):
        data = pytest_json()
        data["benchmarks"][0]["extra_info"] = {
            "target": "torch:cuda:0",
            "physical_device": gpu,
            "device_name": "A GPU",
            "framework_version": "2.13.0",
            "anything": "else",
        }
        sides.append(read_side(write(tmp_path / f"{gpu}.json", data), None))
    (row,) = compare(*sides).rows
    assert (row.verdict, row.target) == ("not-measured", "torch:cuda:0")
    assert row.reason == "another device: GPU-1 on the base, GPU-2 now"


def drifted(folder: Path, factor: float, plugin: dict[str, Any]) -> Side:
    """A folder of files in which test and fixed step take so many times as long."""
    folder.mkdir()
    for place, seconds in enumerate(QUIET):
        data = pytest_json(factor * seconds)
        data["machine_info"]["devbench"] = plugin
        data["benchmarks"][0]["extra_info"] = {
            "target": "torch:cpu",
            "device_name": "A CPU",
            "case_id": "test_sort[n=10]@torch:cpu",
            "yardstick": "gemm 192x192 float32",
            "yardstick_s": factor * 0.1,
        }
        write(folder / f"{place}.json", data)
    return read_side(str(folder), None)


@pytest.mark.parametrize(
    ("changed", "verdict", "yardstick"),
    [
        ({}, "equivalent", "gemm 192x192 float32"),
        ({"variables": {"ONEDNN_MAX_CPU_ISA": "SSE41"}}, "regressed", None),
        ({"settings": {"mkldnn": False}}, "regressed", None),
        ({"build": {"parallel": "OpenMP"}}, "regressed", None),
    ],
    ids=str,
)
def test_what_a_fixed_step_shares_is_drift_of_files_only_where_nothing_was_set_otherwise(
    tmp_path: Path, changed: dict[str, Any], verdict: str, yardstick: str | None
) -> None:
    known = {"variables": {}, "settings": {"mkldnn": True}, "build": {"parallel": "TBB"}}
    base = drifted(tmp_path / "base", 1.0, known)
    assert base.cases[NAME].calibrated_as == "test_sort[n=10]@torch:cpu"
    (row,) = compare(base, drifted(tmp_path / "new", 1.3, known | changed)).rows
    assert (row.verdict, row.yardstick) == (verdict, yardstick)


def test_another_cpu_is_another_device_also_where_no_plugin_says_so(tmp_path: Path) -> None:
    machine = pytest_json()["machine_info"] | {"cpu": {"brand_raw": "B CPU", "count": 2}}
    base = read_side(write(tmp_path / "a.json", pytest_json()), None)
    new = read_side(write(tmp_path / "b.json", pytest_json(machine_info=machine)), None)
    assert compare(base, new).exit_code == 3


def _bad() -> dict[str, Any]:
    nameless = pytest_json()
    del nameless["benchmarks"][0]["fullname"]
    stick = pytest_json()
    stick["benchmarks"][0]["extra_info"] = {"yardstick": "gemm", "yardstick_s": -1}
    twice = pytest_json()
    twice["benchmarks"] *= 2
    return {
        r"was written by pytest-benchmark 2\.5\.0; this devbench reads .* 3, 4, 5": pytest_json(
            version="2.5.0"
        ),
        rf"the median of {NAME.split('[')[0]}.* is nan": pytest_json(float("nan")),
        r"is -0\.1; a time must be a positive number": pytest_json(-0.1),
        r"is 0; a time must be": pytest_json(0),
        r"is inf; a time must be": pytest_json(float("inf")),
        r"has no median time, but null": pytest_json(None),
        r"has no median time, but true": pytest_json(True),
        r"benchmarks\[0\] has no fullname": nameless,
        r"fixed step is -1; a time must be a positive number": stick,
        r"is in it twice": twice,
        r"benchmarks is 3; a list is expected": pytest_json(benchmarks=3),
        r"is not a run file of `devbench export`": {"benchmarks": []},
        r"its schema is \[1, 2\]|its schema is null": [1, 2],
        r"has the schema 'devbench.run/9'": {"schema": "devbench.run/9"},
    }


@pytest.mark.parametrize("message", _bad())
def test_a_foreign_or_impossible_file_is_refused_by_name(tmp_path: Path, message: str) -> None:
    path = write(tmp_path / "foreign.json", _bad()[message])
    with pytest.raises(RunFileError, match=message) as caught:
        read_side(path, None)
    assert path in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_or_no_json_or_no_side_of_a_folder_is_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "cut.json").write_text('{"schema": "devbench.run/1", ')
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "run.json").write_text(dump_run(RUN))
    for name, message in {
        "none.json": "there is no file",
        "cut.json": "cut.json is not a whole JSON file",
        "mixed": r"run\.json is no JSON file of pytest-benchmark",
    }.items():
        with pytest.raises(RunFileError, match=message):
            read_side(str(tmp_path / name), None)
    for name in ("no-such-label", "x" * 5000, "nul\0"):
        with pytest.raises(DevbenchError, match="holds no run yet"):
            read_side(name, str(tmp_path / "store.sqlite"))
