"""What a diagnosis asks in processes of its own, since any of it may hang or crash.

::

    python -m devbench.doctor.child driver                   # NVML and libcuda
    python -m devbench.doctor.child framework MODULE:CLASS [TURNS]   # one framework

Each answer is a message on standard output, written as soon as it is known and announced before it is
asked, so that a process that never comes back has told what it was doing.

The parts that need a GPU have not yet run on one.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TextIO

from devbench.detection import read_gpus, read_health, usable_threads
from devbench.detection.nvml import Pynvml
from devbench.detection.records import view_to_json
from devbench.doctor.recording import call_name
from devbench.doctor.telling import Telling
from devbench.doctor.trials import (
    cpu_rates,
    describe_error,
    known_answers,
    nvidia_driver,
    try_device,
    under_load,
    wheel_libraries,
)
from devbench.doctor.turns import Turns
from devbench.frameworks.base import Framework
from devbench.protocol import claim_stdout, encode

#: Addresses tried where a framework lists none: what it then says is the best evidence that there is.
#: TensorFlow would place the work on the CPU instead.
UNLISTED: Final = {"torch": "mps" if sys.platform == "darwin" else "cuda:0"}


def ask_driver(tell: Callable[..., None]) -> None:
    """All of NVML that detection and a diagnosis read, then libcuda."""
    nvml = Telling(Pynvml(), tell)
    gpus, _ = read_gpus(nvml)
    for gpu in gpus:
        read_health(nvml, gpu.index)
    ask_cuda(tell)


def ask_cuda(tell: Callable[..., None]) -> None:
    """Whether libcuda loads, for which CUDA it is, and what it says of being initialised.

    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__INITIALIZE.html
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    load = call_name("dlopen", (name,))
    tell("asking", call=load)
    try:
        cuda = ctypes.CDLL(name)
    except OSError as error:
        tell("answered", call=load, answer={"error": str(error)})
        return
    tell("answered", call=load, answer=_path_of(name) or name)
    version = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(version)) == 0:
        tell("answered", call="cuDriverGetVersion()", answer=version.value)
    tell("asking", call="cuInit()")
    status = cuda.cuInit(0)
    tell("answered", call="cuInit()", answer={"error": str(status)} if status else 0)


def _path_of(library: str) -> str | None:
    """Which file was mapped for it."""
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            path = line.partition("/")[1] + line.partition("/")[2]
            if Path(path).name.startswith(library.removesuffix(".1")):
                return path
    return None


def ask_framework(adapter: Framework, tell: Callable[..., None], turns: Turns | None) -> None:
    """What the framework sees and is set to, and whether it computes on each device.

    turns: shared with the other frameworks that are asked at the same time.
    """
    tell("doing", what="import")
    began = time.perf_counter()
    try:
        adapter.adopt()
        import_s = time.perf_counter() - began
        view = replace(adapter.describe(), import_s=import_s)
    except ModuleNotFoundError as error:
        if error.name == adapter.module:
            tell("missing")
        else:
            tell("failed", error=describe_error(error))
        return
    except Exception as error:  # noqa: BLE001  # whatever a foreign library does when it is imported
        tell("failed", error=describe_error(error))
        return
    tell(
        "view",
        view=view_to_json(view),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )
    accelerators = [device.address for device in view.devices if not device.is_cpu]
    if not accelerators and adapter.name in UNLISTED:
        accelerators = [UNLISTED[adapter.name]]
    working = []
    for address in accelerators:
        tell("trying", address=address)
        refused = try_device(adapter, address)
        tell("tried", address=address, error=refused)
        if refused is None:
            working.append(address)
    tell("doing", what="settings")
    settings = dict(adapter.settings())
    tell("settings", settings=settings)
    for device in view.devices:
        if device.address in working:
            tell("doing", what=f"load on {device.address}")
            tell("load", address=device.address, calls=under_load(adapter, device))
    if not working and view.build.get("is_cuda_build") and nvidia_driver():
        tell("doing", what="libraries")
        tell("libraries", libraries=wheel_libraries(Path(view.file).parents[1]))
    tell("doing", what="known answers")
    # They are held against the whole of float32: TF32, which a program may have on, is no fault.
    adapter.start(None, _threads(settings))
    for device in view.devices:
        if device.is_cpu or device.address in working:
            known_answers(adapter, device.address, tell)
    tell("doing", what="rates")
    with turns.take() if turns else nullcontext(True) as mine:
        if mine:
            tell("rates", rates=cpu_rates(adapter, view.devices))


def _threads(settings: Mapping[str, Any]) -> int:
    """As many as the framework takes by itself, where it tells: its products are timed afterwards."""
    told = settings.get("intraop_threads")
    return told if isinstance(told, int) and told > 0 else usable_threads()


def _messages(out: TextIO) -> Callable[..., None]:
    lock = threading.Lock()

    def tell(kind: str, **fields: Any) -> None:
        with lock:
            out.write(encode(kind, **fields))
            out.flush()

    return tell


def _adapter(path: str) -> Framework:
    module, _, qualified_name = path.partition(":")
    kind: Any = importlib.import_module(module)
    for name in qualified_name.split("."):
        kind = getattr(kind, name)
    return kind()  # type: ignore[no-any-return]


def main(words: Iterator[str]) -> None:
    tell = _messages(claim_stdout())
    if next(words) == "driver":
        ask_driver(tell)
    else:
        adapter = _adapter(next(words))
        turns = next(words, None)
        ask_framework(adapter, tell, None if turns is None else Turns.of_child(turns))
    tell("done")
    sys.stderr.flush()
    # All is told: taking a framework down costs time, and can crash, for nothing.
    os._exit(0)


if __name__ == "__main__":
    main(iter(sys.argv[1:]))
