"""training: both frameworks and both loops train alike, and what falls short is said."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

from devbench import Context, Step, Unsupported
from devbench.errors import UsageError
from devbench.measure.inputs import as_reference, draw
from devbench_suites import _training, training
from devbench_suites._numpy_network import Dense, Network, ReLU
from devbench_suites._training import ACCURACY, Trainings, batches
from tests.suites.harness import SEED, Answer, Child, builtin

TRAINING = builtin("training")
POINT: dict[str, Any] = {"samples": 2048, "batch": 64, "loop": "written"}


def accuracies_at_float64(inputs: Any, batch: int, epochs: int) -> list[float]:
    """Of the same training in numpy."""
    data = as_reference(inputs)
    weights = dict(data["weights"])
    velocity = {name: np.zeros_like(weight) for name, weight in weights.items()}

    def network() -> Network:
        return Network(Dense("hidden", weights), ReLU(), Dense("logits", weights))

    found = []
    for order in data["order"][:epochs]:
        for rows in order[: len(order) // batch * batch].reshape(-1, batch):
            _, gradients = network().loss_and_gradients(data["x"][rows], data["labels"][rows])
            for name in weights:
                velocity[name] = 0.9 * velocity[name] + gradients[name]
                weights[name] = weights[name] - 0.03 * velocity[name]
        right = network().logits(data["validation_x"]).argmax(1) == data["validation_labels"]
        found.append(float(right.mean()))
    return found


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    return draw(TRAINING[0], POINT, SEED)


@pytest.fixture(scope="module")
def expected(inputs: dict[str, Any]) -> list[float]:
    return accuracies_at_float64(inputs, POINT["batch"], 6)


#: One of the 2048 validation samples may fall to the other side of a border.
ONE = 1.5 / 2048


def check(answer: Answer, expected: list[float]) -> None:
    accuracies = answer.observed
    assert len(accuracies) == answer.metrics["epochs"] > 2
    assert accuracies == pytest.approx(expected[: len(accuracies)], abs=ONE)
    assert (accuracies[:-1] < ACCURACY).all()
    assert accuracies[-1] >= ACCURACY
    assert accuracies[-1] == pytest.approx(answer.metrics["accuracy_fraction"])
    assert answer.metrics["samples_per_s"] * answer.metrics["epoch_s"] == pytest.approx(2048)


def test_batches_in_another_order_end_elsewhere(
    inputs: dict[str, Any], expected: list[float]
) -> None:
    for order in (inputs["order"][:, ::-1], np.sort(inputs["order"])):
        other = accuracies_at_float64(inputs | {"order": order}, POINT["batch"], 6)
        assert other != pytest.approx(expected, abs=3 * ONE)


def test_every_epoch_of_the_written_loop_ends_as_the_same_training_at_float64_does(
    child: Child, inputs: dict[str, Any], expected: list[float]
) -> None:
    check(child.run(TRAINING, POINT, inputs), expected)


@pytest.mark.tensorflow
def test_fit_takes_the_same_batches_in_the_same_order(
    tensorflow_child: Child, inputs: dict[str, Any], expected: list[float]
) -> None:
    check(tensorflow_child.run(TRAINING, POINT | {"loop": "fit"}, inputs), expected)


def build(ctx: Context, given: dict[str, Any]) -> Step:
    step = TRAINING[0].call(ctx.framework, ctx.params, ctx=ctx, **given)
    assert isinstance(step, Step)
    return step


def train_twice(ctx: Context, **given: Any) -> Step:
    """In place of a builder: a step that trains, is set back, and trains again."""
    step = build(ctx, given)
    assert step.reset is not None
    assert step.output is not None
    runs = []
    for _ in range(2):
        step.reset()
        runs.append(step.output(step.run()))
    return Step(lambda: {"first": runs[0], "second": runs[1]}, metrics=step.metrics)


def test_each_sample_trains_from_the_same_start(child: Child) -> None:
    answer = child.run(TRAINING, POINT, torch=train_twice, tensorflow=train_twice)
    first, second = (answer.observed[name] for name in ("first", "second"))
    assert len(first) > 2
    assert second == pytest.approx(first, abs=ONE)
    assert answer.metrics["epochs"] == len(second)


def tell_what_fell_short(ctx: Context, **given: Any) -> Step:
    """In place of a builder: a step whose metrics hold the error of a training of two epochs."""
    given["order"] = given["order"][:2]
    with (
        mock.patch.object(_training, "EPOCHS", 2),
        mock.patch.object(training, "EPOCHS", 2),
        pytest.raises(RuntimeError) as fallen,
    ):
        build(ctx, given).run()
    return Step(lambda: given["x"], metrics=lambda: {"error": str(fallen.value)})


@pytest.mark.tensorflow
@pytest.mark.parametrize("loop", ["written", "fit"])
def test_a_training_that_falls_short_fails_with_what_to_do(
    tensorflow_child: Child, loop: str
) -> None:
    params = POINT | {"loop": loop}
    answer = tensorflow_child.run(TRAINING, params, tensorflow=tell_what_fell_short)
    assert "after 2 epochs the validation accuracy is 0." in answer.metrics["error"]
    assert "try a smaller one" in answer.metrics["error"]


def tell_the_refusal(ctx: Context, **given: Any) -> Step:
    with pytest.raises(Unsupported) as refused:
        build(ctx, given)
    return Step(lambda: given["x"], metrics=lambda: {"reason": str(refused.value)})


@pytest.mark.torch
def test_torch_says_that_it_has_no_fit(torch_child: Child) -> None:
    answer = torch_child.run(TRAINING, POINT | {"loop": "fit"}, torch=tell_the_refusal)
    assert "torch has no fit" in answer.metrics["reason"]


def test_the_first_training_counts_only_when_it_is_alone() -> None:
    trainings = Trainings()
    trainings.record([9.0, 5.0], [0.5, 0.96])
    assert trainings.metrics(100) == {
        "epoch_s": 7.0,
        "epochs": 2,
        "accuracy_fraction": 0.96,
        "samples_per_s": 100 / 7,
    }
    trainings.record([1.0, 2.0, 3.0], [0.5, 0.6, 0.97])
    assert trainings.metrics(100)["epoch_s"] == 2.0
    assert trainings.metrics(100)["epochs"] == 3


@pytest.mark.parametrize("batch", [0, 101])
def test_a_batch_that_the_samples_cannot_fill_is_refused(batch: int) -> None:
    assert batches(100, 33) == 3
    with pytest.raises(UsageError, match="1 to 100 of 100 samples"):
        batches(100, batch)
