from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from devbench.registry import frameworks, is_installed
from tests.suites.harness import Child


def _child(name: str) -> Iterator[Child]:
    if not is_installed(frameworks()[name]):
        pytest.skip(f"{name} is not installed")
    with tempfile.TemporaryFile("w+") as log:
        child = Child(name, log)
        yield child
        child.close()


@pytest.fixture(scope="session")
def torch_child() -> Iterator[Child]:
    yield from _child("torch")


@pytest.fixture(scope="session")
def tensorflow_child() -> Iterator[Child]:
    yield from _child("tensorflow")


@pytest.fixture(
    params=[
        pytest.param("torch", marks=pytest.mark.torch),
        pytest.param("tensorflow", marks=pytest.mark.tensorflow),
    ]
)
def child(request: pytest.FixtureRequest) -> Child:
    """Each framework in turn."""
    found: Child = request.getfixturevalue(f"{request.param}_child")
    return found
