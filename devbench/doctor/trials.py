"""What a framework is put to, in a process of its own: a kernel, known answers, a load, its libraries,
a product.

The parts that need a GPU have not yet run on one.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from devbench.detection import NvmlError
from devbench.detection.nvml import QUERIES, Pynvml, answer
from devbench.doctor.telling import Telling
from devbench.frameworks.base import Framework
from devbench.model import DTYPES, Device, Json

#: Seconds of work before the driver is asked how the GPU does under it. Clocks and the PCIe link come
#: out of their idle states within milliseconds; limits of power and heat act within half a second.
LOAD_S: Final = 0.6

#: Large enough for a math library to show its kernels, small enough for a slow one: 0.1 GFLOP.
PRODUCT: Final = 384
#: Other programs may take this share of the CPUs while products are timed.
BUSY: Final = 0.1

#: Seconds for each format. The other framework may be importing beside it, so the best of many counts.
RATE_S: Final = 0.12

#: What TensorFlow loads at run time, and the distribution that brings it, without its CUDA suffix.
#: https://www.tensorflow.org/install/pip, third_party/xla's dso_loader.cc
LIBRARIES: Final = {
    "cuda_runtime": "libcudart.so",
    "cublas": "libcublas.so",
    "cufft": "libcufft.so",
    "cusolver": "libcusolver.so",
    "cusparse": "libcusparse.so",
    "cudnn": "libcudnn.so",
    "nccl": "libnccl.so",
}


def describe_error(error: BaseException) -> str:
    """Its kind and its first line: some errors of frameworks run over a screen of advice."""
    first = next(iter(str(error).strip().splitlines()), "")[:400]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def try_device(adapter: Framework, address: str) -> str | None:
    """Launch a kernel there and look at its result. None where it is right, else what came instead."""
    import numpy as np

    try:
        with adapter.scope(address):
            given = adapter.tensor(np.arange(4, dtype=np.float32), DTYPES["float32"], address)
            product = given * given
            where = adapter.address_of(product)
            found = adapter.numpy(product)
    except Exception as error:  # noqa: BLE001  # any failure here is the answer
        return describe_error(error)
    if where not in (None, address):
        return f"the framework placed the work on {where} instead"
    if found is None or found.tolist() != [0.0, 1.0, 4.0, 9.0]:
        return f"a kernel ran and computed {found} instead of [0, 1, 4, 9]"
    return None


def known_answers(adapter: Framework, address: str, tell: Callable[..., None]) -> None:
    """Tier 1 of `devbench stress`: arithmetic whose answers are known, each check announced and told."""
    from devbench.stress.arithmetic import run_trial, trials

    try:
        prepared = list(trials(adapter, address))
    except Exception as error:  # noqa: BLE001  # a plugin's: nothing of the device was looked at
        says = f"they cannot be prepared: {describe_error(error)}"
        tell("checking", address=address, check="all")
        tell("checked", address=address, check="all", verdict="cannot tell", says=says)
        return
    for trial in prepared:
        tell("checking", address=address, check=trial.key)
        found = run_trial(adapter, address, f"{adapter.name}:{address}", trial)
        tell("checked", address=address, check=trial.key, verdict=found.verdict, says=found.says)


def cpu_rates(adapter: Framework, devices: tuple[Device, ...]) -> dict[str, float]:
    """FLOP/s of one small product on the CPU: the framework's by format, and numpy's of float32.

    One after the other and not in turns: the thread pools of two libraries spin while they wait for
    work, and where they alternate each takes the CPUs from the other. Empty where other programs took
    more than `BUSY` of the CPUs meanwhile: a pool of threads that shares its cores is not slow by itself.
    """
    import numpy as np

    address = next((device.address for device in devices if device.is_cpu), None)
    if address is None:
        return {}
    began, busy = time.perf_counter(), _cpu_seconds_of_others()
    array = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT)).astype(np.float32)
    best = {"numpy": _fastest(lambda: array @ array)}
    with adapter.scope(address):
        for name in ("float32", "bfloat16", "float16"):
            if adapter.unsupported(DTYPES[name], address) is None:
                tensor = adapter.tensor(array, DTYPES[name], address)
                with suppress(Exception):  # a format that the CPU's kernels do not have
                    best[name] = _fastest(_product(adapter, tensor, address))
    best["numpy again"] = _fastest(
        lambda: array @ array
    )  # tells whether somebody disturbed the rest
    others = _cpu_seconds_of_others() - busy
    if others > BUSY * (time.perf_counter() - began) * (os.cpu_count() or 1):
        return {}
    return {name: 2 * PRODUCT**3 / seconds for name, seconds in best.items()}


def _cpu_seconds_of_others() -> float:
    """CPU seconds since boot that this process did not use."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # On Linux the time of guests is part of user and nice.
    counted = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return float(counted - idle - time.process_time())


def _fastest(step: Callable[[], Any]) -> float:
    """Seconds of the best of many repetitions; of the second at least, since the first sets things up."""
    step()
    best, ends = math.inf, time.perf_counter() + RATE_S
    while best == math.inf or time.perf_counter() < ends:
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return best


def _product(adapter: Framework, tensor: Any, address: str) -> Callable[[], Any]:
    def step() -> None:
        tensor @ tensor
        adapter.synchronize(address)

    return step


#: The fields that are read under load: of detection's, those that change with it.
LOADED: Final = tuple(
    query
    for query in QUERIES
    if query.field
    in (
        "sm_clock_hz",
        "clock_event_mask",
        "power_w",
        "temperature_c",
        "pcie_generation",
        "pcie_width",
    )
)


def under_load(adapter: Framework, device: Device) -> Mapping[str, Json]:
    """What NVML answers while products and copies keep the device busy. Empty where NVML is not there.

    The link of an idle GPU is narrow and slow on purpose, so it is judged here.
    """
    calls: dict[str, Json] = {}

    def tell(kind: str, **fields: Any) -> None:
        if kind == "answered":
            calls[fields["call"]] = fields["answer"]

    nvml = Telling(Pynvml(), tell)
    by = "UUID" if device.physical.upper().startswith(("GPU-", "MIG-")) else "PciBusId"
    stop = threading.Event()
    worker = threading.Thread(target=_keep_busy, args=(adapter, device.address, stop), daemon=True)
    try:
        nvml.query("nvmlInit")
        handle = nvml.query(f"nvmlDeviceGetHandleBy{by}", device.physical)
    except NvmlError:
        return calls
    worker.start()
    time.sleep(LOAD_S)
    for query in LOADED:
        with suppress(NvmlError):
            answer(nvml, query, handle)
    stop.set()
    worker.join(10.0)
    with suppress(NvmlError):
        nvml.query("nvmlDeviceGetPcieReplayCounter", handle)
    return calls


def _keep_busy(adapter: Framework, address: str, stop: threading.Event) -> None:
    import numpy as np

    block = np.ones((1024, 4096), np.float32)  # 16 MiB
    square = np.ones((2048, 2048), np.float32)
    with adapter.scope(address):
        tensor = adapter.tensor(square, DTYPES["float32"], address)
        while not stop.is_set():
            adapter.tensor(block, DTYPES["float32"], address)
            for _ in range(4):
                tensor @ tensor
            adapter.synchronize(address)


def nvidia_driver() -> bool:
    """Whether libraries for its GPUs are worth a look: loading them takes a second."""
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/dxg").exists()


def wheel_libraries(site: Path) -> list[dict[str, str | None]]:
    """The CUDA libraries in the wheels beside the framework, and whether each loads.

    The framework finds them by their place relative to its own, ``../nvidia/cudnn/lib``, so a folder
    elsewhere does not count. Loading one library may need another of them.
    """
    found: list[dict[str, str | None]] = []
    for folder, stem in LIBRARIES.items():
        wanted = site / "nvidia" / folder / "lib"
        files = sorted(wanted.glob(f"{stem}.*")) or sorted(site.glob(f"nvidia/cu*/lib/{stem}.*"))
        if not files:
            found.append({"name": stem, "path": str(wanted), "error": "is not there"})
            continue
        error = None
        try:
            ctypes.CDLL(str(files[-1]), mode=ctypes.RTLD_GLOBAL)
        except OSError as refused:
            error = str(refused)
        found.append({"name": stem, "path": str(files[-1]), "error": error})
    return found
