from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers import PLUGINS, environment

Run = Callable[..., pytest.RunResult]
FAKE = ("--devbench-framework", "fake")
#: Steps that tell their own time take none: few rounds of them are enough.
SHORT = (*FAKE, "--benchmark-max-time", "1e-5", "--benchmark-min-rounds", "5")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``pytest …`` in a process of its own, in an empty project, with this plugin and pytest-benchmark.

    Of the frameworks the fake one is there; others are what the test puts into the project. Warnings are
    errors, as in this project.
    """
    for name, value in environment(pytester.path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}:{pytester.path}")
    # These tests may run side by side; the sessions that they start are not part of that.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*arguments: str, benchmark: bool = True) -> pytest.RunResult:
        plugins = ["devbench.pytest_plugin", *(["pytest_benchmark.plugin"] if benchmark else [])]
        words = [word for plugin in plugins for word in ("-p", plugin)]
        return pytester.runpytest_subprocess(
            *words, "-W", "error", "--strict-markers", "-rA", *arguments
        )

    return run
