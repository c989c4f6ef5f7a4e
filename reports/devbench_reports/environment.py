"""What a run recorded of its machine, read tolerantly: a run file of another version may lack any key,
and then ``??`` stands there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devbench.detection.join import normalize_bus_id, why_unseen
from devbench.detection.records import machine_from_json
from devbench.model import Json, Run
from devbench_reports import format as fmt


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One physical device and what each framework calls it. `seen_as`: framework → addresses."""

    kind: str
    name: str
    physical: str
    memory: str
    driver: str
    seen_as: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Machine:
    """`notes`: a sentence for each framework that is not there or does not see a GPU of the machine."""

    host: str
    facts: tuple[tuple[str, str], ...]
    frameworks: tuple[str, ...]
    devices: tuple[DeviceRow, ...]
    notes: tuple[str, ...]


def machine(run: Run) -> Machine:
    """The machine of a run as rows of text."""
    recorded = _mapping(run.info.environment.get("machine"))
    host = _mapping(recorded.get("host"))
    seen = [_mapping(item) for item in _sequence(recorded.get("devices"))]
    answers = [_mapping(item) for item in _sequence(recorded.get("frameworks"))]
    frameworks = dict.fromkeys(
        [
            *(_text(item, "name") for item in answers),
            *(_text(item, "framework") for item in seen),
            *(case.target.framework for case in run.cases),
        ]
    )
    frameworks.pop(fmt.UNKNOWN, None)
    gpus = [
        *_slices(_sequence(recorded.get("gpus"))),
        # AMD SMI's UUIDs have another form than those of the frameworks; their place is the same.
        *({**_mapping(amd), "uuid": None} for amd in _sequence(recorded.get("amd_gpus"))),
    ]
    devices = tuple(_devices(host, gpus, seen))
    return Machine(
        host=_text(host, "hostname"),
        facts=tuple(_facts(host)),
        frameworks=tuple(frameworks),
        devices=devices,
        notes=tuple(note for answer in answers if (note := _note(answer, devices))),
    )


def _note(answer: Mapping[str, Json], devices: Sequence[DeviceRow]) -> str | None:
    name = _text(answer, "name")
    if answer.get("status", "ok") != "ok":
        return f"{name} could not be asked: {_text(answer, 'reason', 'status').rstrip('.')}."
    unseen = [
        device.name for device in devices if device.kind == "GPU" and name not in device.seen_as
    ]
    if not unseen:
        return None
    why = "does not see it"
    try:
        alone = {"host": {}, "gpus": [], "frameworks": [answer], "devices": []}
        record = machine_from_json(alone).frameworks[0]
    except (KeyError, TypeError, AttributeError):  # another version's record
        pass
    else:
        why = why_unseen(record) if record.view is not None else why
    names = [
        f"{number} × {text}" if number > 1 else text for text, number in Counter(unseen).items()
    ]
    return f"{fmt.join(names)}: {name} {why}."


def target_facts(run: Run) -> list[tuple[str, Mapping[str, Json]]]:
    """What each worker said of itself, by target."""
    recorded = _mapping(run.info.environment.get("targets"))
    return [(str(name), _mapping(facts)) for name, facts in recorded.items()]


def _facts(host: Mapping[str, Json]) -> list[tuple[str, str]]:
    return [
        ("CPU", _text(host, "cpu_model")),
        ("usable CPUs", _text(host, "usable_cpus")),
        ("usable memory", _memory(host, "usable_memory_bytes", "memory_bytes")),
        ("system", _text(host, "os")),
        ("kernel", _text(host, "kernel")),
    ]


def _devices(
    host: Mapping[str, Json],
    gpus: Sequence[Mapping[str, Json]],
    seen: Sequence[Mapping[str, Json]],
) -> list[DeviceRow]:
    """The CPU, every GPU of the driver, then what only a framework sees; joined on the physical id."""
    by_physical: dict[str, dict[str, tuple[str, ...]]] = {}
    at_place: dict[str, str] = {}
    for item in seen:
        if place := normalize_bus_id(str(item.get("pci_bus_id"))):
            at_place[place] = _text(item, "physical")
        names = by_physical.setdefault(_text(item, "physical"), {})
        framework = _text(item, "framework")
        names[framework] = (*names.get(framework, ()), f"{framework}:{_text(item, 'address')}")
    rows = [
        DeviceRow(
            "CPU",
            _text(host, "cpu_model"),
            "cpu",
            _memory(host, "usable_memory_bytes", "memory_bytes"),
            fmt.NONE,
            by_physical.pop("cpu", {}),
        )
    ]
    for gpu in gpus:
        place = normalize_bus_id(str(gpu.get("pci_bus_id"))) or ""
        ids = [str(one) for one in (gpu.get("uuid"), at_place.get(place), place) if one]
        known = next((key for key in ids if key in by_physical), ids[0] if ids else fmt.UNKNOWN)
        rows.append(
            DeviceRow(
                "GPU",
                _text(gpu, "name"),
                known,
                _memory(gpu, "memory_bytes"),
                _text(gpu, "driver"),
                by_physical.pop(known, {}),
            )
        )
    for physical, names in by_physical.items():
        item = next(item for item in seen if _text(item, "physical") == physical)
        rows.append(
            DeviceRow(
                _text(item, "kind").upper(),
                _text(item, "name"),
                physical,
                _memory(item, "memory_bytes"),
                fmt.UNKNOWN,
                names,
            )
        )
    return rows


def _slices(gpus: Sequence[Json]) -> list[Mapping[str, Json]]:
    """The GPUs; of one that is partitioned its slices, since frameworks see these instead."""
    found: list[Mapping[str, Json]] = []
    for gpu in map(_mapping, gpus):
        parts = [_mapping(part) for part in _sequence(gpu.get("mig_devices"))]
        found += [{**part, "driver": gpu.get("driver")} for part in parts] or [gpu]
    return found


def _first(data: Mapping[str, Json], *keys: str) -> Json:
    return next((data[key] for key in keys if data.get(key) is not None), None)


def _text(data: Mapping[str, Json], *keys: str) -> str:
    value = _first(data, *keys)
    return fmt.UNKNOWN if value is None else fmt.plain(value)


def _memory(data: Mapping[str, Json], *keys: str) -> str:
    size = _first(data, *keys)
    return fmt.memory(size) if isinstance(size, int | float) else fmt.UNKNOWN


def _mapping(value: Any) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Json]:
    return value if isinstance(value, list | tuple) else ()
