"""``make bench-power``: how often harnesses cry wolf, and what they catch, on the same steps.

``python -m tests.bench.power [--minutes N] [--raw FILE] [--page FILE]``. Two thirds of the time go to
pairs of devbench, one to the other harnesses, evenly over the conditions, but first without a neighbour
until there is enough to tell. Once there is, pairs of the same code only are added: of false alarms there
must be many comparisons. What is measured is added to what there is. Without any time the table is made
anew from what there is. Run on a machine that does nothing else; it takes hours to say much.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from devbench.errors import UsageError
from devbench.regress.interleave import NULL_EVERY
from devbench.stats.sequential import LOOKS
from tests.bench.common import ROOT
from tests.bench.power import page
from tests.bench.power.decisions import pairs_a_decision
from tests.bench.power.harness import HARNESSES, timed
from tests.bench.power.neighbour import neighbour
from tests.bench.power.pool import SAME, SLOWED, take_pair
from tests.bench.power.raw import CONDITIONS, OURS, TOOLS, Condition, Raw
from tests.bench.power.steps import KINDS, UNITS

#: Shares of the time; the other harnesses have one each.
SHARES: Final = {OURS: 2 * len(HARNESSES)}
#: Seconds that a harness is given at least.
LEAST_S: Final = 1.0
#: A comparison of `ab` has a third process in every `NULL_EVERY`-th pair.
WITH_NULL: Final = 1 + 1 / (2 * NULL_EVERY)


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
    spent = {(noisy, tool): 0.0 for tool in TOOLS for noisy in (False, True)}
    for condition in CONDITIONS:
        for tool in TOOLS:
            spent[condition.noisy, tool] += sum(one["seconds"] for one in raw.of(condition, tool))
    while time.monotonic() < deadline:
        enough = _enough(raw, noisy=False)
        noisy, tool = min(
            (cell for cell in spent if enough or not cell[0]),
            key=lambda cell: spent[cell] / SHARES.get(cell[1], 1),
        )
        start = time.monotonic()
        with neighbour(len(raw.records)) if noisy else nullcontext():
            if tool == OURS:
                _pair(raw, noisy, folder)
            else:
                _run(raw, noisy, tool)
        taken = time.monotonic() - start
        spent[noisy, tool] += taken
        left = max(0.0, deadline - time.monotonic()) / 60
        beside = " beside a neighbour" if noisy else ""
        print(f"{tool}{beside}: {taken:.0f} s, {left:.0f} min left", flush=True)


def _enough(raw: Raw, *, noisy: bool) -> bool:
    """Whether there are as many pairs with a slowdown as the longest comparison takes."""
    return len(raw.pairs(Condition(KINDS[0], noisy), next(iter(SLOWED)))) >= LOOKS[-1]


def _pair(raw: Raw, noisy: bool, folder: Path) -> None:
    """One pair of processes over every case, or, of slowdowns enough, of the same code; a record a kind."""
    count = len(list(raw.of(Condition(KINDS[0], noisy), OURS)))
    start = time.monotonic()
    found = take_pair(folder, seed=count, slowed=not _enough(raw, noisy=noisy))
    seconds = (time.monotonic() - start) / len(found)
    for kind, ratios in found.items():
        raw.add(Condition(kind, noisy), OURS, seconds, ratios=ratios)


def _run(raw: Raw, noisy: bool, tool: str) -> None:
    """One process of the kind and role that have the fewest, at half of what a comparison costs devbench.

    Its start and imports come on top, as if it had many cases to spread them over, like devbench. The
    base, which is compared with all others and with itself, is run three times as often.
    """
    runs = {(kind, role): 0.0 for kind in KINDS for role in (SAME, *SLOWED)}
    for kind in KINDS:
        for one in raw.of(Condition(kind, noisy), tool):
            runs[kind, one["role"]] += 1 / 3 if one["role"] == SAME else 1
    fewest = [cell for cell, count in runs.items() if count == min(runs.values())]
    kind, role = random.Random(len(raw.records)).choice(fewest)
    condition = Condition(kind, noisy)
    side_s = pairs_a_decision(raw, condition) * raw.pair_seconds(condition) * WITH_NULL / 2
    start = time.monotonic()
    found = timed(tool, kind, SLOWED.get(role, UNITS), max(LEAST_S, side_s))
    raw.add(condition, tool, time.monotonic() - start, role=role, given_s=side_s, **found)


if __name__ == "__main__":
    main()
