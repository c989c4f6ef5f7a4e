from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from devbench.detection import FrameworkAnswer, asking, start_asking
from tests.detection import adapters


@pytest.fixture(autouse=True)
def children_find_the_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def ask(adapter: Any, timeout_s: float = 60) -> FrameworkAnswer:
    with start_asking({"well": adapter}, 3, timeout_s=timeout_s) as asking:
        (answer,) = asking
    return answer


def test_a_framework_answers_with_its_view_and_the_time_of_its_import() -> None:
    answer = ask(adapters.Well())
    assert (answer.status, answer.reason) == ("ok", None)
    assert answer.view is not None
    assert (answer.view.version, answer.view.build) == ("1.0", {"threads": True})
    assert [device.id for device in answer.view.devices] == ["well:cpu"]
    assert answer.view.import_s is not None
    assert answer.view.import_s >= 0


def test_what_hides_gpus_from_a_framework_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert ask(adapters.Well()).visible_devices == "-1"


def test_a_framework_that_is_not_installed_is_missing_and_the_extra_is_named() -> None:
    answer = ask(adapters.Missing())
    assert answer.status == "missing"
    assert answer.reason == "not installed: pip install 'devbench[well]'"


def test_a_framework_that_lacks_a_library_of_its_own_failed() -> None:
    answer = ask(adapters.Incomplete())
    assert answer.status == "failed"
    assert answer.reason == (
        "does not start: ModuleNotFoundError: No module named 'a_library_that_it_needs'"
    )


def test_an_import_error_is_told_by_its_first_line() -> None:
    answer = ask(adapters.Unloadable())
    assert answer.status == "failed"
    assert answer.reason == (
        "does not start: ImportError: libcudnn.so.9: cannot open shared object file"
    )


def test_a_crash_is_told_with_its_signal_and_the_last_words() -> None:
    answer = ask(adapters.Segfaulting())
    assert answer.status == "failed"
    assert answer.reason == (
        "crashed with SIGSEGV while it started; the last it wrote: about to load the kernels"
    )
    assert answer.log == ("about to load the kernels",)


def test_an_illegal_instruction_is_explained() -> None:
    reason = ask(adapters.Illegal()).reason
    assert reason is not None
    assert reason.endswith(
        "SIGILL while it started: its build needs instructions that this CPU does not have"
    )


def test_a_framework_that_exits_failed_with_its_status() -> None:
    answer = ask(adapters.Exiting())
    assert answer.status == "failed"
    assert answer.reason == "ended its process with status 3 while it started"


def test_what_a_framework_prints_does_not_garble_its_answer() -> None:
    answer = ask(adapters.Chatty())
    assert answer.status == "ok"
    assert answer.log[0] == "Welcome!"
    assert answer.log[-1].endswith("and a warning")


def test_a_framework_that_hangs_is_ended() -> None:
    answer = ask(adapters.Hanging(), timeout_s=1.5)
    assert answer.status == "failed"
    assert answer.reason == "gave no answer within 1.5 s and was ended"


def test_a_child_that_does_not_end_when_it_is_killed_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As one that is stuck in a driver: its answer must not wait for its end."""
    kill = asking._end
    monkeypatch.setattr(asking, "_end", lambda child: None)
    stuck: Any = adapters.Hanging()
    began = time.monotonic()
    with start_asking({"stuck": stuck}, 1, timeout_s=1) as asked:
        (answer,) = asked
    took = time.monotonic() - began
    for child in asked._children:
        kill(child)
        child.communicate()
    assert answer.reason == "gave no answer within 1 s and was ended"
    assert took < 30  # far from the ten minutes for which it sleeps


def test_a_failure_after_the_import_is_a_failure() -> None:
    answer = ask(adapters.Undescribable())
    assert (answer.status, answer.reason) == ("failed", "does not start: RuntimeError")


def test_an_adapter_whose_environment_fails_gets_an_answer() -> None:
    answer = ask(adapters.Demanding())
    assert answer.status == "failed"
    assert answer.reason == "could not be asked: KeyError: 'HOME_OF_FRAMEWORK'"


def test_an_adapter_that_cannot_be_made_gets_an_answer() -> None:
    answer = ask(adapters.Unconstructible("argument"))
    assert answer.status == "failed"
    assert answer.reason is not None
    assert answer.reason.endswith("TypeError: this adapter wants an argument")


def test_a_slow_framework_holds_up_no_other_and_leaving_ends_it() -> None:
    asked: dict[str, Any] = {"slow": adapters.Hanging(), "quick": adapters.Well()}
    with start_asking(asked, 1) as asking:
        assert next(iter(asking)).name == "quick"
        (slow, _) = (child.pid for child in asking._children)
        began = time.monotonic()
    assert time.monotonic() - began < 60  # far from the ten minutes for which it sleeps
    with pytest.raises(ProcessLookupError):
        os.kill(slow, 0)


def test_nobody_to_ask_is_no_answer() -> None:
    with start_asking({}) as asking:
        assert list(asking) == []


@pytest.mark.torch
def test_torch_answers_and_sees_the_cpu() -> None:
    from devbench.frameworks.torch import TorchFramework

    answer = ask(TorchFramework(), timeout_s=120)
    assert answer.status == "ok", answer.reason
    assert answer.view is not None
    assert answer.view.devices[0].id == "torch:cpu"
    assert "cuda" in answer.view.build


@pytest.mark.tensorflow
def test_tensorflow_answers_and_sees_the_cpu() -> None:
    from devbench.frameworks.tensorflow import TensorFlowFramework

    answer = ask(TensorFlowFramework(), timeout_s=120)
    assert answer.status == "ok", answer.reason
    assert answer.view is not None
    assert answer.view.devices[0].id == "tensorflow:CPU:0"
    assert "is_cuda_build" in answer.view.build
