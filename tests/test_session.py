from __future__ import annotations

import pytest

from devbench.detection import Gpu, Host, Machine
from devbench.model import Device, Target
from devbench.regress.environment_diff import blocked, differences
from devbench.session import _least_free, device_facts


def machine(*names: str) -> Machine:
    """GPUs of these names, as torch sees them, with a driver each."""
    gpus = tuple(
        Gpu(index=n, uuid=f"GPU-{n}-{name}", driver="600.1") for n, name in enumerate(names)
    )
    devices = tuple(
        Device("torch", f"cuda:{n}", "cuda", name, f"GPU-{n}-{name}")
        for n, name in enumerate(names)
    )
    return Machine(host=Host(), gpus=gpus, nvml_error=None, frameworks=(), devices=devices)


def test_a_target_of_one_device_says_which_it_is() -> None:
    facts = device_facts(Target("torch", ("cuda:1",)), machine("A", "NVIDIA H100 80GB HBM3"))
    assert facts["physical_device"] == "GPU-1-NVIDIA H100 80GB HBM3"
    assert facts["physical_devices"] == ["GPU-1-NVIDIA H100 80GB HBM3"]
    assert (facts["device_name"], facts["driver"]) == ("NVIDIA H100 80GB HBM3", "600.1")
    assert facts["peak"] is not None


def test_a_target_of_two_devices_says_what_each_is_and_has_the_peak_of_neither() -> None:
    both = Target("torch", ("cuda:0", "cuda:1"))
    facts = device_facts(both, machine("NVIDIA H100 80GB HBM3", "B"))
    assert facts["physical_device"] == "GPU-0-NVIDIA H100 80GB HBM3 + GPU-1-B"
    assert facts["physical_devices"] == ["GPU-0-NVIDIA H100 80GB HBM3", "GPU-1-B"]
    assert facts["device_name"] == "NVIDIA H100 80GB HBM3 + B"
    assert (facts["driver"], facts["peak"]) == ("600.1", None)


def test_the_fuller_of_two_devices_decides_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"GPU-0-A": 10, "GPU-1-A": 5, "GPU-2-A": None}
    monkeypatch.setattr("devbench.session.free_bytes", lambda device: free[device.physical])
    devices = machine("A", "A", "A").devices
    assert _least_free(devices) == 5
    assert _least_free(devices[2:]) is None


def test_another_second_device_blocks_a_comparison() -> None:
    both = Target("torch", ("cuda:0", "cuda:1"))
    base, new = ({str(both): device_facts(both, machine("A", second))} for second in ("B", "C"))
    found = blocked(differences({}, {}, base, new))
    assert list(found) == ["torch:cuda:0-1"]
    assert found["torch:cuda:0-1"].endswith("GPU-0-A + GPU-1-B on the base, GPU-0-A + GPU-1-C now")
