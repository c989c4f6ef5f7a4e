"""``make bench-power``: how often harnesses cry wolf, and what they catch, on the same steps.

``python -m tests.bench.power [--minutes N] [--raw FILE] [--page FILE]``. The time goes evenly to each
harness under each condition; what it measures is added to what there is. Without any time the table
is made anew from what there is. Run on a machine that does nothing else; it takes hours to say much.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from devbench.errors import UsageError
from tests.bench.common import ROOT
from tests.bench.power import page
from tests.bench.power.decisions import SLOWED, pairs_a_decision
from tests.bench.power.harness import HARNESSES, timed
from tests.bench.power.neighbour import neighbour
from tests.bench.power.pool import ROLES, seconds_of_a_pair, take_pair
from tests.bench.power.raw import CONDITIONS, OURS, TOOLS, Condition, Raw

#: How often the cost of an ordinary pair is measured.
COST_EVERY = 8
#: Seconds that a harness is given at least.
LEAST_S = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-power")
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--raw", type=Path, default=ROOT / "docs" / "bench-power.jsonl")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "bench-power.md")
    words = parser.parse_args()
    if not words.page.is_file():
        raise UsageError(f"{words.page} is not there; it holds the text around the table")
    raw = Raw.open(words.raw)
    if words.minutes > 0:
        raw.begin()
        with tempfile.TemporaryDirectory() as folder:
            _measure(raw, time.monotonic() + 60 * words.minutes, Path(folder))
    page.write(words.page, raw)


def _measure(raw: Raw, deadline: float, folder: Path) -> None:
    # What each harness needs beside the time it is given: starting, importing, calibrating.
    starting = {
        name: timed(name, "dispatch", 100, LEAST_S)["wall_s"] - LEAST_S for name in HARNESSES
    }
    spent = {(condition, tool): 0.0 for tool in TOOLS for condition in CONDITIONS}
    for condition in CONDITIONS:
        for tool in TOOLS:
            spent[condition, tool] += sum(one["seconds"] for one in raw.of(condition, tool))
    while time.monotonic() < deadline:
        condition, tool = min(spent, key=lambda cell: spent[cell])
        start = time.monotonic()
        with neighbour(len(raw.records)) if condition.noisy else nullcontext():
            if tool == OURS:
                _pair(raw, condition, folder)
            else:
                _run(raw, condition, tool, starting[tool])
        taken = time.monotonic() - start
        spent[condition, tool] += taken
        left = max(0.0, deadline - time.monotonic()) / 60
        beside = " beside a neighbour" if condition.noisy else ""
        print(f"{tool}, {condition.kind}{beside}: {taken:.0f} s, {left:.0f} min left", flush=True)


def _pair(raw: Raw, condition: Condition, folder: Path) -> None:
    count = len(list(raw.of(condition, OURS)))
    start = time.monotonic()
    if count % COST_EVERY == 0:
        cost = seconds_of_a_pair(condition.kind, folder)
        raw.add(condition, OURS, time.monotonic() - start, pair_s=cost)
        start = time.monotonic()
    ratios = take_pair(condition.kind, ROLES, folder, seed=count)
    raw.add(condition, OURS, time.monotonic() - start, ratios=ratios)


def _run(raw: Raw, condition: Condition, tool: str, starting: float) -> None:
    """One process of the role that has the fewest, at half the wall time of a comparison of devbench."""
    runs = Counter(dict.fromkeys(("base", *SLOWED), 0))
    runs.update(one["role"] for one in raw.of(condition, tool))
    fewest = [role for role, count in runs.items() if count == min(runs.values())]
    role = random.Random(sum(runs.values())).choice(fewest)
    costs = [one["pair_s"] for one in raw.of(condition, OURS) if "pair_s" in one]
    side_s = pairs_a_decision(raw, condition) * sum(costs) / len(costs) / 2
    start = time.monotonic()
    found = timed(tool, condition.kind, ROLES[role], max(LEAST_S, side_s - starting))
    raw.add(condition, tool, time.monotonic() - start, role=role, **found)


if __name__ == "__main__":
    main()
