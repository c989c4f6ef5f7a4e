from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from devbench import Unsupported
from devbench.measure.numerics import bit_equal
from devbench_suites.transfer import refuse
from tests.suites.harness import Child, builtin

TRANSFER = builtin("transfer")
PEER = builtin("transfer_peer", "transfer")
WITHIN: dict[str, Any] = {"size": 2**16, "direction": "device_to_device", "memory": "pageable"}


def test_a_copy_arrives_bit_for_bit_and_its_row_says_where_it_went(child: Child) -> None:
    answer = child.run(TRANSFER, WITHIN)
    assert bit_equal(answer.observed, answer.inputs).numerics == "exact"
    assert answer.inputs["source"].nbytes == WITHIN["size"]
    assert "within the host's memory" in answer.metrics["path"]


def test_one_changed_number_in_a_copy_is_caught(child: Child) -> None:
    answer = child.run(TRANSFER, WITHIN)
    answer.observed[-1] += 2.0**-24
    assert bit_equal(answer.observed, answer.inputs).numerics == "mismatch"


def test_a_gpu_has_every_copy_but_one_and_a_cpu_has_only_one() -> None:
    done: dict[str, list[tuple[str, str]]] = {"cuda": [], "cpu": []}
    for kind, copies in done.items():
        for direction in TRANSFER[0].axes["direction"]:
            for memory in TRANSFER[0].axes["memory"]:
                try:
                    refuse(kind, 2**16, str(direction), str(memory))
                except Unsupported:
                    continue
                copies.append((str(direction), str(memory)))
    assert done["cpu"] == [("device_to_device", "pageable")]
    assert done["cuda"] == [
        ("to_device", "pageable"),
        ("to_device", "pinned"),
        ("to_host", "pageable"),
        ("to_host", "pinned"),
        ("device_to_device", "pageable"),
    ]


@pytest.mark.parametrize(
    ("kind", "size", "direction", "memory", "reason"),
    [
        ("cpu", 4096, "to_host", "pageable", "a CPU has no memory of its own"),
        ("cpu", 4096, "device_to_device", "pinned", "this is a CPU"),
        ("cuda", 4096, "device_to_device", "pinned", "need not be pinned"),
        ("cuda", 4098, "to_host", "pinned", "use size=4100"),
    ],
)
def test_a_copy_that_does_not_exist_is_refused_with_its_reason(
    kind: str, size: int, direction: str, memory: str, reason: str
) -> None:
    with pytest.raises(Unsupported, match=reason):
        refuse(kind, size, direction, memory)


def test_bytes_cross_a_link_once_and_one_memory_twice() -> None:
    crossing = TRANSFER[0].work(WITHIN | {"direction": "to_host"})
    assert crossing.bytes == PEER[0].work({"size": 2**16, "world_size": 2}).bytes == 2**16
    assert TRANSFER[0].work(WITHIN).bytes == 2 * 2**16


#: On a CPU, whose two sides are one memory: what is asked for can be seen, though no link is crossed.
AFRESH = """
from pathlib import Path
import numpy as np, tensorflow as tf
from devbench import Context
from devbench.frameworks.tensorflow_probes import TensorFlowProbes, afresh
from devbench.model import DTYPES
from devbench_suites.transfer import Transfer

tensor = tf.random.uniform((1024,))
again = afresh(tensor)
assert again is not tensor and again._id != tensor._id
assert np.shares_memory(memoryview(again), memoryview(tensor))

handles = []
take = tf.experimental.dlpack.from_dlpack
tf.experimental.dlpack.from_dlpack = lambda capsule: handles.append(1) or take(capsule)
steps = TensorFlowProbes(tf, "GPU:0", 1 << 20).transfers(1024)
context = Context(
    framework="tensorflow", device="/GPU:0", devices=("/GPU:0",), dtype=DTYPES["float32"],
    mode="function", threads=1, params={}, scratch=Path(), compile=lambda function: function,
)
for direction in ("to_device", "to_host"):
    params = {"size": 4096, "direction": direction, "memory": "pageable"}
    steps[direction] = Transfer.call("tensorflow", params, ctx=context, source=tensor)
for name, step in steps.items():
    handles.clear()
    first, second = (np.asarray(step()) for _ in range(2))
    assert len(handles) == 2, (name, handles)
    assert first.shape == (1024,) and first.dtype == np.float32
    assert (first == second).all() and first.any()
"""


@pytest.mark.tensorflow
def test_a_tensor_that_is_moved_again_is_not_found_where_it_was_moved_to_before() -> None:
    """TensorFlow keeps the copies of a tensor with its handle; the memory under a new one has none."""
    done = subprocess.run(
        [sys.executable, "-c", AFRESH], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
