"""Real control groups for tests of what their limits do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from devbench.detection.cgroup import levels


@contextmanager
def control_group(controller: str, limits: Mapping[int, tuple[str, str]]) -> Iterator[Path]:
    """The folder of a group below this process's own; skips where that is not allowed.

    limits: by the version of control groups the name of a file and what is written to it.
    """
    refused = f"no control group with a {controller} controller is mounted"
    for level in levels(Path("/"), controller):
        folder = level.folder / f"devbench-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError as error:
            refused = str(error)
            continue
        name, limit = limits[level.version]
        try:
            # Open for update: the file of a group without the controller is not to be created.
            with (folder / name).open("r+") as file:
                file.write(limit)
        except OSError as error:
            refused = str(error)
            folder.rmdir()
            continue
        try:
            yield folder
        finally:
            _remove(folder)
        return
    pytest.skip(f"control groups are not writable here: {refused}")


def _remove(folder: Path) -> None:
    until = time.monotonic() + 10
    while True:  # a killed process leaves its group a moment later
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
