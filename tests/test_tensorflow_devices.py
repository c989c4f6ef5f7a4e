"""What the adapter of TensorFlow makes of accelerators that no test machine has, with stand-ins."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from devbench.frameworks.tensorflow import TensorFlowFramework


class ResourceExhaustedError(Exception):
    pass


class InternalError(Exception):
    pass


@pytest.fixture
def framework() -> TensorFlowFramework:
    made = TensorFlowFramework()
    errors = SimpleNamespace(
        ResourceExhaustedError=ResourceExhaustedError, InternalError=InternalError
    )
    made._tf = SimpleNamespace(errors=errors)
    return made


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhaustedError("OOM when allocating tensor with shape[65536,65536]"),
        MemoryError(),
        InternalError(
            "Failed copying input tensor from /job:localhost/replica:0/task:0/device:CPU:0 to "
            "/job:localhost/replica:0/task:0/device:GPU:0 in order to run _EagerConst: Dst tensor is not "
            "initialized."
        ),
        InternalError("Failed to allocate 2.0KiB: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_no_memory_left_is_told_from_other_failures_on_a_gpu_too(
    framework: TensorFlowFramework, error: Exception
) -> None:
    assert framework.is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [InternalError("Blas GEMM launch failed"), ValueError("Dst tensor is not initialized")],
)
def test_another_failure_does_not_prune_larger_sizes(
    framework: TensorFlowFramework, error: Exception
) -> None:
    assert not framework.is_out_of_memory(error)
