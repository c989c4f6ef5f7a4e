"""Training on several devices at once: each computes its share of the batch, gradients are averaged.

How far more devices help is told in two ways. scaling=strong keeps the batch and shares it; at best,
N devices take 1/N of the time. scaling=weak gives each device a batch of its own; at best, the time
stays. Throughput is in samples per second of all devices together.

On a CPU, ``data_parallel_ddp`` runs for real: a process a rank, each with one thread, averaging over
gloo. On GPUs, none of it has run yet.

Metrics of a row say where the time goes. Times are medians of repeated steps, taken after the
samples:

=================  =================================================================================
compute_s          forward and backward without any exchange: the median of the devices
slowest_rank_s     by how much the slowest rank's compute exceeds that; the others wait for it (ddp)
all_reduce_s       what averaging the gradients adds to that: the part that does not overlap with the
                   backward pass. About zero where all of it overlaps, and may then be negative
optimizer_s        what the update adds
replicate_s        copying the weights to the other devices (dp); likewise scatter_s for the samples
                   and gather_s for the logits
threads_per_rank   CPU threads of a rank (ddp on a CPU)
=================  =================================================================================

The column peak_memory_bytes of ddp is that of the largest rank, on a CPU with the framework itself in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Final
from uuid import uuid4

import numpy as np
import psutil

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench.model import ParamValue
from devbench_suites._data_parallel_networks import (
    CLASSES,
    IMAGES,
    OPTIMIZER,
    SHAPES,
    layer_sizes,
    numpy_network,
)
from devbench_suites._data_parallel_torch import THREADS, Replicated
from devbench_suites._numpy_network import draw_images, draw_weights
from devbench_suites._ranks import RankFailed, Ranks
from devbench_suites._work import classifier_work

AXES: Final[Mapping[str, Sequence[ParamValue]]] = {
    "network": ["mlp", "cnn"],
    "scaling": ["strong", "weak"],
    "batch": [256, 2048],
    "world_size": [1, 2, 4, 8],
}
QUICK: Final[Mapping[str, Sequence[ParamValue]]] = {
    "network": ["mlp"],
    "scaling": ["strong"],
    "batch": [256],
    "world_size": [1, 2],
}

PATH_ONLY: Final = "path only: the logical devices of a CPU share one thread pool"


def shares(scaling: str, batch: int, world_size: int) -> tuple[int, int]:
    """Samples of all devices, and of each. Raises Unsupported where they cannot be dealt out evenly:
    the mean of the shares' gradients would not be the batch's.
    """
    if world_size < 1:
        raise Unsupported(f"world_size must be at least 1, not {world_size}")
    whole = _together(scaling, batch, world_size)
    if whole % world_size:
        raise Unsupported(f"a batch of {batch} cannot be shared evenly by {world_size} devices")
    return whole, whole // world_size


def _together(scaling: str, batch: int, world_size: int) -> int:
    """Samples of all devices."""
    return batch * world_size if scaling == "weak" else batch


class _DataParallel:
    """What the strategies have in common: the work, the inputs, and what one step must give."""

    def work(self, network: str, scaling: str, batch: int, world_size: int) -> Work:
        """That of all devices. The exchange of gradients is left out: it is the strategy's."""
        try:
            whole, share = shares(scaling, batch, world_size)
        except Unsupported:  # the case says so when it is visited
            return Work()
        layers, pixels = layer_sizes(network), int(np.prod(IMAGES[network]))
        one = classifier_work("train_step", share, pixels, layers, OPTIMIZER.state)
        all_samples = classifier_work("train_step", whole, pixels, layers, OPTIMIZER.state)
        together = {
            name: world_size * getattr(one, name) for name in ("flops", "bytes", "footprint")
        }
        return replace(one, items=whole, terms=all_samples.terms, **together)

    def inputs(
        self, rng: np.random.Generator, network: str, scaling: str, batch: int, world_size: int
    ) -> dict[str, Any]:
        # Whether they can be dealt out is the builder's to say: it makes a skipped row of it.
        whole = _together(scaling, batch, world_size)
        weights = draw_weights(rng, SHAPES[network])
        images = draw_images(rng, numpy_network(network, weights), whole, IMAGES[network])
        return {
            "images": images,
            "labels": rng.integers(CLASSES, size=whole),
            "weights": weights,
        }

    def reference(
        self, network: str, images: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The step of a single device with the whole batch."""
        loss, gradients = numpy_network(network, weights).loss_and_gradients(images, labels)
        updated = OPTIMIZER.first_step(weights, gradients)
        return {"loss": loss, "gradients": gradients, "weights": updated}


@benchmark(name="data_parallel_ddp", axes=AXES, quick=QUICK, size="batch")
class Distributed(_DataParallel):
    """torch.nn.parallel.DistributedDataParallel: a process a device, gradients averaged.

    A training step with SGD in float32. Each sample begins at a barrier and takes as long as the
    slowest rank. On a CPU every rank has one thread, as torchrun sets it, and gloo averages; a
    world_size=1 row is the same program with one process. On CUDA NCCL averages (not yet run there).
    """

    def torch(
        self,
        ctx: Context,
        network: str,
        scaling: str,
        batch: int,
        world_size: int,
        images: Any,
        labels: Any,
        weights: Any,
    ) -> Step:
        kind = ctx.device.split(":")[0]
        environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
        remarks: dict[str, float | str] = {}
        if kind == "cpu":
            if world_size * THREADS > ctx.threads:
                raise Unsupported(
                    f"asks for {world_size} ranks of one CPU thread each; there are {ctx.threads} threads"
                )
            environment["GLOO_SOCKET_IFNAME"] = _loopback()
            devices: tuple[str, ...] = ("cpu",) * world_size
            remarks["threads_per_rank"] = THREADS
        elif kind == "cuda":
            devices = _first(ctx.devices, world_size)
            if world_size > 1 and not os.access("/dev/shm", os.W_OK):
                raise Unsupported("NCCL shares memory through /dev/shm, which is not writable here")
        else:
            raise Unsupported(f"its ranks talk over gloo on a CPU or NCCL on CUDA, not on {kind}")
        whole, share = shares(scaling, batch, world_size)
        pictures, answers = _on_host(images), _on_host(labels)
        parts = [slice(start, start + share) for start in range(0, whole, share)]
        store = ctx.scratch / f"rendezvous-{uuid4().hex}"
        jobs = [
            {
                "rank": rank,
                "world_size": world_size,
                "device": devices[rank],
                "store": str(store),
                "network": network,
                "images": pictures[part],
                "labels": answers[part],
                "weights": {name: _on_host(weight) for name, weight in weights.items()},
            }
            for rank, part in enumerate(parts)
        ]
        ranks = Ranks("devbench_suites._data_parallel_torch", jobs, ctx.scratch, environment)
        return _step(ranks, remarks)


@benchmark(name="data_parallel_dp", axes=AXES, quick=QUICK, size="batch")
class Replicating(_DataParallel):
    """torch.nn.DataParallel: one process; each step copies the weights to every device.

    A training step with SGD in float32, with a batch that lies on the first device. Not yet run on
    GPUs; on a CPU there is nothing to run.
    """

    def torch(
        self,
        ctx: Context,
        network: str,
        scaling: str,
        batch: int,
        world_size: int,
        images: Any,
        labels: Any,
        weights: Any,
    ) -> Step:
        if not ctx.device.startswith("cuda"):
            raise Unsupported(
                "nn.DataParallel copies to GPUs only; elsewhere it silently falls back to the plain "
                "module"
            )
        shares(scaling, batch, world_size)
        devices = _first(ctx.devices, world_size)
        on_host = {name: _on_host(weight) for name, weight in weights.items()}
        replicated = Replicated(devices, network, images, labels, on_host)
        return Step(replicated.step, replicated.answer, metrics=replicated.metrics, stateful=True)


@benchmark(name="data_parallel_mirrored", axes=AXES, quick=QUICK, size="batch")
class MirroredVariables(_DataParallel):
    """tf.distribute.MirroredStrategy: one process, a copy of the weights on every device.

    A training step with SGD in float32 under tf.function, in a process of its own. On a CPU the
    devices are logical ones that share one thread pool, so there is no speed-up to be measured: the
    row says "path only". Not yet run on GPUs.
    """

    def tensorflow(
        self,
        ctx: Context,
        network: str,
        scaling: str,
        batch: int,
        world_size: int,
        images: Any,
        labels: Any,
        weights: Any,
    ) -> Step:
        shares(scaling, batch, world_size)
        on_cpu = ctx.device == "/CPU:0"
        devices = ("CPU:0",) * world_size if on_cpu else _physical(_first(ctx.devices, world_size))
        job = {
            "devices": devices,
            "threads": ctx.threads,
            "network": network,
            "images": _on_host(images),
            "labels": _on_host(labels),
            "weights": {name: _on_host(weight) for name, weight in weights.items()},
        }
        ranks = Ranks("devbench_suites._data_parallel_tensorflow", [job], ctx.scratch, {})
        return _step(ranks, {"scaling": PATH_ONLY} if on_cpu else {})


def _step(ranks: Ranks, remarks: Mapping[str, float | str]) -> Step:
    """The training step of processes that answer as `_data_parallel_torch.Rank` does."""

    def output(_: Any) -> dict[str, Any]:
        return agreed([answer for answers in ranks.ask("answers") for answer in answers])

    return Step(
        run=lambda: ranks.ask("step"),
        output=output,
        clock=lambda: max(ranks.ask("step")),
        metrics=lambda: {**breakdown(ranks.ask), **remarks},
        close=ranks.close,
        stateful=True,
    )


def agreed(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of all replicas: the mean of their losses, and what must be equal on each of them.

    Raises RankFailed where gradients or weights differ by a single bit: training would drift apart.
    """
    first, *others = answers
    for number, other in enumerate(others, 1):
        for kind in ("gradients", "weights"):
            for name, values in first[kind].items():
                if not np.array_equal(values, other[kind][name]):
                    raise RankFailed(
                        f"after a step, the {kind} of {name} on replica {number} differ from those "
                        "on replica 0"
                    )
    return first | {"loss": float(np.mean([answer["loss"] for answer in answers]))}


def breakdown(
    ask: Callable[[str], list[Any]], seconds: float = 0.5, most: int = 20
) -> dict[str, float | str]:
    """Where the time of a step goes, from steps and parts of steps taken in turn.

    The parts add up: step = compute + slowest rank + all-reduce + optimizer. Repeated for `seconds`,
    three times at least and `most` at most.
    """
    taken: dict[str, list[list[float]]] = {"compute": [], "gradients": [], "step": []}
    end = time.perf_counter() + seconds
    for repeat in range(most):
        if repeat >= 3 and time.perf_counter() > end:
            break
        for part, times in taken.items():
            times.append(ask(part))
    # The first call of a part may trace it.
    by_rank = [median(times) for times in zip(*taken["compute"][1:], strict=True)]
    whole = {part: median(map(max, times[1:])) for part, times in taken.items()}
    found: dict[str, float | str] = {"compute_s": median(by_rank)}
    if len(by_rank) > 1:
        found["slowest_rank_s"] = max(by_rank) - median(by_rank)
    found["all_reduce_s"] = whole["gradients"] - max(by_rank)
    found["optimizer_s"] = whole["step"] - whole["gradients"]
    held = [peak for peak in ask("memory") if peak is not None]
    return found | ({"peak_memory_bytes": max(held)} if held else {})


def _first(devices: tuple[str, ...], world_size: int) -> tuple[str, ...]:
    if len(devices) < world_size:
        raise Unsupported(f"asks for {world_size} devices; there are {len(devices)}")
    return devices[:world_size]


def _physical(devices: tuple[str, ...]) -> tuple[str, ...]:
    """``GPU:3`` for ``/GPU:0`` where the machine's fourth GPU is the only one that TensorFlow shows here: a
    fresh process sees them all."""
    import tensorflow as tf

    visible = [gpu.name.rsplit(":", 1)[1] for gpu in tf.config.get_visible_devices("GPU")]
    return tuple(f"GPU:{visible[int(device.rsplit(':', 1)[1])]}" for device in devices)


def _loopback() -> str:
    """The interface that ranks on one machine talk over. Raises Unsupported where there is none.

    gloo would otherwise take the one that the host's name resolves to, if it resolves.
    """
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address in ("127.0.0.1", "::1") for one in addresses):
            return name
    raise Unsupported(
        "gloo's ranks talk over the loopback interface, which is missing or down here"
    )


def _on_host(tensor: Any) -> np.ndarray:
    """A tensor of either framework as an array, without importing one."""
    return np.asarray(tensor.cpu() if hasattr(tensor, "cpu") else tensor)
