"""attention and encoder_block: outputs, gradients, updates, work and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devbench import Context, Step, Unsupported
from devbench.errors import UsageError
from devbench.measure.inputs import as_reference, draw
from devbench_suites import _encoder
from devbench_suites._attention import attention, attention_gradients
from tests.suites.harness import SEED, Child, builtin, verdict

ATTENTION = builtin("attention")
ENCODER = builtin("encoder_block", "attention")
SMALL: dict[str, Any] = {"sequence": 24, "width": 128}


def point(**changes: Any) -> dict[str, Any]:
    usual = {"sequence": 33, "kind": "written_out", "dtype": "float32", "phase": "forward_backward"}
    return usual | changes


def tell_the_refusal(ctx: Context, **given: Any) -> Step:
    """In place of a builder: a step whose metrics hold the reason that the builder gave."""
    with pytest.raises(Unsupported) as refused:
        ATTENTION[0].call(ctx.framework, ctx.params, ctx=ctx, **given)
    return Step(lambda: given["query"], metrics=lambda: {"reason": str(refused.value)})


@pytest.mark.parametrize("phase", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_written_out_attention_gives_what_the_reference_says(
    child: Child, dtype: str, phase: str
) -> None:
    params = point(dtype=dtype, phase=phase)
    answer = child.run(ATTENTION, params)
    found = verdict(ATTENTION[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


@pytest.mark.torch
@pytest.mark.parametrize(
    ("dtype", "phase"),
    [
        ("float32", "forward"),
        ("float32", "forward_backward"),
        ("bfloat16", "forward"),
        ("float16", "forward"),
    ],
)
def test_fused_attention_gives_what_the_reference_says(
    torch_child: Child, dtype: str, phase: str
) -> None:
    params = point(kind="fused", dtype=dtype, phase=phase)
    answer = torch_child.run(ATTENTION, params)
    found = verdict(ATTENTION[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_attention_without_its_scale_or_along_the_wrong_axis_is_caught() -> None:
    params = point(phase="forward")
    inputs = draw(ATTENTION[0], params, SEED)
    exact = as_reference(inputs)
    query, key, value = (exact[name] for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(-1, -2) / 8
    along_queries = np.exp(scores) / np.exp(scores).sum(-2, keepdims=True)
    for wrong in (attention(query * 8, key, value), along_queries @ value):
        assert verdict(ATTENTION[0], params, inputs, wrong).numerics == "mismatch"
    right = attention(query, key, value)
    assert verdict(ATTENTION[0], params, inputs, right).numerics == "match"


def test_gradients_of_attention_are_the_slopes_of_attention() -> None:
    """By central differences along a random direction, in pieces of any length."""
    rng = np.random.default_rng(5)
    query, key, value, upstream = rng.standard_normal((4, 2, 700, 4))
    gradients = attention_gradients(query, key, value, upstream)
    for place, gradient in enumerate(gradients):
        direction, ends = rng.standard_normal(query.shape), []
        for step in (1e-5, -1e-5):
            moved = [query, key, value]
            moved[place] = moved[place] + step * direction
            ends.append((upstream * attention(*moved)).sum())
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"kind": "fused"}, "no fused attention"), ({"dtype": "float16"}, "step of the softmax")],
)
def test_tensorflow_says_why_it_does_not_fuse_and_has_no_float16_on_a_cpu(
    tensorflow_child: Child, changes: dict[str, Any], reason: str
) -> None:
    answer = tensorflow_child.run(ATTENTION, point(**changes), tensorflow=tell_the_refusal)
    assert reason in answer.metrics["reason"]


@pytest.mark.torch
def test_torch_says_why_a_narrow_fused_backward_is_not_timed_on_a_cpu(torch_child: Child) -> None:
    params = point(kind="fused", dtype="bfloat16")
    answer = torch_child.run(ATTENTION, params, torch=tell_the_refusal)
    assert "adds up the gradients" in answer.metrics["reason"]


@pytest.mark.torch
@pytest.mark.parametrize("phase", ["forward", "forward_backward"])
def test_declared_flops_of_attention_are_those_that_torch_counts(
    torch_child: Child, phase: str
) -> None:
    params = point(phase=phase)
    assert torch_child.run(ATTENTION, params).flops == ATTENTION[0].work(params).flops
    fused = point(phase=phase, kind="fused")
    assert torch_child.run(ATTENTION, fused).flops == 0  # not counted on a CPU
    assert ATTENTION[0].work(fused).flops == ATTENTION[0].work(params).flops


def test_only_written_out_attention_holds_the_scores() -> None:
    scores = 8 * 1000**2 * 2
    for phase, copies in (("forward", 2), ("forward_backward", 4)):
        held = {
            kind: ATTENTION[0].work(point(sequence=1000, dtype="float16", kind=kind, phase=phase))
            for kind in ("fused", "written_out")
        }
        written, fused = held["written_out"].footprint, held["fused"].footprint
        assert written is not None
        assert fused is not None
        assert written - fused == copies * scores


@pytest.mark.parametrize("phase", ["forward", "forward_backward", "train_step"])
def test_the_encoder_block_gives_what_the_reference_says(child: Child, phase: str) -> None:
    params = SMALL | {"phase": phase}
    answer = child.run(ENCODER, params)
    found = verdict(ENCODER[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    if phase != "forward":
        shapes = {name: one.shape for name, one in answer.observed["gradients"].items()}
        assert shapes == _encoder.shapes(128)


@pytest.mark.parametrize(
    ("name", "axis"), [("query.weight", 0), ("out.weight", 1), ("contract.weight", 1)]
)
def test_a_weight_of_the_encoder_with_its_heads_swapped_is_caught(name: str, axis: int) -> None:
    params = SMALL | {"phase": "forward"}
    inputs = draw(ENCODER[0], params, SEED)
    exact = as_reference(inputs)
    swapped = exact["weights"] | {name: np.roll(exact["weights"][name], 64, axis)}
    observed = _encoder.reference(exact["x"], swapped)
    assert verdict(ENCODER[0], params, inputs, observed).numerics == "mismatch"


@pytest.mark.torch
@pytest.mark.parametrize("phase", ["forward", "forward_backward", "train_step"])
def test_declared_flops_of_the_encoder_are_those_that_torch_counts_and_the_attention(
    torch_child: Child, phase: str
) -> None:
    """torch does not count fused attention on a CPU; the work counts its two products."""
    params = SMALL | {"phase": phase}
    counted = torch_child.run(ENCODER, params).flops
    assert counted
    attended = 2 * 2 * 8 * 24 * 24 * 128 * (1 if phase == "forward" else 3)
    assert ENCODER[0].work(params).flops == pytest.approx(counted + attended, rel=0.02)


def test_gradients_of_the_encoder_are_the_slopes_of_its_loss() -> None:
    rng = np.random.default_rng(6)
    weights = _encoder.draw_weights(rng, 64)
    x, target = rng.standard_normal((2, 2, 5, 64))
    loss, gradients = _encoder.reference_gradients(x, target, weights)
    assert loss == pytest.approx(((_encoder.reference(x, weights) - target) ** 2).mean())
    for name, weight in weights.items():
        direction, ends = rng.standard_normal(weight.shape), []
        for step in (1e-5, -1e-5):
            moved = weights | {name: weight + step * direction}
            ends.append(((_encoder.reference(x, moved) - target) ** 2).mean())
        slope = (ends[0] - ends[1]) / 2e-5
        assert (gradients[name] * direction).sum() == pytest.approx(slope, rel=1e-5), name


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 64"):
        _encoder.shapes(100)
