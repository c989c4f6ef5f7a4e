"""What a worker does to the examination: it dies, hangs, raises, or does not start."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from devbench.frameworks.base import Framework
from devbench.stress.arithmetic import known_answers
from devbench.stress.records import Check, verdict_of
from tests.plugins.devbench_fake import FakeFramework
from tests.stress.workers import examine

TIER_1 = {"integers", "sums", "derivative", "gradients", "product[float32]", "nan_and_infinity"}


def fake(
    monkeypatch: pytest.MonkeyPatch, folder: Path, sick: str, timeout_s: float = 60.0
) -> dict[str, Check]:
    checks, _ = examine(
        *(monkeypatch, folder, FakeFramework(), "sickfake", "cpu"),
        tier=1,
        sick=sick,
        timeout_s=timeout_s,
    )
    return checks


@pytest.mark.parametrize(
    ("sick", "status", "says"),
    [
        ("crash", "crashed", "SIGSEGV"),
        ("hang", "timeout", "no answer for 1 s"),
        ("raise", "failed", "an illegal memory access was encountered"),
    ],
)
def test_a_check_that_goes_wrong_is_a_fault_and_the_others_are_made_all_the_same(
    sick: str, status: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = fake(monkeypatch, tmp_path, sick, timeout_s=1.0)
    assert checks.keys() == TIER_1
    lost = checks.pop("derivative")
    assert (lost.verdict, lost.status) == ("fault", status)
    assert says in lost.says
    assert {check.verdict for check in checks.values()} == {"no fault found"}


def test_a_framework_that_does_not_start_is_one_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_START_FAILS", "no such library")
    [check] = fake(monkeypatch, tmp_path, "").values()
    assert (check.name, check.verdict, check.reason) == ("start", "fault", "start-failed")
    assert "no such library" in check.says


def test_tier_1_can_be_asked_for_in_the_process_of_a_framework_that_runs() -> None:
    checks = known_answers(cast(Framework, FakeFramework()), "cpu")
    assert {check.key for check in checks} == TIER_1
    assert {check.where for check in checks} == {"fake:cpu"}
    assert verdict_of(checks) == "no fault found", checks


def test_nothing_looked_at_is_never_no_fault_found() -> None:
    assert verdict_of([]) == "cannot tell"
