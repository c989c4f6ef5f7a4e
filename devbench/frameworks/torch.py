"""torch behind the `Framework` protocol: CPU, CUDA and ROCm, MPS, XPU.

Run for real on CPUs. The CUDA, MPS and XPU paths follow torch's documentation and have not yet run
on such a device.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from devbench.errors import UsageError
from devbench.frameworks.base import NO_TF32, FrameworkView, Timer, WallTimer
from devbench.frameworks.probes import Probes
from devbench.frameworks.torch_probes import TorchProbes
from devbench.model import DTYPES, Device, DType, Json, Target

if TYPE_CHECKING:
    import numpy as np


#: Kinds of devices of which there may be several, so that a call means one of them.
_NUMBERED: Final = ("cuda", "xpu")

#: What errors other than `torch.OutOfMemoryError` say when there is no memory left: the allocator of the
#: CPU, MPS, the CUDA driver (kernels, pinned memory), cuBLAS, and the drivers of XPUs.
_NO_MEMORY: Final = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "OUT_OF_DEVICE_MEMORY",
)


class EventTimer:
    """CUDA events around every one of a block of queued steps.

    A synchronisation before each start event would add launch latency to short steps; so the block
    is queued, each step between its own pair of events, and waited for once at the end.
    """

    name = "cuda events around queued steps"
    per_step = True
    #: "With a resolution of around 0.5 microseconds": CUDA Runtime API, cudaEventElapsedTime.
    resolution_s: float | None = 0.5e-6

    def __init__(self, torch: Any, address: str) -> None:
        self._torch = torch
        self._address = address

    def __call__(self, run: Callable[[], Any], block: int) -> tuple[float, ...]:
        cuda = self._torch.cuda
        with cuda.device(self._address):
            pairs = [
                (cuda.Event(enable_timing=True), cuda.Event(enable_timing=True))
                for _ in range(block)
            ]
            for start, end in pairs:
                start.record()
                run()
                end.record()
            cuda.synchronize()
        return tuple(start.elapsed_time(end) * 1e-3 for start, end in pairs)


class TorchFramework:
    name = "torch"
    extra = "torch"
    module = "torch"
    modes = ("eager", "compiled")

    def environment(self, target: Target | None, threads: int) -> dict[str, str]:
        # OMP_WAIT_POLICY stays as the user has it, which is what their own programs run under: with
        # PASSIVE a small MLP's training step takes 3.1 ms where it takes 0.8 by default (2 cores).
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            # Indices then mean the same to NVML, torch and TensorFlow.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
        if target is not None and target.devices == ("cpu",):
            variables["CUDA_VISIBLE_DEVICES"] = "-1"
        return variables

    def start(self, target: Target | None, threads: int) -> None:
        self.adopt()
        self._torch.set_num_threads(threads)
        # float32 means float32 in both frameworks: TF32 keeps 10 bits of the fraction of 23. torch
        # has it off for matrix products and on for convolutions by default.
        self._set_tf32(False)

    def _set_tf32(self, on: bool) -> None:
        self._torch.set_float32_matmul_precision("high" if on else "highest")
        self._torch.backends.cudnn.allow_tf32 = on

    def adopt(self) -> None:
        import torch

        self._torch = torch

    def address_of(self, value: Any) -> str | None:
        if isinstance(value, self._torch.nn.Module):
            value = next(value.parameters(), None)
        return str(value.device) if isinstance(value, self._torch.Tensor) else None

    def opened(self) -> Sequence[str]:
        torch, found = self._torch, []
        for kind in _NUMBERED:
            module = getattr(torch, kind)
            if module.is_initialized():
                # Before torch 2.6 torch.xpu does not tell: then all of them.
                held = getattr(module, "memory_reserved", lambda index: 1)
                found += [f"{kind}:{one}" for one in range(module.device_count()) if held(one)]
        if torch.backends.mps.is_available() and torch.mps.current_allocated_memory():
            found.append("mps")
        return found

    def describe(self) -> FrameworkView:
        torch = self._torch
        devices = [Device("torch", "cpu", "cpu", "CPU", "cpu", dtypes=self._dtypes("cpu"))]
        if torch.cuda.is_available():
            devices += [self._cuda_device(index) for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            devices.append(self._mps_device())
        if hasattr(torch, "xpu") and torch.xpu.is_available():
            devices += [self._xpu_device(index) for index in range(torch.xpu.device_count())]
        return FrameworkView(
            name="torch",
            version=str(torch.__version__),
            file=str(torch.__file__),
            devices=tuple(devices),
            build={
                "cuda": torch.version.cuda,
                "hip": torch.version.hip,
                "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
                "xpu": getattr(torch.version, "xpu", None),
                "mps": torch.backends.mps.is_built(),
                "arch_list": torch.cuda.get_arch_list(),
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            },
        )

    def _cuda_device(self, index: int) -> Device:
        facts = self._torch.cuda.get_device_properties(index)
        uuid, bus_id, address = getattr(facts, "uuid", None), None, f"cuda:{index}"
        if hasattr(facts, "pci_bus_id"):
            domain = getattr(facts, "pci_domain_id", 0)
            bus_id = f"{domain:08x}:{facts.pci_bus_id:02x}:{facts.pci_device_id:02x}.0"
        integrated = getattr(facts, "is_integrated", None)
        rocm = self._torch.version.hip is not None
        return Device(
            "torch",
            address,
            "cuda",
            facts.name,
            f"GPU-{uuid}" if uuid is not None else bus_id or address,
            facts.total_memory,
            None if rocm else f"{facts.major}.{facts.minor}",
            architecture=str(facts.gcnArchName) if rocm else None,
            pci_bus_id=bus_id,
            multiprocessors=facts.multi_processor_count,
            unified_memory=None if integrated is None else bool(integrated),
            dtypes=self._dtypes(address),
        )

    def _mps_device(self) -> Device:
        """An Apple GPU works in the host's memory; its share is what Metal recommends at most."""
        most = getattr(self._torch.mps, "recommended_max_memory", None)
        name = getattr(self._torch.backends.mps, "get_name", None)
        return Device(
            "torch",
            "mps",
            "mps",
            "Apple GPU" if name is None else str(name()),  # "Apple M1", as datasheets call the chip
            "mps",
            None if most is None else int(most()),
            unified_memory=True,
            dtypes=self._dtypes("mps"),
        )

    def _xpu_device(self, index: int) -> Device:
        facts, address = self._torch.xpu.get_device_properties(index), f"xpu:{index}"
        integrated = getattr(facts, "is_integrated_gpu", None)
        architecture = getattr(facts, "architecture", None)
        return Device(
            "torch",
            address,
            "xpu",
            facts.name,
            str(getattr(facts, "uuid", "")) or address,
            facts.total_memory,
            architecture=None if architecture is None else f"{architecture:#x}",
            multiprocessors=getattr(facts, "gpu_subslice_count", None),
            unified_memory=None if integrated is None else bool(integrated),
            dtypes=self._dtypes(address),
        )

    def _dtypes(self, address: str) -> tuple[str, ...]:
        """Formats that tensors on the device can have, as far as torch tells (accelerators only)."""
        ask = getattr(getattr(self._torch, "accelerator", None), "get_device_capability", None)
        told = None
        if ask is not None and address != "cpu":
            with suppress(ValueError, RuntimeError):  # of two kinds it tells of the first only
                told = ask(address)["supported_dtypes"]
        return tuple(
            name
            for name, dtype in DTYPES.items()
            if self.unsupported(dtype, address) is None
            and (told is None or getattr(self._torch, dtype.storage) in told)
        )

    def settings(self) -> Mapping[str, Json]:
        torch = self._torch
        return {
            "intraop_threads": torch.get_num_threads(),
            "interop_threads": torch.get_num_interop_threads(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            # torch has no getter: measured on the smallest normal number halved.
            "denormals_flushed": not (torch.tensor(2.0**-126) * 0.5).item(),
            "onednn": torch.backends.mkldnn.is_available(),
        }

    def device(self, address: str) -> str:
        return address

    def scope(self, address: str) -> AbstractContextManager[Any]:
        kind = address.split(":")[0]
        return getattr(self._torch, kind).device(address) if kind in _NUMBERED else nullcontext()

    @contextmanager
    def math(self, dtype: DType) -> Iterator[None]:
        if dtype.name != "tfloat32":
            yield
            return
        self._set_tf32(True)
        try:
            yield
        finally:
            self._set_tf32(False)

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        tensor = given = self._torch.from_numpy(array)
        if tensor.is_floating_point():
            tensor = tensor.to(getattr(self._torch, dtype.storage))
        tensor = tensor.to(address)
        # On a CPU it may still be the array. The copy is numpy's: large ones of its own lie in huge pages
        # (`devbench.measure.kept`).
        return self._torch.from_numpy(array.copy()) if tensor is given else tensor

    def numpy(self, tensor: Any) -> np.ndarray | None:
        if not isinstance(tensor, self._torch.Tensor):
            return None
        kind = self._torch.float64 if tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to("cpu").to(kind, copy=True).numpy()  # type: ignore[no-any-return]

    def unsupported(self, dtype: DType, address: str) -> str | None:
        if address == "mps" and dtype.name == "float64":
            return "MPS has no float64"
        if dtype.name == "tfloat32" and not self._has_tf32(address):
            return NO_TF32
        return None

    def _has_tf32(self, address: str) -> bool:
        torch = self._torch
        return (
            address.startswith("cuda")
            and torch.version.hip is None
            and torch.cuda.get_device_capability(address) >= (8, 0)
        )

    def compile(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        return function if mode == "eager" else self._torch.compile(function)

    def synchronize(self, address: str) -> None:
        kind = address.split(":")[0]
        if kind in _NUMBERED:
            # By its address: without one it is the current device that is waited for.
            getattr(self._torch, kind).synchronize(address)
        elif kind != "cpu":
            wait = getattr(getattr(self._torch, kind, None), "synchronize", None)
            if wait is None:
                raise UsageError(
                    f"torch has no torch.{kind}.synchronize, so work on {address!r} cannot be waited for; "
                    "time it on another device"
                )
            wait()

    def timer(self, address: str) -> Timer:
        kind = address.split(":")[0]
        if kind == "cuda":
            return EventTimer(self._torch, address)
        if kind == "cpu":
            return WallTimer(None, "CPU calls block")
        return WallTimer(lambda: self.synchronize(address), f"torch.{kind}.synchronize a block")

    def probes(self, address: str, cache_bytes: int) -> Probes:
        return TorchProbes(self._torch, address, cache_bytes)

    def cache_bytes(self, address: str) -> int | None:
        if not address.startswith("cuda"):
            return None
        return int(self._torch.cuda.get_device_properties(address).L2_cache_size)

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, self._torch.OutOfMemoryError | MemoryError):
            return True
        text = str(error)
        return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)

    def reset_peak_memory(self, address: str) -> None:
        if told := self._memory_told(address):
            told.reset_peak_memory_stats(address)

    def peak_memory(self, address: str) -> int | None:
        told = self._memory_told(address)
        return None if told is None else int(told.max_memory_allocated(address))

    def _memory_told(self, address: str) -> Any:
        """torch.cuda or torch.xpu, whose allocators count; None elsewhere, and before torch 2.6 for XPU."""
        kind = address.split(":")[0]
        module = getattr(self._torch, kind) if kind in _NUMBERED else None
        return module if hasattr(module, "max_memory_allocated") else None

    def release(self) -> None:
        torch = self._torch
        if "torch._dynamo" in sys.modules:
            # Compiled code is kept by code object, which cases share: a second size would be compiled for
            # any size, and after eight of them a case runs eagerly.
            torch.compiler.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
        if hasattr(torch, "xpu") and torch.xpu.is_available():
            torch.xpu.empty_cache()
