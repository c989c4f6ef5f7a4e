"""A device examined by a real worker, sick or well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devbench import registry
from devbench.detection import usable_threads
from devbench.model import Target
from devbench.stress.effort import Effort
from devbench.stress.examine import Event, Examination
from devbench.stress.records import Check
from tests.helpers import PLUGINS

PATH = os.pathsep.join([str(PLUGINS), str(Path(__file__).parent / "plugins")])
SHORT = {"repeat_s": 0.1, "memory_s": 0.2, "probe_s": 0.001, "minutes": 0.03}


def examine(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    adapter: Any,
    name: str,
    address: str,
    *,
    tier: int,
    sick: str = "",
    timeout_s: float = 60.0,
) -> tuple[dict[str, Check], list[Event]]:
    """The checks by key, and all events. sick: see plugins/devbench_sick.py."""
    monkeypatch.setenv("PYTHONPATH", PATH)
    monkeypatch.setenv("SICK", sick)
    monkeypatch.setenv("SICK_AFTER", "1")
    examination = Examination(
        adapter=adapter,
        target=Target(name, (address,)),
        threads=usable_threads(),
        effort=Effort(tier=tier, timeout_s=timeout_s, **SHORT),
        log=folder / "log",
        is_cpu=True,
        memory_bytes=8 << 20,
        skip={"bandwidth"},  # seconds, for vectors of four times the cache
    )
    events = list(examination.run())
    return {event.key: event for event in events if isinstance(event, Check)}, events


@contextmanager
def plugins(sick: str = "") -> Iterator[None]:
    """This process and its workers know the fake framework and the sick ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        patch.setenv("SICK", sick)
        for folder in PATH.split(os.pathsep):
            patch.syspath_prepend(folder)
        registry._loaded_frameworks.cache_clear()
        yield
    registry._loaded_frameworks.cache_clear()
