"""Figures for people: one function a kind of quantity, chosen by the unit in `devbench.model.COLUMNS`.

Three significant digits everywhere: a benchmark on a shared machine knows no more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from devbench.model import COLUMNS, ParamValue, Result, format_params, format_value

#: What stands where a figure is not known.
UNKNOWN: Final = "??"
#: What stands where there is nothing to say.
NONE: Final = "–"

_PREFIXES: Final = {
    -12: "p",
    -9: "n",
    -6: "µ",
    -3: "m",
    0: "",
    3: "k",
    6: "M",
    9: "G",
    12: "T",
    15: "P",
    18: "E",
}
_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

#: The columns that are all in 1/s, told apart; the one that says most to a person first.
RATE_UNITS: Final[Mapping[str, str]] = {
    "items_per_s": "items/s",
    "flop_per_s": "FLOP/s",
    "bytes_per_s": "B/s",
}


def digits(value: float) -> str:
    """Three significant digits without an exponent: 1.234 → 1.23, 0.5 → 0.500, 1234 → 1234."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = 2 - math.floor(math.log10(abs(rounded)))  # 9.999 has become 10.0
    return f"{rounded:.{max(decimals, 0)}f}"


def _exponent(value: float) -> int:
    """The power of 1000 that leaves one to three digits before the point, within the prefixes."""
    if value == 0 or not math.isfinite(value):
        return 0
    shown = float(f"{abs(value):.3g}")
    return max(min(3 * math.floor(math.log10(shown) / 3), 18), -12)


def si(value: float | None, unit: str) -> str:
    """0.0102 s → ``10.2 ms``; None or not finite → an en dash."""
    if value is None or not math.isfinite(value):
        return NONE
    exponent = _exponent(value)
    if unit == "s":  # nobody reads kiloseconds
        exponent = min(exponent, 0)
    if unit.endswith("s/s"):  # nor milliitems; and the prefix stands apart: 53.3 k items/s
        exponent = max(exponent, 0)
        return f"{digits(value / 10.0**exponent)} {_PREFIXES[exponent]} {unit}".replace("  ", " ")
    return f"{digits(value / 10.0**exponent)} {_PREFIXES[exponent]}{unit}"


def tick(value: float, unit: str) -> str:
    """The label of a round value on an axis: ``20 ms``, ``1.5 T`` with unit "", and ``0.7`` below 1."""
    if not unit and value < 1000:
        return f"{value:.3g}"
    exponent = min(_exponent(value), 0) if unit == "s" else _exponent(value)
    return f"{value / 10.0**exponent:.3g} {_PREFIXES[exponent]}{unit}".rstrip()


def seconds(value: float | None) -> str:
    return si(value, "s")


def memory(value: float | None) -> str:
    """Bytes held, in powers of 1024."""
    if value is None or not math.isfinite(value):
        return NONE
    power = 0
    while abs(value) >= 1023.5 and power < len(_BINARY) - 1:
        value /= 1024
        power += 1
    return f"{value:.0f} B" if power == 0 else f"{digits(value)} {_BINARY[power]}"


def percent(fraction: float | None) -> str:
    """0.031 → ``3.1 %``."""
    if fraction is None or not math.isfinite(fraction):
        return NONE
    value = 100 * fraction
    if value >= 999.5:  # by then the digits say nothing
        return ">999 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %"


def factor(value: float) -> str:
    """A ratio with two decimals near one, where they matter: ``1.04``, ``6.20``, ``13.4``."""
    return digits(value) if value >= 0.1 else f"{value:.2g}"


def small(value: float | None) -> str:
    """A relative error: ``3.1e-07``."""
    if value is None or not math.isfinite(value):
        return NONE
    return "0" if value == 0 else f"{value:.1e}"


def quantity(column: str, value: float | None) -> str:
    """A figure of the result table, by its column's name and unit."""
    unit = COLUMNS[column][0]
    if column in RATE_UNITS:
        return si(value, RATE_UNITS[column])
    if column == "rel_error":
        return small(value)
    if column == "yardsticks":
        return NONE if value is None else digits(value)
    if column == "items_per_j":
        return si(value, "items/J")
    if unit == "1":
        return percent(value)
    if unit == "B":
        return memory(value)
    if unit == "°C":
        return NONE if value is None else f"{value:.0f} °C"
    if unit:
        return si(value, unit)
    return NONE if value is None else f"{value:,}".replace(",", "\u202f")


#: What the end of a metric's name says of its unit, and how it is shown; the longest end first.
_METRICS: Final[Sequence[tuple[str, Callable[[float], str]]]] = (
    ("_bytes_per_s", lambda value: si(value, "B/s")),
    ("_per_s", lambda value: si(value, "/s")),
    ("_bytes", memory),
    ("_fraction", percent),
    ("_s", seconds),
)


def metric(name: str, value: float | str) -> tuple[str, str]:
    """A figure that a benchmark adds, as (name, text): ``("epoch_s", 0.5)`` → (epoch, 500 ms)."""
    if isinstance(value, str):
        return name.replace("_", " "), value
    for end, show in _METRICS:
        if name.endswith(end):
            return name.removesuffix(end).replace("_", " "), show(value)
    whole = float(value).is_integer()
    return name.replace("_", " "), str(int(value)) if whole else digits(value)


def rate(result: Result) -> tuple[str, float] | None:
    """The rate that the benchmark declares, as (column, value): what a person counts (items/s), else
    FLOP/s, else B/s."""
    for column in RATE_UNITS:
        value = getattr(result, column)
        if value is not None and math.isfinite(value) and value > 0:
            return column, value
    return None


def uncertainty(result: Result) -> tuple[str, float] | None:
    """How far the median may be off, relative to it, as (kind, fraction); None where nothing is known.

    kind ``interval``: half of ci_low … ci_high. kind ``within``: half of the 5th to the 95th
    percentile inside the one process, which is no statement about the next process.
    """
    if result.median is None or result.median <= 0:
        return None
    if result.ci_low is not None and result.ci_high is not None:
        return "interval", (result.ci_high - result.ci_low) / 2 / result.median
    if result.within_p5 is not None and result.within_p95 is not None:
        return "within", (result.within_p95 - result.within_p5) / 2 / result.median
    return None


def params(values: Mapping[str, ParamValue], leave_out: Sequence[str] = ()) -> str:
    """``n=1024 float32``: numbers and booleans by name, words alone; ``–`` when nothing is left."""
    parts = [
        format_value(value) if isinstance(value, str) else f"{name}={format_value(value)}"
        for name, value in values.items()
        if name not in leave_out
    ]
    return " ".join(parts) or NONE


def long_params(values: Mapping[str, ParamValue], leave_out: Sequence[str] = ()) -> str:
    """``n=1024, dtype=float32``."""
    kept = {name: value for name, value in values.items() if name not in leave_out}
    return format_params(kept).replace(",", ", ")


def plain(value: Any) -> str:
    """A value of the settings or the environment as text; nested ones as JSON."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple) and all(
        isinstance(item, str | int | float) for item in value
    ):
        return ", ".join(map(plain, value)) or NONE
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def printable(text: str) -> str:
    """The text with a � for each control character, which could steer a terminal; tabs and ends of lines
    are none of these."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


def tied(text: str) -> str:
    """The text with its figures tied to their units, so that no line ends between the two."""
    return re.sub(
        r"(?<=[\d±]) (?=[\d%]|[kMGTPmµn]? ?(?:s|FLOP/s|[a-z]+s/s|B/s|/s)\b|[KMGT]iB\b)",
        "\u00a0",
        text,
    )


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 case``, ``2 cases``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def join(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return (
        parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""
    )
