"""The elementary steps in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devbench.frameworks.probes import Formula, Probe, Words
from devbench.model import DTYPES, DType

if TYPE_CHECKING:
    import numpy as np


class TorchProbes:
    def __init__(self, torch: Any, address: str, cache_bytes: int) -> None:
        self._torch = torch
        self._address = address
        self._cache_bytes = cache_bytes

    def _random(self, *shape: int) -> Any:
        return self._torch.rand(shape, device=self._address) + 0.5

    def gemm(self, n: int, dtype: DType) -> Probe:
        torch = self._torch
        kind = getattr(torch, dtype.storage)
        a, b = self._random(n, n).to(kind), self._random(n, n).to(kind)
        # Written in place: allocating the result anew costs page faults that are not the product's.
        out = torch.empty(n, n, dtype=kind, device=self._address)
        return lambda: torch.mm(a, b, out=out)

    def copy(self, count: int) -> Probe:
        a = self._random(count)
        b = self._torch.empty_like(a)
        return lambda: b.copy_(a)

    def triad(self, count: int) -> Probe:
        a, b = self._random(count), self._random(count)
        c = self._torch.empty_like(a)
        return lambda: self._torch.add(a, b, alpha=3.0, out=c)

    def nothing(self) -> Probe:
        # Adding a Python number takes three times as long, and longer than a small product.
        a = self._random(1)
        return lambda: a.neg_()

    def transfers(self, count: int) -> Mapping[str, Probe]:
        if self._address in ("cpu", "mps"):
            return {}
        torch = self._torch
        device = self._random(count)
        pageable = torch.rand(count)
        steps: dict[str, Probe] = {
            "h2d": lambda: device.copy_(pageable),
            "d2h": lambda: pageable.copy_(device),
        }
        if self._address.startswith("cuda"):
            pinned = torch.rand(count).pin_memory()
            steps["h2d_pinned"] = lambda: device.copy_(pinned, non_blocking=True)
            steps["d2h_pinned"] = lambda: pinned.copy_(device, non_blocking=True)
        return steps

    def _moved(self, array: np.ndarray, dtype: DType) -> Any:
        tensor = self._torch.from_numpy(array)
        kind = getattr(self._torch, dtype.storage) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(device=self._address, dtype=kind)

    def apply(self, formula: Formula, arrays: Sequence[np.ndarray], dtype: DType) -> Probe:
        tensors = [self._moved(array, dtype) for array in arrays]
        return lambda: formula(*tensors)

    def total(self, array: np.ndarray) -> Probe:
        tensor = self._moved(array, DTYPES["float32"])
        return lambda: tensor.sum()

    def gradients(self, formula: Formula, arrays: Sequence[np.ndarray]) -> Probe:
        tensors = [self._moved(array, DTYPES["float32"]).requires_grad_() for array in arrays]
        return lambda: list(self._torch.autograd.grad(formula(*tensors).sum(), tensors))

    def differing(self, first: Any, second: Any) -> int:
        # As integers: NaN equals no NaN, and minus zero equals zero.
        kind = getattr(self._torch, f"int{8 * first.element_size()}")
        return int((first.view(kind) != second.view(kind)).sum())

    def words(self, count: int) -> Words:
        return TorchWords(self._torch, self._address, count)

    def flush(self) -> Callable[[], None]:
        buffer = self._torch.empty(
            self._cache_bytes // 2, dtype=self._torch.float32, device=self._address
        )

        def write() -> None:
            buffer.fill_(1.0)

        return write


class TorchWords:
    def __init__(self, torch: Any, address: str, count: int) -> None:
        self._torch = torch
        self._address = address
        self._count = count
        self._held: Any = None

    def _pattern(self, start: int, step: int) -> Any:
        ramp = self._torch.arange(self._count, dtype=self._torch.int64, device=self._address)
        return ramp.mul_(step).add_(start)

    def write(self, start: int, step: int) -> None:
        pattern = self._pattern(start, step)
        if self._held is None:
            self._held = pattern
        else:
            self._held.copy_(pattern)

    def wrong(self, start: int, step: int) -> int:
        return int((self._held != self._pattern(start, step)).sum())
