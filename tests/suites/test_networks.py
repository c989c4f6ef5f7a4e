"""mlp and cnn: parameters, outputs, gradients and updates, in each framework and across them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from devbench.measure.inputs import case_dtype, draw
from devbench.measure.numerics import compare
from devbench.measure.tree import leaves
from devbench_suites._optimizers import SGD, Adam
from tests.suites.harness import SEED, Child, builtin, changed, verdict

SUITES = {name: builtin(name) for name in ("mlp", "cnn")}
PHASES = ("forward", "forward_backward", "train_step")
POINTS: dict[str, dict[str, Any]] = {"mlp": {"batch": 32, "hidden": 100}, "cnn": {"batch": 8}}
PARAMETERS = {
    "mlp": {
        "hidden1.weight": 78400,
        "hidden1.bias": 100,
        "hidden2.weight": 10000,
        "hidden2.bias": 100,
        "logits.weight": 1000,
        "logits.bias": 10,
    },
    "cnn": {
        "conv1.weight": 450,
        "conv1.bias": 6,
        "conv2.weight": 2400,
        "conv2.bias": 16,
        "hidden.weight": 48000,
        "hidden.bias": 120,
        "logits.weight": 1200,
        "logits.bias": 10,
    },
}

each_network = pytest.mark.parametrize("name", ["mlp", "cnn"])


@each_network
@pytest.mark.parametrize("phase", PHASES)
def test_a_step_gives_what_the_reference_says(child: Child, name: str, phase: str) -> None:
    params = POINTS[name] | {"phase": phase}
    answer = child.run(SUITES[name], params)
    found = verdict(SUITES[name][0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


@each_network
def test_a_large_batch_gives_what_the_reference_says(child: Child, name: str) -> None:
    params = POINTS[name] | {"batch": 512, "phase": "train_step"}
    answer = child.run(SUITES[name], params)
    found = verdict(SUITES[name][0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_the_wide_mlp_gives_what_the_reference_says(child: Child) -> None:
    params = {"batch": 32, "hidden": 1024, "phase": "train_step"}
    answer = child.run(SUITES["mlp"], params)
    found = verdict(SUITES["mlp"][0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


@each_network
def test_the_framework_trains_every_declared_parameter(child: Child, name: str) -> None:
    answer = child.run(SUITES[name], POINTS[name] | {"phase": "train_step"})
    for kind in ("gradients", "weights"):
        sizes = {leaf: array.size for leaf, array in answer.observed[kind].items()}
        assert sizes == PARAMETERS[name]
    assert sum(PARAMETERS[name].values()) == {"mlp": 89_610, "cnn": 52_202}[name]


def transposed(weight: np.ndarray) -> np.ndarray:
    """Rows and columns swapped: of a square matrix, or of each kernel of a convolution."""
    return np.ascontiguousarray(weight.swapaxes(-1, -2))


def pixel_by_pixel(weight: np.ndarray) -> np.ndarray:
    """The columns in the order of a flattened NHWC image."""
    split = weight.reshape(120, 16, 5, 5)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 1).reshape(120, 400))


@pytest.mark.parametrize("phase", ["forward", "forward_backward"])
@pytest.mark.parametrize(
    ("name", "weight", "permute"),
    [
        ("mlp", "hidden2.weight", transposed),
        ("cnn", "conv1.weight", transposed),
        ("cnn", "conv2.weight", transposed),
        ("cnn", "hidden.weight", pixel_by_pixel),
    ],
)
def test_a_weight_in_a_wrong_layout_is_caught(
    child: Child,
    name: str,
    weight: str,
    permute: Callable[[np.ndarray], np.ndarray],
    phase: str,
) -> None:
    params: dict[str, Any] = POINTS[name] | {"phase": phase}
    right = draw(SUITES[name][0], params, SEED)
    wrong = right | {"weights": right["weights"] | {weight: permute(right["weights"][weight])}}
    answer = child.run(SUITES[name], params, wrong)
    assert verdict(SUITES[name][0], params, right, answer.observed).numerics == "mismatch"
    assert verdict(SUITES[name][0], params, wrong, answer.observed).numerics == "match"


def test_the_dense_layer_after_flattening_reads_the_pixels_that_its_weights_name(
    child: Child,
) -> None:
    """Ten hidden units pick one value each of the pooled feature maps and show it as a logit."""
    params: dict[str, Any] = {"batch": 8, "phase": "forward"}
    inputs = draw(SUITES["cnn"][0], params, SEED)
    picked = np.random.default_rng(3).choice(16 * 5 * 5, 10, replace=False)
    selecting = {name: np.zeros_like(weight) for name, weight in inputs["weights"].items()}
    for kept in ("conv1.weight", "conv1.bias", "conv2.weight"):
        selecting[kept] = inputs["weights"][kept]
    selecting["conv2.bias"] = np.arange(10, 170, 10, dtype=np.float32)  # tells the maps apart
    selecting["hidden.weight"][np.arange(10), picked] = 1
    selecting["logits.weight"][np.arange(10), np.arange(10)] = 1
    # Inputs of nothing but zeros are refused; these two cancel.
    selecting["hidden.bias"] += 0.25
    selecting["logits.bias"] -= 0.25
    inputs |= {"weights": selecting}
    answer = child.run(SUITES["cnn"], params, inputs)
    assert (np.round(answer.observed / 10) == 1 + picked // 25).all()
    found = verdict(SUITES["cnn"][0], params, inputs, answer.observed)
    assert found.numerics == "match", found


@pytest.mark.torch
@pytest.mark.tensorflow
@each_network
@pytest.mark.parametrize("phase", PHASES)
def test_frameworks_agree_on_outputs_gradients_and_one_step_of_sgd(
    torch_child: Child, tensorflow_child: Child, name: str, phase: str
) -> None:
    params = POINTS[name] | {"phase": phase}
    optimizer = SGD(learning_rate=0.01, momentum=0.9)
    in_torch = torch_child.run(SUITES[name], params, _optimizer=optimizer)
    in_tensorflow = tensorflow_child.run(SUITES[name], params, _optimizer=optimizer)
    found = compare(
        dict(leaves(in_tensorflow.observed)),
        dict(leaves(in_torch.observed)),
        case_dtype(params),
        SUITES[name][0].work(params).terms,
    )
    assert found.numerics == "match", found
    if phase == "train_step":
        before = in_torch.inputs["weights"]
        for leaf, weight in in_torch.observed["weights"].items():
            assert (weight != before[leaf]).any(), f"{leaf} has not moved"


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(Adam(epsilon=1e-3), id="adam, where epsilon decides"),
        pytest.param(Adam(0.01, 0.8, 0.99), id="adam with other betas"),
        pytest.param(SGD(0.1, 0.0), id="plain sgd"),
    ],
)
def test_the_first_update_follows_the_closed_form(child: Child, optimizer: Adam | SGD) -> None:
    params = POINTS["mlp"] | {"phase": "train_step"}
    answer = child.run(SUITES["mlp"], params, _optimizer=optimizer)
    variant = changed(SUITES["mlp"][0], {"_optimizer": optimizer})
    found = verdict(variant, params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


@each_network
def test_an_update_with_another_learning_rate_is_caught(child: Child, name: str) -> None:
    params = POINTS[name] | {"phase": "train_step"}
    benchmark = SUITES[name][0]
    declared = benchmark.definition._optimizer
    other = type(declared)(learning_rate=declared.learning_rate * 1.1)
    answer = child.run(SUITES[name], params, _optimizer=other)
    found = verdict(benchmark, params, answer.inputs, answer.observed)
    assert found.numerics == "mismatch"
    assert (found.detail or "").startswith("weights.")


@pytest.mark.torch
@each_network
@pytest.mark.parametrize("phase", PHASES)
def test_declared_flops_are_those_that_torch_counts(
    torch_child: Child, name: str, phase: str
) -> None:
    params = POINTS[name] | {"phase": phase}
    counted = torch_child.run(SUITES[name], params).flops
    assert counted is not None
    assert SUITES[name][0].work(params).flops == pytest.approx(counted, rel=0.02)


@each_network
def test_a_later_phase_moves_and_holds_more(name: str) -> None:
    forward, backward, train = (
        SUITES[name][0].work(POINTS[name] | {"phase": phase}) for phase in PHASES
    )
    for figure in ("bytes", "footprint"):
        assert getattr(forward, figure) < getattr(backward, figure) < getattr(train, figure)
    assert train.flops == backward.flops
    state = {"mlp": 2, "cnn": 1}[name]
    assert train.footprint is not None
    assert backward.footprint is not None
    assert train.footprint - backward.footprint == 4 * state * sum(PARAMETERS[name].values())
