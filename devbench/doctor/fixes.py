"""Ways out, as commands for this operating system, this installer and this container."""

from __future__ import annotations

import re
from typing import Final

from devbench.doctor.facts import Facts
from devbench.doctor.records import Fix

#: CUDA of a build → the oldest Linux driver for it. Minor versions are compatible:
#: https://docs.nvidia.com/deploy/cuda-compatibility/
OLDEST_DRIVER: Final = {11: "450.80.02", 12: "525.60.13", 13: "580"}

#: Where torch's builds for one CUDA are: https://pytorch.org/get-started/locally/
_TORCH: Final = "https://download.pytorch.org/whl"

_DRIVER: Final = {
    "ubuntu": ("sudo ubuntu-drivers install", "sudo reboot"),
    "debian": ("sudo apt install nvidia-driver", "sudo reboot"),
    "fedora": ("sudo dnf install akmod-nvidia", "sudo reboot"),
    "rhel": ("sudo dnf module install nvidia-driver:latest-dkms", "sudo reboot"),
    "arch": ("sudo pacman -S nvidia-open", "sudo reboot"),
    "suse": ("sudo zypper install nvidia-open-driver-G06-signed-kmp-meta", "sudo reboot"),
}

_FAMILIES: Final = {
    "ubuntu": ("ubuntu", "pop", "linuxmint"),
    "debian": ("debian",),
    "fedora": ("fedora",),
    "rhel": ("rhel", "centos", "rocky", "almalinux", "ol"),
    "arch": ("arch", "manjaro", "endeavouros"),
    "suse": ("opensuse-leap", "opensuse-tumbleweed", "sles"),
}


def os_family(facts: Facts) -> str | None:
    release = facts.recording.files.get("etc/os-release", "")
    named = re.search(r"^ID=\"?([\w-]+)\"?$", release, re.MULTILINE)
    if named is None:
        return None
    return next((name for name, ids in _FAMILIES.items() if named[1] in ids), None)


def install(facts: Facts, *requirements: str, index: str | None = None) -> str:
    """One command that installs packages with the installer of this environment."""
    quoted = " ".join(f"'{one}'" if re.search(r"[\[<>=*]", one) else one for one in requirements)
    if facts.recording.system.installer == "conda" and index is None:
        return f"conda install -c conda-forge {quoted}"
    pip = "uv pip install" if facts.recording.system.installer == "uv" else "python -m pip install"
    return f"{pip} {quoted}" + (f" --index-url {index}" if index else "")


def torch_for_cuda(facts: Facts, tag: str | None = None) -> Fix:
    """torch built for CUDA: the newest that the driver takes, or the one of the tag, ``cu126``."""
    installer = facts.recording.system.installer
    text = "install the build for CUDA"
    if installer == "conda":
        return Fix(text, ("conda install -c conda-forge pytorch-gpu",))
    if tag is None and installer == "uv":
        return Fix(text, ("uv pip install --reinstall torch --torch-backend=auto",))
    tag = tag or torch_tag(facts)
    again = "--reinstall" if installer == "uv" else "--force-reinstall"
    return Fix(text, (install(facts, again, "torch", index=f"{_TORCH}/{tag}"),))


def torch_for_rocm(facts: Facts) -> Fix:
    again = "--reinstall" if facts.recording.system.installer == "uv" else "--force-reinstall"
    return Fix(
        "install the build for ROCm", (install(facts, again, "torch", index=f"{_TORCH}/rocm6.4"),)
    )


def torch_tag(facts: Facts) -> str:
    """The newest of torch's CUDA builds that runs on the driver's CUDA, as far as that is known."""
    major = int((driver_cuda(facts) or "13").partition(".")[0])
    return "cu130" if major >= 13 else "cu126" if major == 12 else "cu118"


def driver_cuda(facts: Facts) -> str | None:
    """The CUDA that the driver is for, ``12.4``: what NVML says, else libcuda."""
    told = next((gpu.cuda_driver for gpu in facts.machine.gpus if gpu.cuda_driver), None)
    if told is not None:
        return told
    number = facts.recording.calls.get("cuDriverGetVersion()")
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return f"{number // 1000}.{number % 1000 // 10}"


def tensorflow_for_cuda(facts: Facts) -> Fix:
    if facts.recording.system.installer == "conda":
        return Fix(
            "install the build for CUDA", ("conda install -c conda-forge 'tensorflow=*=cuda*'",)
        )
    return Fix(
        "install TensorFlow together with its CUDA libraries",
        (install(facts, "tensorflow[and-cuda]"),),
    )


def framework_for_cuda(facts: Facts, name: str) -> Fix:
    return tensorflow_for_cuda(facts) if name == "tensorflow" else torch_for_cuda(facts)


def driver(facts: Facts, why: str = "install the NVIDIA driver") -> Fix:
    """The driver belongs to the host: a container cannot bring it, and WSL takes that of Windows."""
    if facts.is_wsl or facts.recording.system.platform == "win32":
        return Fix(f"{why} in Windows, from https://www.nvidia.com/drivers")
    commands = _DRIVER.get(os_family(facts) or "", ())
    if facts.in_container:
        return Fix(f"{why} on the host of this container", ())
    if not commands:
        return Fix(f"{why}, from https://www.nvidia.com/drivers or your distribution's packages")
    return Fix(why, commands)


def container_with_gpus(facts: Facts) -> Fix:
    """How the engine hands GPUs to a container."""
    engine = facts.host.container
    if engine == "Podman":
        return Fix(
            "start the container with the GPUs", ("podman run --device nvidia.com/gpu=all IMAGE",)
        )
    if engine == "Kubernetes":
        return Fix("ask for a GPU in the pod's resources: limits: {nvidia.com/gpu: 1}")
    if engine == "LXC":
        return Fix("give the GPU to the container", ("lxc config device add NAME gpu gpu",))
    return Fix(
        "start the container with the GPUs (the host needs the NVIDIA Container Toolkit)",
        ("docker run --gpus all IMAGE",),
    )


def on_host(facts: Facts, text: str, *commands: str) -> Fix:
    """A command for an administrator of the host; inside a container it must be run outside."""
    return Fix(f"{text}, on the host of this container" if facts.in_container else text, commands)
