"""What the adapter of torch asks of accelerators that no test machine has: recorded with stand-ins."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from devbench.errors import UsageError
from devbench.frameworks.torch import TorchFramework


class Recorder:
    """A module such as torch.xpu: every call is noted with its arguments."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]], available: bool) -> None:
        self._name, self._calls, self._available = name, calls, available

    def is_available(self) -> bool:
        return self._available

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any) -> int:
            self._calls.append((f"{self._name}.{method}", *arguments))
            return 7

        return call


class OutOfMemoryError(RuntimeError):
    pass


@pytest.fixture
def calls() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def framework(calls: list[tuple[Any, ...]]) -> TorchFramework:
    """torch on a machine with two XPUs, or an Apple GPU: whatever is asked for is there."""
    made = TorchFramework()
    kinds = {kind: Recorder(kind, calls, kind != "cuda") for kind in ("cuda", "xpu", "mps")}
    backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True))
    made._torch = SimpleNamespace(
        **kinds,
        backends=backends,
        compiler=Recorder("compiler", calls, True),
        OutOfMemoryError=OutOfMemoryError,
    )
    return made


def test_the_second_of_two_devices_is_waited_for_and_not_the_current_one(
    framework: TorchFramework, calls: list[tuple[Any, ...]]
) -> None:
    for address in ("cuda:1", "xpu:1", "mps", "cpu"):
        framework.synchronize(address)
    assert calls == [
        ("cuda.synchronize", "cuda:1"),
        ("xpu.synchronize", "xpu:1"),
        ("mps.synchronize",),
    ]


def test_builders_run_on_the_second_of_two_devices(
    framework: TorchFramework, calls: list[tuple[Any, ...]]
) -> None:
    for address in ("cuda:1", "xpu:1"):
        framework.scope(address)
    assert calls == [("cuda.device", "cuda:1"), ("xpu.device", "xpu:1")]


def test_the_peak_is_the_device_s_where_its_allocator_counts(
    framework: TorchFramework, calls: list[tuple[Any, ...]]
) -> None:
    assert framework.peak_memory("xpu:1") == 7
    framework.reset_peak_memory("xpu:1")
    assert calls == [
        ("xpu.max_memory_allocated", "xpu:1"),
        ("xpu.reset_peak_memory_stats", "xpu:1"),
    ]
    assert framework.peak_memory("cpu") is None
    assert framework.peak_memory("mps") is None


def test_only_accelerators_that_hold_memory_count_as_opened(
    framework: TorchFramework, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbered(*held: int) -> SimpleNamespace:
        return SimpleNamespace(
            is_initialized=lambda: bool(held),
            device_count=lambda: len(held),
            memory_reserved=lambda index: held[index],
        )

    monkeypatch.setattr(framework._torch, "cuda", numbered(0, 512))
    monkeypatch.setattr(framework._torch, "xpu", numbered())
    assert framework.opened() == ["cuda:1", "mps"]


@pytest.mark.parametrize("compiles", [False, True])
def test_what_a_case_held_is_given_back_its_compiled_code_too(
    framework: TorchFramework,
    calls: list[tuple[Any, ...]],
    compiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    if compiles:
        monkeypatch.setitem(sys.modules, "torch._dynamo", ModuleType("torch._dynamo"))
    framework.release()
    reset = [("compiler.reset",)] if compiles else []
    assert calls == [*reset, ("mps.empty_cache",), ("xpu.empty_cache",)]


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.99 GB, max allowed: 9.07 GB)."),
        RuntimeError(
            "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
        ),
    ],
)
def test_no_memory_left_is_told_from_other_failures_on_every_kind_of_device(
    framework: TorchFramework, error: Exception
) -> None:
    assert framework.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: an illegal memory access was encountered"), ValueError("n")]
)
def test_another_failure_does_not_prune_larger_sizes(
    framework: TorchFramework, error: Exception
) -> None:
    assert not framework.is_out_of_memory(error)


def test_a_device_that_torch_cannot_wait_for_is_refused_by_its_name(
    framework: TorchFramework,
) -> None:
    with pytest.raises(UsageError, match=r"^torch has no torch\.xla\.synchronize, .*'xla:0'"):
        framework.synchronize("xla:0")
