"""Energy of the CPU packages by RAPL, where the kernel shows it and lets this user read it.

https://docs.kernel.org/power/powercap/powercap.html. AMD's processors stand under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from devbench.detection.files import read_integer, read_line

SOURCE: Final = "rapl package"

#: The counter moves about once a millisecond (Intel SDM, volume 3, "RAPL interfaces"), so a window
#: this long is off by no more than about 2 %.
SHORTEST_S: Final = 0.1

#: No package draws more. A window in which it could have used up the counter's whole range might
#: hide a full turn, which cannot be seen afterwards.
MOST_W: Final = 1000.0


def read_packages(root: Path) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Package → (microjoules counted, the value at which it wraps), or nothing and the reason.

    Whole packages only: the zones below them (core, uncore) are parts of them, dram is beside them,
    and psys holds them a second time.
    """
    found: dict[str, tuple[int, int]] = {}
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        if not (read_line(zone, "name") or "").startswith("package"):
            continue
        counted = read_integer(zone, "energy_uj")
        range_uj = read_integer(zone, "max_energy_range_uj")
        if counted is None or range_uj is None:
            # https://nvd.nist.gov/vuln/detail/CVE-2020-8694: since then for root alone
            return {}, f"{zone.name} is not readable by this user (only by root, usually)"
        found[zone.name] = counted, range_uj
    return found, None if found else "the kernel shows no RAPL package"


def joules_between(
    start: Mapping[str, tuple[int, int]], end: Mapping[str, tuple[int, int]], seconds: float
) -> tuple[float | None, str | None]:
    """Joules of all packages together, or None; and a reason where a readable counter is refused."""
    if not start or start.keys() != end.keys():
        return None, None
    if seconds < SHORTEST_S:
        return None, f"the window of {seconds:.3f} s is shorter than {SHORTEST_S} s"
    least = min(range_uj for _, range_uj in end.values())
    if seconds * MOST_W * 1e6 >= least:
        return None, f"in a window of {seconds:.0f} s the counter may have wrapped more than once"
    counted = ((end[name][0] - before) % range_uj for name, (before, range_uj) in start.items())
    return sum(counted) / 1e6, None
