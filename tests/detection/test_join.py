from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from devbench.detection import (
    FrameworkAnswer,
    Gpu,
    Hardware,
    Host,
    Machine,
    join,
    machine_from_json,
    machine_to_json,
    physical_devices,
    read_hardware,
    why_unseen,
)
from devbench.detection.join import normalize_bus_id
from devbench.frameworks.base import FrameworkView
from devbench.model import Device, Json
from tests.detection.recorded import recorded

FIRST = "GPU-11111111-aaaa-bbbb-cccc-000000000001"
SECOND = "GPU-22222222-aaaa-bbbb-cccc-000000000002"


def joined(name: str, folder: Path) -> Machine:
    machine = recorded(name, folder)
    return join(read_hardware(machine.root, machine.nvml), machine.answers)


def answer(name: str, *physical: str, build: dict[str, Json] | None = None) -> FrameworkAnswer:
    devices = tuple(
        Device(name, f"dev:{index}", "gpu", "a name", own) for index, own in enumerate(physical)
    )
    view = FrameworkView(name, "1.0", f"{name}.py", devices, build or {})
    return FrameworkAnswer(name=name, status="ok", view=view)


def test_equal_gpus_in_another_order_are_joined_on_the_device_not_the_index(tmp_path: Path) -> None:
    machine = joined("two_equal_gpus", tmp_path)
    assert {device.id: device.physical for device in machine.devices} == {
        "torch:cpu": "cpu",
        "torch:cuda:0": FIRST,
        "torch:cuda:1": SECOND,
        "tensorflow:CPU:0": "cpu",
        "tensorflow:GPU:0": SECOND,
        "tensorflow:GPU:1": FIRST,
    }
    rows = {
        physical.physical: [device.id for device in physical.devices]
        for physical in physical_devices(machine)
    }
    assert rows == {
        "cpu": ["torch:cpu", "tensorflow:CPU:0"],
        FIRST: ["torch:cuda:0", "tensorflow:GPU:1"],
        SECOND: ["torch:cuda:1", "tensorflow:GPU:0"],
    }


def test_what_one_framework_does_not_tell_is_filled_in_from_the_hardware(tmp_path: Path) -> None:
    devices = {device.id: device for device in joined("two_equal_gpus", tmp_path).devices}
    assert devices["tensorflow:GPU:0"].memory_bytes == 42949672960
    assert devices["tensorflow:CPU:0"].name == "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz"
    assert devices["torch:cpu"].memory_bytes == 16777216 * 1024


def test_a_slice_is_found_under_the_prefix_that_torch_gives_it(tmp_path: Path) -> None:
    machine = joined("mig", tmp_path)
    assert machine.devices[1].physical == "MIG-bbbbbbbb-1111-2222-3333-444444444444"
    rows = {physical.physical: len(physical.devices) for physical in physical_devices(machine)}
    assert rows == {
        "cpu": 1,
        "MIG-aaaaaaaa-1111-2222-3333-444444444444": 0,
        "MIG-bbbbbbbb-1111-2222-3333-444444444444": 1,
    }


def test_indices_of_two_frameworks_are_never_taken_for_one_device() -> None:
    hardware = Hardware(Host(), (Gpu(index=0, uuid=FIRST, pci_bus_id="00000000:1b:00.0"),))
    machine = join(hardware, [answer("torch", "gpu:0"), answer("tensorflow", "gpu:0")])
    assert [device.physical for device in machine.devices] == ["torch:gpu:0", "tensorflow:gpu:0"]
    assert why_unseen(machine.frameworks[0]) == (
        "cannot tell: dev:0 gives neither UUID nor PCI bus id"
    )


def test_without_nvml_bus_ids_still_join_the_frameworks() -> None:
    hardware = Hardware(Host(), (), "no NVIDIA driver is installed")
    machine = join(
        hardware, [answer("torch", "00000000:1b:00.0"), answer("tensorflow", "0000:1B:00.0")]
    )
    assert {device.physical for device in machine.devices} == {"00000000:1b:00.0"}


def test_a_gpu_whose_uuid_cannot_be_read_is_joined_on_its_bus() -> None:
    hardware = Hardware(Host(), (Gpu(index=0, pci_bus_id="00000000:1b:00.0"), Gpu(index=1)))
    machine = join(hardware, [answer("tensorflow", "0000:1b:00.0")])
    assert [row.physical for row in physical_devices(machine)] == [
        "cpu",
        "00000000:1b:00.0",
        "nvml:1",
    ]


def test_without_nvml_a_framework_that_tells_uuid_and_bus_id_names_the_gpu_for_the_other() -> None:
    """So it is with AMD's GPUs, and where NVML may not be asked."""
    torch = Device("torch", "cuda:0", "cuda", "MI300X", "GPU-amd-1", pci_bus_id="0000:c3:00.0")
    other = replace(torch, address="cuda:1", physical="GPU-amd-2", pci_bus_id="0000:c4:00.0")
    view = FrameworkView("torch", "1.0", "torch.py", (torch, other))
    machine = join(
        Hardware(Host()),
        [
            answer("tensorflow", "0000:C4:00.0", "0000:c3:00.0"),
            FrameworkAnswer(name="torch", status="ok", view=view),
        ],
    )
    rows = [[one.id for one in row.devices] for row in physical_devices(machine)]
    assert rows == [
        [],
        ["tensorflow:dev:0", "torch:cuda:1"],
        ["tensorflow:dev:1", "torch:cuda:0"],
    ]


def test_a_uuid_that_nvml_does_not_tell_is_joined_on_the_bus_id_beside_it() -> None:
    torch = Device("torch", "cuda:0", "cuda", "a name", FIRST, pci_bus_id="00000000:1b:00.0")
    view = FrameworkView("torch", "1.0", "torch.py", (torch,))
    hardware = Hardware(Host(), (Gpu(index=0, pci_bus_id="00000000:1b:00.0"),))
    machine = join(hardware, [FrameworkAnswer(name="torch", status="ok", view=view)])
    assert [row.physical for row in physical_devices(machine)] == ["cpu", "00000000:1b:00.0"]


def test_of_two_slices_the_bus_id_means_the_one_that_a_framework_names(tmp_path: Path) -> None:
    machine = recorded("mig", tmp_path)
    hardware = read_hardware(machine.root, machine.nvml)
    (torch,) = machine.answers
    assert torch.view is not None
    cpu, part = torch.view.devices
    told = replace(torch.view, devices=(cpu, replace(part, pci_bus_id="0000:1b:00.0")))
    answers = [replace(torch, view=told), answer("tensorflow", "0000:1b:00.0")]
    assert {device.physical for device in join(hardware, answers).devices} == {
        "cpu",
        "MIG-bbbbbbbb-1111-2222-3333-444444444444",
    }


def test_the_multiprocessors_that_one_framework_counts_are_known_of_the_gpu_and_in_the_other(
    tmp_path: Path,
) -> None:
    machine = joined("two_equal_gpus", tmp_path)
    assert [gpu.multiprocessors for gpu in machine.gpus] == [108, 98]
    devices = {device.id: device.multiprocessors for device in machine.devices}
    assert (devices["tensorflow:GPU:0"], devices["tensorflow:GPU:1"]) == (98, 108)
    assert devices["tensorflow:CPU:0"] is None


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0000:1B:00.0", "00000000:1b:00.0"),
        ("00000001:00:02.7", "00000001:00:02.7"),
        ("GPU-1", None),
        ("cuda:0", None),
    ],
)
def test_bus_ids_read_the_same_whoever_writes_them(text: str, normal: str | None) -> None:
    assert normalize_bus_id(text) == normal


@pytest.mark.parametrize(
    ("build", "visible", "sentence"),
    [
        ({"cuda": None, "hip": None}, None, "sees no GPU: CPU-only build (torch 1.0)"),
        ({"is_cuda_build": False, "is_rocm_build": False}, None, "CPU-only build"),
        ({"cuda": "13.0", "hip": None}, "-1", "does not see it: CUDA_VISIBLE_DEVICES='-1'"),
        ({"cuda": "13.0", "hip": None}, None, "does not see it: built for CUDA 13.0 (torch 1.0)"),
        ({"cuda": None, "hip": "6.2"}, None, "does not see it: built for ROCm (torch 1.0)"),
        ({}, None, "does not see it"),
    ],
)
def test_why_a_framework_sees_no_gpu(
    build: dict[str, Json], visible: str | None, sentence: str
) -> None:
    told = replace(answer("torch", "cpu", build=build), visible_devices=visible)
    assert sentence in why_unseen(told)


def test_a_machine_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    for index, name in enumerate(("two_equal_gpus", "mig", "bare")):
        machine = joined(name, tmp_path / str(index))
        data = json.loads(json.dumps(machine_to_json(machine), allow_nan=False))
        assert data["schema"] == "devbench.detect/1"
        assert machine_from_json(data) == machine


def test_the_formats_of_a_device_come_back_from_json_as_they_were() -> None:
    device = Device("torch", "cpu", "cpu", "CPU", "cpu", dtypes=("float32", "int8"))
    view = FrameworkView("torch", "1.0", "torch.py", (device,))
    machine = join(Hardware(Host()), [FrameworkAnswer(name="torch", status="ok", view=view)])
    data = json.loads(json.dumps(machine_to_json(machine)))
    assert data["devices"][0]["dtypes"] == ["float32", "int8"]
    assert machine_from_json(data) == machine


def test_a_record_of_another_version_is_read_for_what_is_known(tmp_path: Path) -> None:
    machine = joined("mig", tmp_path)
    data = json.loads(json.dumps(machine_to_json(machine)))
    data["host"]["colour"] = "beige"
    del data["gpus"][0]["memory_bus_bits"]
    read = machine_from_json(data)
    assert read.host == machine.host
    assert read.gpus == (replace(machine.gpus[0], memory_bus_bits=None),)
