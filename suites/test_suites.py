"""Every case of the suites' short sweeps, on every device, as a benchmark of pytest.

``make bench-ci`` runs it once a framework, each in a process of its own, and so does
``pytest suites --devbench-framework torch``. A plain ``pytest`` does not collect it. It writes what any
project's benchmarks write; whether something got slower is told by ``devbench ab``.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from devbench import registry
from devbench.detection import usable_threads
from devbench.errors import Unsupported
from devbench.measure.bench import Bench
from devbench.measure.inputs import case_dtype
from devbench.model import Case, Target
from devbench.plan import choose, make_cases
from devbench.pytest_plugin.benchmark import DeviceBenchmark
from devbench.pytest_plugin.holding import holding

pytestmark = [
    pytest.mark.benchmark(max_time=0.3, min_rounds=3),
    # What the frameworks and their libraries warn of is no failure of a benchmark.
    pytest.mark.filterwarnings("default"),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.config.getoption("devbench_framework")
    if name is None:
        raise pytest.UsageError("say which framework: pytest suites --devbench-framework torch")
    cases = _cases((Target(name, ("cpu",)),))
    ids = [case.id.partition("@")[0] for case in cases]
    metafunc.parametrize("point", [case.id.partition("@")[0] for case in cases], ids=ids)


def test_suite(
    point: str,
    device: str,
    device_benchmark: DeviceBenchmark,
    pytestconfig: pytest.Config,
    tmp_path: Path,
) -> None:
    """The point of a sweep on the device; that its result is right is checked by ``devbench run``."""
    here, framework = device_benchmark.device, device_benchmark.framework
    devices = holding(pytestconfig).machine.devices
    targets = tuple(Target(one.framework, (one.address,)) for one in devices)
    case = next(
        case
        for case in _cases(targets)
        if case.id.startswith(f"{point}@") and case.target.devices[0] == here.address
    )
    benchmark = registry.load_catalog().benchmarks[case.benchmark]
    bench = Bench(
        benchmark,
        dict(case.params),
        framework,
        case.target.devices,
        usable_threads(),
        seed=0,
        scratch=tmp_path,
    )
    dtype = case_dtype(bench.params)
    if reason := framework.unsupported(dtype, here.address):
        pytest.skip(reason)
    with ExitStack() as stack:
        stack.enter_context(framework.scope(here.address))
        stack.enter_context(framework.math(dtype))
        try:
            step, _ = stack.enter_context(bench.build())
        except Unsupported as error:
            pytest.skip(str(error))
        device_benchmark(step)


@cache
def _cases(targets: tuple[Target, ...]) -> tuple[Case, ...]:
    chosen = choose(registry.load_catalog(), ())
    return make_cases(chosen, targets, {}, quick=True)
