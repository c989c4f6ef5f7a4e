"""Ways out, as commands for this operating system, this installer and this container."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from devbench.doctor.facts import Facts
from devbench.doctor.records import Fix

#: CUDA of a build → the oldest Linux driver for it. Minor versions are compatible:
#: https://docs.nvidia.com/deploy/cuda-compatibility/
OLDEST_DRIVER: Final = {11: "450.80.02", 12: "525.60.13", 13: "580"}

#: Where torch's builds for one CUDA are: https://pytorch.org/get-started/locally/
_TORCH: Final = "https://download.pytorch.org/whl"

#: Of a distribution: where its packages of the driver are, unless there from the start, and the command.
_DRIVER: Final = {
    "ubuntu": ("", "sudo ubuntu-drivers install"),
    "debian": (
        "contrib and non-free: https://wiki.debian.org/NvidiaGraphicsDrivers",
        "sudo apt install linux-headers-$(dpkg --print-architecture) nvidia-driver libcuda1 nvidia-smi",
    ),
    "fedora": (
        "RPM Fusion: https://rpmfusion.org/Howto/NVIDIA",
        "sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda",
    ),
    "rhel": (
        "NVIDIA: https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/",
        "sudo dnf module install nvidia-driver:latest-dkms",
    ),
    "arch": ("", "sudo pacman -S nvidia-open nvidia-utils"),
    "suse": (
        "NVIDIA: https://en.opensuse.org/SDB:NVIDIA_drivers",
        "sudo zypper install nvidia-open-driver-G06-signed-kmp-meta nvidia-compute-utils-G06",
    ),
}

#: Both pip and uv know them by these names.
_HOW: Final[Mapping[str, tuple[str, ...]]] = {
    "": (),
    "again": ("--force-reinstall",),
    "newer": ("--upgrade",),
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


def _quoted(words: Iterable[str]) -> str:
    return " ".join(f"'{one}'" if re.search(r"[\[<>=*]", one) else one for one in words)


def install(facts: Facts, *requirements: str, index: str | None = None) -> str:
    """One command that installs from PyPI (or an index of its form), also into conda's environments."""
    pip = "uv pip install" if facts.recording.system.installer == "uv" else "python -m pip install"
    return f"{pip} {_quoted(requirements)}" + (f" --index-url {index}" if index else "")


def uninstall(facts: Facts, name: str) -> str:
    """One command that takes away what pip or uv installed, also in an environment of conda."""
    uv = facts.recording.system.installer == "uv"
    return f"uv pip uninstall {name}" if uv else f"python -m pip uninstall --yes {name}"


def package(facts: Facts, requirement: str, how: Literal["", "again", "newer"] = "") -> str:
    """One command that installs what conda-forge has too: plainly, again, or its newest release."""
    if facts.recording.system.installer != "conda":
        return install(facts, *_HOW[how], requirement)
    name = re.sub(r"^torch\b", "pytorch", requirement)  # conda-forge's name for it
    verb = "update" if how == "newer" else "install"
    again = " --force-reinstall" if how == "again" else ""
    return f"conda {verb} -c conda-forge{again} {_quoted([name])}"


def newer(facts: Facts, framework: str) -> str:
    """The newest release of a framework, TensorFlow's with the CUDA libraries that it was built with."""
    if framework == "tensorflow" and facts.recording.system.installer != "conda":
        return install(facts, *_HOW["newer"], "tensorflow[and-cuda]")
    return package(facts, framework, "newer")


def torch_for_cuda(facts: Facts, tag: str | None = None) -> Fix:
    """torch built for CUDA: the newest that the driver takes, or the one of the tag, ``cu126``."""
    installer = facts.recording.system.installer
    text = "install the build for CUDA"
    if installer == "conda":
        major = "" if tag is None else f" 'cuda-version={tag[2:4]}'"
        return Fix(text, (f"conda install -c conda-forge pytorch-gpu{major}",))
    if tag is None and installer == "uv":
        return Fix(text, ("uv pip install --reinstall torch --torch-backend=auto",))
    index = f"{_TORCH}/{tag or torch_tag(facts)}"
    return Fix(text, (install(facts, *_HOW["again"], "torch", index=index),))


def torch_for_rocm(facts: Facts) -> Fix:
    command = install(facts, *_HOW["again"], "torch", index=f"{_TORCH}/rocm6.4")
    return Fix("install the build for ROCm", (command,))


def framework_again(facts: Facts, name: str) -> Fix:
    """The framework as it is, with all that it needs."""
    return Fix("install it again with all that it needs", (package(facts, name, "again"),))


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


def tensorflow_for_cuda(facts: Facts, how: Literal["", "again"] = "") -> Fix:
    """Conda's build brings its libraries as packages of their own; a wheel's come with its extra."""
    text = "install TensorFlow together with its CUDA libraries"
    if facts.recording.system.installer == "conda":
        return Fix(text, (package(facts, "tensorflow=*=cuda*", how),))
    return Fix(text, (install(facts, *_HOW[how], "tensorflow[and-cuda]"),))


def framework_for_cuda(facts: Facts, name: str) -> Fix:
    if name != "tensorflow":
        return torch_for_cuda(facts)
    if facts.recording.package("tensorflow-cpu") is None:
        return tensorflow_for_cuda(facts)
    # Another distribution with the same files: taking it away afterwards would take them from both.
    way = tensorflow_for_cuda(facts, "again")
    return Fix(way.text, (uninstall(facts, "tensorflow-cpu"), *way.commands))


def driver(facts: Facts, why: str = "install the NVIDIA driver") -> Fix:
    """The driver belongs to the host: a container cannot bring it, and WSL takes that of Windows."""
    if facts.is_wsl or facts.is_windows:
        return Fix(f"{why}, in Windows, from https://www.nvidia.com/drivers")
    if facts.in_container:
        return Fix(f"{why}, on the host of this container")
    family = os_family(facts)
    if family is None:
        return Fix(f"{why}, from https://www.nvidia.com/drivers or your distribution's packages")
    repository, command = _DRIVER[family]
    where = f" (first add the repository of {repository})" if repository else ""
    return Fix(f"{why}{where}", (command, "sudo reboot"))


def container_with_gpus(facts: Facts) -> Fix:
    """How the engine hands GPUs to a container."""
    return in_container(
        facts,
        "start the container with the GPUs (the host needs the NVIDIA Container Toolkit)",
        docker="docker run --gpus all IMAGE",
        podman="podman run --device nvidia.com/gpu=all IMAGE",
        kubernetes=Fix("ask for a GPU in the pod's resources: limits: {nvidia.com/gpu: 1}"),
        lxc="lxc config device add NAME gpu gpu",
    )


def in_container(
    facts: Facts, text: str, *, docker: str, podman: str, kubernetes: Fix, lxc: str
) -> Fix:
    """What the engine of this container takes: a command, or for a pod what to change in it."""
    engine = facts.host.container
    if engine == "Kubernetes":
        return kubernetes
    return Fix(text, ({"Podman": podman, "LXC": lxc}.get(engine or "", docker),))


def on_host(facts: Facts, text: str, *commands: str) -> Fix:
    """Commands for an administrator of the machine that has the GPU: outside of a container, and under
    WSL in Windows, whose driver it is."""
    if facts.is_wsl or facts.is_windows:
        theirs = tuple(_in_windows(one) for one in commands if re.search("nvidia-smi|reboot", one))
        if theirs or not commands:
            return Fix(f"{text}, in Windows as an administrator", theirs)
    return Fix(f"{text}, on the host of this container" if facts.in_container else text, commands)


def _in_windows(command: str) -> str:
    return "Restart-Computer" if "reboot" in command else command.removeprefix("sudo ")


def reset(facts: Facts, gpu: object, text: str = "reset the GPU, with no program on it") -> Fix:
    """Windows' driver does not reset a GPU by itself."""
    if facts.is_wsl or facts.is_windows:
        return on_host(facts, text, "sudo reboot")
    return on_host(facts, text, f"sudo nvidia-smi --gpu-reset -i {gpu}")


def set_variable(facts: Facts, name: str, value: object) -> str:
    """As the shell of this system takes it: PowerShell, or any that follows POSIX."""
    return f"$env:{name} = '{value}'" if facts.is_windows else f"export {name}={value}"


def unset_variable(facts: Facts, name: str) -> str:
    return f"Remove-Item Env:{name}" if facts.is_windows else f"unset {name}"


def run_with(facts: Facts, command: str, **variables: str) -> str:
    """One command with variables that are set for it."""
    if facts.is_windows:
        return "; ".join([*(f"$env:{name} = '{one}'" for name, one in variables.items()), command])
    return " ".join([*(f"{name}={one}" for name, one in variables.items()), command])


def for_this_user(facts: Facts, fix: Fix) -> Fix:
    """Root needs no sudo, which a small system does not even have. What is to be done on the host of a
    container is another user's."""
    if facts.recording.system.user_id != 0 or facts.in_container:
        return fix
    return Fix(fix.text, tuple(re.sub(r"\bsudo ", "", one) for one in fix.commands))
