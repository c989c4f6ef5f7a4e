from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from devbench.errors import UsageError
from tests.suites.harness import Answer, Child, builtin, verdict

SUITES = {
    name: builtin(name, "autograd")
    for name in ("scalar_gradient", "dense_gradient", "deep_chain", "jacobian")
}
PHASES = ("forward", "forward_backward")


def right(child: Child, name: str, params: dict[str, Any]) -> Answer:
    """What the step gave, once it is what the closed form says."""
    answer = child.run(SUITES[name], params)
    found = verdict(SUITES[name][0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    return answer


@pytest.mark.parametrize("phase", PHASES)
def test_the_parabola_at_three_is_16_and_its_derivative_8(child: Child, phase: str) -> None:
    observed = right(
        child, "scalar_gradient", {"expression": "polynomial", "phase": phase}
    ).observed
    assert observed["value"] == 16
    assert ("gradients" in observed) == (phase == "forward_backward")
    if phase == "forward_backward":
        assert [gradient.item() for gradient in observed["gradients"]] == [8]


@pytest.mark.parametrize("phase", PHASES)
def test_the_textbook_expression_has_its_published_value_and_gradient(
    child: Child, phase: str
) -> None:
    """Baydin et al. (2018), tables 2 and 3: 11.652 and 5.5 for the first derivative."""
    params: dict[str, Any] = {"expression": "log_product_sine", "phase": phase}
    observed = right(child, "scalar_gradient", params).observed
    assert observed["value"].item() == pytest.approx(11.652, abs=5e-4)
    if phase == "forward_backward":
        first, second = (gradient.item() for gradient in observed["gradients"])
        assert first == 5.5
        assert second == pytest.approx(2 - math.cos(5), rel=1e-6)


def test_the_example_of_four_by_three_has_its_known_gradients(child: Child) -> None:
    observed = right(child, "dense_gradient", {"n": 4, "phase": "forward_backward"}).observed
    of_x, of_w, of_b = observed["gradients"]
    assert (of_x == [[3, 9, 15]] * 4).all()
    assert (of_w == [[22, 22], [26, 26], [30, 30]]).all()
    assert (of_b == [4, 4]).all()
    assert observed["value"] == 22 * 3 + 26 * 9 + 30 * 15 + 4 * (4 + 5)


@pytest.mark.parametrize("phase", PHASES)
def test_larger_dense_gradients_are_right_and_their_flops_those_that_torch_counts(
    child: Child, phase: str
) -> None:
    params: dict[str, Any] = {"n": 64, "phase": phase}
    answer = right(child, "dense_gradient", params)
    if answer.flops is not None:
        assert answer.flops == SUITES["dense_gradient"][0].work(params).flops


@pytest.mark.parametrize("phase", PHASES)
def test_a_chain_follows_the_chain_rule_and_a_link_too_few_is_caught(
    child: Child, phase: str
) -> None:
    answer = right(child, "deep_chain", {"depth": 50, "phase": phase})
    assert set(answer.observed) == ({"value"} if phase == "forward" else {"value", "gradients"})
    longer: dict[str, Any] = {"depth": 51, "phase": phase}
    found = verdict(SUITES["deep_chain"][0], longer, answer.inputs, answer.observed)
    assert found.numerics == "mismatch"


@pytest.mark.parametrize("shape", ["many_inputs", "many_outputs"])
@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_both_modes_give_the_jacobian_of_the_closed_form(
    child: Child, shape: str, method: str
) -> None:
    params: dict[str, Any] = {"n": 24, "shape": shape, "method": method}
    answer = right(child, "jacobian", params)
    assert answer.observed.shape == ((4, 24) if shape == "many_inputs" else (24, 4))
    without_slope = answer.inputs["weight"]
    found = verdict(SUITES["jacobian"][0], params, answer.inputs, without_slope)
    assert found.numerics == "mismatch"
    if answer.flops is not None:
        # In forward mode torch computes Wx a second time, which is not declared: it need not be.
        again = 2 * 4 * 24 if method == "forward" else 0
        assert answer.flops - again == SUITES["jacobian"][0].work(params).flops


def test_the_cheaper_mode_is_that_of_the_shorter_side() -> None:
    def flops(shape: str, method: str) -> Any:
        return SUITES["jacobian"][0].work({"n": 256, "shape": shape, "method": method}).flops

    assert flops("many_inputs", "reverse") < flops("many_inputs", "forward") / 50
    assert flops("many_outputs", "forward") < flops("many_outputs", "reverse") / 50


@pytest.mark.parametrize("name", ["dense_gradient", "deep_chain"])
def test_a_backward_pass_moves_and_holds_more(name: str) -> None:
    point: dict[str, Any] = {"n": 256} if name == "dense_gradient" else {"depth": 100}
    forward, backward = (SUITES[name][0].work(point | {"phase": phase}) for phase in PHASES)
    assert forward.bytes
    assert backward.bytes
    assert forward.bytes < backward.bytes
    assert forward.footprint
    assert backward.footprint
    assert forward.footprint < backward.footprint


def test_a_size_whose_quarter_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="multiple of 4, not 6"):
        SUITES["dense_gradient"][0].work({"n": 6, "phase": "forward"})


def test_gradients_of_drawn_matrices_do_not_cancel() -> None:
    """Else the tolerance, which is relative to the largest sum, would hide a wrong term."""
    from devbench.measure.inputs import draw

    for array in draw(SUITES["dense_gradient"][0], {"n": 64, "phase": "forward"}, 3)["at"]:
        assert 0.5 <= np.min(array) < np.max(array) <= 1.5
