"""The words of devbench as frozen records (standard library only).

Times are seconds, rates are per second, memory is bytes, energy is joules, everywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

from devbench.errors import UsageError, unknown

ParamValue: TypeAlias = str | int | float | bool
Json: TypeAlias = Any

Status = Literal["ok", "skipped", "failed", "crashed", "timeout", "oom"]
Numerics = Literal["match", "mismatch", "exact", "unchecked"]
Quality = Literal["valid", "suspect", "invalid"]

#: Of several rounds a row tells the most serious outcome; a lone bad round is not outvoted.
SEVERITY: Final[tuple[Status, ...]] = ("crashed", "failed", "timeout", "oom", "skipped", "ok")

#: Why a case was not measured, or not to its end. `reason` of a row starts with one of these.
REASONS: Final[Mapping[str, str]] = {
    "too-slow": "a step is predicted, from a smaller size, to take longer than the step limit",
    "does-not-fit": "the declared footprint exceeds the memory that is free",
    "after-oom": "a smaller size of this benchmark ran out of memory",
    "unsupported": "the device or framework cannot do this case",
    "out-of-memory": "the framework reported that memory ran out",
    "error": "the benchmark raised an exception",
    "declaration": "the benchmark's declaration or builder is wrong",
    "signal": "the worker was killed by a signal",
    "exit": "the worker exited without an answer",
    "case-timeout": "the case took longer than its limit and the worker was ended",
    "start-failed": "the worker could not start the framework",
}

#: Why a figure is to be doubted. Each appears in `quality_reasons` followed by its figure.
QUALITY_REASONS: Final[Mapping[str, str]] = {
    "numerics-mismatch": "the result differs from the reference by more than the tolerance",
    "not-steady": "the samples still trended when the warm-up reached its bound",
    "wide-interval": "the interval of the median is wider than ±10 % of it",
    "rounds-disagree": "the round medians spread by more than 10 %",
    "few-samples": "a round has fewer than 5 samples",
    "below-resolution": "a sample is shorter than 500 ticks of the clock, or 20 of device events",
    "beats-ceiling": (
        "the rate exceeds the peak, or of what is bound by compute the measured ceiling by 10 %: one of "
        "them is wrong"
    ),
    "throttled": "the GPU was slowed down by heat, by its power brake or by its hardware",
    "power-capped": "the GPU held its clock down to stay inside its power limit",
    "clock-dropped": "the GPU's clock moved by more than 10 % while timing",
    "co-tenant": "other processes were on the GPU",
    "noisy-neighbour": "other processes took CPU that the worker's threads needed",
    "steal": "the hypervisor gave more than 2 % of the CPU to another machine",
    "cgroup-throttled": "the CPU quota stopped the worker for more than 1 % of the time",
    "swapping": "the machine swapped more than 1 MiB while timing",
    "memory-pressure": "tasks waited for memory for more than 1 % of the time",
    "threads": "the worker used more threads than it was given",
}


@dataclass(frozen=True, slots=True)
class DType:
    """A number format. `eps` is the distance from 1 to the next number; None for integers.

    tfloat32 is float32 in memory, of which products take 10 bits of the fraction (NVIDIA's TF32).
    """

    name: str
    itemsize: int
    eps: float | None

    @property
    def storage(self) -> str:
        """The dtype that tensors have."""
        return "float32" if self.name == "tfloat32" else self.name

    @property
    def is_float(self) -> bool:
        return self.eps is not None


DTYPES: Final[Mapping[str, DType]] = {
    dtype.name: dtype
    for dtype in (
        DType("float64", 8, 2.0**-52),
        DType("float32", 4, 2.0**-23),
        DType("tfloat32", 4, 2.0**-10),
        DType("bfloat16", 2, 2.0**-7),
        DType("float16", 2, 2.0**-10),
        DType("int64", 8, None),
        DType("int32", 4, None),
        DType("int8", 1, None),
    )
}


def dtype(name: str) -> DType:
    """The `DType` of that name. Raises UsageError with the close matches."""
    try:
        return DTYPES[name]
    except KeyError:
        raise UsageError(unknown("dtype", name, DTYPES)) from None


#: What the bytes of a step may move over.
OVER: Final = ("memory", "h2d", "d2h", "h2d_pinned", "d2h_pinned", "elsewhere")


@dataclass(frozen=True, slots=True)
class Work:
    """What one step must do and hold. Every figure may be left out (None: not declared).

    flops: floating-point operations, a multiply-add counted as two.
    bytes: the least that must move between memory and processor.
    items: what a person counts (images, samples, tokens).
    footprint: memory that the step holds at its peak.
    terms: the longest sum behind one element of the output, which bounds its rounding error.
    over: what the bytes move over: the device's ``memory``; between host and device (``h2d``, ``d2h``,
    ``h2d_pinned``, ``d2h_pinned``); or ``elsewhere`` (a disk, a network), which has no ceiling.
    """

    flops: float | None = None
    bytes: float | None = None
    items: float | None = None
    footprint: float | None = None
    terms: int = 1
    over: str = "memory"

    def problems(self) -> list[str]:
        """Sentences on what is impossible in it; empty when all is well."""
        found = []
        if self.over not in OVER:
            found.append(f"work gives over={self.over!r}; there is: {', '.join(OVER)}")
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or item.name == "over":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                found.append(f"work gives {item.name}={value!r}, which is not a number")
            elif not 0 <= value <= sys.float_info.max:
                found.append(
                    f"work gives {item.name}={value!r}; it must be finite and not negative"
                )
        return found


def format_value(value: ParamValue) -> str:
    """A parameter value as it stands in a case id."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def format_params(params: Mapping[str, ParamValue]) -> str:
    return ",".join(f"{name}={format_value(value)}" for name, value in params.items())


@dataclass(frozen=True, slots=True)
class Device:
    """One compute device as one framework addresses it.

    `address` is the framework's own (``cpu``, ``cuda:0``, ``GPU:0``); `physical` names the thing
    itself (``cpu``, a GPU's UUID or PCI bus id) and is what frameworks are joined on. None: the
    framework does not tell.

    multiprocessors: NVIDIA's SMs, AMD's compute units, Intel's Xe cores.
    unified_memory: whether the device computes in the host's memory instead of one of its own.
    dtypes: the formats of `DTYPES` that tensors on it can have, and tfloat32 where products can.
    """

    framework: str
    address: str
    kind: str
    name: str
    physical: str
    memory_bytes: int | None = None
    compute_capability: str | None = None
    architecture: str | None = None
    pci_bus_id: str | None = None
    multiprocessors: int | None = None
    unified_memory: bool | None = None
    dtypes: tuple[str, ...] | None = None

    @property
    def id(self) -> str:
        return f"{self.framework}:{self.address}"

    @property
    def is_cpu(self) -> bool:
        return self.physical == "cpu"


@dataclass(frozen=True, slots=True)
class Target:
    """What one worker serves: a framework, its device or devices, and the threads asked for.

    `threads` is None unless it was asked for: then the worker gets one thread for each physical core
    that is usable (`devbench.detection.usable_threads`).
    """

    framework: str
    devices: tuple[str, ...]
    threads: int | None = None

    def __str__(self) -> str:
        text = f"{self.framework}:{_join_addresses(self.devices)}"
        return text if self.threads is None else f"{text};threads={self.threads}"

    def to_json(self) -> Json:
        return {
            "framework": self.framework,
            "devices": list(self.devices),
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, data: Json) -> Target:
        return cls(str(data["framework"]), tuple(map(str, data["devices"])), data["threads"])


def _join_addresses(addresses: tuple[str, ...]) -> str:
    """``cuda:0-3`` for consecutive indices of one kind, else the addresses with a plus between."""
    if len(addresses) == 1:
        return addresses[0]
    split = [re.fullmatch(r"(.+):(\d+)", address) for address in addresses]
    kinds = {match[1] for match in split if match}
    indices = [int(match[2]) for match in split if match]
    consecutive = (
        indices == list(range(indices[0], indices[0] + len(addresses))) if indices else False
    )
    if len(kinds) == 1 and consecutive:
        return f"{kinds.pop()}:{indices[0]}-{indices[-1]}"
    return "+".join(addresses)


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed: a benchmark at one point of its axes on one target."""

    suite: str
    benchmark: str
    params: tuple[tuple[str, ParamValue], ...]
    target: Target
    work: Work = field(default=Work(), compare=False)

    @property
    def id(self) -> str:
        return f"{self.benchmark}[{format_params(dict(self.params))}]@{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is stored: one visit of one worker to one case.

    samples: seconds of one step each; with `block` > 1, the mean of that many steps in a row.
    warmup_steps: steps until the samples no longer trended, or the bound was reached (`steady`).
    trend: relative change between the last two thirds of the warm-up.
    build_s, timing_s, check_s: where the visit's time went besides `warmup_s` and `first_call_s`.
    telemetry: what GPU and host did while the samples were taken (`devbench.telemetry.Summary`).
    threads_used: CPU time over wall time of the process under a load that uses every thread. pinned:
    each thread that worked in the step was kept to one CPU, as in pairs (`devbench.measure.binding`).
    input_bytes, output_bytes: what all inputs (weights too) and all outputs hold in the case's dtype;
    outputs are counted where the result is checked.
    yardstick: the fixed step that was timed beside the samples, and its median duration, by which the
    machine's drift can be told from the case. metrics: what the step itself adds (`Step.metrics`).
    """

    case_id: str
    round: int
    status: Status
    started_at: str
    reason: str | None = None
    detail: str | None = None
    mode: str | None = None
    threads: int | None = None
    clock: str | None = None
    clock_tick_s: float | None = None
    block: int = 1
    samples: tuple[float, ...] = ()
    first_call_s: float | None = None
    warmup_s: float | None = None
    warmup_steps: int | None = None
    steady: bool | None = None
    trend: float | None = None
    build_s: float | None = None
    timing_s: float | None = None
    check_s: float | None = None
    threads_used: float | None = None
    pinned: bool | None = None
    numerics: Numerics | None = None
    rel_error: float | None = None
    tolerance: float | None = None
    numerics_detail: str | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    peak_memory_bytes: int | None = None
    telemetry: Mapping[str, Json] = field(default_factory=dict)
    yardstick: str | None = None
    yardstick_s: float | None = None
    metrics: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What stands once a run: settings, environment, state."""

    id: str
    label: str | None
    started_at: str
    finished_at: str | None
    state: Literal["running", "complete", "interrupted"]
    devbench_version: str
    settings: Mapping[str, Json]
    environment: Mapping[str, Json]

    @property
    def kind(self) -> str:
        """``run`` for what `devbench run` measured; else what was asked: ``ab`` (a side of a comparison
        in turn), ``calibration``, ``stress``."""
        return "ab" if "ab" in self.settings else str(self.settings.get("kind", "run"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A stored run: its facts, the cases that were planned and what was measured of them."""

    info: RunInfo
    cases: tuple[Case, ...]
    measurements: tuple[Measurement, ...]


def _column(unit: str, doc: str) -> Any:
    return field(metadata={"unit": unit, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the result table: a case in a run. The fields are the table's columns, in order."""

    run_id: str = _column("", "the run")
    label: str | None = _column("", "the run's label")
    case_id: str = _column("", "benchmark[params]@target")
    started_at: str | None = _column("ISO 8601, UTC", "when the case's first measurement began")
    suite: str = _column("", "the module that declares the benchmark")
    benchmark: str = _column("", "the workload")
    params: Mapping[str, ParamValue] = _column("", "the point on the benchmark's axes")

    framework: str = _column("", "torch, tensorflow or a plugin's")
    framework_version: str | None = _column("", "as the framework says")
    target: str = _column("", "framework, devices and threads asked for")
    physical_device: str | None = _column("", "cpu, or the UUID or PCI bus id of each GPU")
    device_name: str | None = _column("", "as the driver names it")
    driver: str | None = _column("", "version of the GPU driver; null on a CPU")
    dtype: str | None = _column("", "number format of the inputs")
    mode: str | None = _column("", "how the framework executes: eager, function, compiled, xla")
    threads: int | None = _column("", "CPU threads given to the worker")
    world_size: int = _column("", "devices or ranks that take part")

    status: Status = _column("", "ok, skipped, failed, crashed, timeout, oom")
    reason: str | None = _column("", "why it is not ok: a word of the closed list, and a text")
    quality: Quality | None = _column("", "valid, suspect or invalid; null where nothing was timed")
    quality_reasons: tuple[str, ...] = _column("", "why it is not valid, each with its figure")

    rounds: int = _column("", "fresh worker processes that measured the case")
    samples: int = _column("", "samples in all rounds together")
    median: float | None = _column("s", "median of the round medians, for one step")
    ci_low: float | None = _column(
        "s", "95 % t interval of the log round medians; null for one round"
    )
    ci_high: float | None = _column("s", "its upper end")
    within_p5: float | None = _column(
        "s", "5th percentile inside the processes, all samples pooled"
    )
    within_p25: float | None = _column("s", "25th percentile")
    within_p75: float | None = _column("s", "75th percentile")
    within_p95: float | None = _column("s", "95th percentile")
    within_p99: float | None = _column("s", "99th percentile")
    min: float | None = _column("s", "shortest sample")
    max: float | None = _column("s", "longest sample")
    mean: float | None = _column("s", "mean of the samples")
    warmup_s: float | None = _column("s", "time spent on reaching a steady state, median of rounds")
    first_call_s: float | None = _column("s", "the first call: lazy set-up, tracing, compilation")
    clock: str | None = _column("", "the clock, and how the device was waited for")

    yardstick: str | None = _column("", "the fixed step that was timed beside the samples")
    yardstick_s: float | None = _column("s", "median of its round medians")
    yardsticks: float | None = _column(
        "1", "median of the rounds' median over yardstick: the drift of the machine taken out"
    )

    flop_per_s: float | None = _column("1/s", "declared floating-point operations over the median")
    bytes_per_s: float | None = _column("B/s", "declared bytes over the median")
    items_per_s: float | None = _column("1/s", "declared items (images, samples) over the median")
    ceiling_fraction: float | None = _column("1", "rate over the best rate measured on this device")
    peak_fraction: float | None = _column("1", "rate over the datasheet's peak")
    bound: str | None = _column("", "what limits it: compute, memory, link or dispatch")
    rel_error: float | None = _column("1", "largest error over the largest reference value")
    numerics: Numerics | None = _column("", "match, mismatch, exact or unchecked")
    peak_memory_bytes: int | None = _column("B", "the most memory that the case held")
    energy_j: float | None = _column("J", "energy of one step; null where no counter is readable")
    energy_source: str | None = _column("", "the counter that was read")
    items_per_j: float | None = _column("1/J", "items for a joule, which is rate per watt")
    sm_clock_hz: float | None = _column(
        "Hz", "median clock of the GPU's multiprocessors while timing"
    )
    temperature_c: float | None = _column("°C", "highest temperature while timing")
    metrics: Mapping[str, Json] = _column(
        "", "further figures of the benchmark, the unit in each name; medians of the rounds"
    )


#: Column name → (unit, what it says), in the order of the table.
COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    item.name: (item.metadata["unit"], item.metadata["doc"]) for item in fields(Result)
}
