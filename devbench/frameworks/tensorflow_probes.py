"""The elementary steps in TensorFlow, compiled as its users would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devbench.frameworks.probes import Formula, Probe, Words
from devbench.model import DTYPES, DType

if TYPE_CHECKING:
    import numpy as np


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
        # Of two arguments: binding the nine of tf.matmul itself costs a call 0.3 ms.
        product = tf.function(lambda a, b: tf.matmul(a, b))
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
        # `numpy` would copy once more, within the host's memory.
        return {
            "h2d": lambda: tf.identity(afresh(host)),
            "d2h": lambda: memoryview(afresh(device)),
        }

    def _moved(self, array: np.ndarray, dtype: DType) -> Any:
        is_float = array.dtype.kind == "f"
        return self._tf.convert_to_tensor(array, dtype=dtype.storage if is_float else None)

    def apply(self, formula: Formula, arrays: Sequence[np.ndarray], dtype: DType) -> Probe:
        tensors = [self._moved(array, dtype) for array in arrays]
        return lambda: formula(*tensors)

    def total(self, array: np.ndarray) -> Probe:
        tensor = self._moved(array, DTYPES["float32"])
        return lambda: self._tf.reduce_sum(tensor)

    def gradients(self, formula: Formula, arrays: Sequence[np.ndarray]) -> Probe:
        tensors = [self._moved(array, DTYPES["float32"]) for array in arrays]

        def run() -> list[Any]:
            with self._tf.GradientTape() as tape:
                for tensor in tensors:
                    tape.watch(tensor)
                value = self._tf.reduce_sum(formula(*tensors))
            return list(tape.gradient(value, tensors))

        return run

    def differing(self, first: Any, second: Any) -> int:
        # As integers: NaN equals no NaN, and minus zero equals zero.
        kind = f"int{8 * first.dtype.size}"
        return _unequal(self._tf, *(self._tf.bitcast(one, kind) for one in (first, second)))

    def words(self, count: int) -> Words:
        return TensorFlowWords(self._tf, count)

    def flush(self) -> Callable[[], None]:
        count = self._cache_bytes // 2
        write = self._tf.function(lambda value: self._tf.fill([count], value))
        one = self._tf.constant(1.0)

        def run() -> None:
            write(one)

        return run


def afresh(tensor: Any) -> Any:
    """The same memory under another handle: a tensor remembers its copies on other devices and in the
    host's memory, so that moving it a second time would move nothing."""
    import tensorflow as tf

    return tf.experimental.dlpack.from_dlpack(tf.experimental.dlpack.to_dlpack(tensor))


class TensorFlowWords:
    def __init__(self, tf: Any, count: int) -> None:
        self._tf = tf
        self._count = count
        self._held: Any = None

    def _pattern(self, start: int, step: int) -> Any:
        return self._tf.range(self._count, dtype="int64") * step + start

    def write(self, start: int, step: int) -> None:
        # A tensor cannot be written to; the next one takes the place of this one.
        self._held = None
        self._held = self._pattern(start, step)

    def wrong(self, start: int, step: int) -> int:
        return _unequal(self._tf, self._held, self._pattern(start, step))


def _unequal(tf: Any, first: Any, second: Any) -> int:
    return int(tf.math.count_nonzero(tf.not_equal(first, second)))
