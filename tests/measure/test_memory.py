from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devbench.measure import memory

MIB = 2**20


def test_the_peak_holds_what_was_allocated_and_freed_again() -> None:
    before = memory.reset_peak()
    if before is None:
        pytest.skip("this system does not let a process reset its peak memory")
    array = np.ones(64 * MIB, np.uint8)
    array[::4096] += 1
    del array
    peak = memory.peak()
    assert peak is not None
    assert 60 * MIB <= peak - before <= 160 * MIB


def test_resetting_forgets_the_peak_of_an_earlier_case() -> None:
    if memory.reset_peak() is None:
        pytest.skip("this system does not let a process reset its peak memory")
    array = np.ones(96 * MIB, np.uint8)
    del array
    high = memory.peak()
    memory.reset_peak()
    low = memory.peak()
    assert high is not None
    assert low is not None
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
