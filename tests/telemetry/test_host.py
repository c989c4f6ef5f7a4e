from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from devbench.telemetry import HostSummary
from devbench.telemetry.clocks import CpuClocks, parse_cpufreq, parse_cpuinfo
from devbench.telemetry.host import Counters, HostReader, between
from devbench.telemetry.processes import descends, family_seconds, read_process
from devbench.telemetry.rapl import joules_between
from devbench.telemetry.throttling import parse_throttling, worker_groups
from tests.telemetry.recorded import END, OWN, START, WORKER, write


def two_seconds(root: Path, worker_pid: int | None = WORKER) -> HostSummary:
    write(root, START)
    reader = HostReader(root, worker_pid)
    start = reader.counters()
    write(root, END)
    clocks = [{0: 2.5e9, 1: 1.2e9, 2: 0.8e9, 3: 4e9}, {0: 2.6e9, 2: 0.8e9}, {0: 2.4e9}]
    return reader.summary(start, reader.counters(), 2.0, clocks)


def test_only_the_usable_cpus_count_and_guest_time_counts_once(tmp_path: Path) -> None:
    found = two_seconds(tmp_path)
    assert found.cpus == 3
    assert found.steal == pytest.approx(30 / 600)


def test_the_worker_its_children_and_the_sampler_are_not_others(tmp_path: Path) -> None:
    found = two_seconds(tmp_path)
    assert found.worker_busy == pytest.approx(2.70 / 2)
    assert found.others_busy == pytest.approx((3.30 - 2.70 - 0.02) / 2)


def test_without_a_worker_all_but_the_sampler_is_others(tmp_path: Path) -> None:
    found = two_seconds(tmp_path, worker_pid=None)
    assert found.others_busy == pytest.approx((3.30 - 0.02) / 2)


def test_a_worker_that_is_this_process_is_taken_off_once(tmp_path: Path) -> None:
    write(tmp_path, START)
    reader = HostReader(tmp_path, OWN)
    start = reader.counters()
    write(tmp_path, END | {f"proc/{OWN}/stat": END["proc/self/stat"]})
    found = reader.summary(start, reader.counters(), 2.0, [])
    assert found.others_busy == pytest.approx((3.30 - 0.02) / 2)


def test_a_worker_that_died_leaves_the_others_unknown_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, START)
    reader = HostReader(tmp_path, WORKER)
    start = reader.counters()
    write(tmp_path, END)
    (tmp_path / f"proc/{WORKER}/stat").unlink()
    found = reader.summary(start, reader.counters(), 2.0, [])
    assert (found.worker_busy, found.others_busy) == (None, None)
    assert found.unread["others_busy"] == f"process {WORKER} is gone"
    assert found.steal == pytest.approx(0.05)


def test_the_clock_is_that_of_the_cpus_that_worked(tmp_path: Path) -> None:
    """cpu0 worked for all of the two seconds, cpu1 and cpu2 rested, cpu3 is somebody else's."""
    assert two_seconds(tmp_path).cpu_clock_hz == 2.5e9
    write(tmp_path, START)
    reader = HostReader(tmp_path, WORKER)
    start = reader.counters()
    write(tmp_path, END)
    found = reader.summary(start, reader.counters(), 2.0, [{1: 3e9}])
    assert found.cpu_clock_hz is None
    assert found.unread["cpu_clock_hz"] == "none of the CPUs whose clock can be read was busy"


def test_swapping_and_pressure_are_of_the_window_alone(tmp_path: Path) -> None:
    found = two_seconds(tmp_path)
    assert (found.swapped_in, found.swapped_out) == (300, 50)
    assert found.memory_pressure == pytest.approx(0.1 / 2)


def test_throttling_of_every_group_above_the_worker_counts(tmp_path: Path) -> None:
    found = two_seconds(tmp_path)
    assert found.throttled_periods == 10 + 1
    assert found.throttled_s == pytest.approx(0.4 + 0.1)


def test_a_worker_moved_to_another_group_is_followed_there(tmp_path: Path) -> None:
    write(tmp_path, START | {f"proc/{WORKER}/cgroup": "3:cpu,cpuacct:/job/inner\n0::/"})
    write(tmp_path, {"sys/fs/cgroup/cpu/job/inner/cpu.stat": "nr_throttled 0\nthrottled_time 0"})
    (tmp_path / "sys/fs/cgroup/unified").mkdir(parents=True)
    cpu = tmp_path / "sys/fs/cgroup/cpu"
    assert worker_groups(tmp_path, WORKER) == [
        cpu,
        cpu / "job",
        cpu / "job/inner",
        tmp_path / "sys/fs/cgroup/unified",
    ]
    assert worker_groups(tmp_path, None)[:2] == [cpu / "job", cpu]


def test_both_versions_of_cpu_stat_are_read_in_their_unit() -> None:
    assert parse_throttling("nr_throttled 3\nthrottled_time 2500000000\n") == (3, 2.5)
    assert parse_throttling("usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n") == (3, 2.5)
    assert parse_throttling("usage_usec 9\nuser_usec 9\n") is None


def test_rapl_counts_whole_packages_once_and_over_the_wrap(tmp_path: Path) -> None:
    found = two_seconds(tmp_path)
    assert found.energy_j == pytest.approx(100 + 50)


@pytest.mark.parametrize(
    ("seconds", "why"), [(0.05, "shorter than 0.1 s"), (300.0, "wrapped more than once")]
)
def test_rapl_windows_too_short_or_too_long_are_refused(seconds: float, why: str) -> None:
    joules, refused = joules_between(
        {"intel-rapl:0": (0, 262_143_328_850)}, {"intel-rapl:0": (9, 262_143_328_850)}, seconds
    )
    assert joules is None
    assert refused is not None
    assert why in refused


def test_a_rapl_counter_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    write(tmp_path, START)
    (tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj").unlink()
    reader = HostReader(tmp_path, None)
    counters = reader.counters()
    assert reader.summary(counters, counters, 1.0, []).energy_j is None
    assert reader.unread["energy_j"].startswith("intel-rapl:1 is not readable")


def test_a_machine_that_tells_nothing_has_a_reason_for_every_figure(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    reader = HostReader(tmp_path, WORKER)
    found = reader.summary(reader.counters(), reader.counters(), 1.0, [])
    assert found == HostSummary(unread=found.unread)
    assert found.unread.keys() == {
        "steal",
        "others_busy",
        "throttled_periods",
        "swapped_in",
        "memory_pressure",
        "cpu_clock_hz",
        "energy_j",
    }


def test_counters_that_differ_by_rounding_never_give_a_negative_rate() -> None:
    found = between(
        Counters(passed_s=1, busy_s=1.0, worker_s=1.0, own_s=0.0),
        Counters(passed_s=2, busy_s=1.49, worker_s=1.5, own_s=0.0),
        1.0,
    )
    assert found.others_busy == 0.0


def test_a_window_in_which_no_tick_passed_has_no_steal_and_says_why() -> None:
    still = Counters(passed_s=5, busy_s=1, steal_s=0)
    found = between(still, still, 0.001)
    assert found.steal is None
    assert found.unread == {"steal": "the kernel's CPU times did not move in the window"}


COUNTED = "flags\t\t: fpu tsc aperfmperf avx2\n"
CPUINFO = (
    f"processor\t: 0\nvendor_id\t: X\ncpu MHz\t\t: 2400.000\n{COUNTED}\n"
    f"processor\t: 1\nvendor_id\t: X\ncpu MHz\t\t: 2600.500\n{COUNTED}\n"
    "processor\t: 2\nvendor"
)
CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/{}"


def test_clocks_that_the_hardware_counts_are_read_from_the_best_place(tmp_path: Path) -> None:
    write(tmp_path, {"proc/cpuinfo": CPUINFO})
    before = CpuClocks(tmp_path, (0, 1))
    assert (before.read(), before.unread) == ({0: 2400e6, 1: 2600.5e6}, None)
    before.close()
    write(tmp_path, {CPUFREQ.format(n, "scaling_cur_freq"): f"{n}00000" for n in (1, 2, 3)})
    clocks = CpuClocks(tmp_path, (1, 2, 3))
    assert clocks.read() == {1: 100e6, 2: 200e6, 3: 300e6}
    write(tmp_path, {CPUFREQ.format(2, "scaling_cur_freq"): "250000"})
    assert clocks.read()[2] == 250e6
    clocks.close()
    assert clocks.read() == {}


@pytest.mark.parametrize("where", ["proc/cpuinfo", CPUFREQ.format(0, "scaling_cur_freq")])
def test_a_clock_that_nothing_counts_is_no_reading(tmp_path: Path, where: str) -> None:
    """A virtual machine's constant rate, or what the governor asked for last."""
    write(tmp_path, {"proc/cpuinfo": CPUINFO.replace(" aperfmperf", "")})
    write(tmp_path, {where: "2596134" if "cpufreq" in where else (tmp_path / where).read_text()})
    clocks = CpuClocks(tmp_path, (0,))
    assert clocks.read() == {}
    assert clocks.unread is not None
    assert "counts no CPU's clock" in clocks.unread
    # Newer kernels keep a file for what was counted, Arm's among them.
    write(tmp_path, {CPUFREQ.format(0, "cpuinfo_avg_freq"): "2596134"})
    counted = CpuClocks(tmp_path, (0,))
    assert (counted.read(), counted.unread) == ({0: 2596134e3}, None)
    clocks.close()
    counted.close()


def test_an_unknown_layout_gives_no_clock() -> None:
    assert parse_cpuinfo("processor : 0\nBogoMIPS : 50.00\n") == {}
    assert parse_cpufreq(0, "<unknown>\n") == {}


def test_kinship_is_followed_over_parents_and_unknown_pids_are_not_guessed(tmp_path: Path) -> None:
    write(tmp_path, START)
    write(
        tmp_path,
        {
            "proc/1/stat": "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0",
            "proc/300/stat": f"300 (loader) S {WORKER} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0",
            "proc/400/stat": "400 (other) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0",
        },
    )
    family = frozenset({OWN})
    assert descends(tmp_path, OWN, family) is True
    assert descends(tmp_path, 300, family) is True
    assert descends(tmp_path, 400, family) is False
    assert descends(tmp_path, 5000, family) is None


def test_the_cpu_time_of_a_workers_child_process_counts_while_it_lives() -> None:
    spin = "import time; end = time.time() + 60\nwhile time.time() < end: pass"
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]);"
            "print(child.pid, flush=True); sys.stdin.read(); child.kill(); child.wait()",
            spin,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        own = read_process(Path("/"), child)
        if not (Path(f"/proc/{worker.pid}/task/{worker.pid}/children")).exists():
            worker.communicate("")
            pytest.skip("this kernel does not list children in /proc")
        until = time.monotonic() + 30
        while True:
            assert time.monotonic() < until
            spun, alone = read_process(Path("/"), child), read_process(Path("/"), worker.pid)
            assert own is not None
            assert spun is not None
            assert alone is not None
            if spun.seconds > own.seconds + 0.2:
                break
            time.sleep(0.05)
        family = family_seconds(Path("/"), worker.pid)
        worker.communicate("")
    assert family is not None
    assert family >= spun.seconds + alone.seconds
