"""Sentences that differ in their figures only, told once: with the range of each figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

#: A figure on its own, with its sign; no digits of a name such as ``GPU-0a1b`` or ``float32``, and no
#: index in brackets.
_FIGURE: Final = re.compile(
    r"(?<![\w.\-\[])(?P<sign>[+±-]?)(?P<digits>\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w\]]|\.\d|-\w)"
)

#: Reasons whose figures say which and not how much: places in an array, numbers of processes, what an
#: exception says.
_NAMES: Final = re.compile(
    r"(?:^|: )(?:numerics-mismatch|co-tenant|error|declaration|signal|exit|unsupported)\b"
)


def template(sentence: str) -> str:
    """The sentence without its figures: equal for sentences that may be told as one."""
    return sentence if _NAMES.search(sentence) else _FIGURE.sub("#", sentence)


def together(sentences: Iterable[str]) -> str:
    """Sentences of one template as one: ``others kept 1.01 to 1.67 CPUs busy beside 2 threads``."""
    distinct = list(dict.fromkeys(sentences))
    first = distinct[0]
    if len(distinct) == 1:
        return first
    found = [list(_FIGURE.finditer(sentence)) for sentence in distinct]
    parts, end = [], 0
    for place, figure in enumerate(found[0]):
        parts += [first[end : figure.start()], _range([one[place] for one in found])]
        end = figure.end()
    return "".join([*parts, first[end:]])


def _range(figures: Sequence[re.Match[str]]) -> str:
    """``±11 to ±394``: the smallest and the largest, as they were written."""
    ordered = sorted(figures, key=_value)
    low, high = ordered[0][0], ordered[-1][0]
    return low if _value(ordered[0]) == _value(ordered[-1]) else f"{low} to {high}"


def _value(figure: re.Match[str]) -> float:
    value = float(figure["digits"])
    return -value if figure["sign"] == "-" else value
