from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devbench.detection import NvmlError, read_gpus
from devbench.detection.nvml import QUERIES, Pynvml, decode_clock_events
from tests.detection.recorded import RecordedNvml, recorded


def test_every_field_of_a_gpu_is_read_in_its_unit(tmp_path: Path) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    (gpu, _), error = read_gpus(machine.nvml, machine.root)
    assert error is None
    assert (gpu.index, gpu.name) == (0, "NVIDIA A100-SXM4-40GB")
    assert gpu.uuid == "GPU-11111111-aaaa-bbbb-cccc-000000000001"
    assert (gpu.pci_bus_id, gpu.numa_node) == ("00000000:1b:00.0", 0)
    assert (gpu.compute_capability, gpu.cores, gpu.memory_bus_bits) == ("8.0", 6912, 5120)
    assert (gpu.memory_bytes, gpu.free_memory_bytes) == (42949672960, 42000000000)
    assert (gpu.driver, gpu.cuda_driver) == ("550.90.07", "12.4")
    assert (gpu.sm_clock_hz, gpu.sm_clock_max_hz) == (210e6, 1410e6)
    assert (gpu.memory_clock_hz, gpu.memory_clock_max_hz) == (1215e6, 1215e6)
    assert (gpu.clock_event_mask, gpu.clock_events) == (1, ("gpu idle",))
    assert (gpu.power_w, gpu.power_limit_w, gpu.power_default_limit_w) == (52.345, 400, 400)
    assert gpu.temperature_c == 31
    assert (gpu.pcie_generation, gpu.pcie_generation_max) == (4, 4)
    assert (gpu.pcie_width, gpu.pcie_width_max) == (16, 16)
    assert (gpu.utilization, gpu.memory_utilization, gpu.processes) == (0.07, 0.03, 1)
    assert (gpu.ecc, gpu.persistence, gpu.mig, gpu.compute_mode) == (True, True, False, "default")
    assert gpu.unread == {}


def test_an_unsupported_query_costs_its_field_and_not_the_row(tmp_path: Path) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    (_, gpu), _ = read_gpus(machine.nvml, machine.root)
    assert gpu.power_w is None
    assert gpu.unread == {"power_w": "NotSupported"}
    assert (gpu.power_limit_w, gpu.temperature_c, gpu.processes) == (400, 31, 0)


def test_a_driver_without_the_new_name_of_a_query_is_asked_by_the_old_one(tmp_path: Path) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    (_, gpu), _ = read_gpus(machine.nvml, machine.root)
    assert gpu.clock_events == ("software power cap", "hardware thermal slowdown")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.field)
def test_each_query_may_fail_alone(query: Any, tmp_path: Path) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    functions = tuple(f"{name}(" for name in query.functions)
    failing = RecordedNvml(
        {
            call: {"error": "Unknown"} if call.startswith(functions) else answer
            for call, answer in machine.nvml.calls.items()
        }
    )
    (gpu, _), error = read_gpus(failing, machine.root)
    assert error is None
    assert getattr(gpu, query.field) is None
    assert gpu.unread[query.field] == "Unknown"
    # Fields may share a function with others: clocks with clocks, free memory with total memory.
    sharing = {other.field for other in QUERIES if other.functions == query.functions}
    assert gpu.unread.keys() == sharing


def test_a_gpu_that_answers_nothing_keeps_its_row(tmp_path: Path) -> None:
    class Silent:
        def query(self, function: str, *arguments: Any) -> Any:
            if function in ("nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"):
                return 1
            raise NvmlError("GpuIsLost")

    (gpu,), error = read_gpus(Silent(), tmp_path)
    assert error is None
    assert (gpu.index, gpu.name, gpu.uuid) == (0, None, None)
    assert gpu.unread.keys() == {query.field for query in QUERIES}


def test_a_gpu_without_a_handle_keeps_its_row(tmp_path: Path) -> None:
    calls = {"nvmlInit()": 0, "nvmlDeviceGetCount()": 1}
    calls |= {"nvmlDeviceGetHandleByIndex(0)": {"error": "NoPermission"}}  # type: ignore[dict-item]
    (gpu,), error = read_gpus(RecordedNvml(calls), tmp_path)
    assert error is None
    assert gpu.unread == {"handle": "NoPermission"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("LibraryNotFound", "no NVIDIA driver is installed (its NVML library is not there)"),
        ("DriverNotLoaded", "its kernel module is not loaded"),
        ("LibRmVersionMismatch", "differ in version"),
        ("Uninitialized", "NVML does not answer: Uninitialized"),
    ],
)
def test_nvml_that_does_not_start_is_told_in_a_sentence(
    name: str, sentence: str, tmp_path: Path
) -> None:
    gpus, error = read_gpus(RecordedNvml({"nvmlInit()": {"error": name}}), tmp_path)
    assert gpus == ()
    assert error is not None
    assert sentence in error


def test_a_failing_count_is_told_too(tmp_path: Path) -> None:
    calls = {"nvmlInit()": 0, "nvmlDeviceGetCount()": {"error": "Unknown"}}
    gpus, error = read_gpus(RecordedNvml(calls), tmp_path)
    assert gpus == ()
    assert error is not None
    assert "Unknown Error" in error


def test_slices_of_a_partitioned_gpu_are_listed_and_empty_slots_are_not(tmp_path: Path) -> None:
    machine = recorded("mig", tmp_path)
    (gpu,), _ = read_gpus(machine.nvml, machine.root)
    assert gpu.mig is True
    assert [mig.uuid for mig in gpu.mig_devices] == [
        "MIG-aaaaaaaa-1111-2222-3333-444444444444",
        "MIG-bbbbbbbb-1111-2222-3333-444444444444",
    ]
    assert gpu.mig_devices[0].memory_bytes == 20937965568
    assert gpu.unread == {
        "utilization": "NotSupported",
        "memory_utilization": "NotSupported",
    }


@pytest.mark.parametrize(
    ("speed", "width", "expected"),
    [
        ("16.0 GT/s PCIe", "8", (4, 8)),
        ("8 GT/s", "16", (3, 16)),  # before Linux 5.9
        ("2.5 GT/s PCIe", "0", (1, None)),
        ("Unknown", "16", (None, 16)),
        (None, None, (None, None)),
    ],
)
def test_what_the_slot_can_do_is_read_from_the_port_above_the_gpu(
    speed: str | None, width: str | None, expected: tuple[int | None, int | None], tmp_path: Path
) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    devices = machine.root / "sys/bus/pci/devices"
    port = machine.root / "sys/devices/pci0000:16/0000:16:02.0"
    port.mkdir(parents=True)
    (devices / "0000:1b:00.0").rename(port / "0000:1b:00.0")
    (devices / "0000:1b:00.0").symlink_to("../../../devices/pci0000:16/0000:16:02.0/0000:1b:00.0")
    for name, text in (("max_link_speed", speed), ("max_link_width", width)):
        if text is not None:
            (port / name).write_text(text + "\n")
    (gpu, other), _ = read_gpus(machine.nvml, machine.root)
    assert (gpu.pcie_slot_generation_max, gpu.pcie_slot_width_max) == expected
    assert gpu.numa_node == 0
    assert (other.pcie_slot_generation_max, other.pcie_slot_width_max) == (None, None)


@pytest.mark.parametrize(
    ("mask", "events"),
    [
        (0, ()),
        (0x1, ("gpu idle",)),
        (0x4 | 0x20, ("software power cap", "software thermal slowdown")),
        (0x8 | 0x80 | 0x8000, ("hardware slowdown", "hardware power brake", "bit 0x8000")),
    ],
)
def test_all_bits_of_a_clock_mask_are_told(mask: int, events: tuple[str, ...]) -> None:
    assert decode_clock_events(mask) == events


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong))


class _NVMLError(Exception):
    pass


class _NVMLErrorNotSupported(_NVMLError):
    pass


_NVMLErrorNotSupported.__name__ = "NVMLError_NotSupported"


def test_the_bindings_structures_and_errors_become_plain_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unsupported(handle: str) -> None:
        raise _NVMLErrorNotSupported

    class OtherLibrary(Exception):
        """What the bindings raise for a function of which the driver has an older version."""

    def of_a_later_driver(handle: str) -> list[object]:
        raise OtherLibrary

    def unreadable(handle: str) -> str:
        return b"\xff".decode()

    module = SimpleNamespace(
        NVMLError=_NVMLError,
        nvmlDeviceGetMemoryInfo=lambda handle: _Memory(5, 3),
        nvmlDeviceGetName=lambda handle: b"NVIDIA A100",
        nvmlDeviceGetEccMode=unsupported,
        nvmlDeviceGetUUID=unreadable,
        NVMLLibraryMismatchError=OtherLibrary,
        nvmlDeviceGetComputeRunningProcesses=of_a_later_driver,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    nvml = Pynvml()
    assert nvml.query("nvmlDeviceGetMemoryInfo", "gpu") == {"total": 5, "free": 3}
    assert nvml.query("nvmlDeviceGetName", "gpu") == "NVIDIA A100"
    with pytest.raises(NvmlError, match=r"^NotSupported$"):
        nvml.query("nvmlDeviceGetEccMode", "gpu")
    with pytest.raises(NvmlError, match=r"^NotReadable$"):
        nvml.query("nvmlDeviceGetUUID", "gpu")
    with pytest.raises(NvmlError, match=r"^FunctionNotFound$"):
        nvml.query("nvmlDeviceGetSomethingNew", "gpu")
    with pytest.raises(NvmlError, match=r"^FunctionNotFound$"):
        nvml.query("nvmlDeviceGetComputeRunningProcesses", "gpu")


def test_every_function_that_is_asked_exists_in_the_installed_bindings() -> None:
    import pynvml

    functions = {name for query in QUERIES for name in query.functions}
    functions |= {"nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"}
    functions |= {"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex"}
    assert {name for name in functions if not callable(getattr(pynvml, name, None))} == set()


@pytest.mark.gpu
def test_a_real_gpu_tells_what_it_is() -> None:
    gpus, error = read_gpus()
    assert error is None
    assert gpus
    for gpu in gpus:
        assert gpu.name
        assert gpu.uuid is not None
        assert gpu.uuid.startswith("GPU-")
        assert gpu.driver
        assert gpu.compute_capability
        assert gpu.memory_bytes is None or gpu.memory_bytes > 2**30
