"""The threads that work in a step kept to a CPU each, while the step is timed in a pair.

Left to the scheduler, they come to lie on the same CPU or change places after every pause, and stay so
for seconds: a training step of torch took 0.4 ms or 0.75 ms, by turns, in the same process (2 threads,
a virtual machine with 2 CPUs). Bound, and with malloc's thresholds fixed (`devbench.regress.pairs`), the
ratio of two processes of the same code spreads by 1.2 % in torch and by 2.4 % in TensorFlow, over fifteen
cases (root mean squares); left alone it spread by 11 to 46 % and by 4 to 10 %.

A run leaves them to the scheduler, as its users' own programs do: bound, TensorFlow's steps are faster by
a tenth, which nobody would see who does not bind them.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: A thread works in a step when it is on a CPU for this share of the time. Little, since both processes of
#: a pair must find the same.
BUSY: Final = 0.02
#: Threads and processes that have ended may have done so much of the work: the rest of a start, say.
ENDED: Final = 0.1
#: CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED of the kernel.
_THREADS_CLOCK: Final = 4 | 2


def by_core(cpus: Iterable[int], root: Path = Path("/")) -> list[int]:
    """CPUs in the order in which to use them: no two of a core while there are others."""
    return sorted(cpus, key=lambda cpu: (_first_of_core(cpu, root) != cpu, cpu))


def _first_of_core(cpu: int, root: Path) -> int:
    """The first CPU of the same core; the CPU itself where the system does not tell."""
    file = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
    if not file.is_file():
        return cpu
    return int(file.read_text().replace("-", ",").partition(",")[0])


def bystanders() -> frozenset[int]:
    """Threads of this process (their ids) besides the one that asks: called before a framework is
    imported, those of numpy's BLAS, which spin for a while after its work."""
    return frozenset(int(task.name) for task in _tasks()) - {threading.get_native_id()}


def watch(besides: Collection[int] = ()) -> Callable[[], tuple[int, ...]]:
    """Begin to watch the threads of this process; what is returned tells which of them have worked since.

    None are told where that cannot be known (off Linux), where threads or child processes have done a part
    of the work and ended, and where children are there: what starts in a bound thread is bound with it.
    """
    before, start = _seconds_on_cpu(), time.perf_counter()
    whole = _whole_process()

    def told() -> tuple[int, ...]:
        wall, spent = time.perf_counter() - start, _whole_process() - whole
        after = _seconds_on_cpu()
        ended = spent - (sum(after.values()) - sum(before.values()))
        if before.keys() - after.keys() or _has_children(after) or ended >= ENDED * wall:
            return ()
        worked = {tid for tid in after if after[tid] - before.get(tid, 0.0) >= BUSY * wall}
        return tuple(sorted(worked.difference(besides)))

    return told


@contextmanager
def bound(threads: Sequence[int], given: int) -> Iterator[bool]:
    """Keep these threads of this process (their ids) to one CPU each, in turn: TensorFlow has more of
    them than CPUs, in two pools. Tells whether they are: none is where one of them has ended meanwhile.
    Afterwards they may run where they could before.

    given: threads that the process was given. Where they are fewer than its cores nothing is bound: there
    is a choice then, which depends on what else runs, and the scheduler makes it better.
    """
    cpus = by_core(os.sched_getaffinity(0)) if threads else []
    if given not in (len(cpus), cores(cpus)):
        yield False
        return
    allowed: dict[int, set[int]] = {}
    try:
        yield _bind(threads, cpus[:given], allowed)
    finally:
        _give_back(allowed)


def _bind(threads: Sequence[int], cpus: Sequence[int], allowed: dict[int, set[int]]) -> bool:
    """Whether all of them are bound now; `allowed` takes where they could run before."""
    try:
        for tid, cpu in zip(threads, itertools.cycle(cpus), strict=False):
            allowed[tid] = os.sched_getaffinity(tid)
            os.sched_setaffinity(tid, {cpu})
    except ProcessLookupError:  # it has ended
        _give_back(allowed)
        return False
    return True


def _give_back(allowed: Mapping[int, Collection[int]]) -> None:
    for tid, mask in allowed.items():
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(tid, mask)


def cores(cpus: Iterable[int]) -> int:
    """Of how many cores these CPUs are."""
    return len({_first_of_core(cpu, Path("/")) for cpu in cpus})


def _seconds_on_cpu() -> dict[int, float]:
    """Of each thread of this process, to the nanosecond and to this moment: by its clock, whose number the
    kernel makes of the thread's (``include/linux/posix-timers_types.h``). The figures in /proc are those of
    the last tick, up to 4 ms ago."""
    found = {}
    for task in _tasks():
        tid = int(task.name)
        try:
            found[tid] = time.clock_gettime(~tid << 3 | _THREADS_CLOCK)
        except OSError:  # it has just ended
            continue
    return found


def _whole_process() -> float:
    """CPU seconds of this process and of the children that it has waited for, threads that have ended
    included; in hundredths of a second for the children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _has_children(tids: Iterable[int]) -> bool:
    for tid in tids:
        try:
            if Path(f"/proc/self/task/{tid}/children").read_text().strip():
                return True
        except OSError:  # the thread has just ended, or the kernel was built without it
            continue
    return False


def _tasks() -> list[Path]:
    folder = Path("/proc/self/task")
    return list(folder.iterdir()) if folder.is_dir() else []
