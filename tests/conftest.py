from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import DevBench

#: Folders whose tests start no processes.
QUICK = {"detection", "measure", "stats", "telemetry"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that start no processes come last, so that the two halves of `make test` end together."""
    items.sort(key=lambda item: item.path.parent.name in QUICK)


@pytest.fixture
def devbench_cli(tmp_path: Path) -> DevBench:
    """`devbench …` as a process with a store and a log folder of its own."""
    return DevBench(tmp_path)
