"""Does a step do only the work that it declares? Its rate against that of the same calls in a bare loop.

``python -m tests.bench.steps FRAMEWORK THREADS``, from the root of the checkout, prints a JSON line a
case. Both run in the one process, on the CPU, in turn and on the same numbers: devbench's step under
its own timer, and a loop as somebody without devbench would write it, which keeps no result.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from devbench.detection import usable_threads
from devbench.frameworks.base import Framework
from devbench.measure import sampling
from devbench.measure.bench import Bench
from devbench.model import Target, dtype, format_params
from devbench.registry import frameworks, load_catalog
from devbench.stats.intervals import log_t_interval
from tests.bench.common import ROOT, installed, line
from tests.helpers import DevBench

CASES: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    ("matmul", {"n": 1024, "dtype": "float32"}),
    ("matmul", {"n": 2048, "dtype": "float32"}),
    ("cnn", {"batch": 128, "phase": "forward"}),
    ("cnn", {"batch": 128, "phase": "train_step"}),
)
TARGETS: Final = {
    "torch": Target("torch", ("cpu",)),
    "tensorflow": Target("tensorflow", ("CPU:0",)),
}
#: For one case; and of a slot, in which both are timed in turn.
CASE_S: Final = 4.0
SLOT_S: Final = 0.2

Loop = Callable[[int], None]


def steps(cli: DevBench) -> None:
    """A pair is the median of each in one slot; the t interval of the pairs' log ratio."""
    for name, target in TARGETS.items():
        threads = usable_threads()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.steps", name, str(threads)],
            env={**installed(cli), **frameworks()[name].environment(target, threads)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        for case, ratios in map(json.loads, done.stdout.splitlines()):
            interval = log_t_interval(ratios)
            assert interval is not None
            low, high = interval
            line(
                f"{name} {case}: rate over a bare loop's",
                f"{low:.3f}..{high:.3f}",
                "±3 %",
                low >= 0.97 and high <= 1.03,
            )


def _measure(name: str, threads: int) -> None:
    framework, [address] = frameworks()[name], TARGETS[name].devices
    framework.start(TARGETS[name], threads)
    catalog = load_catalog()
    with tempfile.TemporaryDirectory() as scratch:
        for benchmark, params in CASES:
            bench = Bench(
                catalog.benchmarks[benchmark],
                params,
                framework,
                (address,),
                threads,
                0,
                Path(scratch),
            )
            with framework.scope(address), bench.build() as (step, host):
                bare = _bare(framework, address, params, host)
                ratios = _ratios(step.run, bare, framework, address)
            print(json.dumps([f"{benchmark}[{format_params(params)}]", ratios]), flush=True)


def _bare(framework: Framework, address: str, params: Mapping[str, Any], host: Any) -> Loop:
    def tensor(array: Any) -> Any:
        return framework.tensor(array, dtype("float32"), address)

    if "n" in params:
        multiply = torch_product if framework.name == "torch" else tensorflow_product
        return multiply(tensor(host["a"]), tensor(host["b"]))
    train = params["phase"] == "train_step"
    classify = torch_cnn if framework.name == "torch" else tensorflow_cnn
    return classify(train, tensor(host["images"]), tensor(host["labels"]))


def torch_product(a: Any, b: Any) -> Loop:
    def loop(times: int) -> None:
        for _ in range(times):
            a @ b

    return loop


def tensorflow_product(a: Any, b: Any) -> Loop:
    import tensorflow as tf

    # Of two arguments: binding the nine of tf.matmul itself costs a call 0.3 ms.
    product = tf.function(lambda a, b: tf.matmul(a, b))

    def loop(times: int) -> None:
        for _ in range(times):
            product(a, b)

    return loop


def torch_cnn(train: bool, images: Any, labels: Any) -> Loop:
    import torch
    from torch import nn

    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10)),
    )
    loss = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def train_loop(times: int) -> None:
        for _ in range(times):
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()

    def forward_loop(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                model(images)

    return train_loop if train else forward_loop


def tensorflow_cnn(train: bool, images: Any, labels: Any) -> Loop:
    import tensorflow as tf
    from keras import Input, Sequential, layers, losses, optimizers

    images = tf.transpose(images, (0, 2, 3, 1))
    model = Sequential(
        [
            Input((32, 32, 3)),
            *(layers.Conv2D(6, 5, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dense(120, activation="relu"), layers.Dense(10)),
        ]
    )
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)

    def forward(images: Any) -> Any:
        return model(images, training=False)

    def train_step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            error = loss(labels, model(images, training=True))
        gradients = tape.gradient(error, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return error

    step, given = (train_step, (images, labels)) if train else (forward, (images,))
    compiled = tf.function(step)

    def loop(times: int) -> None:
        for _ in range(times):
            compiled(*given)

    return loop


def _ratios(run: Callable[[], Any], bare: Loop, framework: Framework, address: str) -> list[float]:
    """The step's rate over that of the bare loop, a figure a slot."""
    timer = framework.timer(address)

    def loop(times: int) -> float:
        framework.synchronize(address)
        start = time.perf_counter()
        bare(times)
        framework.synchronize(address)
        return (time.perf_counter() - start) / times

    for _ in range(3):
        run()
        bare(1)
    seconds = loop(3)
    block = sampling.choose_block(timer, seconds, sampling.clock_tick())
    each = min(20, max(2, math.ceil(SLOT_S / 2 / (block * seconds))))
    ratios: list[float] = []
    end = time.perf_counter() + CASE_S
    while len(ratios) < 5 or time.perf_counter() < end:
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(each):
            # Which one comes first changes from turn to turn.
            if turn % 2:
                theirs.append(loop(block))
            ours += timer(run, block)
            if not turn % 2:
                theirs.append(loop(block))
        ratios.append(statistics.median(theirs) / statistics.median(ours))
    return ratios


if __name__ == "__main__":
    _measure(sys.argv[1], int(sys.argv[2]))
