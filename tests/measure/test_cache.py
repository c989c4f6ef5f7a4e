from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from devbench.measure.cache import DEFAULT_BYTES, last_level_cache

MIB = 1 << 20


@pytest.fixture
def two_dies(tmp_path: Path) -> Path:
    """Four CPUs; each two share a cache of 32 MiB, as on a Ryzen of two dies or a machine of two sockets."""
    for cpu in range(4):
        shared = "0-1" if cpu < 2 else "2-3"
        for index, (level, size, cpus) in enumerate(
            [(1, "48K", str(cpu)), (2, "1024K", str(cpu)), (3, "32768K", shared)]
        ):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("size", size), ("shared_cpu_list", cpus)):
                (folder / name).write_text(f"{text}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("cpus", "threads", "size"),
    [
        (range(4), None, 64 * MIB),
        (range(4), 4, 64 * MIB),
        ({0, 2}, 2, 64 * MIB),
        ({2, 3}, 2, 32 * MIB),
        (range(4), 1, 32 * MIB),
    ],
)
def test_every_last_level_cache_in_reach_counts_once(
    two_dies: Path, cpus: Iterable[int], threads: int | None, size: int
) -> None:
    assert last_level_cache(threads, two_dies, cpus) == size


def test_a_system_that_does_not_tell_gets_the_default(tmp_path: Path) -> None:
    assert last_level_cache(2, tmp_path, {0, 1}) == DEFAULT_BYTES
