"""The steps as a benchmark of devbench."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devbench import Context, benchmark
from tests.bench.power.steps import KINDS, SIZES, UNITS, make_step


@benchmark(name="power", axes={"kind": KINDS, "size": SIZES["cpu"], "units": [UNITS]})
class Power:
    """So many units of one kind and size of work."""

    def torch(self, ctx: Context, kind: str, size: int, units: int) -> Callable[[], Any]:
        return make_step(kind, size, units)
