from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devbench.measure import memory

MIB = 2**20


#: In a process of its own: one that runs tests has memory to give back at any moment.
SCRIPT = """
import numpy as np
from devbench.measure import memory
before = memory.reset_peak()
array = np.ones(96 << 20, np.uint8)
array[::4096] += 1
del array
high = memory.peak()
memory.reset_peak()
print(before, high, memory.peak())
"""


def test_the_peak_holds_what_was_allocated_and_freed_again_until_it_is_reset() -> None:
    if memory.reset_peak() is None:
        pytest.skip("this system does not let a process reset its peak memory")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    before, high, low = map(int, done.stdout.split())
    assert 90 * MIB <= high - before <= 160 * MIB
    assert high - low >= 60 * MIB


def test_a_peak_that_cannot_be_reset_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear_refs")
    assert memory.reset_peak() is None


def test_a_system_without_proc_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    assert memory.peak() is None


def test_a_kernel_that_omits_the_peak_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t  2048 kB\n")
    monkeypatch.setattr(memory, "_STATUS", status)
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "clear_refs")
    assert memory.reset_peak() == 2048 * 1024
    assert memory.peak() is None
