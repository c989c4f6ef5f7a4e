from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import pytest

from devbench.detection import NvmlError, read_health
from devbench.detection.health import POLICIES, QUERIES
from devbench.detection.nvml import _plain
from tests.detection.recorded import RecordedNvml
from tests.doctor.machines import gpu_calls


def counters(*values: int | None) -> list[dict[str, Any]]:
    """What NVML answers for the fields of the policies; None: this GPU does not count it."""
    return [
        {"fieldId": number, "nvmlReturn": 3 if value is None else 0, "value": value}
        for (_, number), value in zip(POLICIES.values(), values, strict=True)
    ]


FIELDS = "FieldValues, [74, 75, 76, 77, 79]"

#: Answers of a recent driver beyond those of `gpu_calls`.
RECENT: Mapping[str, Any] = {
    "MarginTemperature": 41,
    "AddressingMode": 2,
    "TotalEccErrors, 0, 0": 7,
    "TotalEccErrors, 0, 1": 9,
    "RetiredPages, 0": [4096, 8192],
    "RetiredPages, 1": [16384],
    FIELDS: counters(1_500_000_000, 0, 0, 0, 250_000_000),
}


def machine(**changes: Any) -> RecordedNvml:
    return RecordedNvml(gpu_calls(0, **{**RECENT, **changes}))


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
    health = read_health(machine(**changes), 0)
    assert (health.ecc_corrected, health.ecc_corrected_ever) == (7, 9)
    assert (health.retired_pages, health.retirement_pending) == (3, False)
    assert (health.slowdown_temperature_c, health.temperature_margin_c) == (90, 41)
    assert health.addressing_mode == "ATS"
    assert health.clock_event_seconds == {
        "software power cap": 1.5,
        "thermal slowdown": 0,
        "sync boost": 0,
        "board limit": 0,
        "reliability": 0.25,
    }
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
        for call, answer in machine().calls.items()
    }
    health = read_health(RecordedNvml(failing), 0)
    assert getattr(health, query.field) is None
    assert health.unread[query.field] == "Unknown"
    # Fields may share a function with others: ECC counters of four kinds, the recovery action.
    sharing = {other.field for other in QUERIES if set(other.functions) & set(query.functions)}
    if "nvmlDeviceGetFieldValues" in query.functions:
        sharing.add("clock_event_seconds")
    assert health.unread.keys() - {"nvlinks"} == sharing


def test_an_older_driver_counts_the_slowed_time_policy_by_policy() -> None:
    counted = {
        "ViolationStatus, 0": {"referenceTime": 9, "violationTime": 3_000_000_000},
        "ViolationStatus, 1": {"error": "NotSupported"},
        "ViolationStatus, 2": {"referenceTime": 9, "violationTime": 0},
        "ViolationStatus, 3": {"error": "NotSupported"},
        "ViolationStatus, 5": {"error": "NotSupported"},
    }
    expected = {"software power cap": 3.0, "sync boost": 0.0}
    for fields in ({"error": "FunctionNotFound"}, counters(None, None, None, None, None)):
        health = read_health(machine(**{**counted, FIELDS: fields}), 0)
        assert health.clock_event_seconds == expected


def test_a_counter_that_the_gpu_lacks_is_left_out_and_a_gpu_without_any_says_so() -> None:
    some = read_health(machine(**{FIELDS: counters(None, 2_000_000_000, None, None, None)}), 0)
    assert some.clock_event_seconds == {"thermal slowdown": 2.0}
    refused = {"error": "NotSupported"}
    policies = {f"ViolationStatus, {policy}": refused for policy, _ in POLICIES.values()}
    none = read_health(machine(**{**policies, FIELDS: refused}), 0)
    assert none.clock_event_seconds is None
    assert none.unread["clock_event_seconds"] == "NotSupported"


def test_the_margin_is_a_subtraction_where_the_driver_does_not_tell_it() -> None:
    old = {"MarginTemperature": {"error": "FunctionNotFound"}}
    assert read_health(machine(**old), 0).temperature_margin_c == 90 - 35
    warm = machine(**old, **{"Temperature, 0": {"error": "NotSupported"}})
    assert read_health(warm, 0).unread["temperature_margin_c"] == "NotSupported"


def test_what_was_not_recorded_is_unread_and_nothing_else() -> None:
    """A recording of an earlier devbench lacks the calls that came later."""
    health = read_health(RecordedNvml(gpu_calls(0)), 0)
    later = {"addressing_mode", "ecc_corrected", "ecc_corrected_ever", "retired_pages"}
    assert health.unread.keys() == later | {"clock_event_seconds", "nvlinks"}
    assert (health.pstate, health.temperature_margin_c) == (8, 55)


def test_every_function_of_health_exists_in_the_installed_bindings() -> None:
    import pynvml

    functions = {name for query in QUERIES for name in query.functions}
    functions |= {"nvmlDeviceGetNvLinkState", "nvmlDeviceGetRetiredPages"}
    functions |= {"nvmlDeviceGetMarginTemperature", "nvmlDeviceGetViolationStatus"}
    assert {name for name in functions if not callable(getattr(pynvml, name, None))} == set()
    numbers = [pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL]
    numbers += [pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST]
    numbers += [pynvml.NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT]
    numbers += [pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY]
    assert [number for _, number in POLICIES.values()] == numbers


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
    values[1].fieldId, values[1].nvmlReturn, values[1].valueType = 231, 3, 99
    assert isinstance(values, ctypes.Array)
    assert _plain(values) == [
        {"fieldId": 230, "nvmlReturn": 0, "value": 4},
        {"fieldId": 231, "nvmlReturn": 3, "value": None},
    ]
    values[1].nvmlReturn = 0
    with pytest.raises(NvmlError, match="NotReadable"):
        _plain(values)
