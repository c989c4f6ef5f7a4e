"""The JSON files of pytest-benchmark, read as one round: they come from one process."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from devbench.errors import RunFileError
from devbench.model import Json
from devbench.store.records import shown

#: What tells such a file from any other JSON.
SCHEMA_KEYS: Final = frozenset({"benchmarks", "machine_info", "version"})
#: Major versions of pytest-benchmark whose files were looked at; they are alike in what is read here.
VERSIONS: Final = ("3", "4", "5")
#: What devbench's pytest plugin leaves in ``extra_info``: the target, the case that a calibration knows
#: the test as, the fixed step that was timed beside it, and the facts of its device.
TARGET: Final = "target"
CASE_ID: Final = "case_id"
YARDSTICK: Final = "yardstick"
YARDSTICK_S: Final = "yardstick_s"
FACTS: Final = ("physical_device", "device_name", "driver", "framework_version", "threads", "mode")
#: And in ``machine_info``, besides its version, the model of the CPU, the framework's build and settings,
#: and the environment variables that may change a time.
OF_THE_HOST: Final = ("usable_cores", "usable_cpus", "cpu_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One test. median, yardstick_s: seconds; of the fixed step None where there was none."""

    median: float
    target: str
    case_id: str
    yardstick: str | None
    yardstick_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One file. benchmarks: by the full name of the test."""

    origin: str
    started_at: str
    facts: Mapping[str, Json]
    targets: Mapping[str, Mapping[str, Json]]
    benchmarks: Mapping[str, Timed]


def parse(data: Mapping[str, Json], origin: str) -> Parsed:
    """What a file says. Raises RunFileError naming the file and the benchmark that is wrong in it."""
    version = str(data["version"])
    if version.partition(".")[0] not in VERSIONS:
        raise RunFileError(
            f"{origin} was written by pytest-benchmark {version}; this devbench reads the files of "
            f"versions {', '.join(VERSIONS)}"
        )
    if not isinstance(data["benchmarks"], list):
        raise RunFileError(
            f"{origin}: benchmarks is {shown(data['benchmarks'])}; a list is expected"
        )
    benchmarks: dict[str, Timed] = {}
    targets: dict[str, Mapping[str, Json]] = {}
    facts = _facts(data, version)
    for place, item in enumerate(data["benchmarks"]):
        name = _mapping(item).get("fullname")
        if not isinstance(name, str):
            raise RunFileError(f"{origin}: benchmarks[{place}] has no fullname")
        if name in benchmarks:
            raise RunFileError(f"{origin}: the benchmark {name} is in it twice")
        extra = _mapping(item.get("extra_info"))
        target = str(extra.get(TARGET, "this process"))
        beside = None
        if YARDSTICK in extra:
            beside = _seconds(extra.get(YARDSTICK_S), f"{name}'s fixed step", origin)
        benchmarks[name] = Timed(
            median=_seconds(_mapping(item.get("stats")).get("median"), name, origin),
            target=target,
            case_id=str(extra.get(CASE_ID, name)),
            yardstick=str(extra[YARDSTICK]) if beside is not None else None,
            yardstick_s=beside,
        )
        # A test that says nothing of its device is at least bound to the CPU it ran on.
        told = {fact: extra[fact] for fact in FACTS if fact in extra}
        targets[target] = told | _set_up(data) if told else {"device_name": facts["cpu model"]}
    return Parsed(
        origin=origin,
        started_at=str(data.get("datetime", "")),
        facts=facts,
        targets=targets,
        benchmarks=benchmarks,
    )


def _seconds(value: Json, name: str, origin: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RunFileError(f"{origin}: {name} has no median time, but {shown(value)}")
    if not (math.isfinite(value) and value > 0):
        raise RunFileError(
            f"{origin}: the median of {name} is {value}; a time must be a positive number"
        )
    return float(value)


def _facts(data: Mapping[str, Json], version: str) -> dict[str, Json]:
    machine = _mapping(data["machine_info"])
    cpu = _mapping(machine.get("cpu"))
    commit = _mapping(data.get("commit_info"))
    plugin = _mapping(machine.get("devbench"))
    return {
        "pytest-benchmark": version,
        "devbench": plugin.get("version"),
        "python": machine.get("python_version"),
        "host": machine.get("node"),
        "cpu model": plugin.get("cpu_model") or cpu.get("brand_raw") or cpu.get("brand"),
        "cpus": cpu.get("count"),
        **{name.replace("_", " "): plugin.get(name) for name in OF_THE_HOST},
        **_mapping(plugin.get("variables")),
        "os": machine.get("system"),
        "kernel": machine.get("release"),
        "git commit": commit.get("id")
        if re.fullmatch(r"[0-9a-f]{7,}", str(commit.get("id")))
        else None,
        "uncommitted changes": commit.get("dirty"),
    }


def _set_up(data: Mapping[str, Json]) -> dict[str, Json]:
    """How the session's one framework was built and set, under the names that a run has for it."""
    plugin = _mapping(_mapping(data["machine_info"]).get("devbench"))
    build = {f"build {name}": value for name, value in _mapping(plugin.get("build")).items()}
    return build | dict(_mapping(plugin.get("settings")))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
