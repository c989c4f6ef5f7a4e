"""Networks in each mode. What torch.compile makes of them is run by `devbench run --quick`, since its
compiler alone takes longer to load than all of these."""

from __future__ import annotations

from typing import Any

import pytest

from devbench import Step, Unsupported
from devbench_suites import compile as suite
from tests.suites.harness import Child, builtin, verdict

COMPILE = builtin("compile")


def point(mode: str, network: str = "mlp", phase: str = "train_step") -> dict[str, Any]:
    return {"batch": 4, "network": network, "mode": mode, "phase": phase}


@pytest.mark.parametrize("network", ["cnn", "encoder"])
def test_an_eager_step_gives_what_the_reference_says(child: Child, network: str) -> None:
    answer = child.run(COMPILE, point("eager", network))
    found = verdict(COMPILE[0], point("eager", network), answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert answer.metrics == {}, "nothing was compiled"


@pytest.mark.tensorflow
@pytest.mark.parametrize(("mode", "network"), [("function", "mlp"), ("xla", "mlp")])
def test_a_compiled_step_gives_what_the_reference_says(
    tensorflow_child: Child, mode: str, network: str
) -> None:
    answer = tensorflow_child.run(COMPILE, point(mode, network))
    found = verdict(COMPILE[0], point(mode, network), answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert answer.metrics["compile_s"] > 0


def test_the_rate_counts_samples() -> None:
    assert COMPILE[0].work(point("eager", "encoder")).items == 4


def test_the_first_call_is_told_without_a_steady_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("devbench_suites.compile.time.perf_counter", lambda: clock[0])
    costs = iter([5.0, *[0.25] * 100])

    def run() -> str:
        clock[0] += next(costs)
        return "result"

    step = suite._first_call_apart(Step(run), finish=lambda: None)
    assert step.metrics is not None
    assert [step.run(), step.run()] == ["result", "result"]
    assert step.metrics() == {"compile_s": 4.75}


def test_without_a_compiler_the_case_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "a-compiler-that-is-not-there")
    with pytest.raises(Unsupported, match=r"a-compiler-that-is-not-there.*CXX"):
        suite._refuse_without_compiler("cpu")
    monkeypatch.setattr("devbench_suites.compile.importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="Triton"):
        suite._refuse_without_compiler("cuda:0")
