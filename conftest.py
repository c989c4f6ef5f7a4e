"""pytest at the root: markers become skips by name where a machine lacks what they need, and the
suites run on every device (``pytest suites``, by way of the plugin)."""

from __future__ import annotations

import importlib.util

import pytest

# As the installed package brings it by entry point; under this name it is the same plugin.
pytest_plugins = ["devbench.pytest_plugin", "pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for framework in ("torch", "tensorflow"):
            if item.get_closest_marker(framework) and importlib.util.find_spec(framework) is None:
                item.add_marker(pytest.mark.skip(reason=f"{framework} is not installed"))
        if item.get_closest_marker("gpu") and not _has_nvidia_gpu():
            item.add_marker(pytest.mark.skip(reason="this machine has no NVIDIA GPU"))


def _has_nvidia_gpu() -> bool:
    from devbench.detection import read_gpus

    return bool(read_gpus()[0])
