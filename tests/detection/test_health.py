from __future__ import annotations

import ctypes
from typing import Any

import pytest

from devbench.detection import NvmlError, read_health
from devbench.detection.health import QUERIES
from devbench.detection.nvml import _plain
from tests.detection.recorded import RecordedNvml
from tests.doctor.machines import gpu_calls


def test_every_field_of_health_is_read_in_its_unit() -> None:
    changes: dict[str, Any] = {
        "TotalEccErrors, 1, 0": 2,
        "TotalEccErrors, 1, 1": 5,
        "RemappedRows": [1, 2, 1, 0],
        "FieldValues, [230]": [{"fieldId": 230, "nvmlReturn": 0, "value": 4}],
        "NvLinkState, 0": 1,
        "NvLinkState, 1": 0,
        "NvLinkState, 2": {"error": "InvalidArgument"},
        "EccMode": [1, 0],
        "ComputeRunningProcesses": [{"pid": 7, "usedGpuMemory": 1024}],
    }
    health = read_health(RecordedNvml(gpu_calls(0, **changes)), 0)
    assert (health.ecc_uncorrected, health.ecc_uncorrected_ever, health.ecc_pending) == (
        2,
        5,
        False,
    )
    assert (health.remapped_rows, health.remap_pending, health.remap_failed) == (3, True, False)
    assert health.recovery_action == "drain and reset"
    assert health.nvlinks == (True, False)
    assert (health.power_min_limit_w, health.power_max_limit_w) == (150, 600)
    assert health.application_clock_hz == 2520e6
    assert health.compute_processes is not None
    assert (health.compute_processes[0].pid, health.compute_processes[0].memory_bytes) == (7, 1024)
    assert health.unread == {}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.field)
def test_each_query_of_health_may_fail_alone(query: Any) -> None:
    failing = {
        call: {"error": "Unknown"} if call.startswith(f"{query.functions[0]}(") else answer
        for call, answer in gpu_calls(0).items()
    }
    health = read_health(RecordedNvml(failing), 0)
    assert getattr(health, query.field) is None
    assert health.unread[query.field] == "Unknown"
    assert health.pstate is not None or query.field == "pstate"


def test_a_gpu_without_links_says_why_and_one_that_is_lost_keeps_its_record() -> None:
    health = read_health(RecordedNvml(gpu_calls(0)), 0)
    assert health.nvlinks is None
    assert health.unread["nvlinks"] == "NotSupported"

    class Lost:
        def query(self, function: str, *arguments: Any) -> Any:
            raise NvmlError("GpuIsLost")

    assert read_health(Lost(), 3).unread == {"handle": "GpuIsLost"}


def test_field_values_are_read_by_the_member_that_their_type_names() -> None:
    pynvml = pytest.importorskip("pynvml")
    values = (pynvml.c_nvmlFieldValue_t * 2)()
    values[0].fieldId, values[0].valueType, values[0].value.uiVal = 230, 1, 4
    values[1].fieldId, values[1].nvmlReturn = 231, 3
    assert isinstance(values, ctypes.Array)
    assert _plain(values) == [
        {"fieldId": 230, "nvmlReturn": 0, "value": 4},
        {"fieldId": 231, "nvmlReturn": 3, "value": None},
    ]
