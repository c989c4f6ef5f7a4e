"""lstm: outputs, gradients through time, and the work that is declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devbench import Context, Step
from devbench.measure.inputs import draw
from devbench_suites._rnn import lstm, lstm_gradients
from tests.suites.harness import SEED, Child, builtin, verdict

LSTM = builtin("lstm", "rnn")
PHASES = ("forward", "forward_backward")


def point(**changes: Any) -> dict[str, Any]:
    return {"sequence": 19, "batch": 3, "phase": "forward_backward"} | changes


@pytest.mark.parametrize("phase", PHASES)
def test_the_layer_gives_what_the_reference_says(child: Child, phase: str) -> None:
    params = point(phase=phase)
    answer = child.run(LSTM, params)
    found = verdict(LSTM[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_rounding_does_not_grow_past_the_tolerance_over_hundreds_of_places(child: Child) -> None:
    params = point(sequence=300, batch=1, phase="forward")
    answer = child.run(LSTM, params)
    found = verdict(LSTM[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


@pytest.mark.parametrize("gates", [(0, 2), (1, 3)])
def test_gates_in_another_order_are_caught(child: Child, gates: tuple[int, int]) -> None:
    params = point(phase="forward")
    right = draw(LSTM[0], params, SEED)
    order = [gates[::-1][gates.index(i)] if i in gates else i for i in range(4)]
    swapped = {
        name: np.concatenate([np.split(weight, 4)[gate] for gate in order])
        for name, weight in right["weights"].items()
    }
    answer = child.run(LSTM, params, right | {"weights": swapped})
    assert verdict(LSTM[0], params, right, answer.observed).numerics == "mismatch"


def cell_by_cell(ctx: Context, phase: str, x: Any, upstream: Any, weights: Any) -> Step:
    """The layer in torch's elementary operations, whose products torch counts."""
    import torch

    wanted = {"x": x, "weights": weights}
    leaves = [x, *weights.values()]
    for leaf in leaves:
        leaf.requires_grad_(phase == "forward_backward")

    def forward() -> Any:
        hidden = cell = torch.zeros(x.shape[0], 128)
        outputs = []
        for place in x.unbind(1):
            sums = place @ weights["input"].T + hidden @ weights["recurrent"].T + weights["bias"]
            opened, forget, new, out = sums.chunk(4, -1)
            cell = forget.sigmoid() * cell + opened.sigmoid() * new.tanh()
            hidden = out.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1)

    def forward_backward() -> Any:
        output = forward()
        dx, *others = torch.autograd.grad(output, leaves, upstream)
        gradients = dict(zip(wanted["weights"], others, strict=True))
        return {"output": output, "gradients": {"x": dx, "weights": gradients}}

    return Step(forward if phase == "forward" else forward_backward)


@pytest.mark.torch
@pytest.mark.parametrize("phase", PHASES)
def test_declared_flops_are_those_that_torch_counts_in_a_layer_that_is_written_out(
    torch_child: Child, phase: str
) -> None:
    params = point(phase=phase, sequence=16)
    answer = torch_child.run(LSTM, params, torch=cell_by_cell)
    found = verdict(LSTM[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert LSTM[0].work(params).flops == pytest.approx(answer.flops, rel=0.02)
    assert torch_child.run(LSTM, params).flops == 0  # not counted on a CPU


def test_gradients_are_the_slopes_of_the_layer() -> None:
    rng = np.random.default_rng(7)
    shapes = {"input": (12, 4), "recurrent": (12, 3), "bias": (12,)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    x, upstream = rng.standard_normal((2, 6, 4)), rng.standard_normal((2, 6, 3))
    output, gradients = lstm_gradients(x, upstream, weights)
    assert (output == lstm(x, weights)).all()
    start = {"x": x, **weights}
    for name, gradient in ({"x": gradients["x"]} | gradients["weights"]).items():
        direction, ends = rng.standard_normal(start[name].shape), []
        for step in (1e-5, -1e-5):
            moved = start | {name: start[name] + step * direction}
            ends.append((upstream * lstm(moved["x"], moved)).sum())
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6), name
