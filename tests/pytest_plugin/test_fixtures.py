"""The fixtures ``device`` and ``device_benchmark`` in the projects of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devbench.frameworks.base import Framework
from devbench.pytest_plugin.benchmark import Clock
from devbench.regress.sides import read_side
from tests.pytest_plugin.conftest import Run

FAKE = ("--devbench-framework", "fake")


def test_nothing_happens_in_a_project_that_uses_none_of_it(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makeconftest(
        """
        import pytest

        def pytest_addoption(parser):
            parser.addoption("--device", default="cpu")

        @pytest.fixture
        def device(request):
            return request.config.getoption("--device")
        """
    )
    pytester.makepyfile(
        """
        import sys

        def test_own_device(device):
            assert device == "tpu"

        def test_modules():
            ours = {name for name in sys.modules if name.startswith("devbench")}
            assert ours == {"devbench", "devbench.pytest_plugin"}
            assert not {"numpy", "torch", "tensorflow", "scipy", "pynvml"} & sys.modules.keys()
        """
    )
    result = run("--device", "tpu", benchmark=False)
    result.assert_outcomes(passed=2)
    assert result.ret == 0


def test_a_project_with_devices_of_its_own_keeps_its_tests_as_they_are(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(
        """
        import pytest

        def pytest_generate_tests(metafunc):
            if "device" in metafunc.fixturenames and metafunc.module.__name__ == "test_hook":
                metafunc.parametrize("device", ["cpu", "tpu"])

        @pytest.fixture
        def device_benchmark(device):
            return device
        """
    )
    pytester.makepyfile(
        earlier="""
        import pytest

        @pytest.fixture
        def device():
            return "abacus"
        """,
        test_hook="""
        def test_on(device):
            assert device in ("cpu", "tpu")
        """,
        test_plugin="""
        def test_own(device):
            assert device == "abacus"

        def test_benchmark(device_benchmark):
            assert device_benchmark == "abacus"
        """,
    )
    names = ["test_hook.py::test_on[[]cpu[]]", "test_hook.py::test_on[[]tpu[]]"]
    hook = run("test_hook.py")
    hook.assert_outcomes(passed=2)
    hook.stdout.fnmatch_lines([f"PASSED {name}" for name in names])

    # Plugins that are named there come before this one.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p earlier")
    both = run()
    both.assert_outcomes(passed=4)
    names += ["test_plugin.py::test_own", "test_plugin.py::test_benchmark"]
    both.stdout.fnmatch_lines([f"PASSED {name}" for name in names])


def test_without_pytest_benchmark_devices_are_there_and_timing_says_what_to_install(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        """
        def test_device(device):
            assert device == "cpu"

        def test_time(device, device_benchmark):
            device_benchmark(int)
        """
    )
    result = run(*FAKE, benchmark=False)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*pip install pytest-benchmark*"])


@pytest.fixture
def benchmarks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_sums="""
        import numpy as np
        import pytest
        from devbench import Step

        @pytest.mark.parametrize("n", [10, 1000])
        def test_sum(device, device_benchmark, n):
            assert device_benchmark(np.ones(n).sum) == n

        def test_reset(device, device_benchmark):
            todo = []
            device_benchmark(Step(run=todo.pop, reset=lambda: todo.append(1)))
            assert not todo

        def test_returning_reset(device, device_benchmark):
            assert device_benchmark(Step(run=int, reset=lambda: np.ones(2))) == 0

        def test_clock(device, device_benchmark):
            device_benchmark(Step(run=int, clock=lambda: 0.25))
        """
    )


def test_every_device_is_timed_and_the_file_says_on_what_and_how_well(
    pytester: pytest.Pytester, run: Run, benchmarks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICES", "1")
    short = ("--benchmark-max-time", "0.02", "--benchmark-json", "out.json")
    result = run(*FAKE, "--benchmark-only", *short)
    result.assert_outcomes(passed=10)

    data = json.loads(Path("out.json").read_text())
    found = {one["fullname"].partition("::")[2]: one for one in data["benchmarks"]}
    assert found.keys() == {
        f"test_{name}"
        for device in ("fake:cpu", "fake:dev:0")
        for name in (
            f"sum[{device}-10]",
            f"sum[{device}-1000]",
            f"reset[{device}]",
            f"returning_reset[{device}]",
            f"clock[{device}]",
        )
    }
    one = found["test_sum[fake:dev:0-10]"]
    extra = one["extra_info"]
    facts = ("target", "framework", "framework_version", "physical_device", "device_name")
    assert [extra[fact] for fact in facts] == ["fake:dev:0", "fake", "1.0", "fake-0", "Fake 0"]
    assert extra["quality"] in ("valid", "suspect")
    assert extra["first_call_s"] > 0
    assert extra["warmup_s"] >= 0.03
    assert extra["case_id"] == "test_sums.py::test_sum[n=10]@fake:dev:0"
    assert extra["yardstick"].startswith("gemm")
    assert extra["yardstick_s"] > 0
    assert one["stats"]["iterations"] > 1, "a step this short is not timed alone"
    assert "waited for" in one["options"]["timer"]
    assert found["test_reset[fake:cpu]"]["stats"]["iterations"] == 1
    assert found["test_clock[fake:cpu]"]["stats"]["median"] == 0.25
    assert data["machine_info"]["devbench"]["devices"].keys() == {"fake:cpu", "fake:dev:0"}

    side = read_side("out.json", None)
    assert {case.target for case in side.cases.values()} == {"fake:cpu", "fake:dev:0"}
    assert side.target_facts["fake:dev:0"]["physical_device"] == "fake-0"
    timed = side.cases["test_sums.py::test_sum[fake:dev:0-10]"]
    assert timed.calibrated_as == extra["case_id"]
    assert timed.in_yardsticks == (one["stats"]["median"] / extra["yardstick_s"],)
    assert side.facts["usable cores"] is not None
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "out.json", "--columns=median"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "test_sum[fake:dev:0-1000]" in compared.stdout + compared.stderr


def test_a_device_that_is_required_and_absent_fails_and_one_that_a_test_would_like_is_skipped(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_any(device):
            pass

        @pytest.mark.devbench(device="gpu")
        def test_gpu(device):
            raise AssertionError

        @pytest.mark.devbench(framework="torch")
        def test_torch(device):
            raise AssertionError

        @pytest.mark.devbench(colour="red")
        def test_red(device):
            raise AssertionError
        """
    )
    result = run(*FAKE)
    result.assert_outcomes(passed=1, skipped=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*marker reads devbench(framework=NAME, device=NAME)*",
            "SKIPPED*needs another device: there is no device 'gpu'*",
            "SKIPPED*holds fake, and torch has one of its own: pytest --devbench-framework torch*",
        ]
    )
    required = run(*FAKE, "--device", "cuda:0", "-k", "any")
    required.assert_outcomes(errors=1)
    required.stdout.fnmatch_lines(["*there is no device 'cuda:0'*"])
    assert required.ret == 1


def test_a_framework_that_devbench_does_not_know_is_refused_before_anything_runs(
    pytester: pytest.Pytester, run: Run
) -> None:
    result = run("--devbench-framework", "fak")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no framework 'fak'; did you mean 'fake'*"])


def test_a_second_framework_cannot_get_into_the_process(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(tensorflow="raise SystemExit('it was loaded')")
    pytester.makepyfile(
        test_first="""
        import importlib.util
        import pytest

        def test_inside(device):
            assert importlib.util.find_spec("tensorflow") is not None
            with pytest.raises(ImportError, match="this pytest process holds fake"):
                import tensorflow
        """,
        test_polite="""
        import pytest
        pytest.importorskip("tensorflow")
        """,
        test_top="""
        import tensorflow
        """,
    )
    result = run(*FAKE, "--continue-on-collection-errors")
    result.assert_outcomes(passed=1, skipped=1, errors=1)
    result.stdout.fnmatch_lines(
        ["E*tensorflow's tests have a process of their own: pytest --devbench-framework tensorflow"]
    )


def test_a_conftest_cannot_bring_in_another_framework_than_the_one_that_is_named(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(torch="raise SystemExit('it was loaded')")
    pytester.makeconftest("import torch")
    result = run(*FAKE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*this pytest process holds fake, and torch beside it*"])


def test_a_framework_that_is_named_is_not_started_beside_one_that_a_plugin_has_imported(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        torch="",
        early="""
        import sys
        import torch
        from devbench import registry

        # The module of the fake one is there once its adapter is.
        del sys.modules[registry.frameworks()["fake"].module]

        def adopt(self):
            raise SystemExit("it was started")

        type(registry.frameworks()["fake"]).adopt = adopt
        """,
        test_it="""
        def test_it(device):
            raise AssertionError
        """,
    )
    result = run("-p", "early", *FAKE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*torch is imported in this process already, and fake beside it could crash or hang it*"]
    )


def test_a_device_that_is_required_fails_where_there_is_no_framework_at_all(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        bare="""
        from devbench import registry

        absent = {name: one for name, one in registry.frameworks().items() if name != "fake"}
        registry.frameworks = lambda: absent
        registry.is_installed = lambda framework: False
        """,
        test_it="""
        def test_it(device):
            raise AssertionError
        """,
    )
    liked = run("-p", "bare")
    liked.assert_outcomes(skipped=1)
    assert liked.ret == 0
    required = run("-p", "bare", "--device", "cuda:0")
    required.assert_outcomes(errors=1)
    assert required.ret == 1
    required.stdout.fnmatch_lines(["*torch is not installed: pip install*"])


def test_two_frameworks_that_are_there_already_fail_the_test(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(torch="")
    pytester.makepyfile("import torch\n\ndef test_it(device):\n    raise AssertionError\n")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*torch and fake are both imported in this process*"])


def test_a_test_that_cannot_be_about_its_device_is_refused(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        test_without="""
        def test_it(device_benchmark):
            raise AssertionError
        """,
        test_own="""
        import pytest

        @pytest.fixture
        def device():
            return "elsewhere"

        def test_it(device, device_benchmark):
            raise AssertionError
        """,
        test_later="""
        def test_it(request):
            request.getfixturevalue("device")
        """,
    )
    result = run(*FAKE)
    result.assert_outcomes(errors=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the fixture `device` of this project gives elsewhere*",
            "*takes device_benchmark and not `device`*",
            "*name `device` among the arguments of the test*",
        ]
    )


class Waiting:
    """Of a framework, what the clock asks for."""

    def __init__(self) -> None:
        self.waited: list[str] = []

    def synchronize(self, address: str) -> None:
        self.waited.append(address)


def test_the_clock_waits_for_the_device_each_time_it_is_read() -> None:
    waiting: Any = Waiting()
    framework: Framework = waiting
    clock = Clock(framework, "cuda:1")
    assert clock() <= clock()
    assert waiting.waited == ["cuda:1", "cuda:1"]
    assert clock.shortest_s() > 1e-6
    run = clock.own(lambda: 0.5)
    start = clock()
    run()
    assert clock() - start == 0.5


@pytest.mark.torch
def test_with_torch_a_step_on_another_device_is_noticed(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        """
        import torch

        def test_product(device, device_benchmark):
            a = torch.randn(64, 64, device=device)
            with torch.inference_mode():
                product = device_benchmark(torch.matmul, a, b := a.T)
            torch.testing.assert_close(product, a @ b)

        def test_elsewhere(device, device_benchmark):
            device_benchmark(torch.empty, 4, device="meta")
        """
    )
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    short = ("--benchmark-max-time", "0.02", "--benchmark-json", "out.json")
    result = run("--devbench-device", "cpu", *short)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*the step gave a tensor on meta*"])
    (one,) = json.loads(Path("out.json").read_text())["benchmarks"]
    assert one["extra_info"]["target"] == "torch:cpu"
    assert one["extra_info"]["threads"] >= 1
