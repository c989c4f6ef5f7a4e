"""What is said of a crossover is true at every size, whichever of the two is ahead at which."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import pytest

from devbench.stats.crossover import Crossing, Crossover, locate
from devbench.stats.ratio import Ratio, Verdict
from devbench_reports import crossings
from tests.reports import factory

CPU, GPU = "torch:cpu", "torch:cuda:0"

VERDICTS: Mapping[int, Verdict] = {-1: "slower", 0: "no difference", 1: "faster"}


def crossover(signs: Sequence[int]) -> tuple[Crossover, Crossing]:
    """At sizes 256, 512, …: the GPU ahead where the sign is 1, the CPU where it is -1."""
    ratios = []
    for place, sign in enumerate(signs):
        one, other = (factory.result(name, {"n": 256 * 2**place}) for name in (CPU, GPU))
        value = 2.0**sign
        ratios.append(Ratio(one, other, value, value * 0.9, value * 1.1, VERDICTS[sign]))
    crossing = locate(ratios, "n")
    found = Crossover(
        suite="matmul",
        benchmark="matmul",
        params={},
        axis="n",
        base=CPU,
        subject=GPU,
        sizes=tuple(256.0 * 2**place for place in range(len(signs))),
        rounds=5,
        without_transfer=crossing,
        with_transfer=None,
        moving="unknown",
    )
    return found, crossing


@pytest.mark.parametrize(
    ("signs", "said", "in_the_table"),
    [
        (
            (-1, 1, 0),
            f"at n = 512, {GPU} beats {CPU}, the other way round at a smaller size; above, there is "
            "no difference beyond the noise",
            "faster at n = 512, the other way round at a smaller size, no difference above",
        ),
        (
            (0, 1, 0),
            f"at n = 512, {GPU} beats {CPU}, but not at every smaller size; above, there is no "
            "difference beyond the noise",
            "faster at n = 512, but not at every smaller size, no difference above",
        ),
        (
            (1, 0, 1),
            f"from n = 1024 on, {GPU} beats {CPU}; below, at some sizes only",
            "faster from n = 1024 on, below at some sizes only",
        ),
    ],
)
def test_an_advantage_that_is_not_there_at_every_smaller_size_is_not_said_to_be(
    signs: Sequence[int], said: str, in_the_table: str
) -> None:
    item, crossing = crossover(signs)
    assert not crossing.throughout
    assert crossings.clause(item, crossing) == said
    assert crossings.words(item, crossing) == in_the_table


#: Whether a phrase holds: of the signs by size as the one sees it that is named first, and its figures.
Meaning = Callable[[Mapping[float, int], Sequence[float]], bool]


def at(signs: Mapping[float, int], holds: Callable[[float], bool]) -> set[int]:
    return {sign for size, sign in signs.items() if holds(size)}


NOTHING = "there is no difference beyond the noise"
MEANINGS: Mapping[str, Meaning] = {
    ".* show no difference beyond the noise at any size": lambda s, x: set(s.values()) == {0},
    "the medians change sides at n ≈ .*": lambda s, x: True,
    "(.*) beats .* at every size measured": lambda s, x: set(s.values()) == {1},
    "from n = (.*) on, (.*) beats .*": lambda s, x: at(s, lambda n: n >= x[0]) == {1},
    "from n ≈ (.*) on \\(95 % interval (.*) to (.*)\\), (.*) beats [^,]*(, the last of .* changes)?": (
        lambda s, x: x[1] < x[0] < x[2] and s[x[1]] == -1 and at(s, lambda n: n >= x[2]) == {1}
    ),
    "up to n = (.*), (.*) beats .*": lambda s, x: at(s, lambda n: n <= x[0]) == {1},
    "at n = (.*), (.*) beats .*, the other way round at a smaller size": (
        lambda s, x: s[x[0]] == 1 and -1 in at(s, lambda n: n < x[0])
    ),
    "at n = (.*), (.*) beats .*, but not at every smaller size": (
        lambda s, x: s[x[0]] == 1 and 0 in (below := at(s, lambda n: n < x[0])) and -1 not in below
    ),
    f"below, {NOTHING}": lambda s, x: at(s, lambda n: n < x[0]) == {0},
    "below, at some sizes only": lambda s, x: at(s, lambda n: n < x[0]) == {0, 1},
    f"above, {NOTHING}": lambda s, x: at(s, lambda n: n > x[0]) == {0},
}


@pytest.mark.parametrize("sizes", [1, 2, 3, 4, 5])
def test_no_sentence_says_of_a_size_what_was_not_the_case_there(sizes: int) -> None:
    for signs in itertools.product((-1, 0, 1), repeat=sizes):
        item, crossing = crossover(signs)
        seen = {
            size: -sign if crossing.ahead == CPU else sign
            for size, sign in zip(item.sizes, signs, strict=True)
        }
        figures: list[float] = []
        for phrase in crossings.clause(item, crossing).split("; "):
            ((groups, holds),) = [
                (match.groups(), holds)
                for pattern, holds in MEANINGS.items()
                if (match := re.fullmatch(pattern, phrase))
            ]
            figures += [float(text) for text in groups if text and text.isdigit()]
            assert holds(seen, figures), (signs, phrase)
            assert all(text == crossing.ahead for text in groups if text in (CPU, GPU))
