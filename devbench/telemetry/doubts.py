"""What telemetry says against a measurement: words of a closed list, each with its figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from devbench.detection.nvml import CLOCK_EVENTS
from devbench.model import QUALITY_REASONS, Json
from devbench.telemetry.processes import TICK_S
from devbench.telemetry.records import GpuSummary, HostSummary, Summary

#: The words that telemetry may say, with what they mean.
DOUBTS: Final[Mapping[str, str]] = {
    word: QUALITY_REASONS[word]
    for word in (
        "throttled",
        "power-capped",
        "clock-dropped",
        "co-tenant",
        "noisy-neighbour",
        "steal",
        "cgroup-throttled",
        "swapping",
        "memory-pressure",
    )
}

#: Bits that mean trouble. Not among them: idle, application and display clocks and sync boost, which
#: are settings, and the software power cap, which has a word of its own: under a heavy load it is how
#: most boards always run, so the figure is true for the board as it is powered.
THROTTLING: Final = 0x008 | 0x020 | 0x040 | 0x080
POWER_CAP: Final = 0x004

#: Lowest under highest clock of a window. A step that is bound by compute follows the clock, and
#: 10 % is what is called a wide interval elsewhere.
CLOCK_DROP: Final = 0.10

#: CPUs' worth of other work beyond what is left free beside the worker's threads: a tenth of a small
#: machine, and never more than half a CPU, since a parallel loop waits for its slowest thread.
NOISE_SHARE: Final = 0.10
NOISE_CPUS: Final = 0.5

#: Shares of time. Steal is bursty, so that 2 % on average is a step that stood still now and then;
#: a quota or a lack of memory stops all threads at once, where 1 % shows in the tail already.
STEAL: Final = 0.02
QUOTA: Final = 0.01
PRESSURE: Final = 0.01

#: Pages of 4 KiB: below this the kernel tidies up what nobody uses.
SWAPPED_PAGES: Final = 256


def doubts(summary: Summary | Mapping[str, Json], threads: int) -> Iterator[str]:
    """Sentences ``word: figure`` on what disturbed the window; none for a clean one.

    threads: CPU threads that the step needs: those that the worker was given, or one to feed an
    accelerator, as is taken for granted where a GPU was watched.
    """
    if not isinstance(summary, Summary):
        summary = Summary.from_json(summary)
    for gpu in summary.gpus:
        name = f" on {gpu.gpu[:12]}" if len(summary.gpus) > 1 else ""
        yield from _of_gpu(gpu, name)
    yield from _of_host(summary.host, summary.seconds, 1 if summary.gpus else threads)


def _of_gpu(gpu: GpuSummary, name: str) -> Iterator[str]:
    slowed = _shares(gpu, THROTTLING)
    if slowed:
        hot = "" if gpu.temperature_c is None else f", {gpu.temperature_c:.0f} °C"
        yield f"throttled: {slowed}{hot}{name}"
    capped = _shares(gpu, POWER_CAP)
    if capped:
        limit = "" if gpu.power_limit_w is None else f", limit {gpu.power_limit_w:.0f} W"
        yield f"power-capped: {capped}{limit}{name}"
    low, high = gpu.sm_clock_lowest_hz, gpu.sm_clock_highest_hz
    if low is not None and high is not None and low < (1 - CLOCK_DROP) * high:
        yield f"clock-dropped: {low / 1e6:.0f} to {high / 1e6:.0f} MHz{name}"
    if gpu.other_pids:
        listed = ", ".join(map(str, gpu.other_pids))
        yield f"co-tenant: {len(gpu.other_pids)} other on the GPU (pid {listed}){name}"


def _shares(gpu: GpuSummary, bits: int) -> str:
    """``software thermal slowdown 30 % of samples`` for each of these bits that was set."""
    return ", ".join(
        f"{CLOCK_EVENTS[bit]} in {gpu.clock_events.get(CLOCK_EVENTS[bit], 0):.0%} of samples"
        for bit in CLOCK_EVENTS
        if bit & bits & (gpu.clock_event_mask or 0)
    )


def _of_host(host: HostSummary, seconds: float, threads: int) -> Iterator[str]:
    # Counters of ticks may be off by one tick a CPU, which a short window must not be blamed for.
    uncertain = TICK_S / seconds if seconds > 0 else 1.0
    room, unit = (host.cores, "core") if host.cores else (host.cpus, "CPU")
    if host.others_busy is not None and host.cpus and room:
        margin = min(NOISE_SHARE * host.cpus, NOISE_CPUS) + uncertain * host.cpus
        if host.others_busy + threads > room + margin:
            yield (
                f"noisy-neighbour: others kept {host.others_busy:.2f} CPUs busy beside {threads} "
                f"thread{'s' * (threads != 1)} on {room} {unit}{'s' * (room != 1)}"
            )
    if host.steal is not None and host.steal > STEAL + uncertain:
        yield f"steal: {host.steal:.1%} of the CPU time"
    if host.throttled_s and host.throttled_s > QUOTA * seconds:
        yield (
            f"cgroup-throttled: {host.throttled_periods} periods, {host.throttled_s:.2f} CPU "
            f"seconds in {seconds:.2f} s"
        )
    swapped = (host.swapped_in or 0) + (host.swapped_out or 0)
    if swapped > SWAPPED_PAGES:
        yield f"swapping: {host.swapped_in} pages in, {host.swapped_out} out"
    if host.memory_pressure is not None and host.memory_pressure > PRESSURE:
        yield f"memory-pressure: tasks waited for memory {host.memory_pressure:.1%} of the time"
