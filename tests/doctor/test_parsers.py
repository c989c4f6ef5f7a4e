"""What comes from outside: CUDA_VISIBLE_DEVICES, the kernel's log, /proc, /sys and control groups."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devbench.doctor import Recording, diagnose, visible, xid
from devbench.doctor.facts import gather
from tests.doctor.machines import container, uuid

UUIDS = [uuid(0), uuid(1), uuid(0x11)]


@pytest.mark.parametrize(
    ("value", "indices", "culprit"),
    [
        ("0", (0,), None),
        ("2,0", (2, 0), None),
        ("", (), ""),
        ("-1", (), "-1"),
        ("0,-1,1", (0,), "-1"),
        ("0,3", (0,), "3"),
        ("0, 1", (0, 1), None),
        ("0,,1", (0,), ""),
        ("1,1", (), "1"),
        ("all", (), "all"),
        ("GPU-00000001", (1,), None),
        ("gpu-00000011-AAAA", (2,), None),
        ("GPU-0000000", (), "GPU-0000000"),  # fits two
        ("GPU-ffff,0", (), "GPU-ffff"),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    value: str, indices: tuple[int, ...], culprit: str | None
) -> None:
    found = visible.parse(value, UUIDS)
    assert (found.indices, found.culprit) == (indices, culprit)


def test_what_is_hidden_behind_a_bad_entry_is_named() -> None:
    found = visible.parse("0,7,1,2", UUIDS)
    assert found.hidden == ("1", "2")
    assert found.says == (
        "'7' is no index below 3 and no UUID of this machine: 1 device before it stay visible; "
        "'1', '2' after it are not read"
    )


def test_a_mig_device_is_visible_by_its_uuid() -> None:
    assert visible.parse("MIG-1111", [uuid(0)], ["MIG-11112222", "MIG-33334444"]).indices == (1,)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789-,GPUMIGabcdef ", max_size=30) | st.text(max_size=30))
def test_any_value_is_read(value: str) -> None:
    found = visible.parse(value, UUIDS)
    assert set(found.indices) <= {0, 1, 2}
    assert (found.culprit is None) == (
        len(found.indices) == len(value.split(",")) and value.strip() != ""
    )


LOG = """\
[  100.1] NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
Nov 22 02:51:33 tempest kernel: NVRM: Xid (PCI:0000:5E:00.0): 13, pid=1, Graphics Exception
NVRM: Xid (0001:00:00): 48, an old form without its bus
[1] NVRM: GPU at PCI:0000:3b:00: GPU-1111
"""


def test_xid_messages_of_each_form_are_found() -> None:
    found = [(one.bus_id, one.number) for one in xid.parse(LOG)]
    assert found == [("00000000:3b:00.0", 79), ("00000000:5e:00.0", 13), ("00000001:00:00.0", 48)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["NVRM: Xid ", "(PCI:", "0000:3b:00", "): ", "79", ", ", "\n", "é", "\0"])
        | st.text(max_size=5),
        max_size=12,
    ).map("".join)
)
def test_any_log_is_read(log: str) -> None:
    assert all(0 <= one.number < 10_000 for one in xid.parse(log))


def first_version() -> Recording:
    """The same container under control groups of version 1."""
    machine = container()
    mounts = [
        f"3{number} 24 0:27 / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}"
        for number, name in enumerate(("cpu", "cpuset", "memory"))
    ]
    files = {name: text for name, text in machine.files.items() if "fs/cgroup" not in name} | {
        "proc/self/mountinfo": "\n".join(mounts),
        "proc/self/cgroup": "4:cpu:/\n3:cpuset:/\n2:memory:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "800000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 8\n",
        "sys/fs/cgroup/cpuset/cpuset.cpus": "0-191\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 << 30}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{8 << 30}\n",
    }
    return replace(machine, files=files)


MACHINES = (container(), first_version())


def test_the_first_version_of_control_groups_is_read_before_it_is_spoilt() -> None:
    host = gather(first_version()).host
    assert (host.usable_cpus, host.cpu_limit) == (8.0, "cpu.cfs_quota_us of cgroup /")


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(one, name) for one in MACHINES for name in sorted(one.files)]),
    st.text(max_size=40)
    | st.lists(
        st.sampled_from(
            (
                *(
                    "0::/",
                    "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
                    "max",
                    "-1",
                    " - cgroup ",
                ),
                *("0-9999999", "MemTotal: x kB", "Cpus_allowed_list:\t0-7", "avg60=9.99.9"),
                *("nr_periods 0", "9" * 30, "\n"),
            )
        )
    ).map("\n".join),
)
def test_any_content_of_any_file_is_diagnosed(spoilt: tuple[Recording, str], text: str) -> None:
    machine, name = spoilt
    diagnose(replace(machine, files={**machine.files, name: text}))
