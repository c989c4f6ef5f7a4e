"""transfer_learning: what is trained, what must not move, and what work is left then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devbench.registry import Source, load_suite
from tests.suites.harness import Answer, Child, builtin, verdict

SUITE = builtin("transfer_learning")
HEAD: dict[str, Any] = {"batch": 4, "image": 64, "trained": "head"}
ALL = HEAD | {"trained": "all"}

_answers: dict[tuple[Child, str], Answer] = {}


def answer(child: Child, params: dict[str, Any]) -> Answer:
    """Each case is run once in this file."""
    key = child, params["trained"]
    if key not in _answers:
        _answers[key] = child.run(SUITE, params)
    return _answers[key]


def test_only_the_head_is_trained_and_nothing_else_moves(child: Child) -> None:
    found = answer(child, HEAD)
    compared = verdict(SUITE[0], HEAD, found.inputs, found.observed)
    assert compared.numerics == "match", compared
    assert found.observed["gradients"].keys() == {"fc.weight", "fc.bias"}
    assert found.observed["weights"].keys() == {"fc.weight", "fc.bias"}
    given = found.inputs["weights"].keys() | found.inputs["statistics"].keys()
    assert found.observed["moved"].keys() == given - {"fc.weight", "fc.bias"}
    assert len(found.observed["moved"]) == 60 + 40
    assert not any(found.observed["moved"].values())


@pytest.mark.parametrize("name", ["layer4.1.conv2.weight", "layer1.0.bn1.running_mean"])
def test_a_single_frozen_number_that_moved_is_caught(torch_child: Child, name: str) -> None:
    found = answer(torch_child, HEAD)
    moved = found.observed["moved"] | {name: np.asarray(1)}
    compared = verdict(SUITE[0], HEAD, found.inputs, found.observed | {"moved": moved})
    assert compared.numerics == "mismatch"
    assert name in (compared.detail or "")


PROBE = '''
import numpy as np

from devbench import benchmark
from devbench_suites import transfer_learning as suite
from devbench_suites._resnet_models import (
    keras_resnet, keras_resnet_step, torch_resnet, torch_resnet_step
)

DEFINITION = suite.TransferLearning.definition


@benchmark(name="one_bit", axes={"batch": [2]})
class OneBit:
    """A frozen network that is told it started with one bit other than it did."""

    def inputs(self, rng, batch):
        inputs = DEFINITION.inputs(rng, batch, 64, "head")
        flipped = inputs["statistics"]["bn1.running_mean"].astype(np.float32)
        flipped.view(np.int32)[0] ^= 1
        return inputs | {"flipped": flipped}

    def torch(self, ctx, images, labels, weights, statistics, flipped):
        model = torch_resnet(10, weights, statistics).eval().requires_grad_(False)
        model.fc.requires_grad_(True)
        optimizer = DEFINITION._optimizer.torch(model.fc.parameters())
        told = statistics | {"bn1.running_mean": flipped}
        return torch_resnet_step(ctx, "train_step", model, optimizer, images, labels, weights, told)

    def tensorflow(self, ctx, images, labels, weights, statistics, flipped):
        import tensorflow as tf

        model = keras_resnet(64, 10, weights, statistics)
        for layer in model.layers:
            layer.trainable = layer.name == "fc"
        optimizer, pixels = DEFINITION._optimizer.keras(), tf.transpose(images, (0, 2, 3, 1))
        told = statistics | {"bn1.running_mean": flipped}
        return keras_resnet_step(ctx, "train_step", model, optimizer, pixels, labels, weights, told)
'''


def test_a_frozen_number_that_differs_in_its_last_bit_is_counted(child: Child) -> None:
    source = Source("probe", "source", PROBE)
    (probe,) = load_suite(source)
    moved = child.run((probe, source), {"batch": 2}).observed["moved"]
    assert {name: int(count) for name, count in moved.items() if count} == {"bn1.running_mean": 1}


def test_all_of_it_is_trained(torch_child: Child) -> None:
    found = answer(torch_child, ALL)
    compared = verdict(SUITE[0], ALL, found.inputs, found.observed)
    assert compared.numerics == "match", compared
    assert not found.observed["moved"]
    assert found.observed["weights"].keys() == found.inputs["weights"].keys()


@pytest.mark.torch
@pytest.mark.parametrize("params", [HEAD, ALL], ids=["head", "all"])
def test_declared_flops_are_those_that_torch_counts(
    torch_child: Child, params: dict[str, Any]
) -> None:
    counted = answer(torch_child, params).flops
    assert SUITE[0].work(params).flops == pytest.approx(counted, rel=0.02)


def test_a_frozen_body_costs_less_than_half_and_holds_less() -> None:
    head, whole = SUITE[0].work(HEAD), SUITE[0].work(ALL)
    assert head.flops is not None
    assert whole.flops is not None
    assert 0.33 < head.flops / whole.flops < 0.35  # a forward pass of forward and two backward
    for figure in ("bytes", "footprint"):
        assert getattr(head, figure) < getattr(whole, figure) / 2
