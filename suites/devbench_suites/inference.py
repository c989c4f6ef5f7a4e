"""Networks in use rather than in training: how soon one answer comes, how many come in a second,
and how many fit into the memory at once.

For the networks of mlp (784 → 100 → 100 → 10), cnn, and one encoder block (64 tokens of width 256),
in float32 and in each framework's idiom. Items are samples: images, or sequences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench.registry import frameworks
from devbench_suites._largest_batch import Found, predict, search
from devbench_suites._networks import NETWORKS, call

#: Samples that are drawn; a larger batch holds them several times.
DRAWN: Final = 64

NAMES: Final = list(NETWORKS)


@benchmark(
    name="inference_latency",
    axes={"network": NAMES},
    quick={"network": NAMES},
)
class Latency:
    """One sample through the network, from the call to the answer in the host's memory.

    Each sample of the result is one request that was waited for: the median is what a request takes,
    ``within_p95`` and ``within_p99`` what the slow ones take. The sample lies on the device already.
    """

    def work(self, network: str) -> Work:
        return _work(network, 1)

    def inputs(self, rng: np.random.Generator, network: str) -> Any:
        return call("inputs", network, 1, "forward", rng=rng)

    def reference(self, network: str, **inputs: Any) -> Any:
        return call("reference", network, 1, "forward", **inputs)

    def torch(self, ctx: Context, network: str, **inputs: Any) -> Step:
        step: Step = call("torch", network, 1, "forward", ctx=ctx, **inputs)
        return replace(step, clock=_clock(lambda: step.run().cpu()))

    def tensorflow(self, ctx: Context, network: str, **inputs: Any) -> Step:
        step: Step = call("tensorflow", network, 1, "forward", ctx=ctx, **inputs)
        return replace(step, clock=_clock(lambda: step.run().numpy()))


@benchmark(
    name="inference_throughput",
    axes={"batch": [1, 8, 64, 512, 4096, 32768], "network": NAMES},
    quick={"batch": [8, 64], "network": ["mlp", "cnn"]},
    size="batch",
)
class Throughput:
    """A batch through the network, as many in a row as the clock needs: samples a second."""

    def work(self, network: str, batch: int) -> Work:
        return _work(network, batch)

    def inputs(self, rng: np.random.Generator, network: str, batch: int) -> Any:
        return call("inputs", network, _drawn(batch), "forward", rng=rng)

    def reference(self, network: str, batch: int, **inputs: Any) -> Any:
        return _of_copies(network, _drawn(batch), inputs)

    def torch(self, ctx: Context, network: str, batch: int, **inputs: Any) -> Step:
        return _torch_copies(ctx, network, batch, _drawn(batch), inputs)

    def tensorflow(self, ctx: Context, network: str, batch: int, **inputs: Any) -> Step:
        return _tensorflow_copies(ctx, network, batch, _drawn(batch), inputs)


@benchmark(
    name="inference_largest_batch",
    axes={"network": NAMES},
    quick={"network": ["mlp", "encoder"]},
)
class LargestBatch:
    """How large a batch of the network fits into the memory: ``largest_batch`` in the metrics.

    On a GPU it is found: doubled until the framework runs out of memory, then halved to 1/32. The
    step that is timed is a pass of that batch. While it searches it takes all memory that others on
    the device have left. This path has not run on a GPU.

    Where the memory is the host's it is predicted, since a process that asks for too much there is
    not told but killed, or drives the machine into swapping: from the declared footprint, and the
    memory that is free inside the control group. The step is a pass of a small batch.
    """

    def work(self, network: str) -> Work:
        return Work(terms=_work(network, DRAWN).terms)  # the batch is not known beforehand

    def inputs(self, rng: np.random.Generator, network: str) -> Any:
        return call("inputs", network, DRAWN, "forward", rng=rng)

    def reference(self, network: str, **inputs: Any) -> Any:
        return _of_copies(network, DRAWN, inputs)

    def torch(self, ctx: Context, network: str, **inputs: Any) -> Step:
        def run(batch: int) -> Callable[[], Any]:
            step = _torch_copies(ctx, network, batch, DRAWN, inputs)
            return lambda: step.run().ravel()[-1].item()  # waits for the device

        found = _largest(ctx, network, run)
        return _reporting(found, _torch_copies(ctx, network, found.ran, DRAWN, inputs))

    def tensorflow(self, ctx: Context, network: str, **inputs: Any) -> Step:
        import tensorflow as tf

        def run(batch: int) -> Callable[[], Any]:
            step = _tensorflow_copies(ctx, network, batch, DRAWN, inputs)
            return lambda: float(tf.reshape(step.run(), [-1])[-1])  # waits for the device

        found = _largest(ctx, network, run)
        return _reporting(found, _tensorflow_copies(ctx, network, found.ran, DRAWN, inputs))


def _work(network: str, batch: int) -> Work:
    work: Work = call("work", network, batch, "forward")
    return replace(work, items=batch)  # the encoder block counts tokens


def _clock(answer: Callable[[], Any]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        answer()
        return time.perf_counter() - start

    return seconds


def _drawn(batch: int) -> int:
    """How many different samples a batch holds: the most up to `DRAWN` that divide it."""
    return max(samples for samples in range(1, DRAWN + 1) if batch % samples == 0)


def _of_copies(network: str, drawn: int, inputs: Any) -> Any:
    """The outputs of the drawn samples. Each copy must give them: so do the least and the largest."""
    outputs = call("reference", network, drawn, "forward", **inputs)
    return {"least": outputs, "largest": outputs}


def _torch_copies(ctx: Context, network: str, batch: int, drawn: int, inputs: Any) -> Step:
    """The forward step on so many copies of the drawn samples."""
    name, copies = NETWORKS[network].samples, batch // drawn
    samples = inputs[name].repeat(copies, *[1] * (inputs[name].ndim - 1))
    step: Step = call("torch", network, batch, "forward", ctx=ctx, **inputs | {name: samples})

    def output(result: Any) -> dict[str, Any]:
        split = result.unflatten(0, (copies, drawn))
        return {"least": split.amin(0), "largest": split.amax(0)}

    return replace(step, output=output)


def _tensorflow_copies(ctx: Context, network: str, batch: int, drawn: int, inputs: Any) -> Step:
    """The forward step on so many copies of the drawn samples."""
    import tensorflow as tf

    name, copies = NETWORKS[network].samples, batch // drawn
    samples = tf.tile(inputs[name], [copies] + [1] * (inputs[name].ndim - 1))
    step: Step = call("tensorflow", network, batch, "forward", ctx=ctx, **inputs | {name: samples})

    def output(result: Any) -> dict[str, Any]:
        split = tf.reshape(result, [copies, drawn, *result.shape[1:]])
        return {"least": tf.reduce_min(split, 0), "largest": tf.reduce_max(split, 0)}

    return replace(step, output=output)


def _largest(ctx: Context, network: str, run: Callable[[int], Callable[[], Any]]) -> Found:
    """run: builds a batch and gives a pass of it that is waited for."""
    if not ctx.device.lower().startswith(("cpu", "/cpu", "mps")):
        return search(lambda batch: warm_pass(ctx.framework, run, batch), DRAWN)
    from devbench.detection import read_hardware

    free_bytes = read_hardware().host.available_memory_bytes
    if free_bytes is None:
        raise Unsupported("this system does not tell how much memory is free")
    return predict(lambda batch: _work(network, batch).footprint or 0.0, DRAWN, free_bytes)


def warm_pass(name: str, run: Callable[[int], Callable[[], Any]], batch: int) -> float | None:
    """Seconds of a second pass, since the first one also traces and loads; None where memory ran out."""
    framework = frameworks()[name]
    framework.adopt()
    try:
        seconds = _second_s(run(batch))
    except Exception as error:
        if not framework.is_out_of_memory(error):
            raise
        seconds = None
    framework.release()  # only now: while an exception is handled, its frames hold the tensors
    return seconds


def _second_s(answer: Callable[[], Any]) -> float:
    answer()
    return _clock(answer)()


def _reporting(found: Found, step: Step) -> Step:
    facts: dict[str, float | str] = {
        "largest_batch": found.largest,
        "timed_batch": found.ran,
        "how": found.how,
    }
    return replace(step, metrics=lambda: facts)
