"""What differs between two machines: hardware, driver, packages, settings, variables, findings.

What changes by itself (clocks, temperatures, free memory) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from devbench.doctor.diagnose import diagnose
from devbench.doctor.facts import gather
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


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that the two machines do not have in common; None: it is not there."""

    what: str
    first: Json
    second: Json


def differences(first: Recording, second: Recording) -> tuple[Difference, ...]:
    """In the order of the first machine; empty where nothing differs."""
    one, other = _told(first), _told(second)
    return tuple(
        Difference(what, one.get(what), other.get(what))
        for what in dict.fromkeys([*one, *other])
        if one.get(what) != other.get(what)
    )


def to_json(found: tuple[Difference, ...]) -> Json:
    return {"schema": SCHEMA, "differences": [asdict(one) for one in found]}


def _told(recording: Recording) -> dict[str, Json]:
    """Everything about a machine that stays as it is, by a name that means the same on any machine."""
    facts = gather(recording)
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
    told |= {f"package.{one.name}": one.version for one in recording.packages}
    told |= {f"variable.{name}": value for name, value in recording.variables.items()}
    for finding in diagnose(recording).findings:
        told[f"finding.{finding.id}"] = finding.says
    return told


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
