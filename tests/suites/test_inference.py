"""Latency, throughput and the largest batch of networks in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devbench import Unsupported
from devbench_suites import _largest_batch
from devbench_suites._largest_batch import predict, search
from devbench_suites.inference import warm_pass
from tests.suites.harness import Child, builtin, verdict

LATENCY = builtin("inference_latency", "inference")
THROUGHPUT = builtin("inference_throughput", "inference")
LARGEST = builtin("inference_largest_batch", "inference")


@pytest.mark.parametrize("network", ["cnn", "encoder"])
def test_every_copy_of_a_sample_gives_what_the_reference_says(child: Child, network: str) -> None:
    params: dict[str, Any] = {"batch": 6, "network": network}
    answer = child.run(THROUGHPUT, params)
    found = verdict(THROUGHPUT[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert len(answer.observed["least"]) == 6
    if answer.flops and network != "encoder":  # torch does not count fused attention on a CPU
        assert THROUGHPUT[0].work(params).flops == pytest.approx(answer.flops, rel=0.02)


def test_a_batch_holds_copies_and_all_of_them_count(child: Child) -> None:
    params: dict[str, Any] = {"batch": 192, "network": "mlp"}
    answer = child.run(THROUGHPUT, params)
    assert len(answer.inputs["images"]) == 64
    assert verdict(THROUGHPUT[0], params, answer.inputs, answer.observed).numerics == "match"
    if answer.flops:
        assert answer.flops == THROUGHPUT[0].work(params).flops, "the three copies did not all run"
    wrong = answer.observed | {"largest": answer.observed["largest"] + 1e-3}
    assert verdict(THROUGHPUT[0], params, answer.inputs, wrong).numerics == "mismatch"


def test_one_request_gives_what_the_reference_says(child: Child) -> None:
    params = {"network": "mlp"}
    answer = child.run(LATENCY, params)
    found = verdict(LATENCY[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert answer.observed.shape == (1, 10)


def test_the_rate_counts_samples_also_where_the_network_counts_tokens() -> None:
    assert THROUGHPUT[0].work({"network": "encoder", "batch": 8}).items == 8
    assert LATENCY[0].work({"network": "encoder"}).items == 1


def test_on_a_cpu_the_largest_batch_is_predicted_and_a_small_one_runs(child: Child) -> None:
    params = {"network": "mlp"}
    answer = child.run(LARGEST, params)
    found = verdict(LARGEST[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    assert answer.metrics["largest_batch"] > answer.metrics["timed_batch"] >= 64
    assert answer.metrics["how"].startswith("predicted")


@pytest.mark.parametrize("limit", [64, 127, 128, 5000, 1_000_000])
def test_the_search_ends_at_the_largest_batch_that_fits(limit: int) -> None:
    tried: list[int] = []

    def attempt(batch: int) -> float | None:
        tried.append(batch)
        return 1e-3 if batch <= limit else None

    found = search(attempt, unit=64)
    assert found.largest in tried
    assert found.largest <= limit < found.largest + max(128, found.largest / 16)
    assert max(tried) < 2 * max(limit, 64) + 64
    assert len(tried) < 30


def test_a_device_without_memory_for_one_unit_is_refused() -> None:
    with pytest.raises(Unsupported, match="not even a batch of 64"):
        search(lambda batch: None, unit=64)


def test_a_slow_pass_ends_the_search_and_it_says_so() -> None:
    found = search(lambda batch: batch / 100, unit=64)
    assert found.largest == 256  # 64 take 0.64 s, 128 take 1.28 s, 256 are the first over 2 s
    assert found.how.startswith("at least")


def test_a_first_pass_that_traces_and_loads_does_not_end_the_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The seconds are those of a second pass, by a clock that each pass moves on."""
    now = [0.0]
    monkeypatch.setattr("devbench_suites.inference.time.perf_counter", lambda: now[0])

    def run(batch: int) -> Callable[[], None]:
        passes = iter([3.0, 0.001])

        def one() -> None:
            now[0] += next(passes)

        return one

    framework = Forgetful()
    monkeypatch.setattr("devbench_suites.inference.frameworks", lambda: {"torch": framework})
    assert warm_pass("torch", run, 64) == pytest.approx(0.001)
    assert framework.released == 1


def test_whatever_the_adapter_takes_for_out_of_memory_ends_a_doubling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    framework = Forgetful()
    monkeypatch.setattr("devbench_suites.inference.frameworks", lambda: {"torch": framework})

    def run(batch: int) -> Callable[[], None]:
        if batch > 300:
            raise RuntimeError("no memory left")
        return lambda: None

    found = search(lambda batch: warm_pass("torch", run, batch), unit=64)
    assert found.largest == 256
    assert framework.released == 6  # 64, 128, 256, 512, 384, 320

    def broken(batch: int) -> Callable[[], None]:
        raise ValueError(batch)

    with pytest.raises(ValueError, match="64"):
        warm_pass("torch", broken, 64)


class Forgetful:
    """A framework's memory, as far as the search looks at it."""

    released = 0

    def adopt(self) -> None: ...

    def is_out_of_memory(self, error: BaseException) -> bool:
        return "no memory" in str(error)

    def release(self) -> None:
        self.released += 1


def test_the_prediction_fills_the_free_memory_and_runs_little_of_it() -> None:
    found = predict(lambda batch: 1e6 + 1000 * batch, unit=64, free_bytes=10**9)
    assert found.largest == (10**9 - 10**6) // 1000
    assert 1000 * found.ran <= _largest_batch.RUN_BYTES < 2 * (1e6 + 1000 * found.ran)
    assert predict(lambda batch: 1e6 + 1000 * batch, unit=64, free_bytes=100).largest == 0
