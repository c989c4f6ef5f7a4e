"""The elementary steps in TensorFlow, compiled as its users would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devbench.frameworks.probes import Probe
from devbench.model import DType


class TensorFlowProbes:
    """Made and run inside the scope of its device."""

    def __init__(self, tf: Any, address: str, cache_bytes: int) -> None:
        self._tf = tf
        self._address = address
        self._cache_bytes = cache_bytes

    def _random(self, *shape: int) -> Any:
        return self._tf.random.uniform(shape, 0.5, 1.5)

    def gemm(self, n: int, dtype: DType) -> Probe:
        tf = self._tf
        a, b = (tf.cast(self._random(n, n), dtype.storage) for _ in range(2))
        product = tf.function(tf.matmul)
        return lambda: product(a, b)

    def copy(self, count: int) -> Probe:
        a = self._random(count)
        return lambda: self._tf.raw_ops.DeepCopy(x=a)

    def triad(self, count: int) -> Probe:
        a, b = self._random(count), self._random(count)
        triad = self._tf.function(lambda a, b: a + 3.0 * b)
        return lambda: triad(a, b)

    def nothing(self) -> Probe:
        a = self._random(1)
        add = self._tf.function(lambda a: a + 1.0)
        return lambda: add(a)

    def transfers(self, count: int) -> Mapping[str, Probe]:
        if self._address.startswith("CPU"):
            return {}
        tf = self._tf
        device = self._random(count)
        with tf.device("/CPU:0"):
            host = self._random(count)
        return {"h2d": lambda: tf.identity(host), "d2h": lambda: device.numpy()}

    def flush(self) -> Callable[[], None]:
        count = self._cache_bytes // 2
        write = self._tf.function(lambda value: self._tf.fill([count], value))
        one = self._tf.constant(1.0)

        def run() -> None:
            write(one)

        return run
