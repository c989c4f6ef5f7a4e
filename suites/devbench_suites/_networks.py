"""The networks of other suites by name, for suites that time them in another way.

A suite that delegates keeps the network's weights, reference and code in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from devbench import Benchmark
from devbench.model import ParamValue
from devbench_suites.attention import EncoderBlock
from devbench_suites.cnn import CNN
from devbench_suites.mlp import MLP


@dataclass(frozen=True, slots=True)
class Network:
    """A benchmark that has phases, with its own axes fixed. samples: which input holds the batch."""

    benchmark: Benchmark
    fixed: Mapping[str, ParamValue]
    samples: str

    def at(self, batch: int) -> tuple[Benchmark, Mapping[str, ParamValue]]:
        """The benchmark and the point of its axes for a batch."""
        if "batch" in self.benchmark.axes:
            return self.benchmark, {**self.fixed, "batch": batch}
        definition = copy(self.benchmark.definition)
        definition._batch = batch  # the encoder block has a sweep over sequences instead
        return replace(self.benchmark, definition=definition), self.fixed


# What the decorator returns is a Benchmark; type checkers take it for the class.
NETWORKS: Final[Mapping[str, Network]] = {
    "mlp": Network(cast(Benchmark, MLP), {"hidden": 100}, "images"),
    "cnn": Network(cast(Benchmark, CNN), {}, "images"),
    "encoder": Network(cast(Benchmark, EncoderBlock), {"sequence": 64, "width": 256}, "x"),
}


def call(method: str, network: str, batch: int, phase: str, **more: Any) -> Any:
    """What the network's own benchmark answers. more: the inputs, and `ctx`, `rng` or `observed`."""
    benchmark, point = NETWORKS[network].at(batch)
    return benchmark.call(method, {**point, "phase": phase}, **more)
