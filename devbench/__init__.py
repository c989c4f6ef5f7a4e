"""devbench: what devices a machine has, how fast each is, and how far the figures can be trusted.

The names below load on first use, so that ``import devbench`` costs nothing but the standard library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devbench.api import RunHandle as RunHandle
    from devbench.api import detect as detect
    from devbench.api import run as run
    from devbench.declare import Benchmark as Benchmark
    from devbench.declare import Context as Context
    from devbench.declare import Product as Product
    from devbench.declare import Step as Step
    from devbench.declare import benchmark as benchmark
    from devbench.errors import DevbenchError as DevbenchError
    from devbench.errors import DoesNotFit as DoesNotFit
    from devbench.errors import Unsupported as Unsupported
    from devbench.model import DType as DType
    from devbench.model import Work as Work
    from devbench.timing import time as time

__version__ = "0.1.0"

_HOME = {
    "Benchmark": "declare",
    "Context": "declare",
    "DType": "model",
    "DevbenchError": "errors",
    "DoesNotFit": "errors",
    "Product": "declare",
    "RunHandle": "api",
    "Step": "declare",
    "Unsupported": "errors",
    "Work": "model",
    "benchmark": "declare",
    "detect": "api",
    "run": "api",
    "time": "timing",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'devbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"devbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
