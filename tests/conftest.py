from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import DevBench


@pytest.fixture
def devbench_cli(tmp_path: Path) -> DevBench:
    """`devbench …` as a process with a store and a log folder of its own."""
    return DevBench(tmp_path)
