"""Threads of a step kept to a CPU each while it is timed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from devbench.measure import binding

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="threads are bound on Linux only"
)

#: Hashing so much lets go of the interpreter's lock.
DATA = bytes(1 << 20)


@contextmanager
def working(count: int) -> Iterator[list[int]]:
    """So many threads that work until it ends; their ids."""
    done, tids = threading.Event(), []
    begun = threading.Barrier(count + 1)

    def work() -> None:
        tids.append(threading.get_native_id())
        begun.wait()
        while not done.is_set():
            hashlib.sha256(DATA)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield sorted(tids)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        # Joined, a thread is in the kernel's table until it has had a CPU once more; the next test would see
        # it end.
        while any(Path(f"/proc/self/task/{tid}").exists() for tid in tids):
            time.sleep(0.001)


@pytest.fixture
def childless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have left a server or a browser running."""
    monkeypatch.setattr(binding, "_has_children", lambda tids: False)


@pytest.mark.usefixtures("childless")
def test_threads_that_work_are_told_from_those_that_wait() -> None:
    with working(1) as tids:
        told = binding.watch()
        time.sleep(0.1)
        assert list(told()) == tids


def test_a_thread_that_belongs_to_nothing_that_is_timed_is_left_alone() -> None:
    with working(1) as tids:
        assert set(tids) <= binding.bystanders()
        told = binding.watch(binding.bystanders())
        time.sleep(0.05)
        assert told() == ()


@pytest.mark.usefixtures("childless")
def test_a_pool_that_is_started_by_the_first_steps_is_bound_too() -> None:
    told = binding.watch()
    with working(1) as tids:
        time.sleep(0.05)
        assert set(tids) <= set(told())


def test_nothing_is_bound_in_a_process_with_children() -> None:
    """A DataLoader's workers would be started by a bound thread, and all lie on its CPU."""
    with (
        working(1),
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
    ):
        told = binding.watch()
        time.sleep(0.05)
        assert told() == ()
        child.communicate(b"\n")


@pytest.mark.usefixtures("childless")
def test_nothing_is_bound_where_processes_come_and_go_inside_the_step() -> None:
    """A DataLoader starts its workers anew for each epoch; between two steps there are none."""
    told = binding.watch()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    hashlib.sha256(DATA)
    assert told() == ()


@pytest.mark.usefixtures("childless")
def test_nothing_is_bound_where_threads_come_and_go_inside_the_step() -> None:
    told = binding.watch()
    thread = threading.Thread(target=lambda: [hashlib.sha256(DATA) for _ in range(100)])
    thread.start()
    gone = Path(f"/proc/self/task/{thread.native_id}")
    thread.join()
    while gone.exists():  # Python has joined it, the kernel has still to end it
        time.sleep(0.001)
    assert told() == ()


def test_bound_threads_take_the_cpus_in_turn_and_are_let_go_again() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with working(3) as tids:
        with binding.bound(tids, given=len(cpus)) as bound:
            assert bound
            masks = [os.sched_getaffinity(tid) for tid in tids]
            assert all(len(mask) == 1 for mask in masks)
            assert set.union(*masks) == set(binding.by_core(cpus)[:3])
        assert [os.sched_getaffinity(tid) for tid in tids] == [set(cpus)] * 3


def test_a_thread_that_ends_while_bound_harms_nobody() -> None:
    with working(1) as tids, binding.bound(tids, len(os.sched_getaffinity(0))) as bound:
        assert bound


def test_nothing_is_bound_where_a_thread_has_ended_since_the_warm_up() -> None:
    own, before = threading.get_native_id(), os.sched_getaffinity(0)
    with working(1) as ended:
        pass
    with binding.bound((own, *ended), given=len(before)) as bound:
        assert not bound
        assert os.sched_getaffinity(own) == before
    assert os.sched_getaffinity(own) == before


def test_nothing_is_bound_where_the_scheduler_has_a_choice() -> None:
    with binding.bound([threading.get_native_id()], given=10_000) as bound:
        assert not bound
    with binding.bound([], given=len(os.sched_getaffinity(0))) as bound:
        assert not bound


def test_the_second_thread_of_a_core_comes_after_the_first_of_every_core(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert binding.by_core([3, 2, 1, 0, 4], tmp_path) == [0, 1, 4, 2, 3]
