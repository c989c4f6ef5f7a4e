"""Run files: one run as versioned JSON that people and other programs can read.

::

    {"schema": "devbench.run/1",
     "run": {"id": …, "label": …, "started_at": …, "settings": {…}, "environment": {…}},
     "cases": [{"id": "matmul[n=256]@torch:cpu", "suite": …, "params": {…}, "target": {…}, "work": {…}}],
     "measurements": [{"case_id": …, "round": 0, "status": "ok", "samples": [0.0021, …]}]}

A field that holds its default is left out. A file is read in full and checked in full before anybody
gets a `Run` of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from devbench import __version__
from devbench.errors import RunFileError
from devbench.model import Case, Json, Measurement, Run, RunInfo
from devbench.store.records import Misfit, dumps, from_json, shown, to_json
from devbench.store.samples import LEAST, MOST

SCHEMA: Final = "devbench.run/1"
MAX_BYTES: Final = 512 * 2**20


def as_json(run: Run) -> Json:
    return {
        "schema": SCHEMA,
        "run": to_json(run.info),
        "cases": [{"id": case.id, **to_json(case)} for case in run.cases],
        "measurements": [to_json(measurement) for measurement in run.measurements],
    }


def dump_run(run: Run) -> str:
    """A run as the text of a run file: a line a case and a line a measurement."""
    data = as_json(run)

    def lines(name: str) -> str:
        return ",\n".join(dumps(item) for item in data[name])

    return (
        f'{{"schema":{dumps(SCHEMA)},\n"run":{dumps(data["run"])},\n'
        f'"cases":[\n{lines("cases")}\n],\n"measurements":[\n{lines("measurements")}\n]}}\n'
    )


def read_run(path: str | Path) -> Run:
    """The run in a file. Raises RunFileError naming the file and what is wrong in it."""
    return parse_run(read_text(path), str(path))


def read_text(path: str | Path) -> str:
    """The text of a file that somebody named as a run file. Raises RunFileError."""
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            raise RunFileError(
                f"{path} is {size / 2**20:.0f} MB; a run file has at most {MAX_BYTES // 2**20} MB"
            )
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunFileError(f"there is no file {path}") from None
    except UnicodeDecodeError:
        raise RunFileError(f"{path} is not a run file: it is not text in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunFileError(f"{path} cannot be read: {reason}") from None


def parse_run(text: str, origin: str) -> Run:
    """The run that a text describes. Raises RunFileError naming `origin` and the culprit's place."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
        _check_schema(data, origin)
        return _run(data)
    except Misfit as misfit:
        raise RunFileError(f"{origin}: {misfit}{_version_hint(data)}") from None
    except json.JSONDecodeError as error:
        cut = "it ends too early" if error.pos >= len(text.rstrip()) else error.msg.lower()
        raise RunFileError(
            f"{origin} is not a whole JSON file: {cut} (line {error.lineno}, column {error.colno})"
        ) from None
    except RecursionError:
        raise RunFileError(f"{origin} is not a run file: it is nested too deeply") from None
    except ValueError as error:  # NaN, or a number of thousands of digits
        raise RunFileError(f"{origin} is not a run file: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows")


def _check_schema(data: Json, origin: str) -> None:
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == SCHEMA:
        return
    family = SCHEMA.rpartition("/")[0]
    if isinstance(schema, str) and schema.startswith(f"{family}/"):
        raise RunFileError(
            f"{origin} has the schema {schema!r}; this devbench reads {SCHEMA!r}: upgrade it"
        )
    raise RunFileError(
        f"{origin} is not a run file of `devbench export`: its schema is {shown(schema)}, not {SCHEMA!r}"
    )


def _version_hint(data: Json) -> str:
    """A field that is not known is usually a newer devbench's."""
    run = data.get("run")
    made_by = run.get("devbench_version") if isinstance(run, dict) else None
    if not isinstance(made_by, str) or made_by == __version__:
        return ""
    return f" (the file was made by devbench {made_by[:20]}, this is {__version__})"


def _run(data: Mapping[str, Json]) -> Run:
    for name in ("cases", "measurements"):
        if not isinstance(data.get(name), list):
            raise Misfit(
                name,
                f"is {shown(data[name])}; a list is expected" if name in data else "is missing",
            )
    if "run" not in data:
        raise Misfit("run", "is missing")
    if unknown := set(data) - {"schema", "run", "cases", "measurements"}:
        raise Misfit(min(unknown), "is not a part of a run file")
    info = from_json(RunInfo, data["run"], "run")
    if not info.id:
        raise Misfit("run.id", "is empty")
    _check_environment(info.environment)
    _check_time("run.started_at", info.started_at)
    if info.finished_at is not None:
        _check_time("run.finished_at", info.finished_at)
    places: dict[str, str] = {}
    cases = [_case(item, f"cases[{i}]", places) for i, item in enumerate(data["cases"])]
    visits: dict[tuple[str, int], str] = {}
    measurements = [
        _measurement(item, f"measurements[{i}]", places, visits)
        for i, item in enumerate(data["measurements"])
    ]
    return Run(info=info, cases=tuple(cases), measurements=tuple(measurements))


def _check_environment(told: Mapping[str, Json]) -> None:
    """What of it is read later as what it is; a version that does not say something leaves it out."""
    # Here, since most verbs read no file and these bring what reads GPUs with them.
    from devbench.detection.peaks import Peak
    from devbench.detection.records import Host
    from devbench.measure.ceilings import Ceilings

    path = "run.environment"
    for name in ("machine", "targets", "variables"):
        _object(f"{path}.{name}", told.get(name, {}))
    machine = told.get("machine", {})
    _as_far_as_known(Host, machine.get("host", {}), f"{path}.machine.host")
    for name in ("gpus", "frameworks", "devices"):
        _objects(f"{path}.machine.{name}", machine.get(name, []))
    for target, facts in told.get("targets", {}).items():
        place = f"{path}.targets.{target}"
        _object(place, facts)
        for name, record in (("ceilings", Ceilings), ("peak", Peak)):
            if facts.get(name):
                _as_far_as_known(record, facts[name], f"{place}.{name}")


def _check_telemetry(told: Mapping[str, Json], path: str) -> None:
    from devbench.telemetry.records import GpuSummary, HostSummary, Summary

    host = _as_far_as_known(HostSummary, told.get("host"), f"{path}.host")
    gpus = tuple(
        _as_far_as_known(GpuSummary, gpu, f"{path}.gpus[{i}]")
        for i, gpu in enumerate(_objects(f"{path}.gpus", told.get("gpus", [])))
    )
    rest = {name: value for name, value in told.items() if name not in ("host", "gpus")}
    from_json(Summary, rest, path, unknown="ignore", ready={"host": host, "gpus": gpus})


#: A record of which a newer devbench may write more fields.
_as_far_as_known: Final = partial(from_json, unknown="ignore")


def _object(path: str, value: Json) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise Misfit(path, f"is {shown(value)}; an object is expected")
    return value


def _objects(path: str, value: Json) -> Sequence[Mapping[str, Json]]:
    if not isinstance(value, list):
        raise Misfit(path, f"is {shown(value)}; a list is expected")
    return [_object(f"{path}[{i}]", item) for i, item in enumerate(value)]


def _case(data: Json, path: str, places: dict[str, str]) -> Case:
    stated = data.get("id") if isinstance(data, dict) else None
    rest = (
        {name: value for name, value in data.items() if name != "id"}
        if isinstance(data, dict)
        else data
    )
    case = from_json(Case, rest, path)
    if stated != case.id:
        raise Misfit(f"{path}.id", f"is {shown(stated)}, but its fields make it {shown(case.id)}")
    world = dict(case.params).get("world_size", 1)
    if type(world) is not int:
        raise Misfit(f"{path}.params.world_size", f"is {shown(world)}; a whole number is expected")
    _check_range(f"{path}.params.world_size", world, 1)
    if case.id in places:
        raise Misfit(path, f"is the same case as {places[case.id]}")
    places[case.id] = path
    return case


def _measurement(
    data: Json, path: str, places: Mapping[str, str], visits: dict[tuple[str, int], str]
) -> Measurement:
    measurement = from_json(Measurement, data, path)
    for i, sample in enumerate(measurement.samples):
        if sample != 0 and not LEAST <= sample <= MOST:
            raise Misfit(
                f"{path}.samples[{i}]", f"is {shown(sample)}; a time must be a number from zero on"
            )
    if measurement.case_id not in places:
        raise Misfit(
            f"{path}.case_id", f"is {shown(measurement.case_id)}, which is none of the cases"
        )
    _check_range(f"{path}.round", measurement.round, 0)
    _check_range(f"{path}.block", measurement.block, 1)
    _check_time(f"{path}.started_at", measurement.started_at)
    if measurement.telemetry:
        _check_telemetry(measurement.telemetry, f"{path}.telemetry")
    for name, value in measurement.metrics.items():
        if not isinstance(value, int | float | str):
            raise Misfit(
                f"{path}.metrics.{name}", f"is {shown(value)}; a number or text is expected"
            )
    visit = (measurement.case_id, measurement.round)
    if visit in visits:
        raise Misfit(path, f"is the same case and round as {visits[visit]}")
    visits[visit] = path
    return measurement


def _check_range(path: str, value: int, least: int) -> None:
    if not least <= value < 2**31:
        raise Misfit(path, f"is {value}; it must be from {least} to {2**31 - 1}")


def _check_time(path: str, value: str) -> None:
    """UTC only: the store sorts times as text."""
    try:
        is_utc = datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        is_utc = False
    if not is_utc:
        raise Misfit(path, f"is {shown(value)}; a time reads like 2026-01-31T12:00:00.000+00:00")
