"""What this process and the files of its machine tell: read in milliseconds, nothing is asked."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from devbench.detection.cgroup import levels
from devbench.detection.files import read_line, read_text
from devbench.doctor.recording import CallingProcess, Entry, Package, PciDevice, System
from devbench.environment import ALLOWED
from devbench.model import Json

#: What is read of /proc, /sys and /etc. Nothing in them is a secret.
FILES: Final = (
    "proc/meminfo",
    "proc/self/status",
    "proc/self/cgroup",
    "proc/vmstat",
    "proc/pressure/memory",
    "proc/sys/kernel/hostname",
    "proc/sys/kernel/osrelease",
    "proc/driver/nvidia/version",
    "etc/os-release",
    "usr/lib/os-release",
    ".dockerenv",
    "run/.containerenv",
    "run/systemd/container",
    "sys/hypervisor/type",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "sys/devices/system/cpu/intel_pstate/no_turbo",
    "sys/devices/system/cpu/cpufreq/boost",
    "sys/devices/system/node/online",
    "sys/devices/system/node/node[0-9]*/cpulist",
    "sys/devices/system/node/node[0-9]*/meminfo",
    "sys/class/power_supply/*/type",
    "sys/class/power_supply/*/online",
    "sys/class/power_supply/*/status",
)

#: Read of each control group of this process, as far as it is there.
GROUP_FILES: Final = (
    *("cpu.max", "cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    *("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"),
    *("memory.max", "memory.current", "memory.stat", "memory.events"),
    *("memory.limit_in_bytes", "memory.usage_in_bytes"),
)

#: Device nodes, and files whose existence says something.
ENTRIES: Final = (
    *("dev/nvidia[0-9]*", "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia-nvswitchctl"),
    *("dev/dxg", "dev/kfd", "dev/dri/renderD*", "usr/lib/wsl/lib/libcuda.so.1"),
)

#: Variables that choose devices, change their speed or how libraries are found: those that a run keeps,
#: and a few more. Others may hold secrets.
VARIABLES: Final = (
    *ALLOWED,
    *("HSA_*", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR"),
    *("CUDNN_*", "CUBLAS_*", "LD_LIBRARY_PATH", "PYTHONASYNCIODEBUG"),
)

#: Distributions that a diagnosis asks for.
PACKAGES: Final = re.compile(
    r"(torch|torch[-_](cpu|directml)|pytorch.*|tensorflow([-_].*)?|keras|numpy|protobuf|triton|jax|nvidia[-_].*|"
    r"intel[-_].*|mkl|cuda[-_].*|rocm.*)"
)

CHOOSING: Final = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def system(root: Path) -> System:
    libc = " ".join(filter(None, platform.libc_ver())) or None
    shm = None
    with suppress(OSError, AttributeError):  # no such folder; Windows
        told = os.statvfs(root / "dev/shm")
        shm = told.f_blocks * told.f_frsize
    return System(
        platform=sys.platform,
        machine=platform.machine(),
        python=platform.python_version(),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        libc=libc,
        environment=_environment(),
        installer=_installer(),
        user_id=os.getuid() if hasattr(os, "getuid") else None,
        groups=tuple(_groups()),
        shm_bytes=shm,
        translated=_translated(),
    )


def _environment() -> Literal["venv", "conda", "system"]:
    if (Path(sys.prefix) / "conda-meta").is_dir():
        return "conda"
    return "venv" if sys.prefix != sys.base_prefix else "system"


def _installer() -> Literal["pip", "uv", "conda"]:
    """Who made this environment: uv says so in its pyvenv.cfg, conda keeps a folder there."""
    if _environment() == "conda":
        return "conda"
    settings = read_text(Path(sys.prefix), "pyvenv.cfg") or ""
    return "uv" if re.search(r"^uv\s*=", settings, re.MULTILINE) else "pip"


def _groups() -> Iterator[str]:
    try:
        import grp
    except ImportError:  # Windows
        return
    for number in os.getgroups():
        try:
            yield grp.getgrgid(number).gr_name
        except KeyError:  # a group without a name
            yield str(number)


def _translated() -> bool | None:
    """Whether Rosetta translates this process: an Intel build of Python on an Apple chip."""
    if platform.system() != "Darwin":
        return None
    try:
        done = subprocess.run(
            ["sysctl", "-n", "sysctl.proc_translated"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() == "1"


def read_files(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in FILES:
        paths = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
        for path in paths:
            text = read_text(path.parent, path.name)
            if text is not None:
                found[path.relative_to(root).as_posix()] = text
    found |= _first_cpu(root)
    for device in pci_devices(root):
        name = f"sys/bus/pci/devices/{device.bus_id}/numa_node"
        if (node := read_text(root, name)) is not None:
            found[name] = node
    mounts = (read_text(root, "proc/self/mountinfo") or "").splitlines(keepends=True)
    found["proc/self/mountinfo"] = "".join(line for line in mounts if " - cgroup" in line)
    for controller in ("cpu", "cpuset", "memory"):
        for level in levels(root, controller):
            for name in GROUP_FILES:
                text = read_text(level.folder, name)
                if text is not None:
                    found[(level.folder / name).relative_to(root).as_posix()] = text
    return found


def _first_cpu(root: Path) -> dict[str, str]:
    """/proc/cpuinfo has a block a CPU, which differ in what nobody reads."""
    text = read_text(root, "proc/cpuinfo")
    return {} if text is None else {"proc/cpuinfo": text.partition("\n\n")[0] + "\n"}


def entries(root: Path) -> Iterator[Entry]:
    for pattern in ENTRIES:
        for path in sorted(root.glob(pattern)):
            with suppress(OSError):  # gone meanwhile
                told = path.stat()
                yield Entry(
                    path=path.relative_to(root).as_posix(),
                    mode=stat.filemode(told.st_mode),
                    group=_group_name(told.st_gid),
                    accessible=os.access(path, os.R_OK | os.W_OK)
                    or (path.is_file() and os.access(path, os.R_OK)),
                )


def _group_name(number: int) -> str:
    try:
        import grp

        return grp.getgrgid(number).gr_name
    except (ImportError, KeyError):
        return str(number)


def pci_devices(root: Path) -> Iterator[PciDevice]:
    """Display controllers (class 03) and processing accelerators (class 12)."""
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        device_class = read_line(folder, "class") or ""
        if device_class.startswith(("0x03", "0x12")):
            driver = folder / "driver"
            yield PciDevice(
                bus_id=folder.name,
                vendor=read_line(folder, "vendor") or "",
                device=read_line(folder, "device") or "",
                device_class=device_class,
                driver=driver.readlink().name if driver.is_symlink() else None,
            )


def packages() -> Iterator[Package]:
    # The name of a folder tells it; opening the metadata of every distribution takes a second.
    for folder in dict.fromkeys(sys.path):
        for entry in sorted(Path(folder or ".").glob("*.dist-info")):
            name, _, version = entry.name.removesuffix(".dist-info").partition("-")
            if PACKAGES.fullmatch(name.lower()):
                yield Package(name.lower().replace("_", "-"), version, str(entry.parent))


def chosen_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(environ.items())
        if any(fnmatchcase(name, pattern) for pattern in VARIABLES)
    }


def process_names(root: Path, calls: Mapping[str, Json]) -> dict[str, str]:
    """The names of the processes that NVML lists, as far as they are in our namespace."""
    found = {}
    for call, answer in calls.items():
        if call.startswith("nvmlDeviceGetComputeRunningProcesses") and isinstance(answer, list):
            for process in answer:
                name = f"proc/{process['pid']}/comm"
                text = read_text(root, name)
                if text is not None:
                    found[name] = text
    return found


def calling_process() -> CallingProcess:
    """This process. Nothing is imported or opened for it."""
    started = read_text(Path("/proc/self"), "environ") or ""
    pairs = (pair.partition("=") for pair in started.split("\0"))
    initialized = {}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        initialized["torch"] = int(torch.cuda.device_count())
    elif (devices := _open_cuda()) is not None:
        # TensorFlow does not tell whether it has opened CUDA; CUDA tells whether somebody has.
        opener = "tensorflow" if "tensorflow" in sys.modules else "another library"
        initialized[opener] = devices
    return CallingProcess(
        started_with={name: value for name, _, value in pairs if name in CHOOSING},
        now={name: os.environ[name] for name in CHOOSING if name in os.environ},
        initialized=initialized,
    )


def _open_cuda() -> int | None:
    """How many devices CUDA shows this process; None where nothing has loaded and initialised it.

    The library is not loaded for it, and the call fails before cuInit instead of initialising anything:
    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
    """
    if not hasattr(os, "RTLD_NOLOAD"):  # Windows
        return None
    try:
        cuda = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
    count = ctypes.c_int()
    return count.value if cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 else None
