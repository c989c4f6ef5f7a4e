"""devbench in pytest: the fixtures ``device`` and ``device_benchmark``, and the gate.

pytest loads this module in every run of an environment that has devbench. So it imports pytest and the
standard library only, and until one of its fixtures or options is used nothing happens: no framework is
imported, pytest-benchmark need not be there, and every other plugin's options and fixtures go first.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from devbench.pytest_plugin.benchmark import DeviceBenchmark
    from devbench.pytest_plugin.gate import Gate

_DEVICE_HELP = "A device that must be there: cuda:0, gpu, torch:cpu; repeatable. Default: all."
_MARKER = (
    "devbench(framework=NAME, device=NAME): what a test of devices needs; it is skipped by name where "
    "this process or machine has something else."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("devbench", "devices and regressions (devbench)")
    group.addoption(
        "--devbench-device",
        dest="devbench_device",
        action="append",
        metavar="DEVICE",
        help=f"{_DEVICE_HELP} --device for short, where no conftest.py has an option of that name.",
    )
    group.addoption(
        "--devbench-framework",
        dest="devbench_framework",
        metavar="NAME",
        help="The one framework of this process, torch or tensorflow. Default: the one that the tests "
        "import, else the one that is installed.",
    )
    group.addoption(
        "--devbench-gate",
        dest="devbench_gate",
        metavar="BASE",
        help="Judge the tests that take device_benchmark against a git ref or a Python interpreter, by "
        "pairs of fresh processes; or against a JSON file of pytest-benchmark, by what "
        "--devbench-calibrate stored. Exits with 1 where something regressed, 3 where nothing was "
        "measured, 4 where a question is left open.",
    )
    group.addoption(
        "--devbench-margin",
        dest="devbench_margin",
        default="3%",
        metavar="SHARE|calibrated",
        help="The gate takes a change up to this for none (3%%); calibrated: what --devbench-calibrate "
        "stored.",
    )
    group.addoption(
        "--devbench-calibrate",
        dest="devbench_calibrate",
        type=int,
        metavar="PAIRS",
        help="Time the tests that take device_benchmark against themselves, in so many pairs of fresh "
        "processes (16, say), and store how far these lie apart: by that the gate judges a file.",
    )
    group.addoption(
        "--devbench-allow-inconclusive",
        dest="devbench_allow_inconclusive",
        action="store_true",
        help="Let the gate exit with 0 where a question is left open.",
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Before the conftest.py files: they too must not import another framework than the one that is named.
    After them: ``--device`` is a common name, taken only where it is used and nobody else has it."""
    asked = early_config.known_args_namespace.devbench_framework
    if asked:
        from devbench.pytest_plugin.holding import holding

        holding(early_config, asked).refuse_others()
    yield
    if any(word == "--device" or word.startswith("--device=") for word in args):
        with suppress(ValueError, argparse.ArgumentError):
            parser.getgroup("devbench").addoption(
                "--device",
                dest="devbench_device",
                action="append",
                metavar="DEVICE",
                help=_DEVICE_HELP,
            )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    plugins = config.pluginmanager
    # A fixture that names `benchmark` breaks where there is none.
    there = plugins.hasplugin("benchmark") or plugins.hasplugin("pytest_benchmark.plugin")
    plugins.register(_WithBenchmark() if there else _WithoutBenchmark())
    if config.getoption("devbench_framework"):
        from devbench.pytest_plugin.holding import holding

        holding(config).refuse_others()
    wanted = config.getoption("devbench_gate") or config.getoption("devbench_calibrate") is not None
    if wanted and not plugins.hasplugin("devbench-worker"):
        plugins.register(_make_gate(config), "devbench-gate")


def _make_gate(config: pytest.Config) -> Gate:
    """The gate that the options ask for, or the calibration. A file that is none ends pytest; refs are
    looked up later."""
    from devbench.errors import UsageError
    from devbench.pytest_plugin.file_gate import FileGate, means_files
    from devbench.pytest_plugin.gate import Calibrator, PairGate, ending
    from devbench.regress.compare import check_margin
    from devbench.regress.margins import FEWEST, parse_margin
    from devbench.regress.sides import read_side

    base: str | None = config.getoption("devbench_gate")
    pairs: int | None = config.getoption("devbench_calibrate")
    with ending():
        if config.getoption("dist", "no") != "no":
            raise UsageError("the gate times one process at a time; leave out -n of pytest-xdist")
        margin = parse_margin(config.getoption("devbench_margin"), "--devbench-margin")
        if margin is not None:
            check_margin(margin)
        if pairs is None:
            assert base is not None
            if means_files(Path(base)):
                return FileGate(config, read_side(base, None), margin)
            return PairGate(config, base, margin)
        if base is not None:
            raise UsageError(
                "--devbench-calibrate times the tests against themselves; leave --devbench-gate for "
                "another call"
            )
        if pairs < FEWEST:
            raise UsageError(
                f"--devbench-calibrate {pairs}: fewer than {FEWEST} pairs tell nothing of the spread"
            )
    return Calibrator(config, pairs)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Of two plugins' fixtures of one name pytest takes the one that came last; ours stand behind all
    others, wherever `-p` or the order of the entry points has put them. pytest has no public way to that:
    where it keeps its fixtures elsewhere, the order stays as it is.
    """
    manager: Any = getattr(session, "_fixturemanager", None)
    by_node = getattr(manager, "_arg2node2fixturedefs", {})  # pytest 9.1: the first is taken
    by_name = getattr(manager, "_arg2fixturedefs", {})  # before: the last
    for name in ("device", "device_benchmark"):
        by_node.get(name, {}).get(session, []).sort(key=_is_ours)
        by_name.get(name, []).sort(key=_is_ours, reverse=True)


def _is_ours(fixture: Any) -> bool:
    return getattr(fixture.func, "__module__", None) == __name__


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "devbench_device" not in metafunc.fixturenames:
        return
    by_another = any("device" in call.params for call in metafunc._calls)
    if by_another and "_devbench_meant" not in metafunc.fixturenames:
        return  # a hook of the project has said on which devices the test runs
    from devbench.pytest_plugin.holding import holding

    params = holding(metafunc.config).params(metafunc.definition)
    metafunc.parametrize("devbench_device", params, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if "devbench_device" in getattr(item, "fixturenames", ()):
        from devbench.pytest_plugin.holding import holding

        holding(item.config).check_alone()


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    known = config.pluginmanager.get_plugin("devbench-holding")
    if known is not None and known.is_in_use:
        machine_info["devbench"] = known.machine_info()


@pytest.fixture(scope="session")
def devbench_device(request: pytest.FixtureRequest) -> str:
    """The id of the device, as ``torch:cuda:0``: what `device` and `device_benchmark` run over."""
    from devbench.pytest_plugin.holding import Refusal

    if not hasattr(request, "param"):
        pytest.fail("name `device` among the arguments of the test, not at run time", pytrace=False)
    if isinstance(request.param, Refusal):
        pytest.fail(request.param.reason, pytrace=False)
    return str(request.param)


@pytest.fixture(scope="session")
def device(devbench_device: str, pytestconfig: pytest.Config) -> str:
    """Each device in turn, as its framework writes it: ``cuda:0`` in torch, ``/GPU:0`` in TensorFlow.

    All that the framework of this process sees, or those that ``--device`` names. Tensors belong on it:
    ``torch.randn(8, device=device)``, ``with tf.device(device): …``.
    """
    from devbench.pytest_plugin.holding import holding

    return holding(pytestconfig).address(devbench_device)


class _WithBenchmark:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if isinstance(item, pytest.Function) and "_devbench_meant" in item.fixturenames:
            from devbench.pytest_plugin.benchmark import set_clock

            set_clock(item)

    @pytest.fixture
    def _devbench_meant(self, request: pytest.FixtureRequest, devbench_device: str) -> None:
        """Fails a test that would not be about the device that it is named after. Whatever asks for it
        takes this `device_benchmark`, and not one of its project's own."""
        from devbench.pytest_plugin.benchmark import refuse_another_device

        refuse_another_device(request, devbench_device)

    @pytest.fixture
    def device_benchmark(
        self,
        request: pytest.FixtureRequest,
        devbench_device: str,
        _devbench_meant: None,
        benchmark: Any,
    ) -> DeviceBenchmark:
        """pytest-benchmark's ``benchmark`` made right for a device: ``device_benchmark(step, *args)``.

        Warmed up until it is steady before it is calibrated, waiting for the device at both ends of a
        round; what ran where, and whether the figure is to be doubted, goes into ``extra_info``.
        """
        from devbench.pytest_plugin.benchmark import DeviceBenchmark

        return DeviceBenchmark(request.node, devbench_device, benchmark)


class _WithoutBenchmark:
    @pytest.fixture
    def device_benchmark(self, devbench_device: str) -> None:
        """Needs pytest-benchmark, which is not there."""
        pytest.fail(
            "device_benchmark is a way of using pytest-benchmark, which is not installed or switched "
            "off: pip install pytest-benchmark",
            pytrace=False,
        )
