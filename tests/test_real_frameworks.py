"""Workers with the real torch and the real TensorFlow, seen through ``devbench run``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import DevBench

BOTH = [
    pytest.param("torch", marks=pytest.mark.torch),
    pytest.param("tensorflow", marks=pytest.mark.tensorflow),
]
IDIOM = {"torch": "eager", "tensorflow": "function"}


@pytest.fixture(scope="module", params=BOTH)
def answer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run of small cases of all three suites in one framework, two rounds, as its JSON answer."""
    cli = DevBench(tmp_path_factory.mktemp("run"))
    words = [
        "run",
        "matmul[n=64]",
        "mlp[batch=32]",
        "cnn[batch=8]",
        *("--quick", "--rounds", "2", "--framework", request.param, "--json"),
        *("--device", "cpu"),
        *("--param", "dtype=float32,bfloat16"),
    ]
    done = cli(*words, timeout=300)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_every_case_is_measured_and_its_result_is_right(answer: Any) -> None:
    framework, data = answer
    rows = data["results"]
    assert {row["benchmark"] for row in rows} == {"matmul", "mlp", "cnn"}
    assert {row["params"]["phase"] for row in rows if row["benchmark"] == "mlp"} == {
        "forward",
        "forward_backward",
        "train_step",
    }
    for row in rows:
        assert row["status"] == "ok", row["reason"]
        assert row["numerics"] == "match", row
        assert row["framework"] == framework
        assert row["rounds"] == 2
        assert row["ci_low"] <= row["median"] <= row["ci_high"]
        assert row["first_call_s"] > 0
        assert 0 < row["within_p5"] <= row["within_p95"]


def test_every_row_says_its_mode_its_clock_and_its_threads(answer: Any) -> None:
    framework, data = answer
    for row in data["results"]:
        assert row["mode"] == IDIOM[framework]
        assert row["clock"].startswith("perf_counter, ")
        assert row["threads"] >= 1
        assert row["physical_device"] == "cpu"


def test_the_environment_says_what_was_measured(answer: Any) -> None:
    _, data = answer
    [target] = data["run"]["environment"]["targets"].values()
    assert target["framework_version"]
    assert "site-packages" in target["file"]
    assert 0.3 < target["threads_used"] <= target["threads"] + 0.3


@pytest.mark.parametrize("framework", BOTH)
def test_one_thread_means_one_thread(framework: str, devbench_cli: DevBench) -> None:
    """Counted as CPU time over wall time, since TensorFlow's getter answers 0 whatever is set."""
    words = ["run", "matmul[n=512]", "--quick", "--framework", framework, "--device", "cpu"]
    done = devbench_cli(*words, "--threads", "1", "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    [target] = data["run"]["environment"]["targets"].values()
    assert target["threads_used"] < 1.3
    assert not any(
        "threads" in reason for row in data["results"] for reason in row["quality_reasons"]
    )
