"""Adapters of frameworks that behave badly. Only what detection asks of an adapter is there."""

from __future__ import annotations

import os
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from devbench.detection.records import view_from_json
from devbench.frameworks.base import FrameworkView
from devbench.model import Device


class Well:
    name = "well"
    extra = "well"
    module = "well_behaved"

    def environment(self, target: None, threads: int) -> dict[str, str]:
        return {"WELL_THREADS": str(threads)}

    def start(self, target: None, threads: int) -> None:
        assert target is None
        assert os.environ["WELL_THREADS"] == str(threads)

    def describe(self) -> FrameworkView:
        device = Device(self.name, "cpu", "cpu", "CPU", "cpu")
        return FrameworkView(self.name, "1.0", "well.py", (device,), {"threads": True})


class OfTwoEqualGpus(Well):
    """A framework of the recorded machine: it numbers the GPUs in an order of its own."""

    def describe(self) -> FrameworkView:
        machine = Path(__file__).parent / "machines/two_equal_gpus.toml"
        views = tomllib.loads(machine.read_text(encoding="utf-8"))["frameworks"]
        return view_from_json(next(view for view in views if view["name"] == self.name))


class RecordedTorch(OfTwoEqualGpus):
    name = "torch"


class RecordedTensorFlow(OfTwoEqualGpus):
    name = "tensorflow"


class Missing(Well):
    def start(self, target: None, threads: int) -> None:
        import well_behaved  # type: ignore[import-not-found]  # noqa: F401


class Incomplete(Well):
    def start(self, target: None, threads: int) -> None:
        import a_library_that_it_needs  # type: ignore[import-not-found]  # noqa: F401


class Unloadable(Well):
    def start(self, target: None, threads: int) -> None:
        raise ImportError("libcudnn.so.9: cannot open shared object file\nAdvice\nMore advice")


class Segfaulting(Well):
    def start(self, target: None, threads: int) -> None:
        print("\x1b[31mabout to load the kernels\x1b[0m", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Illegal(Well):
    def start(self, target: None, threads: int) -> None:
        os.kill(os.getpid(), signal.SIGILL)


class Exiting(Well):
    def start(self, target: None, threads: int) -> None:
        sys.exit(3)


class Chatty(Well):
    def start(self, target: None, threads: int) -> None:
        print("Welcome!", flush=True)
        os.write(1, b'{"v": 1, "type": "not an answer"}\n\xff\xfe\n')
        os.write(2, b"\xff and a warning\n")


class Hanging(Well):
    def start(self, target: None, threads: int) -> None:
        time.sleep(600)


class Undescribable(Well):
    def describe(self) -> FrameworkView:
        raise RuntimeError


class Demanding(Well):
    def environment(self, target: None, threads: int) -> dict[str, str]:
        raise KeyError("HOME_OF_FRAMEWORK")


class Unconstructible(Well):
    def __init__(self, needed: Any = None) -> None:
        if needed is None:
            raise TypeError("this adapter wants an argument")
