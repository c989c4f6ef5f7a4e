from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devbench.detection import Host, NumaNode, read_host, usable_threads
from devbench.detection.cgroup import parse_cpu_max
from devbench.detection.files import parse_cpulist, parse_meminfo
from tests.detection.recorded import recorded

GIB = 2**30
KIB = 1024


def test_a_bare_host_is_told_in_full_and_nothing_narrows_it(tmp_path: Path) -> None:
    host = read_host(recorded("bare", tmp_path).root)
    assert host.cpu_model == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert host.cpu_flags is not None
    assert {"fma", "avx2", "avx512f", "avx512_vnni"} <= set(host.cpu_flags)
    assert "amx_bf16" not in host.cpu_flags
    assert (host.sockets, host.physical_cores, host.logical_cpus, host.smt) == (2, 8, 16, True)
    assert (host.usable_cpus, host.usable_cores, host.cpu_limit) == (16, 8, None)
    assert host.memory_bytes == host.usable_memory_bytes == 131072000 * KIB
    assert host.available_memory_bytes == 120000000 * KIB
    assert host.memory_limit is None
    assert host.numa_nodes == (
        NumaNode(0, "0-3,8-11", 65536000 * KIB),
        NumaNode(1, "4-7,12-15", 65536000 * KIB),
    )
    assert (host.governor, host.turbo, host.cpu_max_clock_hz) == ("performance", True, 3.2e9)
    assert (host.os, host.kernel) == ("Ubuntu 24.04.1 LTS", "6.8.0-51-generic")
    assert (host.container, host.virtual_machine) == (None, None)


def test_limits_of_the_groups_above_hold_in_version_2(tmp_path: Path) -> None:
    host = read_host(recorded("cgroup2_quota", tmp_path).root)
    assert host.usable_cpus == 1.5
    assert host.cpu_limit == "cpu.max of cgroup /kubepods.slice/pod7"
    assert host.usable_memory_bytes == 2 * GIB
    assert host.memory_limit == "memory.max of cgroup /kubepods.slice/pod7"
    # 2 GiB less the 1.5 GiB in use, of which 0.5 GiB is cache that can be dropped
    assert host.available_memory_bytes == 1 * GIB
    assert host.container == "Kubernetes"
    assert usable_threads(host) == 1


def test_a_version_1_container_is_found_through_its_mounts(tmp_path: Path) -> None:
    host = read_host(recorded("cgroup1_quota", tmp_path).root)
    assert (host.usable_cpus, host.cpu_limit) == (2.5, "cpu.cfs_quota_us of cgroup /")
    assert (host.logical_cpus, host.physical_cores) == (8, 4)
    assert host.usable_memory_bytes == 1 * GIB
    assert host.memory_limit == "memory.limit_in_bytes of cgroup /"
    assert host.available_memory_bytes == 1 * GIB - 524288000 + 104857600
    assert host.container == "Docker"
    assert usable_threads(host) == 2


def test_a_cpuset_smaller_than_the_quota_wins_and_counts_cores_not_siblings(tmp_path: Path) -> None:
    host = read_host(recorded("cpuset", tmp_path).root)
    assert (host.logical_cpus, host.usable_cpus, host.usable_cores) == (16, 4, 2)
    assert host.cpu_limit == "cpuset.cpus of cgroup /slurm/job_3"
    assert host.memory_limit is None
    assert host.usable_memory_bytes == host.memory_bytes == 16 * GIB
    assert usable_threads(host) == 2


def test_an_arm_core_is_named_and_what_is_not_told_is_none(tmp_path: Path) -> None:
    host = read_host(recorded("arm", tmp_path).root)
    assert host.cpu_model == "Arm Neoverse-V1"
    assert host.cpu_flags == ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "svebf16")
    assert (host.sockets, host.physical_cores, host.smt) == (None, 2, False)
    assert (host.usable_cpus, host.cpu_limit) == (1, "CPU affinity")
    assert (host.numa_nodes, host.turbo, host.governor) == (None, None, None)


def test_an_empty_proc_costs_fields_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    host = read_host(tmp_path)
    assert (host.cpu_model, host.usable_cpus, host.usable_memory_bytes) == (None, None, None)
    assert usable_threads(host) == 1


def test_a_path_from_outside_the_namespace_reads_the_mounted_top(tmp_path: Path) -> None:
    machine = recorded("cgroup2_quota", tmp_path)
    (tmp_path / "proc/self/cgroup").write_text("0::/../other\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    host = read_host(machine.root)
    assert (host.usable_cpus, host.cpu_limit) == (0.5, "cpu.max of cgroup /")
    assert usable_threads(host) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of this machine")
def test_this_machine_grants_what_the_scheduler_says_at_most() -> None:
    host = read_host()
    assert host.usable_cpus is not None
    assert 0 < host.usable_cpus <= len(os.sched_getaffinity(0))
    assert host.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert host.available_memory_bytes is not None
    assert 0 < host.available_memory_bytes <= host.memory_bytes
    assert 1 <= usable_threads() <= len(os.sched_getaffinity(0))


def test_without_proc_the_library_fills_in_what_it_can(tmp_path: Path) -> None:
    host = read_host(tmp_path)
    assert host.logical_cpus == os.cpu_count()
    assert host.memory_bytes
    assert (host.cpu_flags, host.sockets, host.numa_nodes, host.cpu_limit) == (None,) * 4


@pytest.mark.parametrize(
    ("host", "threads"),
    [
        (Host(), 1),
        (Host(usable_cpus=6), 6),
        (Host(usable_cpus=0.3, usable_cores=4), 1),
        (Host(usable_cpus=8, usable_cores=4), 4),
        (Host(usable_cpus=3.9, usable_cores=64), 3),
    ],
)
def test_threads_are_whole_cores_within_the_quota(host: Host, threads: int) -> None:
    assert usable_threads(host) == threads


@pytest.mark.parametrize(
    ("line", "cpus"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("", None),
        ("100000 0", None),
        ("0 5", None),
    ],
)
def test_cpu_max_lines(line: str, cpus: float | None) -> None:
    assert parse_cpu_max(line) == cpus


@pytest.mark.parametrize(
    ("listed", "cpus"),
    [("0-3,8\n", (0, 1, 2, 3, 8)), ("5", (5,)), ("\n", ()), ("0-3,x", ()), ("3,1-2,2", (1, 2, 3))],
)
def test_cpu_lists(listed: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpulist(listed) == cpus


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 300), min_size=1))
def test_every_cpu_list_the_kernel_may_write_is_read_back(cpus: set[int]) -> None:
    ordered = sorted(cpus)
    starts = [cpu for cpu in ordered if cpu - 1 not in cpus]
    ends = [cpu for cpu in ordered if cpu + 1 not in cpus]
    listed = ",".join(
        f"{start}-{end}" if end > start else f"{start}"
        for start, end in zip(starts, ends, strict=True)
    )
    assert parse_cpulist(listed + "\n") == tuple(ordered)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="0123456789-, :\nmaxMemTotal²kB\0"))
def test_no_text_in_a_kernel_file_breaks_a_parser(text: str) -> None:
    assert isinstance(parse_cpulist(text), tuple)
    assert isinstance(parse_meminfo(text), dict)
    cpus = parse_cpu_max(text)
    assert cpus is None or cpus > 0
