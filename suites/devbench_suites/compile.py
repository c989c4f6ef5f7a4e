"""What compiling a network gains, and what it costs once.

eager     torch, TensorFlow: each operation when Python comes to it
compiled  torch.compile, with its default backend (inductor)
function  tf.function: traced once, then run as a graph
xla       tf.function, compiled by XLA
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench_suites._networks import NETWORKS, call


@benchmark(
    name="compile",
    axes={
        "batch": [32],
        "network": list(NETWORKS),
        "mode": ["eager", "compiled", "function", "xla"],
        "phase": ["forward", "train_step"],
    },
    quick={
        "batch": [32],
        "network": ["mlp", "encoder"],
        "mode": ["eager", "compiled", "function", "xla"],
        "phase": ["forward"],
    },
    size="batch",
)
class Compile:
    """The networks of mlp, cnn and one encoder block (64 tokens of width 256), in each mode.

    Two things apart: the median is a steady step; ``compile_s`` in the metrics is what the first
    call took beyond such a step: tracing, compilation, and the little that libraries set up when
    they are used first. An eager row has none; its ``first_call_s`` shows that little.

    torch compiles the network, forwards and backwards; the loss and the optimizer stay eager.
    TensorFlow compiles the whole step. torch's compiler starts with empty caches, on disk and in the
    process, but is itself loaded before the first call: once a process, for some seconds, and for ten
    on a machine that it does not know yet. On a CPU it needs a C++ compiler, on a GPU Triton; this ran
    on a CPU with g++, and the GPU side has not run on a GPU.
    """

    def work(self, network: str, batch: int, phase: str) -> Work:
        work: Work = call("work", network, batch, phase)
        return replace(work, items=batch)  # the encoder block counts tokens

    def inputs(self, rng: np.random.Generator, network: str, batch: int, phase: str) -> Any:
        return call("inputs", network, batch, phase, rng=rng)

    def reference(self, network: str, batch: int, phase: str, **inputs: Any) -> Any:
        return call("reference", network, batch, phase, **inputs)

    def closed_form(
        self, network: str, batch: int, phase: str, observed: Any, **inputs: Any
    ) -> Any:
        """The updated weights, from the gradients that the framework itself found."""
        return call("closed_form", network, batch, phase, observed=observed, **inputs)

    def torch(self, ctx: Context, network: str, batch: int, phase: str, **inputs: Any) -> Step:
        import torch

        if ctx.mode == "eager":
            eager: Step = call("torch", network, batch, phase, ctx=ctx, **inputs)
            return eager
        _refuse_without_compiler(ctx.device)
        _load_compiler(ctx.device)
        from torch._inductor.utils import fresh_inductor_cache

        step: Step = call("torch", network, batch, phase, ctx=ctx, **inputs)
        synchronize = (
            None if ctx.device == "cpu" else torch.get_device_module(ctx.device).synchronize
        )
        caches = ExitStack()
        caches.enter_context(fresh_inductor_cache(dir=str(ctx.scratch)))
        folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])

        def finish() -> None:
            if synchronize is not None:
                synchronize()
            if not any(folder.iterdir()):
                raise Unsupported(
                    "torch.compile wrote no code and ran the network eagerly; TORCH_LOGS=dynamo "
                    "tells why (is TORCHDYNAMO_DISABLE set?)"
                )

        return replace(_first_call_apart(step, finish), close=caches.close)

    def tensorflow(self, ctx: Context, network: str, batch: int, phase: str, **inputs: Any) -> Step:
        import tensorflow as tf

        step: Step = call("tensorflow", network, batch, phase, ctx=ctx, **inputs)
        if ctx.mode == "eager":
            return step
        return _first_call_apart(step, tf.test.experimental.sync_devices)


def _first_call_apart(step: Step, finish: Callable[[], None]) -> Step:
    """The step, and in its metrics what its first call took beyond a steady one.

    finish: waits for the device, and may raise.
    """
    first: list[float] = []

    def seconds() -> tuple[float, Any]:
        start = time.perf_counter()
        result = step.run()
        finish()
        return time.perf_counter() - start, result

    def run() -> Any:
        if first:
            return step.run()
        took, result = seconds()
        first.append(took)
        return result

    def metrics() -> dict[str, float | str]:
        return {"compile_s": first[0] - statistics.median(seconds()[0] for _ in range(5))}

    return replace(step, run=run, metrics=metrics)


def _refuse_without_compiler(device: str) -> None:
    """Raise Unsupported where inductor has nothing to compile with."""
    if device == "cpu":
        # As inductor looks for it (config.cpp.cxx).
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", usual)
        if shutil.which(compiler) is None:
            raise Unsupported(
                f"torch.compile needs a C++ compiler on a CPU, and there is no {compiler}; install "
                "one, or name another in the environment variable CXX"
            )
    elif device.startswith(("cuda", "xpu")) and importlib.util.find_spec("triton") is None:
        raise Unsupported("torch.compile needs Triton on a GPU, and it is not installed")


@cache
def _load_compiler(device: str) -> None:
    """Import inductor and let it find out what the machine can do, which it does once a process."""
    import torch

    torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
