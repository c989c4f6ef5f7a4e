"""The process that asks one framework: ``python -m devbench.detection.child MODULE:CLASS THREADS``.

It writes one message to standard output (``view``, ``missing`` or ``failed``); what the framework
prints goes to standard error.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from dataclasses import replace
from typing import Any

from devbench.detection.records import view_to_json
from devbench.frameworks.base import Framework
from devbench.protocol import claim_stdout, encode


def describe(adapter: Framework, threads: int) -> str:
    """The message for one framework, imported here and now."""
    began = time.perf_counter()
    try:
        adapter.start(None, threads)
        import_s = time.perf_counter() - began
        view = view_to_json(replace(adapter.describe(), import_s=import_s))
        return encode("view", view=view, visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"))
    except ModuleNotFoundError as error:
        return encode("missing") if error.name == adapter.module else _failed(error)
    except Exception as error:  # noqa: BLE001  # whatever a foreign library does when it is imported
        return _failed(error)


def _failed(error: Exception) -> str:
    # Some errors of import run over a screen of advice; the first line says what is wrong.
    first = next(iter(str(error).strip().splitlines()), "")
    return encode(
        "failed", error=f"{type(error).__name__}: {first}" if first else type(error).__name__
    )


def main(adapter_path: str, threads: str) -> None:
    answer = claim_stdout()
    module, _, qualified_name = adapter_path.partition(":")
    kind: Any = importlib.import_module(module)
    for name in qualified_name.split("."):
        kind = getattr(kind, name)
    answer.write(describe(kind(), int(threads)))
    answer.flush()
    sys.stderr.flush()
    # The answer is out: taking a framework down costs time, and can crash, for nothing.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
