"""Moving numbers: between the host's memory and a device's, within one memory, from device to device.

No GPU has run any of the copies of a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench.frameworks.tensorflow_probes import afresh

#: Bytes: 4 kB to 1 GB, in powers of two.
_SIZES: Final = (2**12, 2**16, 2**20, 2**24, 2**28, 2**30)
_FLOAT32: Final = 4
_WITHIN: Final = "device_to_device"


def _numbers(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.random(size // _FLOAT32, dtype=np.float32)


def _kind(device: str) -> str:
    """``cuda`` of torch's ``cuda:0``, ``gpu`` of TensorFlow's ``/GPU:0``."""
    return device.strip("/").split(":")[0].lower()


def _refuse_part_of_a_number(size: int) -> None:
    if size % _FLOAT32:
        next_up = size + -size % _FLOAT32
        raise Unsupported(
            f"float32 numbers take {_FLOAT32} bytes each: use size={next_up}, not {size}"
        )


@benchmark(
    name="transfer",
    axes={
        "size": _SIZES,
        "direction": ["to_device", "to_host", _WITHIN],
        "memory": ["pageable", "pinned"],
    },
    quick={
        "size": [2**26],
        "direction": [_WITHIN, "to_device"],
        "memory": ["pageable", "pinned"],
    },
    size="size",
)
class Transfer:
    """A copy of `size` bytes of float32 numbers, which must arrive bit for bit.

    direction: to_device and to_host cross the link between the two memories; device_to_device stays
    within that of the device.

    memory: how the host's side is allocated. Pageable memory must be copied by the driver through
    pinned (page-locked) memory of its own; from pinned memory the device fetches by itself, and the
    call does not wait. A device's own memory is neither: device_to_device counts as pageable.

    Bytes cross the link once. Within one memory they are read and written, so they count twice, as
    in the ceiling for memory that the row is held against.

    torch copies into memory that is there. TensorFlow has no such copy: each target is allocated
    anew, on a GPU from TensorFlow's own pool; on a CPU the page faults of a large one are in its
    time. Its copies between host and device are called directly, whatever the mode.

    A CPU has no memory of its own: one direction is left there, a copy within the host's memory, and
    its row says so.
    """

    reference = "exact"

    def work(self, size: int, direction: str, memory: str) -> Work:
        if direction == _WITHIN:
            return Work(bytes=2 * size, footprint=2 * size)
        link = {"to_device": "h2d", "to_host": "d2h"}[direction]
        over = f"{link}_pinned" if memory == "pinned" else link
        return Work(bytes=size, footprint=2 * size, over=over)

    def inputs(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        return {"source": _numbers(rng, size)}

    def torch(self, ctx: Context, size: int, direction: str, memory: str, source: Any) -> Step:
        import torch

        kind = _kind(ctx.device)
        refuse(kind, size, direction, memory)
        pinned = memory == "pinned"
        if pinned and kind != "cuda":
            raise Unsupported(f"devbench pins memory for CUDA and ROCm only, not for {kind}")
        # Zeros: memory that is handed out again may hold the numbers already.
        if direction == "to_device":
            target = torch.zeros_like(source)
            source = source.cpu().pin_memory() if pinned else source.cpu()
        elif direction == "to_host":
            target = torch.zeros(source.shape, pin_memory=pinned)
        else:
            target = torch.zeros_like(source)
        return Step(lambda: target.copy_(source, non_blocking=pinned), metrics=_of_a_cpu(kind))

    def tensorflow(
        self, ctx: Context, size: int, direction: str, memory: str, source: Any
    ) -> Step | Callable[[], Any]:
        import tensorflow as tf

        kind = _kind(ctx.device)
        refuse(kind, size, direction, memory)
        if memory == "pinned":
            raise Unsupported("TensorFlow has no public way to allocate pinned memory")
        if direction == "to_device":
            with tf.device("/CPU:0"):
                host = tf.identity(source)
            return lambda: tf.identity(afresh(host))  # a step runs in the scope of its device
        if direction == "to_host":
            return lambda: memoryview(afresh(source))  # `numpy` would copy once more
        # tf.identity would hand out the same memory.
        copy = ctx.compile(lambda source: tf.raw_ops.DeepCopy(x=source))
        return Step(lambda: copy(source), metrics=_of_a_cpu(kind))


def refuse(kind: str, size: int, direction: str, memory: str) -> None:
    """Raises Unsupported for a copy that does not exist on that kind of device."""
    _refuse_part_of_a_number(size)
    if kind == "cpu" and direction != _WITHIN:
        raise Unsupported(
            f"a CPU has no memory of its own to copy to or from; direction={_WITHIN} copies within "
            "the host's"
        )
    if memory == "pinned" and kind == "cpu":
        raise Unsupported("pinned memory is for a GPU to fetch from, and this is a CPU")
    if memory == "pinned" and direction == _WITHIN:
        raise Unsupported("a device's own memory is not pageable, so it need not be pinned either")


def _of_a_cpu(kind: str) -> Callable[[], dict[str, str]] | None:
    if kind != "cpu":
        return None
    return lambda: {"path": "a copy within the host's memory; a CPU has no other"}


@benchmark(
    name="transfer_peer",
    axes={"size": _SIZES, "world_size": [2]},
    quick={"size": [2**26], "world_size": [2]},
    size="size",
)
class TransferPeer:
    """A copy of `size` bytes from the memory of one device to that of the next one of its kind.

    It goes over the link between the two (NVLink, or PCIe where one may address the other), and else
    through the host's memory; torch's row says which. The bytes cross the link once.
    """

    reference = "exact"

    def work(self, size: int) -> Work:
        return Work(bytes=size, footprint=2 * size, over="elsewhere")

    def inputs(self, rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        return {"source": _numbers(rng, size)}

    def torch(self, ctx: Context, size: int, source: Any) -> Step:
        import torch

        here, there = _pair(ctx, size)
        target = torch.zeros_like(source, device=there)

        def path() -> dict[str, str]:
            if _kind(here) != "cuda":
                return {}
            direct = torch.cuda.can_device_access_peer(here, there)
            return {"path": "from GPU to GPU" if direct else "through the host's memory"}

        return Step(lambda: target.copy_(source, non_blocking=True), metrics=path)

    def tensorflow(self, ctx: Context, size: int, source: Any) -> Callable[[], Any]:
        import tensorflow as tf

        _, there = _pair(ctx, size)

        def copy() -> Any:
            with tf.device(there):
                return tf.identity(afresh(source))

        return copy


def _pair(ctx: Context, size: int) -> tuple[str, str]:
    """The first two devices of the target. Raises Unsupported where there is one only."""
    _refuse_part_of_a_number(size)
    if len(ctx.devices) < 2:
        raise Unsupported(f"it takes two devices of a kind, and there is one: {ctx.device}")
    return ctx.devices[0], ctx.devices[1]
