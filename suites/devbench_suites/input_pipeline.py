"""Feeding a network: torch's DataLoader and tf.data, and whether the training step waits for them.

The pipeline runs on the host whatever the device. No GPU has run the training step beside it yet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench.errors import UsageError
from devbench_suites._epochs import Epochs
from devbench_suites._image_items import ImageItems, normalisation
from devbench_suites._shared_memory import shortage
from devbench_suites._small_training import SMALLEST, in_tensorflow, in_torch

#: Images in an epoch.
ITEMS: Final = 512
#: Batches that each worker prepares ahead, which is DataLoader's default.
AHEAD: Final = 2
#: A worker that is silent for so long has died or hangs.
TIMEOUT_S: Final = 60


@benchmark(
    name="input_pipeline",
    axes={"workers": [0, 1, 2, 4, 8], "side": [32, 128], "batch": [32]},
    quick={"workers": [0, 2], "side": [32], "batch": [32]},
    size="side",
)
class InputPipeline:
    """One epoch of shuffled batches, from 512 images in the host's memory to batches in it.

    Of each image a cut-out of side × side is taken, half of them are mirrored, and all are normalised
    to float32, one by one, as a loader that decodes files would. torch runs numpy for it and gives
    NCHW, TensorFlow runs a graph and gives NHWC.

    workers: processes of the DataLoader; threads of tf.data's map, which a pool of that size serves.
    Each works up to two batches ahead. 0 is the plain loop: nothing in parallel, nothing ahead.

    A step is a whole epoch, because batches come in bursts where several are made at a time: the time
    of one says little. Worker processes live on from epoch to epoch (persistent_workers). They are
    spawned: this process has threads, whose locks a fork would copy in whatever state they are. Their
    start is in the first call only, and is told:

    startup_s          from asking for the first batch of all to having it
    batch_s            median epoch over the batches in it
    train_step_s       median training step of a small convolutional network on the device, with a
                       batch that lies there and the pipeline at rest
    starved_fraction   max(0, 1 - train_step_s / batch_s): the share of its time that training
                       would wait, at the least: as if loading overlapped with it perfectly, the
                       copy to the device cost nothing, and a CPU had cores enough for both

    Checked: every item comes exactly once in an epoch and holds what numpy makes of it at float64, and
    a second epoch has another order.
    """

    def work(self, side: int, workers: int, batch: int) -> Work:
        if side < SMALLEST:
            raise UsageError(
                f"the network that is trained beside it needs images of {SMALLEST} × {SMALLEST} or more, "
                f"not side={side}"
            )
        pixels = 3 * side * side
        held = ITEMS * 3 * _source_side(side) ** 2 + _queue_bytes(workers, batch, side)
        # A pixel is one byte that is read and four that are written. It is a product and a sum.
        return Work(bytes=5 * ITEMS * pixels, items=ITEMS, footprint=held, terms=3)

    def inputs(self, rng: np.random.Generator, side: int) -> dict[str, np.ndarray]:
        source = _source_side(side)
        scale, shift = normalisation()
        return {
            "images": rng.integers(256, size=(ITEMS, source, source, 3), dtype=np.uint8),
            "crops": rng.integers(source - side + 1, size=(ITEMS, 2)),
            "flips": rng.integers(2, size=ITEMS).astype(bool),
            "scale": scale,
            "shift": shift,
        }

    def reference(
        self,
        side: int,
        images: np.ndarray,
        crops: np.ndarray,
        flips: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
    ) -> dict[str, np.ndarray]:
        made = np.empty((ITEMS, side, side, 3), np.float32)
        for index, (top, left) in enumerate(crops):
            image = images[index, top : top + side, left : left + side] * scale + shift
            made[index] = image[:, ::-1] if flips[index] else image
        return {"items": np.arange(ITEMS), "images": made}

    def torch(
        self,
        ctx: Context,
        workers: int,
        side: int,
        batch: int,
        images: Any,
        crops: Any,
        flips: Any,
        scale: Any,
        shift: Any,
    ) -> Step:
        import torch
        from torch.utils.data import DataLoader

        refuse(workers)
        if workers and sys.platform == "linux":
            lacking = shortage(_queue_bytes(workers, batch, side))
            if lacking is not None:
                raise Unsupported(lacking)
        tensors = (images, crops, flips, scale, shift)
        loader = DataLoader(
            ImageItems(side, *(tensor.cpu().numpy() for tensor in tensors)),
            batch_size=batch,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=AHEAD if workers else None,
            multiprocessing_context="spawn" if workers else None,
            timeout=TIMEOUT_S if workers else 0,
            generator=torch.Generator().manual_seed(0),
        )

        def close() -> None:
            # Dropping the loader would do, but an error's traceback may still hold it.
            iterator = loader._iterator
            if iterator is not None and workers:
                iterator._shutdown_workers()

        def batches() -> Iterator[tuple[Any, Any]]:
            for items, made in loader:
                yield items, made.permute(0, 2, 3, 1)

        epochs = Epochs(batches)
        return Step(
            epochs.run,
            output=lambda epoch: {
                name: torch.from_numpy(array) for name, array in epochs.sorted(epoch).items()
            },
            close=close,
            metrics=lambda: epochs.metrics(in_torch(ctx, batch, side)),
            stateful=True,
        )

    def tensorflow(
        self,
        ctx: Context,
        workers: int,
        side: int,
        batch: int,
        images: Any,
        crops: Any,
        flips: Any,
        scale: Any,
        shift: Any,
    ) -> Step:
        import tensorflow as tf

        refuse(workers)
        with tf.device("/CPU:0"):
            images, crops, flips, scale, shift = (
                tf.identity(value) for value in (images, crops, flips, scale, shift)
            )

            def load(index: Any) -> tuple[Any, Any]:
                corner = tf.concat([crops[index], [0]], axis=0)
                image = tf.slice(images[index], corner, [side, side, 3])
                image = tf.cond(flips[index], lambda: tf.reverse(image, [1]), lambda: image)
                return index, tf.cast(image, tf.float32) * scale + shift

            dataset = (
                tf.data.Dataset.range(ITEMS)
                .shuffle(ITEMS, seed=0, reshuffle_each_iteration=True)
                .map(load, num_parallel_calls=workers or None)
                .batch(batch)
            )
            if workers:
                dataset = dataset.prefetch(AHEAD * workers)
            options = tf.data.Options()
            # As many threads and batches ahead as the axis says, not what autotuning makes of it.
            options.autotune.enabled = False
            options.threading.private_threadpool_size = max(1, workers)
            dataset = dataset.with_options(options)

        def batches() -> Iterator[tuple[Any, Any]]:
            with tf.device("/CPU:0"):
                return iter(dataset)

        epochs = Epochs(batches)
        return Step(
            epochs.run,
            output=lambda epoch: {
                name: tf.constant(array) for name, array in epochs.sorted(epoch).items()
            },
            metrics=lambda: epochs.metrics(in_tensorflow(ctx, batch, side)),
            stateful=True,
        )


def refuse(workers: int) -> None:
    # To tf.data -1 means "as many as you like", so it must not get there.
    if workers < 0:
        raise Unsupported(f"workers={workers}: there can be none or more of them")


def _source_side(side: int) -> int:
    """An eighth more than the cut-out, as 256 pixels are for one of 224."""
    return side + side // 8


def _queue_bytes(workers: int, batch: int, side: int) -> int:
    """Finished batches at a time: those ahead, and the one in use. float32 images, int64 items."""
    return (AHEAD * workers + 1) * batch * (4 * 3 * side * side + 8)
