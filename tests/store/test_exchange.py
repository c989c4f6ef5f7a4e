from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from devbench.errors import RunFileError
from devbench.model import Run
from devbench.store import exchange
from devbench.store.exchange import dump_run, parse_run, read_run
from tests.store.example import example_case, example_measurement, example_run
from tests.store.strategies import runs, works


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(runs())
def test_a_run_survives_the_way_through_a_run_file(run: Run) -> None:
    text = dump_run(run)
    parsed = parse_run(text, "run.json")
    assert parsed == run
    assert works(parsed) == works(run)
    assert dump_run(parsed) == text


def test_a_run_file_is_ordinary_json_with_a_line_a_measurement() -> None:
    text = dump_run(example_run())
    data = json.loads(text)
    assert data["schema"] == "devbench.run/1"
    assert data["cases"][0]["id"] == "matmul[n=256,dtype=float32]@torch:cpu"
    assert data["cases"][0]["params"] == {"n": 256, "dtype": "float32"}
    assert data["measurements"][0]["samples"] == [0.0021, 0.0022, 0.00205]
    assert sum(line.startswith('{"case_id"') for line in text.splitlines()) == 3


def test_an_error_that_is_not_a_number_survives_and_the_file_stays_json() -> None:
    case = example_case()
    run = replace(
        example_run(),
        cases=(case,),
        measurements=(
            example_measurement(
                case, rel_error=math.inf, metrics={"loss": math.nan}, detail="\udcff!"
            ),
        ),
    )
    text = dump_run(run)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    (measurement,) = parse_run(text, "run.json").measurements
    assert measurement.rel_error == math.inf
    assert measurement.metrics == {"loss": "nan"}
    assert measurement.detail == "?!"


def _change(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return change


def _remove(*path: Any) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def _repeat(name: str) -> Callable[[Any], None]:
    return lambda data: data[name].append(data[name][0])


WINDOW = {"seconds": 1.0, "samples": 4, "host": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("schema", to="devbench.run/2"), "has the schema 'devbench.run/2'"),
        (_change("schema", to="other/1"), "is not a run file of `devbench export`"),
        (_remove("schema"), "is not a run file of `devbench export`: its schema is null"),
        (_remove("run"), "run.json: run is missing"),
        (_remove("measurements"), "run.json: measurements is missing"),
        (_change("cases", to={}), "run.json: cases is {}; a list is expected"),
        (_change("more", to=1), "run.json: more is not a part of a run file"),
        (_remove("run", "environment"), "run.json: run.environment is missing"),
        (_change("run", "settings", to=[]), r"run.settings is \[\]; an object is expected"),
        (_change("run", "id", to=""), "run.id is empty"),
        (_change("run", "id", to=7), "run.id is 7; text is expected"),
        (_change("run", "label", to="\ud800"), "run.label holds half a surrogate pair"),
        (
            _change("run", "state", to="done"),
            'run.state is "done"; it must be one of running, complete',
        ),
        (
            _change("run", "started_at", to="today"),
            'run.started_at is "today"; a time reads like 2026-',
        ),
        (_change("run", "started_at", to="2026-01-31T12:00:00+02:00"), "run.started_at is"),
        (
            _change("cases", 1, "target", "devices", to="cpu"),
            r"cases\[1\].target.devices is \"cpu\"; a list",
        ),
        (
            _change("cases", 1, "params", "n", to=[1]),
            r"cases\[1\].params.n is \[1\]; text or a whole number",
        ),
        (_change("cases", 1, "params", to=[]), r"cases\[1\].params is \[\]; an object is expected"),
        (
            _change("cases", 1, "params", "n", to=3),
            r"cases\[1\].id is .*512.*, but its fields make it .*n=3",
        ),
        (_change("cases", 1, to="x"), r"cases\[1\] is \"x\"; an object is expected"),
        (_remove("cases", 1, "id"), r"cases\[1\].id is null"),
        (
            _change("cases", 1, "work", "flops", to=10**400),
            r"cases\[1\].work.flops is 10+\.\.\.; a number",
        ),
        (_repeat("cases"), r"cases\[2\] is the same case as cases\[0\]"),
        (_remove("measurements", 2, "round"), r"measurements\[2\].round is missing"),
        (
            _change("measurements", 2, "round", to=True),
            r"measurements\[2\].round is true; a whole number",
        ),
        (
            _change("measurements", 2, "round", to=-1),
            r"measurements\[2\].round is -1; it must be from 0",
        ),
        (
            _change("measurements", 2, "round", to=2**40),
            r"measurements\[2\].round is 1099511627776; it must",
        ),
        (
            _change("measurements", 2, "block", to=0),
            r"measurements\[2\].block is 0; it must be from 1",
        ),
        (
            _change("measurements", 2, "status", to="okay"),
            r"measurements\[2\].status is \"okay\"; it must be",
        ),
        (
            _change("measurements", 2, "stats", to=1),
            r"stats is not a field .*; did you mean 'status'",
        ),
        (
            _change("measurements", 2, "case_id", to="x"),
            r"measurements\[2\].case_id is \"x\", which is none",
        ),
        (
            _change("measurements", 0, "samples", 1, to=-1.0),
            r"measurements\[0\].samples\[1\] is -1.0; a time",
        ),
        (
            _change("measurements", 0, "samples", 1, to="nan"),
            r"measurements\[0\].samples\[1\] is NaN; a time",
        ),
        (
            _change("measurements", 0, "samples", 1, to=1e39),
            r"measurements\[0\].samples\[1\] is 1e\+39; a time",
        ),
        (
            _change("measurements", 0, "samples", 1, to=None),
            r"measurements\[0\].samples\[1\] is null; a numb",
        ),
        (_change("run", "environment", "machine", to=None), "environment.machine is null; an obj"),
        (
            _change("run", "environment", "machine", "host", "usable_cpus", to="2"),
            r"environment.machine.host.usable_cpus is \"2\"; a number",
        ),
        (
            _change("run", "environment", "machine", "gpus", to=[1]),
            r"machine.gpus\[0\] is 1; an obj",
        ),
        (
            _change("run", "environment", "targets", to=[]),
            r"environment.targets is \[\]; an object",
        ),
        (_change("run", "environment", "targets", "torch:cpu", to=7), "targets.torch:cpu is 7; an"),
        (
            _change("run", "environment", "targets", "torch:cpu", "ceilings", to={"copy": "x"}),
            r"targets.torch:cpu.ceilings.copy is \"x\"; a number",
        ),
        (
            _change("run", "environment", "targets", "torch:cpu", "peak", to={"name": "x"}),
            "targets.torch:cpu.peak.vendor is missing",
        ),
        (
            _change("measurements", 0, "telemetry", to={"host": {}}),
            r"measurements\[0\].telemetry.seconds is missing",
        ),
        (
            _change("measurements", 0, "telemetry", to={**WINDOW, "host": {"steal": "x"}}),
            r"measurements\[0\].telemetry.host.steal is \"x\"; a number",
        ),
        (
            _change("measurements", 0, "telemetry", to={**WINDOW, "gpus": [{"power_w": 1}]}),
            r"measurements\[0\].telemetry.gpus\[0\].gpu is missing",
        ),
        (
            _change("measurements", 0, "metrics", to={"x": [1]}),
            r"measurements\[0\].metrics.x is \[1\]; a number or text",
        ),
        (
            _repeat("measurements"),
            r"measurements\[3\] is the same case and round as measurements\[0\]",
        ),
    ],
)
def test_a_wrong_run_file_is_refused_by_the_place_of_the_culprit(
    change: Callable[[Any], None], message: str
) -> None:
    data = json.loads(dump_run(example_run()))
    change(data)
    with pytest.raises(RunFileError, match=message) as caught:
        parse_run(json.dumps(data), "run.json")
    assert str(caught.value).startswith("run.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it ends too early"),
        (dump_run(example_run())[:700], "is not a whole JSON file"),
        ("devbench", "is not a whole JSON file: expecting value"),
        ("[]", "is not a run file"),
        ('"text"', "is not a run file"),
        ('{"schema": NaN}', "NaN is not a number that JSON knows"),
        ("9" * 5000, "is not a run file"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_run_file_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(RunFileError, match=message) as caught:
        parse_run(text, "run.json")
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_run_file_is_refused() -> None:
    text = dump_run(example_run()).rstrip()
    for length in range(0, len(text), 37):
        with pytest.raises(RunFileError):
            parse_run(text[:length], "run.json")


def test_an_unknown_field_of_another_devbench_names_both_versions() -> None:
    data = json.loads(dump_run(example_run(devbench_version="9.9")))
    data["measurements"][0]["humidity"] = 0.4
    with pytest.raises(RunFileError, match=r"made by devbench 9\.9, this is"):
        parse_run(json.dumps(data), "run.json")


@pytest.mark.parametrize("world", ["two", 2.0, 0, True])
def test_a_number_of_ranks_that_is_none_is_refused(world: Any) -> None:
    case = replace(example_case(), params=(("world_size", world),))
    run = replace(example_run(), cases=(case,), measurements=())
    with pytest.raises(RunFileError, match=r"cases\[0\].params.world_size is"):
        parse_run(dump_run(run), "run.json")


def test_telemetry_of_a_newer_devbench_may_say_more() -> None:
    telemetry = {**WINDOW, "more": 1, "host": {"more": 1}, "gpus": [{"gpu": "x", "more": 1}]}
    run = replace(
        example_run(), measurements=(example_measurement(example_case(), telemetry=telemetry),)
    )
    [measurement] = parse_run(dump_run(run), "run.json").measurements
    assert measurement.telemetry == telemetry


def test_a_file_of_an_older_devbench_lacks_newer_fields_and_is_read() -> None:
    data = json.loads(dump_run(example_run()))
    del data["measurements"][0]["first_call_s"]
    assert parse_run(json.dumps(data), "run.json").measurements[0].first_call_s is None


def test_a_file_that_cannot_be_a_run_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_BYTES", 2**20)
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(RunFileError, match="at most 1 MB"):
        read_run(large)
    with pytest.raises(RunFileError, match="there is no file"):
        read_run(tmp_path / "none.json")
    with pytest.raises(RunFileError, match="Is a directory"):
        read_run(tmp_path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFileError, match="UTF-8"):
        read_run(binary)
