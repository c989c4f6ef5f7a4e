"""Workers with the real torch and the real TensorFlow, seen through ``devbench run``.

That every benchmark runs in both is in ``tests/suites/test_quick.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import DevBench

IDIOM = {"torch": "eager", "tensorflow": "function"}


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run of small cases, two rounds, one thread, as its JSON answer."""
    cli = DevBench(tmp_path_factory.mktemp("run"))
    words = [
        "run",
        "matmul[n=64]",
        "mlp[batch=32,phase=train_step]",
        *("--param", "dtype=float32,bfloat16"),
        *("--quick", "--rounds", "2", "--threads", "1", "--device", "cpu", "--json"),
    ]
    done = cli(*words, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(
    params=[
        pytest.param("torch", marks=pytest.mark.torch),
        pytest.param("tensorflow", marks=pytest.mark.tensorflow),
    ]
)
def framework(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    return str(request.param)


def rows(answer: Any, framework: str) -> list[Any]:
    return [row for row in answer["results"] if row["framework"] == framework]


def test_every_case_is_measured_twice_and_its_result_is_right(answer: Any, framework: str) -> None:
    found = rows(answer, framework)
    assert [row["benchmark"] for row in found] == ["matmul", "matmul", "mlp"]
    for row in found:
        assert row["status"] == "ok", row["reason"]
        assert row["numerics"] == "match", row
        assert row["rounds"] == 2
        assert row["ci_low"] <= row["median"] <= row["ci_high"]
        assert row["first_call_s"] > 0
        assert 0 < row["within_p5"] <= row["within_p95"]


def test_every_row_says_its_mode_its_clock_and_its_threads(answer: Any, framework: str) -> None:
    for row in rows(answer, framework):
        assert row["mode"] == IDIOM[framework]
        assert row["clock"].startswith("perf_counter, ")
        assert row["threads"] == 1
        assert row["physical_device"] == "cpu"


def test_one_thread_means_one_thread(answer: Any, framework: str) -> None:
    """Counted as CPU time over wall time, since TensorFlow's getter answers 0 whatever is set."""
    [target] = (
        facts
        for name, facts in answer["run"]["environment"]["targets"].items()
        if name.startswith(framework)
    )
    assert target["threads"] == 1
    assert target["threads_used"] < 1.3
    assert not any(
        "threads" in reason for row in rows(answer, framework) for reason in row["quality_reasons"]
    )
