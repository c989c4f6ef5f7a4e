"""``make bench``: what devbench itself costs and how well it measures, each figure beside its target.

``python -m tests.bench [NAME…]`` runs those named, or all, about an hour of them. Run on a machine
that does nothing else. Absolute times are for people; nothing fails here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from devbench.errors import unknown
from tests.bench.cost import detection, quick_run, share, start_up
from tests.bench.ruler import ceiling, empty_step, telemetry
from tests.bench.spread import spread
from tests.bench.steps import steps
from tests.bench.stored import compared, many_runs
from tests.bench.suites import every_suite
from tests.helpers import DevBench

BENCHES = {
    bench.__name__: bench
    for bench in (
        *(start_up, detection, quick_run, share),
        *(empty_step, ceiling, telemetry, steps, spread, every_suite),
        *(compared, many_runs),
    )
}


def main(wanted: list[str]) -> None:
    for name in wanted:
        if name not in BENCHES:
            raise SystemExit(unknown("bench", name, BENCHES))
    for name in wanted or BENCHES:
        with tempfile.TemporaryDirectory() as folder:
            BENCHES[name](DevBench(Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
