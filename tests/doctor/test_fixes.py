"""Ways out are commands for the system, installer and container at hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import pytest

from devbench.doctor import Finding, Recording, diagnose
from devbench.doctor.recording import Entry, Package
from tests.doctor import faults
from tests.doctor.faults import FAULTS
from tests.doctor.machines import (
    SITE,
    container,
    framework,
    one_gpu,
    with_files,
    with_variables,
)

Installer = Literal["pip", "uv", "conda"]

#: Faults that a machine of any system may have.
ANYWHERE = (
    *("D01", "D02", "D04", "D06", "D09", "D13", "D16", "D22", "D24"),
    *("S01", "S03", "S06", "S08", "S14", "S15", "H01", "H04", "H07", "H08"),
)


def host(machine: Recording) -> Recording:
    return machine


def root(machine: Recording) -> Recording:
    return replace(machine, system=replace(machine.system, user_id=0))


def windows(machine: Recording) -> Recording:
    return replace(
        machine, system=replace(machine.system, platform="win32", libc=None), files={}, pci=()
    )


def wsl(machine: Recording) -> Recording:
    """systemd counts WSL among the containers."""
    node = Entry("dev/dxg", "crw-rw-rw-", "root")
    machine = replace(machine, entries=(*machine.entries, node), pci=())
    return with_files(machine, run__systemd__container="wsl\n")


def podman(machine: Recording) -> Recording:
    return with_files(machine, **{"run__.containerenv": ""})


def pod(machine: Recording) -> Recording:
    return with_files(machine, proc__self__cgroup="0::/kubepods/burstable/pod1\n")


def findings(place: Callable[[Recording], Recording], installer: Installer) -> Iterator[Finding]:
    """Of each of them, as it would be there."""
    for id in ANYWHERE:
        machine = FAULTS[id].machine()
        machine = replace(machine, system=replace(machine.system, installer=installer))
        yield from diagnose(place(machine)).findings


#: What no command may hold there.
@pytest.mark.parametrize(
    ("place", "installer", "foreign"),
    [
        (host, "pip", r"^(conda|uv|docker|podman|kubectl|lxc) "),
        (root, "uv", r"\bsudo\b|python -m pip|^conda "),
        (podman, "uv", r"^docker|python -m pip|^conda "),
        (pod, "conda", r"^(docker|podman)|\[and-cuda\]|conda.* torch\b|^uv "),
        (wsl, "pip", r"sudo nvidia-smi|gpu-reset|^(docker|podman|lspci)"),
        (windows, "pip", r"^(sudo|export|unset|ps|docker) |\.venv/bin|gpu-reset"),
    ],
)
def test_no_way_out_is_another_systems(
    place: Callable[[Recording], Recording], installer: Installer, foreign: str
) -> None:
    found = list(findings(place, installer))
    assert len({one.id for one in found}) > 12
    commands = [command for one in found for fix in one.fixes for command in fix.commands]
    # Commands that name the index of a build, or another environment, are pip's whoever asks.
    wrong = [one for one in commands if re.search(foreign, one) and "--index-url" not in one]
    assert wrong == []
    for one in found:
        assert one.fixes, one.id
        assert all(fix.text for fix in one.fixes), one.id


def commands_of(machine: Recording, id: str) -> list[str]:
    found = [one for one in diagnose(machine).findings if one.id == id]
    assert found, id
    return [command for fix in found[0].fixes for command in fix.commands]


@pytest.mark.parametrize(
    ("installer", "command"),
    [
        ("pip", "python -m pip install --force-reinstall torch"),
        ("uv", "uv pip install --force-reinstall torch"),
        ("conda", "conda install -c conda-forge --force-reinstall pytorch"),
    ],
)
def test_the_command_is_the_installers(installer: Installer, command: str) -> None:
    machine = faults.unimportable()
    machine = replace(machine, system=replace(machine.system, installer=installer))
    assert commands_of(machine, "D24") == [command]


def test_a_process_of_another_namespace_is_not_ended_by_its_number_here() -> None:
    machine = faults.busy()
    hidden = with_files(machine, proc__4242__comm=None, **{".dockerenv": ""})
    (finding,) = (one for one in diagnose(hidden).findings if one.id == "S06")
    assert finding.fixes[0].text == "end what is not needed, on the host of this container"


def test_a_variable_is_taken_away_as_powershell_does() -> None:
    machine = windows(with_variables(one_gpu(), CUDA_LAUNCH_BLOCKING="1"))
    assert commands_of(machine, "S08") == ["Remove-Item Env:CUDA_LAUNCH_BLOCKING"]


def test_a_pod_is_deleted_where_docker_would_restart_a_container() -> None:
    lost = replace(container(), calls={"nvmlInit()": {"error": "Unknown"}})
    assert commands_of(lost, "D12")[0] == "docker restart CONTAINER"
    assert commands_of(pod(lost), "D12")[0] == "kubectl delete pod NAME"


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ("ubuntu", "sudo ubuntu-drivers install"),
        ("debian", "nvidia-driver libcuda1 nvidia-smi"),
        ("fedora", "akmod-nvidia xorg-x11-drv-nvidia-cuda"),
        ("opensuse-leap", "nvidia-compute-utils-G06"),
        ("arch", "nvidia-open nvidia-utils"),
    ],
)
def test_the_driver_comes_with_libcuda_and_nvidia_smi(release: str, command: str) -> None:
    """Several distributions split them from the kernel module."""
    machine = with_files(faults.nouveau(), **{"etc__os-release": f"ID={release}\n"})
    assert command in commands_of(machine, "D18")[0]
    assert commands_of(machine, "D18")[1] == "sudo reboot"


@pytest.mark.parametrize(
    ("installer", "first", "then"),
    [
        (
            "pip",
            "python -m pip uninstall --yes tensorflow-cpu",
            "python -m pip install --force-reinstall 'tensorflow[and-cuda]'",
        ),
        (
            "uv",
            "uv pip uninstall tensorflow-cpu",
            "uv pip install --force-reinstall 'tensorflow[and-cuda]'",
        ),
    ],
)
def test_tensorflow_cpu_makes_room_before_its_files_are_installed_again(
    installer: Installer, first: str, then: str
) -> None:
    machine = one_gpu()
    build = {"is_cuda_build": False, "is_rocm_build": False}
    machine = replace(
        machine,
        frameworks=(machine.frameworks[0], framework("tensorflow", [], build=build)),
        packages=(*machine.packages, Package("tensorflow-cpu", "2.21.0", SITE)),
        system=replace(machine.system, installer=installer),
    )
    assert commands_of(machine, "D01") == [first, then]
