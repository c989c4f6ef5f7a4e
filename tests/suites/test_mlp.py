"""The options of the mlp's training step, and the network with one output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devbench_suites._losses import BinaryCrossEntropy, FocalLoss, Loss, clipped
from devbench_suites._optimizers import InverseTimeDecay
from tests.suites.harness import Child, builtin, verdict

TRAINING = builtin("mlp_training", "mlp")
BINARY = builtin("mlp_binary", "mlp")
OPTIONS = TRAINING[0].axes["option"]


def point(option: str, optimizer: str = "sgd_momentum") -> dict[str, Any]:
    return {"batch": 32, "optimizer": optimizer, "option": option}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_training_step_does_what_its_option_says(child: Child, option: str) -> None:
    answer = child.run(TRAINING, point(option))
    found = verdict(TRAINING[0], point(option), answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_adam_updates_with_the_clipped_gradients(child: Child) -> None:
    params = point("clip", "adam")
    answer = child.run(TRAINING, params)
    found = verdict(TRAINING[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    squares = sum((gradient**2).sum() for gradient in answer.observed["gradients"].values())
    assert np.sqrt(squares) == pytest.approx(0.1, rel=1e-5)
    assert answer.observed["norm"] > 0.1, "nothing was clipped"


def test_a_step_without_its_option_is_caught(child: Child) -> None:
    plain = child.run(TRAINING, point("plain"))
    given = plain.observed | {"norm": np.asarray(1.0), "learning_rate": np.asarray(0.01)}
    for option, leaves in {
        "clip": ["norm"],
        "schedule": ["learning_rate"],
        "custom_loss": [],
    }.items():
        observed = plain.observed | {leaf: given[leaf] for leaf in leaves}
        found = verdict(TRAINING[0], point(option), plain.inputs, observed)
        assert found.numerics == "mismatch", option
        assert found.rel_error is not None, f"{option}: {found.detail}"


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_the_binary_classifier_gives_what_the_reference_says(child: Child, phase: str) -> None:
    params = {"batch": 32, "phase": phase}
    answer = child.run(BINARY, params)
    found = verdict(BINARY[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    if phase == "train_step":
        assert sum(weight.size for weight in answer.observed["weights"].values()) == 2817


@pytest.mark.torch
def test_declared_flops_are_those_that_torch_counts(torch_child: Child) -> None:
    params: dict[str, Any] = {"batch": 32, "phase": "train_step"}
    counted = torch_child.run(BINARY, params).flops
    assert BINARY[0].work(params).flops == pytest.approx(counted, rel=0.02)
    counted = torch_child.run(TRAINING, point("custom_loss")).flops
    assert TRAINING[0].work(point("custom_loss")).flops == pytest.approx(counted, rel=0.02)


def softmax_outputs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((6, 4)), rng.integers(4, size=6)


def probabilities(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 0.9, (6, 1)), rng.integers(2, size=(6, 1))


@pytest.mark.parametrize(
    ("loss", "draw"), [(FocalLoss(), softmax_outputs), (BinaryCrossEntropy(), probabilities)]
)
def test_the_gradient_of_a_loss_is_its_slope(loss: Loss, draw: Any) -> None:
    outputs, labels = draw(np.random.default_rng(4))
    _, gradient = loss.numpy(outputs, labels)
    for at in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[at] = 1e-6
        above, below = (loss.numpy(outputs + sign * step, labels)[0].sum() for sign in (1, -1))
        assert gradient[at] == pytest.approx((above - below) / 2e-6, abs=1e-7)


def test_small_gradients_are_not_clipped() -> None:
    gradients = {"a": np.array([0.3]), "b": np.array([0.4])}
    same, norm = clipped(gradients, 0.6)
    assert norm == pytest.approx(0.5)
    assert same == gradients
    halved, _ = clipped(gradients, 0.25)
    assert halved["b"] == pytest.approx(0.2, rel=1e-5)


def test_the_learning_rate_falls_but_never_vanishes() -> None:
    decay = InverseTimeDecay(0.01)
    assert decay.after(0.5, 0) == 0.5
    assert decay.after(0.5, 100) == pytest.approx(0.25)
    assert decay.after(1e-3, 10**7) > np.finfo(np.float32).tiny
