"""What explains the figures of a run: the checks for slowness applied to what the run itself recorded.

A diagnosis judges a machine as it is now. This one judges the windows in which a run was timed, so it
says what was in force then and leaves out what a run does not record.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devbench.detection.files import parse_cpulist
from devbench.detection.nvml import CLOCK_EVENTS
from devbench.doctor.checks.slow_gpu import LOW_CLOCK, pcie_share
from devbench.doctor.checks.slow_host import DEBUGGING, keeps_clock_low
from devbench.model import Case, Json, Measurement, Result, Run
from devbench.telemetry import GpuSummary, Summary, doubts
from devbench.telemetry.doubts import POWER_CAP, THROTTLING

_IDLE: Final = 0x001
_APPLICATION_CLOCKS: Final = 0x002

#: From this share of the ceiling on nothing that came and went has cost anything worth a sentence.
_NOTHING_LOST: Final = 0.95

#: A word of `devbench.telemetry.DOUBTS` about the host → the check that tells more of it, if there is
#: one, and how its figure reads beside others.
_OF_THE_HOST: Final[Mapping[str, tuple[str | None, str]]] = {
    "noisy-neighbour": (None, "{}"),
    "steal": (None, "the hypervisor took {}"),
    "cgroup-throttled": ("S10", "the CPU quota ran out, {}"),
    "swapping": ("S14", "swapping, {}"),
    "memory-pressure": ("S14", "{}"),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that held a figure down.

    kind: tells equal causes of several rows. id: the check of the doctor that explains it, with the way
    out. weight: of equal causes the heavier one is told. lasting: it held during the whole run, so that
    the ceiling was measured under it too.
    """

    kind: str
    says: str
    id: str | None = None
    weight: float = 0.0
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Attribution:
    """Rows of one benchmark on one target that the same causes explain.

    timed: how many rows of that benchmark the target has. of_ceiling, of_peak: lowest and highest share
    of the rows that have one.
    """

    suite: str
    benchmark: str
    target: str
    cases: tuple[str, ...]
    timed: int
    of_ceiling: tuple[float, float] | None
    of_peak: tuple[float, float] | None
    causes: tuple[Cause, ...]

    def __str__(self) -> str:
        """``torch:cuda:0 at 62 % of the ceiling: power limit 230 of 370 W (S03); …``."""
        where = self.target if len(self.cases) == self.timed else self.cases[0]
        if len(self.cases) > 1:
            many = len(self.cases)
            of = f" of {self.timed}" if many < self.timed else ""
            where = f"{self.target}, {many}{of} rows,"
        shares = [
            f"{_range(share)} of the {name}"
            for share, name in ((self.of_ceiling, "ceiling"), (self.of_peak, "datasheet's peak"))
            if share is not None
        ]
        at = f" at {', '.join(shares)}" if shares else ""
        causes = "; ".join(
            one.says if one.id is None else f"{one.says} ({one.id})" for one in self.causes
        )
        lasting = dict.fromkeys(one.id for one in self.causes if one.lasting and one.id)
        too = f"; the ceiling was measured under {' and '.join(lasting)} too"
        held = lasting and self.of_ceiling is not None
        return f"{(where + at).rstrip(',')}: {causes}{too if held else ''}"


def attribute(run: Run, results: Iterable[Result]) -> tuple[Attribution, ...]:
    """What explains the timed rows, in their order; rows that nothing explains are not in it."""
    machine = _mapping(run.info.environment.get("machine"))
    cases = {case.id: case for case in run.cases}
    visits: dict[str, list[Measurement]] = {}
    for measurement in run.measurements:
        if measurement.status == "ok" and measurement.telemetry:
            visits.setdefault(measurement.case_id, []).append(measurement)
    timed = [row for row in results if row.median is not None and row.case_id in cases]
    counts = Counter(map(_place, timed))
    alike: dict[tuple[Any, ...], list[tuple[Result, tuple[Cause, ...]]]] = {}
    for row in timed:
        found = tuple(_causes(run, machine, cases[row.case_id], row, visits.get(row.case_id, ())))
        if row.ceiling_fraction is not None and row.ceiling_fraction >= _NOTHING_LOST:
            found = tuple(one for one in found if one.lasting)
        if found:
            key = (_place(row), *sorted({one.kind for one in found}))
            alike.setdefault(key, []).append((row, found))
    return tuple(_together(rows, counts[_place(rows[0][0])]) for rows in alike.values())


def _place(row: Result) -> tuple[str, str, str]:
    return row.suite, row.benchmark, row.target


def _together(rows: Sequence[tuple[Result, tuple[Cause, ...]]], timed: int) -> Attribution:
    """Rows with the same kinds of causes, each cause as it was at its worst."""
    worst: dict[str, Cause] = {}
    for _, causes in rows:
        for one in causes:
            if one.kind not in worst or one.weight > worst[one.kind].weight:
                worst[one.kind] = one
    return Attribution(
        *_place(rows[0][0]),
        tuple(row.case_id for row, _ in rows),
        timed,
        _extremes(row.ceiling_fraction for row, _ in rows),
        _extremes(row.peak_fraction for row, _ in rows),
        tuple(worst.values()),
    )


def _extremes(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _range(share: tuple[float, float]) -> str:
    low, high = (f"{value * 100:.0f}" for value in share)
    return f"{low} %" if low == high else f"{low} to {high} %"


def _causes(
    run: Run, machine: Mapping[str, Json], case: Case, row: Result, visits: Sequence[Measurement]
) -> Iterator[Cause]:
    on_cpu = row.physical_device == "cpu"
    windows = [
        (Summary.from_json(visit.telemetry), (on_cpu and visit.threads) or 1) for visit in visits
    ]
    placement = _mapping(run.info.environment.get("placement"))
    host = _mapping(machine.get("host"))
    moves = row.bound == "link" or case.work.over.startswith(("h2d", "d2h"))
    # It is not known that all it needs lies in the GPU's memory, or it does not: gradients are exchanged.
    crosses = moves or row.bound is None or row.world_size > 1
    if not on_cpu:
        names = {row.physical_device} | {gpu.gpu for window, _ in windows for gpu in window.gpus}
        boards = [board for board in _boards(machine) if names & _names(board)]
        watched = [gpu for window, _ in windows for gpu in window.gpus]
        if not moves and row.bound != "dispatch":
            # Between the kernels of such a case a GPU rests: its clock explains nothing.
            yield from _power(boards, watched)
            yield from _heat(watched)
            yield from _clock(watched, row.bound is not None)
        if crosses:
            yield from _link(boards, watched)
        if crosses or row.bound == "dispatch":
            yield from _other_node(boards, host, placement)
        yield from _sharing(watched)
        yield from _display(boards, placement)
    if on_cpu or moves or row.bound in ("dispatch", None):
        yield from _disturbed(windows)
    if on_cpu:
        yield from _processor(host, placement, row)
    yield from _variables(_mapping(run.info.environment.get("variables")), row, on_cpu)


def _power(boards: Sequence[Mapping[str, Json]], watched: Sequence[GpuSummary]) -> Iterator[Cause]:
    """S03: the limit explains what it was seen to hold down, or what nobody could see."""
    shares = [_share(gpu, POWER_CAP) for gpu in watched if gpu.clock_event_mask is not None]
    if shares and max(shares) == 0:
        return
    limits = [gpu.power_limit_w for gpu in watched] + [_number(b, "power_limit_w") for b in boards]
    limit = min((one for one in limits if one is not None), default=None)
    defaults = [_number(board, "power_default_limit_w") for board in boards]
    default = max((one for one in defaults if one is not None), default=None)
    reached = f", reached in {max(shares) * 100:.0f} % of samples" if shares else ""
    if limit is not None and default is not None and limit < 0.99 * default:
        says = f"power limit {limit:.0f} of {default:.0f} W{reached}"
        yield Cause("power-limit", says, "S03", max(shares, default=0.0), lasting=True)
    elif shares:
        known = "" if limit is None else f" {limit:.0f} W"
        yield Cause("power-capped", f"power limit{known}{reached}", weight=max(shares))


def _heat(watched: Sequence[GpuSummary]) -> Iterator[Cause]:
    """S02, any of its bits, alone or with others."""
    for bit, name in CLOCK_EVENTS.items():
        share, gpu = max(
            ((_share(one, bit), one) for one in watched),
            key=lambda pair: pair[0],
            default=(0, None),
        )
        if bit & THROTTLING and share and gpu is not None:
            hot = "" if gpu.temperature_c is None else f", {gpu.temperature_c:.0f} °C"
            says = f"{name} in {share * 100:.0f} % of samples{hot}"
            yield Cause(name, says, "S02", share)


def _clock(watched: Sequence[GpuSummary], loaded: bool) -> Iterator[Cause]:
    """S04. loaded: the case is known to keep the GPU busy, so that a low clock is no sign of rest."""
    for gpu in watched:
        mask, clock, most = gpu.clock_event_mask, gpu.sm_clock_hz, gpu.sm_clock_max_hz
        if mask is None or clock is None or not most or clock >= LOW_CLOCK * most:
            continue
        if not mask & ~(_APPLICATION_CLOCKS | _IDLE) and (loaded or mask & _APPLICATION_CLOCKS):
            says = f"clock held at {clock / 1e6:.0f} of {most / 1e6:.0f} MHz"
            yield Cause("clock", says, "S04", 1 - clock / most, lasting=True)
            return


def _link(boards: Sequence[Mapping[str, Json]], watched: Sequence[GpuSummary]) -> Iterator[Cause]:
    """S01, under load. Where nobody looked then, by the width when the run began: at rest it is the
    generation that falls."""
    seen = [
        gpu for gpu in watched if gpu.pcie_generation is not None and gpu.pcie_width is not None
    ]
    for name in dict.fromkeys(gpu.gpu for gpu in seen):
        own = [gpu for gpu in seen if gpu.gpu == name]
        generation = max(gpu.pcie_generation or 0 for gpu in own)
        width = max(gpu.pcie_width or 0 for gpu in own)
        most_generation, most_width = own[0].pcie_generation_max, own[0].pcie_width_max
        if not most_generation or not most_width:
            continue
        share = pcie_share((generation, width), (most_generation, most_width))
        if generation < most_generation or width < most_width:
            says = f"PCIe {generation} ×{width} of {most_generation} ×{most_width}"
            yield Cause("pcie", says, "S01", 1 - share, lasting=True)
            return
    for board in boards if not seen else ():
        told, most = _number(board, "pcie_width"), _number(board, "pcie_width_max")
        if told is not None and most and told < most:
            says = f"PCIe ×{told:.0f} of ×{most:.0f} when the run began"
            yield Cause("pcie", says, "S01", 1 - told / most, lasting=True)
            return


def _other_node(
    boards: Sequence[Mapping[str, Json]], host: Mapping[str, Json], placement: Mapping[str, Json]
) -> Iterator[Cause]:
    """S12"""
    allowed = set(parse_cpulist(str(placement.get("allowed_cpus") or "")))
    nodes = host.get("numa_nodes")
    for node in map(_mapping, nodes if isinstance(nodes, list | tuple) else ()):
        index, near = node.get("index"), set(parse_cpulist(str(node.get("cpus") or "")))
        here = any(board.get("numa_node") == index for board in boards)
        if here and index is not None and near and allowed and not near & allowed:
            says = f"its CPUs are on another NUMA node than the GPU, {index}"
            yield Cause("numa", says, "S12", lasting=True)
            return


def _display(
    boards: Sequence[Mapping[str, Json]], placement: Mapping[str, Json]
) -> Iterator[Cause]:
    """S07"""
    displays = _mapping(placement.get("displays"))
    if any(displays.get(name) is True for board in boards for name in _names(board) if name):
        yield Cause("display", "a display is attached to the GPU", "S07")


def _sharing(watched: Sequence[GpuSummary]) -> Iterator[Cause]:
    """S06"""
    pids = sorted({pid for gpu in watched for pid in gpu.other_pids or ()})
    if pids:
        listed = ", ".join(map(str, pids))
        others = f"{len(pids)} other process{'es' * (len(pids) > 1)} on the GPU (pid {listed})"
        yield Cause("co-tenant", others, "S06", len(pids))


def _disturbed(windows: Sequence[tuple[Summary, int]]) -> Iterator[Cause]:
    """What telemetry says of the host, in the window that was longest disturbed for its length."""
    for window, threads in windows:
        for doubt in doubts(window, threads):
            word, _, figure = doubt.partition(": ")
            if word in _OF_THE_HOST:
                check, form = _OF_THE_HOST[word]
                figure = re.sub(r"(?<=\d)%", " %", figure)
                yield Cause(word, form.format(figure), check, _weight(word, window))


def _weight(word: str, window: Summary) -> float:
    host = window.host
    swapped, seconds = (host.swapped_in or 0) + (host.swapped_out or 0), window.seconds or 1.0
    return {
        "noisy-neighbour": host.others_busy,
        "steal": host.steal,
        "cgroup-throttled": (host.throttled_s or 0) / seconds,
        "swapping": swapped / seconds,
        "memory-pressure": host.memory_pressure,
    }[word] or 0.0


def _processor(
    host: Mapping[str, Json], placement: Mapping[str, Json], row: Result
) -> Iterator[Cause]:
    """S10 and S11"""
    granted = _number(host, "usable_cpus")
    if granted is not None and row.threads is not None and row.threads > max(1.0, granted + 0.999):
        says = f"{row.threads} threads on {granted:g} granted CPUs"
        yield Cause("threads", says, "S10", row.threads / granted, lasting=True)
    driver = placement.get("frequency_driver")
    if isinstance(driver, str) and keeps_clock_low(host.get("governor"), driver):
        says = f"the governor powersave keeps the lowest clock ({driver})"
        yield Cause("governor", says, "S11", lasting=True)
    if host.get("turbo") is False:
        yield Cause("turbo", "the processor's turbo is off", "S11", lasting=True)


def _variables(variables: Mapping[str, Json], row: Result, on_cpu: bool) -> Iterator[Cause]:
    """S08, the variables that this row's framework and device heed."""
    for name, (values, does) in DEBUGGING.items():
        value = variables.get(name)
        if not isinstance(value, str) or not re.fullmatch(values, value, re.IGNORECASE):
            continue
        family = name.split("_")[0]
        heeds = {
            "CUDA": not on_cpu,
            "NSYS": not on_cpu,
            "NCCL": row.world_size > 1,
            "TF": row.framework == "tensorflow",
            "TORCH": row.framework == "torch",
            "PYTORCH": row.framework == "torch" and not on_cpu,
            "DNNL": on_cpu,
            "ONEDNN": on_cpu,
            "MKL": on_cpu,
        }
        if heeds.get(family, True):
            yield Cause(name, f"{name}={value} {does}", "S08", lasting=True)


def _share(gpu: GpuSummary, bit: int) -> float:
    """The share of samples with this bit; a mask that has it without a share counts as all."""
    if not (gpu.clock_event_mask or 0) & bit:
        return 0.0
    return gpu.clock_events.get(CLOCK_EVENTS[bit], 1.0)


def _boards(machine: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    gpus = machine.get("gpus")
    return [_mapping(gpu) for gpu in gpus] if isinstance(gpus, list | tuple) else []


def _names(board: Mapping[str, Json]) -> set[str | None]:
    slices = board.get("mig_devices")
    parts = [_mapping(one) for one in slices] if isinstance(slices, list | tuple) else []
    named = [*(one.get("uuid") for one in parts), board.get("uuid"), board.get("pci_bus_id")]
    return {one for one in named if isinstance(one, str)}


def _number(record: Mapping[str, Json], name: str) -> float | None:
    value = record.get(name)
    return float(value) if isinstance(value, int | float) and value is not True else None


def _mapping(value: Any) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
