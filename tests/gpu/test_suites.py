"""Every built-in suite on a real GPU, and what only a GPU can show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import DevBench

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All quick cases of one framework on its GPUs."""
    pytest.importorskip(request.param)
    cli = DevBench(tmp_path_factory.mktemp("suites"))
    done = cli(
        *("run", "--quick", "--device", "gpu", "--framework", request.param, "--json"), timeout=1800
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)["results"]


def test_every_case_is_right_or_skipped_with_a_reason(rows: Any) -> None:
    for row in rows:
        if row["status"] == "skipped":
            assert row["reason"].startswith(("unsupported", "too-slow", "does-not-fit")), row
        else:
            assert row["status"] == "ok", row["reason"]
            assert row["numerics"] in ("match", "exact"), (row["case_id"], row["rel_error"])


def test_no_rate_exceeds_what_the_device_can_do(rows: Any) -> None:
    for row in rows:
        if row["ceiling_fraction"] is not None:
            assert row["ceiling_fraction"] < 1.15, row["case_id"]


def test_pinned_memory_is_not_slower_than_pageable(rows: Any) -> None:
    rates = {
        row["params"]["memory"]: row["bytes_per_s"]
        for row in rows
        if row["benchmark"] == "transfer"
        and row["params"]["direction"] == "to_device"
        and row["status"] == "ok"
    }
    if rates.keys() >= {"pinned", "pageable"}:
        assert rates["pinned"] > 0.9 * rates["pageable"]


def test_stress_finds_no_fault(tmp_path_factory: pytest.TempPathFactory) -> None:
    cli = DevBench(tmp_path_factory.mktemp("stress"))
    done = cli("stress", "--tier", "2", "--device", "gpu", timeout=900)
    assert done.returncode == 0, done.stdout


def test_doctor_ends_with_what_is_wrong_or_with_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cli = DevBench(tmp_path_factory.mktemp("doctor"))
    done = cli("doctor", "--json", timeout=300)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["schema"] == "devbench.doctor/1"
