"""From the bus to NVML: the kernel module, the device nodes, libcuda, and what the driver says."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devbench.doctor import fixes, xid
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import call_name
from devbench.doctor.records import CouldNotCheck, Fix

_LIBCUDA = call_name("dlopen", ("libcuda.so.1",))


def no_driver(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """D18"""
    if gpu.pci is None or gpu.pci.driver == "nvidia" or facts.driver_module:
        return
    device = f"PCI device {gpu.pci.bus_id} ({gpu.pci.vendor}:{gpu.pci.device})"
    evidence = (
        f"{device}: driver {gpu.pci.driver or 'none'}",
        "/proc/driver/nvidia/version is not there",
    )
    if gpu.pci.driver == "nouveau":
        yield Found(
            "error",
            "the GPU is driven by nouveau, which has no CUDA",
            evidence,
            (fixes.driver(facts, "replace nouveau by the NVIDIA driver"),),
        )
    elif gpu.pci.driver == "vfio-pci":
        yield Found(
            "error",
            "the GPU is set aside for a virtual machine (vfio-pci)",
            evidence,
            (Fix("use it in that virtual machine, or give it back to the host's driver"),),
        )
    elif gpu.pci.driver is None:
        yield from _unloaded(facts, evidence)
    else:
        yield Found(
            "error",
            f"the GPU is driven by {gpu.pci.driver}, which has no CUDA",
            evidence,
            (fixes.driver(facts),),
        )


def _unloaded(facts: Facts, evidence: tuple[str, ...]) -> Iterator[Found]:
    """No driver has taken the device: not installed, or refused by Secure Boot."""
    try:
        log = facts.kernel_log
    except CouldNotCheck:
        log = ""
    rejected = next((line for line in log.splitlines() if "key was rejected" in line.lower()), None)
    if rejected:
        yield Found(
            "error",
            "Secure Boot rejects the NVIDIA kernel module: it is not signed with an enrolled key",
            (*evidence, f"kernel log: {rejected.strip()[:160]}"),
            (
                fixes.on_host(
                    facts,
                    "enrol the key that the module was signed with, then restart and confirm",
                    "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der",
                    "sudo reboot",
                ),
                Fix("or turn Secure Boot off in the firmware's settings"),
            ),
        )
        return
    installed = facts.nvml_error not in ("LibraryNotFound", "NotRecorded")
    if installed:
        yield Found(
            "error",
            "the NVIDIA driver is installed and its kernel module is not loaded",
            (*evidence, f"NVML: {facts.nvml_error}"),
            (
                fixes.on_host(facts, "load the module", "sudo modprobe nvidia"),
                fixes.driver(facts, "or build it anew for this kernel: install the driver again"),
            ),
            "likely",
        )
        return
    yield Found("error", "no driver is installed for the GPU", evidence, (fixes.driver(facts),))


def container_without_gpus(facts: Facts) -> Iterator[Found]:
    """D11"""
    if not facts.in_container or facts.is_wsl:
        return
    where = f"container: {facts.host.container}"
    asked = facts.variables.get("NVIDIA_VISIBLE_DEVICES")
    told = () if asked is None else (f"NVIDIA_VISIBLE_DEVICES={asked}",)
    if facts.recording.entry("dev/nvidiactl") is None:
        if facts.driver_module:
            yield Found(
                "error",
                "the container was started without the GPUs: it has no device nodes of them",
                (
                    where,
                    "/dev/nvidiactl is not there",
                    "/proc/driver/nvidia/version is there",
                    *told,
                ),
                (fixes.container_with_gpus(facts),),
            )
        return
    if (refused := facts.error_of(_LIBCUDA)) is not None:
        wanted = facts.variables.get("NVIDIA_DRIVER_CAPABILITIES", "not set")
        yield Found(
            "error",
            "the container has the GPUs' device nodes and not libcuda",
            (where, f"libcuda.so.1: {refused}", f"NVIDIA_DRIVER_CAPABILITIES: {wanted}"),
            (
                fixes.in_container(
                    facts,
                    "ask for the compute libraries too",
                    docker="docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE",
                    podman="podman run --device nvidia.com/gpu=all IMAGE",
                    kubernetes=Fix(
                        "set NVIDIA_DRIVER_CAPABILITIES=compute,utility in the pod's environment"
                    ),
                    lxc="lxc config set NAME nvidia.runtime=true nvidia.driver.capabilities=compute,utility",
                ),
            ),
        )


def unified_memory_node(facts: Facts) -> Iterator[Found]:
    """D14"""
    if not facts.is_linux or facts.is_wsl or not facts.driver_module:
        return
    made = fixes.on_host(facts, "make the device node", "sudo nvidia-modprobe -u -c=0")
    if facts.recording.entry("dev/nvidia-uvm") is None and facts.recording.entry("dev/nvidiactl"):
        yield Found(
            "error",
            "/dev/nvidia-uvm is missing: NVML works and CUDA cannot start",
            ("/dev/nvidiactl is there", "/dev/nvidia-uvm is not there"),
            (fixes.container_with_gpus(facts), made) if facts.in_container else (made,),
        )
    elif "cuInit()" in facts.recording.calls and facts.error_of("cuInit()") == "999":
        again = ("sudo rmmod nvidia_uvm", "sudo modprobe nvidia_uvm")
        yield Found(
            "error",
            "CUDA cannot start (error 999): mostly the nvidia_uvm module after a suspend",
            ("cuInit: 999, unknown error",),
            (fixes.on_host(facts, "load the module anew, with no program on the GPU", *again),),
            "likely",
        )


def permissions(facts: Facts) -> Iterator[Found]:
    """D19"""
    closed = [
        entry
        for entry in facts.recording.entries
        if entry.path.startswith(("dev/nvidia", "dev/kfd", "dev/dri/render"))
        and not entry.accessible
    ]
    if not closed:
        return
    groups = dict.fromkeys(entry.group for entry in closed if entry.group not in (None, "root"))
    wanted = [str(group) for group in groups] or ["video", "render"]
    yield Found(
        "error",
        f"this user may not open {', '.join('/' + entry.path for entry in closed[:4])}",
        (
            *(f"/{entry.path}: {entry.mode}, group {entry.group}" for entry in closed),
            f"groups of this user: {', '.join(facts.recording.system.groups) or 'none'}",
        ),
        (
            fixes.in_container(
                facts,
                "let the container's user be of the nodes' group",
                docker=f"docker run{''.join(f' --group-add {one}' for one in wanted)} IMAGE",
                podman="podman run --group-add keep-groups IMAGE",
                kubernetes=Fix(
                    "name the nodes' groups in the pod's securityContext: supplementalGroups"
                ),
                lxc=f"lxc config device set NAME gpu gid=$(getent group {wanted[0]} | cut -d: -f3)",
            )
            if facts.in_container
            else Fix(
                "join the group, then log in again", (f"sudo usermod -aG {','.join(wanted)} $USER",)
            ),
        ),
    )


def wsl_library_path(facts: Facts) -> Iterator[Found]:
    """D17"""
    if not facts.is_wsl:
        return
    there = facts.recording.entry("usr/lib/wsl/lib/libcuda.so.1") is not None
    refused = facts.error_of(_LIBCUDA)
    if refused is not None and there:
        yield Found(
            "error",
            "WSL's libcuda is there and not found",
            ("/usr/lib/wsl/lib/libcuda.so.1 is there", f"libcuda.so.1: {refused}"),
            (
                Fix(
                    "put WSL's folder on the loader's path",
                    ("export LD_LIBRARY_PATH=/usr/lib/wsl/lib:$LD_LIBRARY_PATH",),
                ),
            ),
        )
    elif refused is not None:
        yield Found(
            "error",
            "Windows gives WSL no libcuda: its NVIDIA driver is missing or too old",
            ("/dev/dxg is there", "/usr/lib/wsl/lib/libcuda.so.1 is not there"),
            (fixes.driver(facts), Fix("then restart WSL", ("wsl --shutdown",))),
        )
    elif "/wsl/" not in (path := str(facts.call(_LIBCUDA))) and path.startswith("/"):
        yield Found(
            "error",
            "a Linux driver inside WSL hides the one that Windows gives it",
            (f"libcuda.so.1 is {path}",),
            (
                Fix("remove the Linux driver", ("sudo apt purge '^(nvidia|libnvidia)-.*'",)),
                Fix(
                    "or put WSL's folder first",
                    ("export LD_LIBRARY_PATH=/usr/lib/wsl/lib:$LD_LIBRARY_PATH",),
                ),
            ),
        )


def unknown_error_after_reload(facts: Facts) -> Iterator[Found]:
    """D12"""
    if facts.nvml_error != "Unknown" or not facts.in_container:
        return
    yield Found(
        "error",
        "the container lost its access to the GPUs: a reload of systemd took it away",
        ("NVML: Unknown Error", f"container: {facts.host.container}"),
        (
            fixes.in_container(
                facts,
                "start the container again",
                docker="docker restart CONTAINER",
                podman="podman restart CONTAINER",
                kubernetes=Fix(
                    "delete the pod, so that it is made anew", ("kubectl delete pod NAME",)
                ),
                lxc="lxc restart NAME",
            ),
            fixes.on_host(
                facts,
                "so that it does not come back, give the nodes the links that systemd looks for",
                "sudo nvidia-ctk system create-dev-char-symlinks --create-all",
            ),
        ),
        "likely",
    )


def versions_differ(facts: Facts) -> Iterator[Found]:
    """D13"""
    if facts.nvml_error != "LibRmVersionMismatch":
        return
    version = facts.recording.files.get("proc/driver/nvidia/version", "")
    loaded = re.search(r"Kernel Module(?: +for \S+)? +(\d+\.[\d.]+)", version)
    yield Found(
        "error",
        "the driver was updated and the old kernel module is still loaded",
        (
            "NVML: driver and library versions differ",
            f"kernel module: {loaded[1] if loaded else 'version not told'}",
        ),
        (
            Fix("start the container again, from the updated host")
            if facts.in_container
            else fixes.on_host(facts, "restart the machine", "sudo reboot"),
            fixes.on_host(
                facts,
                "or load the new module, with no program on any GPU",
                "sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia",
                "sudo modprobe nvidia",
            ),
        ),
    )


def lost(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """D23"""
    if facts.nvml_error is not None:
        raise CouldNotCheck(f"NVML does not answer ({facts.nvml_error})")
    bus_id = gpu.nvml.pci_bus_id if gpu.nvml else f"0000{gpu.pci.bus_id}" if gpu.pci else None
    try:
        last = [one for one in xid.parse(facts.kernel_log) if one.bus_id == bus_id][-1:]
    except CouldNotCheck:
        last = []
    logged = tuple(f"kernel log: {one.line}" for one in last)
    restart = fixes.on_host(facts, "stop what uses the GPU and power the machine off and on")
    reset = fixes.reset(facts, _index(gpu))
    if gpu.nvml is None:
        yield Found(
            "error",
            "the GPU is on the bus and the driver does not list it",
            (f"PCI device {gpu.physical}", f"NVML lists {len(facts.machine.gpus)} GPUs", *logged),
            (restart,),
            "likely",
        )
        return
    if gpu.is_lost:
        yield Found(
            "error",
            "the GPU is lost: it has fallen off the bus",
            ("NVML: GpuIsLost", *logged),
            (restart, Fix("if it comes again, check the board's seat, power and cooling")),
        )
        return
    action = gpu.health.recovery_action if gpu.health else None
    if action not in (None, "none"):
        yield Found(
            "error",
            f"the driver says that the GPU needs to recover: {action}",
            (f"NVML: recovery action {action}", *logged),
            (restart if "reboot" in str(action) else reset,),
        )


def _index(gpu: GpuFacts) -> str:
    return str(gpu.nvml.index) if gpu.nvml else gpu.physical
