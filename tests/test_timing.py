"""`devbench.time` on devices that no test machine has: which of them is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from devbench import timing
from devbench.frameworks.base import Timer, WallTimer
from tests.plugins.devbench_fake import FakeFramework


class Devices(FakeFramework):
    """A tensor is its address as text. Notes what is waited for."""

    module = "sys"

    def __init__(self, *opened: str) -> None:
        self.waited: list[str] = []
        self._opened = opened

    def address_of(self, value: Any) -> str | None:
        return value if isinstance(value, str) else None

    def opened(self) -> Sequence[str]:
        return self._opened

    def synchronize(self, address: str) -> None:
        self.waited.append(address)

    def timer(self, address: str) -> Timer:
        return WallTimer(lambda: self.synchronize(address), f"waits for {address}")


Timed = Callable[..., tuple[timing.Timing, set[str]]]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """What `devbench.time` says of a call, and the devices that were waited for."""

    def run(function: Any, *args: Any, opened: Sequence[str] = ()) -> Any:
        framework = Devices(*opened)
        monkeypatch.setattr("devbench.timing.registry.frameworks", lambda: {"fake": framework})
        return timing.time(function, *args, seconds=0.02), set(framework.waited)

    return run


@pytest.mark.parametrize("args", [("cpu", "dev:0"), ("dev:0", "cpu"), ([{"a": "cpu"}, "dev:0"],)])
def test_a_tensor_on_the_cpu_does_not_hide_the_accelerator(
    timed: Timed, args: tuple[Any, ...]
) -> None:
    found, waited = timed(lambda *args: None, *args, opened=["dev:1"])
    assert (found.device, found.clock) == ("fake:dev:0", "perf_counter, waits for dev:0")
    assert waited == {"dev:0"}


def test_a_result_on_the_accelerator_tells_where_a_model_on_it_was_not_given(timed: Timed) -> None:
    found, waited = timed(lambda batch: "dev:0", "cpu")
    assert found.device == "fake:dev:0"
    assert waited == {"cpu", "dev:0"}  # the CPU before the first call


def test_what_only_the_process_knows_of_is_waited_for(timed: Timed) -> None:
    """A training step that takes a batch from the host and returns nothing."""
    found, waited = timed(lambda batch: None, "cpu", opened=["dev:0"])
    assert found.device == "fake:cpu and fake:dev:0"
    assert found.clock == "perf_counter, fake:cpu and fake:dev:0 waited for a block"
    assert waited == {"cpu", "dev:0"}
    found, waited = timed(lambda: None, opened=["dev:0", "dev:1"])
    assert found.device == "the host and fake:dev:0 and fake:dev:1"
    assert waited == {"dev:0", "dev:1"}


def test_work_on_two_accelerators_is_waited_for_on_both(timed: Timed) -> None:
    found, waited = timed(lambda *args: None, "dev:0", "dev:1")
    assert found.device == "fake:dev:0 and fake:dev:1"
    assert waited == {"dev:0", "dev:1"}


def test_a_cpu_alone_has_its_own_timer_and_nothing_at_all_the_host_s(timed: Timed) -> None:
    assert timed(lambda: None)[0].device == "the host"
    assert timed(lambda one: None, "cpu")[0].clock == "perf_counter, waits for cpu"
