"""AMD's GPUs by recorded answers of AMD SMI; no device has answered yet."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from devbench.detection import (
    AmdGpu,
    FrameworkAnswer,
    Hardware,
    Host,
    join,
    machine_from_json,
    machine_to_json,
    physical_devices,
    read_amd_gpus,
)
from devbench.detection.amd import QUERIES, AmdSmiError
from devbench.frameworks.base import FrameworkView
from devbench.model import Device

ANSWERS: Mapping[str, Any] = {
    "amdsmi_init": None,
    "amdsmi_get_processor_handles": ["gpu"],
    "amdsmi_get_gpu_asic_info": {
        "market_name": "AMD Instinct MI300X",
        "target_graphics_version": "gfx942",
        "num_compute_units": 304,
    },
    "amdsmi_get_gpu_device_uuid": "5dff74a1-0000-1000-80c6-000000000001",
    "amdsmi_get_gpu_device_bdf": "0000:C3:00.0",
    "amdsmi_get_gpu_driver_info": {"driver_name": "amdgpu", "driver_version": "6.12.12"},
    "amdsmi_get_gpu_vram_usage": {"vram_total": 196592, "vram_used": 283},
    "amdsmi_get_clock_info": {"clk": 132, "max_clk": 2100},
    "amdsmi_get_power_info": {"socket_power": 139, "current_socket_power": "N/A"},
    "amdsmi_get_temp_metric": 41,
    "amdsmi_get_gpu_activity": {"gfx_activity": 25},
}


class Recorded:
    def __init__(self, **changed: Any) -> None:
        self.answers = {**ANSWERS, **changed}

    def query(self, function: str, *arguments: Any) -> Any:
        answer = self.answers[function]
        if isinstance(answer, AmdSmiError):
            raise answer
        return answer


def test_every_field_is_read_in_its_unit() -> None:
    assert read_amd_gpus(Recorded()) == (
        AmdGpu(
            index=0,
            name="AMD Instinct MI300X",
            uuid="5dff74a1-0000-1000-80c6-000000000001",
            pci_bus_id="00000000:c3:00.0",
            architecture="gfx942",
            multiprocessors=304,
            memory_bytes=196592 << 20,
            used_memory_bytes=283 << 20,
            driver="6.12.12",
            clock_hz=132e6,
            clock_max_hz=2100e6,
            power_w=139,
            temperature_c=41,
            utilization=0.25,
        ),
    )


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.field)
def test_what_is_refused_or_not_known_costs_its_field_and_not_the_row(query: Any) -> None:
    unknown: list[Any] = [AmdSmiError("NOT_SUPPORTED")]
    unknown += ["N/A"] if query.key is None else [{query.key: "N/A"}, {}, None]
    sharing = {other.field for other in QUERIES if other.function == query.function}
    for answer in unknown:
        (gpu,) = read_amd_gpus(Recorded(**{query.function: answer}))
        assert getattr(gpu, query.field) is None
        assert query.field in gpu.unread
        assert gpu.unread.keys() <= sharing


def test_without_amd_smi_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_amd_gpus(Recorded(amdsmi_init=AmdSmiError("DRIVER_NOT_LOADED"))) == ()
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    assert read_amd_gpus() == ()


def test_the_module_is_asked_with_its_own_constants_and_its_errors_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clock(handle: object, kind: object) -> dict[str, int]:
        return {"clk": 100, "max_clk": 200} if (handle, kind) == (7, "gfx") else {}

    def refused(handle: object) -> None:
        raise RuntimeError("not supported here")

    module = SimpleNamespace(
        __spec__=SimpleNamespace(),
        AmdSmiClkType=SimpleNamespace(GFX="gfx"),
        amdsmi_init=lambda: None,
        amdsmi_get_processor_handles=lambda: [7],
        amdsmi_get_clock_info=clock,
        amdsmi_get_gpu_asic_info=refused,
    )
    monkeypatch.setitem(sys.modules, "amdsmi", module)
    (gpu,) = read_amd_gpus()
    assert (gpu.clock_hz, gpu.clock_max_hz) == (100e6, 200e6)
    assert gpu.unread["name"] == "RuntimeError: not supported here"
    assert "amdsmi_get_power_info" in gpu.unread["power_w"]


def test_a_gpu_stands_in_one_row_with_its_framework_and_comes_back_from_json() -> None:
    seen = Device("torch", "cuda:0", "cuda", "MI300X", "GPU-3864", pci_bus_id="0000:c3:00.0")
    view = FrameworkView("torch", "2.13.0+rocm7", "torch.py", (seen,), {"hip": "7.0"})
    unseen = AmdGpu(index=1, name="AMD Instinct MI300X", pci_bus_id="00000000:c4:00.0")
    machine = join(
        Hardware(Host(), amd_gpus=(*read_amd_gpus(Recorded()), unseen)),
        [FrameworkAnswer(name="torch", status="ok", view=view)],
    )
    rows = {row.physical: [one.id for one in row.devices] for row in physical_devices(machine)}
    assert rows == {"cpu": [], "GPU-3864": ["torch:cuda:0"], "00000000:c4:00.0": []}
    data = json.loads(json.dumps(machine_to_json(machine), allow_nan=False))
    assert machine_from_json(data) == machine
    del data["amd_gpus"]  # of an earlier version
    assert machine_from_json(data).amd_gpus == ()
