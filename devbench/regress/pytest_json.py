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
#: What devbench's pytest plugin leaves in ``extra_info``: the target, and the facts of its device.
TARGET: Final = "target"
FACTS: Final = ("physical_device", "device_name", "driver", "framework_version", "threads", "mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One file. medians: seconds, by the full name of the test; target_of: by the same name."""

    origin: str
    started_at: str
    facts: Mapping[str, Json]
    targets: Mapping[str, Mapping[str, Json]]
    medians: Mapping[str, float]
    target_of: Mapping[str, str]


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
    medians: dict[str, float] = {}
    target_of: dict[str, str] = {}
    targets: dict[str, Mapping[str, Json]] = {}
    facts = _facts(data, version)
    for place, item in enumerate(data["benchmarks"]):
        name = _mapping(item).get("fullname")
        if not isinstance(name, str):
            raise RunFileError(f"{origin}: benchmarks[{place}] has no fullname")
        if name in medians:
            raise RunFileError(f"{origin}: the benchmark {name} is in it twice")
        medians[name] = _seconds(_mapping(item.get("stats")).get("median"), name, origin)
        extra = _mapping(item.get("extra_info"))
        target_of[name] = str(extra.get(TARGET, "this process"))
        # A test that says nothing of its device is at least bound to the CPU it ran on.
        told = {fact: extra[fact] for fact in FACTS if fact in extra}
        targets[target_of[name]] = told or {"device_name": facts["cpu model"]}
    return Parsed(
        origin=origin,
        started_at=str(data.get("datetime", "")),
        facts=facts,
        targets=targets,
        medians=medians,
        target_of=target_of,
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
    return {
        "pytest-benchmark": version,
        "python": machine.get("python_version"),
        "host": machine.get("node"),
        "cpu model": cpu.get("brand_raw") or cpu.get("brand"),
        "cpus": cpu.get("count"),
        "os": machine.get("system"),
        "kernel": machine.get("release"),
        "git commit": commit.get("id")
        if re.fullmatch(r"[0-9a-f]{7,}", str(commit.get("id")))
        else None,
        "uncommitted changes": commit.get("dirty"),
    }


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
