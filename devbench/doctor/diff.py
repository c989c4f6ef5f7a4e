"""What differs between two machines: hardware, driver, packages, settings, variables, findings.

What changes by itself (clocks, temperatures, free memory) is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Final

from devbench.doctor.diagnose import diagnose
from devbench.doctor.facts import Facts, gather
from devbench.doctor.recording import FrameworkRecord, Recording
from devbench.model import Json

SCHEMA: Final = "devbench.doctor_diff/1"

_HOST: Final = frozenset({"available_memory_bytes", "hostname"})
_GPU: Final = frozenset(
    (
        *("uuid", "unread", "sm_clock_hz", "memory_clock_hz", "clock_event_mask", "clock_events"),
        *("clock_event_seconds", "power_w", "temperature_c", "temperature_margin_c", "pstate"),
        *("utilization", "memory_utilization", "free_memory_bytes", "processes"),
        *("compute_processes", "pcie_generation", "pcie_width", "pcie_replays"),
        *("ecc_corrected", "ecc_corrected_ever", "mig_devices"),
    )
)

#: What a finding says of the moment: free memory, clocks, heat, other processes, a link's packets, rates.
#: Numbers that name something (XID 79, CUDA 13.0, a version) stay.
_PASSING: Final = re.compile(
    r"[0-9.]+(?= of [0-9.]+ (?:GiB|MHz)| (?:GiB|MHz|°C)| packets)"
    r"|[0-9.]+(?:e-[0-9]+)?%?(?= of (?:numpy's|float32's) rate)"
    r"|[0-9]+ other process(?:es)?|nobody listed"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the two machines do not have in common; None: it is not there."""

    what: str
    first: Json
    second: Json


def differences(first: Recording, second: Recording) -> tuple[Difference, ...]:
    """In the order of the first machine; empty where nothing differs."""
    one, other = gather(first), gather(second)
    return (*_of_facts(_told(one), _told(other)), *_of_findings(_found(one), _found(other)))


def to_json(found: tuple[Difference, ...]) -> Json:
    return {"schema": SCHEMA, "differences": [asdict(one) for one in found]}


def _of_facts(one: Mapping[str, Json], other: Mapping[str, Json]) -> Iterator[Difference]:
    for what in dict.fromkeys([*one, *other]):
        if one.get(what) != other.get(what):
            yield Difference(what, one.get(what), other.get(what))


def _of_findings(
    one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]
) -> Iterator[Difference]:
    """What only one of them has, beside what only the other has of the same id."""
    for id_ in dict.fromkeys([*one, *other]):
        here, there = one.get(id_, {}), other.get(id_, {})
        ours = [says for lasting, says in here.items() if lasting not in there]
        theirs = [says for lasting, says in there.items() if lasting not in here]
        for says, instead in zip_longest(ours, theirs):
            yield Difference(f"finding.{id_}", says, instead)


def _told(facts: Facts) -> dict[str, Json]:
    """Everything about a machine that stays as it is, by a name that means the same on any machine."""
    recording = facts.recording
    told: dict[str, Json] = {}
    told |= {f"system.{name}": value for name, value in asdict(recording.system).items()}
    told |= _fields("host", asdict(facts.host), _HOST)
    for index, gpu in enumerate(facts.gpus):
        told[f"gpu{index}.name"] = gpu.name
        told[f"gpu{index}.kernel_driver"] = gpu.pci.driver if gpu.pci else None
        for record in (gpu.nvml, gpu.health):
            if record is not None:
                told |= _fields(f"gpu{index}", asdict(record), _GPU)
    told["nvml"] = facts.nvml_error
    for framework in recording.frameworks:
        told |= dict(_framework(framework))
    for package in recording.packages:  # the first of a name hides those behind it
        told.setdefault(f"package.{package.name}", package.version)
    told |= {f"variable.{name}": value for name, value in recording.variables.items()}
    return told


def _found(facts: Facts) -> dict[str, dict[str, str]]:
    """The findings by their id: what stays of each sentence → the sentence, with what it is about."""
    places = {gpu.physical: f"gpu{index}" for index, gpu in enumerate(facts.gpus)}
    found: dict[str, dict[str, str]] = {}
    for finding in diagnose(facts.recording).findings:
        # A GPU each: those that were found alike are one finding only where their figures are alike too.
        for place in [places[physical] for physical in finding.gpus] or [""]:
            about = ", ".join(filter(None, (finding.framework, place)))
            says = f"{finding.says} [{about}]" if about else finding.says
            found.setdefault(finding.id, {})[_PASSING.sub("#", says)] = says
    return found


def _fields(place: str, record: Mapping[str, Any], without: frozenset[str]) -> dict[str, Json]:
    return {f"{place}.{name}": value for name, value in record.items() if name not in without}


def _framework(framework: FrameworkRecord) -> Iterator[tuple[str, Json]]:
    name, view = framework.name, framework.answer.view
    yield f"{name}.status", framework.answer.status
    if view is not None:
        yield f"{name}.version", view.version
        for key, value in view.build.items():
            yield f"{name}.build.{key}", value
    for key, value in framework.settings.items():
        yield f"{name}.setting.{key}", value
    for trial in framework.trials:
        yield f"{name}.kernel on {trial.address}", trial.error or "ran"
