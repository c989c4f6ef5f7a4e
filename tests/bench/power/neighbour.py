"""A noisy neighbour: a process that now and then moves memory about for a while, until it is killed.

``python -m tests.bench.power.neighbour SEED``
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.common import ROOT


@contextmanager
def neighbour(seed: int) -> Iterator[None]:
    """One beside what is done inside."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.power.neighbour", str(seed)], cwd=ROOT
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main(seed: int) -> None:
    """A third of the time busy, in bursts of 0.05 to 0.5 s, as long as there is who started it."""
    rng = random.Random(seed)
    source = bytearray(64 * 2**20)
    parent = os.getppid()
    while os.getppid() == parent:
        until = time.monotonic() + rng.uniform(0.05, 0.5)
        while time.monotonic() < until:
            bytes(source)
        time.sleep(rng.uniform(0.1, 1.0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
