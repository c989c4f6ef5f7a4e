"""Recorded machines as data: clean ones, and what is changed on them so that something is wrong.

Composed from the documented answers of NVML and of the frameworks; none is a capture of a real machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from devbench.detection import FrameworkAnswer
from devbench.doctor.recording import (
    Arithmetic,
    CallingProcess,
    Entry,
    FrameworkRecord,
    Load,
    Package,
    PciDevice,
    Recording,
    Said,
    System,
    Trial,
)
from devbench.frameworks.base import FrameworkView
from devbench.model import Device

SITE = "/home/jane/venv/lib/python3.12/site-packages"
GIB = 2**30

LINUX: Mapping[str, str] = {
    "proc/sys/kernel/hostname": "tempest\n",
    "proc/sys/kernel/osrelease": "6.8.0-41-generic\n",
    "proc/cpuinfo": (
        "processor\t: 0\nmodel name\t: AMD Ryzen 9 7950X 16-Core Processor\n"
        "flags\t\t: fpu sse4_2 avx fma avx2 avx512f\n"
    ),
    "proc/meminfo": (
        "MemTotal:       65536000 kB\nMemAvailable:   60000000 kB\n"
        "SwapTotal:       8388608 kB\nSwapFree:        8388608 kB\n"
    ),
    "proc/self/status": "Cpus_allowed_list:\t0-7\n",
    "proc/self/cgroup": "0::/user.slice\n",
    "proc/self/mountinfo": "31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\n',
    "sys/devices/system/cpu/online": "0-7\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "amd-pstate-epp\n",
    "sys/devices/system/cpu/cpufreq/boost": "1\n",
    "sys/devices/system/node/online": "0-1\n",
    "sys/devices/system/node/node0/cpulist": "0-7\n",
    "sys/devices/system/node/node1/cpulist": "8-15\n",
}

DRIVER: Mapping[str, str] = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.82.07\n",
}

SYSTEM = System(
    platform="linux",
    machine="x86_64",
    python="3.12.4",
    libc="glibc 2.39",
    environment="venv",
    user_id=1000,
    groups=("jane", "video"),
    shm_bytes=32 * GIB,
)

NODES = tuple(
    Entry(path, "crw-rw-rw-", "root") for path in ("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
)

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "torch": {"intraop_threads": 8, "float32_matmul_precision": "high", "cudnn_benchmark": False},
    "tensorflow": {"intraop_threads": 0, "tf32": True},
}

BUILDS: Mapping[str, Mapping[str, Any]] = {
    "torch": {
        "cuda": "13.0",
        "hip": None,
        "arch_list": ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"],
    },
    "tensorflow": {
        "is_cuda_build": True,
        "is_rocm_build": False,
        "cuda_version": "12.5.1",
        "cuda_compute_capabilities": ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"],
    },
}

VERSIONS = {"torch": "2.13.0+cu130", "tensorflow": "2.21.0"}

RATES = {"numpy": 1.0e11, "float32": 0.9e11, "bfloat16": 0.8e11}


def uuid(index: int) -> str:
    return f"GPU-{index:08x}-aaaa-bbbb-cccc-dddddddddddd"


def bus(index: int) -> str:
    return f"0000:{index + 1:02x}:00.0"


def gpu_calls(
    index: int = 0, name: str = "NVIDIA GeForce RTX 4090", **changed: Any
) -> dict[str, Any]:
    """All answers of one healthy GPU at rest; `changed` are functions by name, without ``nvmlDeviceGet``."""
    gpu = f"gpu{index}"
    answers: dict[str, Any] = {
        "Name": name,
        "UUID": uuid(index),
        "PciInfo": {"busId": f"0000{bus(index)}"},
        "CudaComputeCapability": [8, 9],
        "NumGpuCores": 16384,
        "MemoryBusWidth": 384,
        "MemoryInfo": {"total": 24 * GIB, "free": 23 * GIB, "used": GIB},
        "ClockInfo, 1": 210,
        "ClockInfo, 2": 405,
        "MaxClockInfo, 1": 2520,
        "MaxClockInfo, 2": 10501,
        "CurrentClocksEventReasons": 1,
        "PowerUsage": 20000,
        "EnforcedPowerLimit": 450000,
        "PowerManagementDefaultLimit": 450000,
        "PowerManagementLimitConstraints": [150000, 600000],
        "Temperature, 0": 35,
        "TemperatureThreshold, 1": 90,
        "CurrPcieLinkGeneration": 1,
        "MaxPcieLinkGeneration": 4,
        "GpuMaxPcieLinkGeneration": 4,
        "CurrPcieLinkWidth": 16,
        "MaxPcieLinkWidth": 16,
        "PcieReplayCounter": 0,
        "UtilizationRates": {"gpu": 0, "memory": 0},
        "EccMode": [1, 1],
        "TotalEccErrors, 1, 0": 0,
        "TotalEccErrors, 1, 1": 0,
        "RemappedRows": [0, 0, 0, 0],
        "RetiredPagesPendingStatus": 0,
        "FieldValues, [230]": [{"fieldId": 230, "nvmlReturn": 0, "value": 0}],
        "PersistenceMode": 1,
        "ComputeMode": 0,
        "MigMode": [0, 0],
        "ComputeRunningProcesses": [],
        "DisplayActive": 0,
        "PerformanceState": 8,
        "ApplicationsClock, 1": 2520,
        "DefaultApplicationsClock, 1": 2520,
        "BAR1MemoryInfo": {"bar1Total": 32 * GIB},
        "NvLinkState, 0": {"error": "NotSupported"},
    } | changed
    calls = {f"nvmlDeviceGetHandleByIndex({index})": gpu}
    for function, answer in answers.items():
        named, _, arguments = function.partition(", ")
        calls[f"nvmlDeviceGet{named}({', '.join(filter(None, (gpu, arguments)))})"] = answer
    return calls


def driver_calls(*gpus: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "nvmlInit()": 0,
        "nvmlDeviceGetCount()": len(gpus),
        "nvmlSystemGetDriverVersion()": "580.82.07",
        "nvmlSystemGetCudaDriverVersion_v2()": 13000,
        "dlopen(libcuda.so.1)": "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "cuDriverGetVersion()": 13000,
        "cuInit()": 0,
        **{call: answer for gpu in gpus for call, answer in gpu.items()},
        **changed,
    }


def load(index: int = 0, **changed: Any) -> Load:
    """What the GPU answers while torch keeps it busy."""
    answers: dict[str, Any] = {
        "ClockInfo, 1": 2475,
        "ClockInfo, 2": 10501,
        "CurrentClocksEventReasons": 4,
        "PowerUsage": 430000,
        "Temperature, 0": 62,
        "CurrPcieLinkGeneration": 4,
        "CurrPcieLinkWidth": 16,
        "PcieReplayCounter": 0,
    } | changed
    calls: dict[str, Any] = {f"nvmlDeviceGetHandleByUUID({uuid(index)})": "busy"}
    for function, answer in answers.items():
        named, _, arguments = function.partition(", ")
        calls[f"nvmlDeviceGet{named}({', '.join(filter(None, ('busy', arguments)))})"] = answer
    return Load(f"cuda:{index}", calls)


def framework(
    name: str,
    physical: Sequence[str] = (uuid(0),),
    *,
    build: Mapping[str, Any] | None = None,
    trials: Sequence[Trial] | None = None,
    log: Sequence[str] = (),
    kind: str = "",
    **changed: Any,
) -> FrameworkRecord:
    """A framework that computes on the GPUs of these physical names, each at an index of its own."""
    form, own_kind = {"torch": ("cuda:{}", "cuda"), "tensorflow": ("GPU:{}", "gpu")}[name]
    devices = [Device(name, "cpu" if name == "torch" else "CPU:0", "cpu", "CPU", "cpu")]
    devices += [
        Device(name, form.format(index) if kind != "mps" else "mps", kind or own_kind, "GPU", one)
        for index, one in enumerate(physical)
    ]
    ran = tuple(Trial(device.address) for device in devices[1:])
    return FrameworkRecord(
        **{
            "answer": FrameworkAnswer(
                name=name,
                status="ok",
                view=FrameworkView(
                    name,
                    changed.pop("version", VERSIONS[name]),
                    f"{SITE}/{name}/__init__.py",
                    tuple(devices),
                    BUILDS[name] if build is None else build,
                    1.5,
                ),
                log=tuple(log),
            ),
            "settings": SETTINGS[name],
            "trials": ran if trials is None else tuple(trials),
            "arithmetic": tuple(
                one
                for device in devices
                if device.is_cpu or Trial(device.address) in (ran if trials is None else trials)
                for one in right_answers(device.address)
            ),
            "loads": tuple(load(index) for index in range(len(physical)))
            if name == "torch"
            else (),
            "rates": RATES,
            **changed,
        }
    )


def right_answers(address: str) -> tuple[Arithmetic, ...]:
    return tuple(
        Arithmetic(address, check, "no fault found", "as it is known")
        for check in ("integers", "sums", "gradients", "product[float32]")
    )


def failed(name: str, reason: str, *log: str) -> FrameworkRecord:
    return FrameworkRecord(
        answer=FrameworkAnswer(name=name, status="failed", reason=reason, log=log)
    )


def missing(name: str) -> FrameworkRecord:
    return FrameworkRecord(
        answer=FrameworkAnswer(name=name, status="missing", reason="not installed")
    )


PACKAGES = (
    Package("torch", "2.13.0+cu130", SITE),
    Package("tensorflow", "2.21.0", SITE),
    Package("nvidia-cudnn-cu12", "9.10.2.21", SITE),
)

QUIET = Said("dmesg", "[    2.1] nvidia: loading out-of-tree module taints kernel.")


def one_gpu() -> Recording:
    """A workstation with one GPU, which both frameworks use."""
    return Recording(
        system=SYSTEM,
        files={**LINUX, **DRIVER, f"sys/bus/pci/devices/{bus(0)}/numa_node": "0\n"},
        entries=NODES,
        pci=(PciDevice(bus(0), "0x10de", "0x2684", "0x030000", "nvidia"),),
        calls=driver_calls(gpu_calls()),
        frameworks=(framework("torch"), framework("tensorflow", ["0000:01:00.0"])),
        packages=PACKAGES,
        commands=(QUIET, Said("systemctl", "inactive")),
        process=CallingProcess(started_with={}, now={}, initialized={"torch": 1}),
    )


def bare_cpu() -> Recording:
    """No GPU at all, with the usual builds of both frameworks."""
    return Recording(
        system=SYSTEM,
        files=dict(LINUX),
        calls={"nvmlInit()": {"error": "LibraryNotFound"}},
        frameworks=(
            framework(
                "torch", [], trials=[Trial("cuda:0", "RuntimeError: Found no NVIDIA driver")]
            ),
            framework("tensorflow", [], log=["Could not find cuda drivers on your machine"]),
        ),
    )


def container() -> Recording:
    """The same GPU in a container of Docker, with 8 of 192 CPUs granted."""
    machine = one_gpu()
    files = {
        **machine.files,
        ".dockerenv": "",
        "proc/self/cgroup": "0::/\n",
        "proc/self/status": "Cpus_allowed_list:\t0-191\n",
        "sys/devices/system/cpu/online": "0-191\n",
        "sys/devices/system/node/node0/cpulist": "0-191\n",
        "sys/devices/system/node/online": "0\n",
        "sys/fs/cgroup/cpu.max": "800000 100000\n",
        "sys/fs/cgroup/cpu.stat": "nr_periods 1000\nnr_throttled 0\nthrottled_usec 0\n",
        "sys/fs/cgroup/memory.max": str(64 * GIB),
        "sys/fs/cgroup/memory.current": str(8 * GIB),
        "sys/fs/cgroup/memory.events": "low 0\nhigh 0\nmax 0\noom 0\n",
    }
    settings = dict(SETTINGS["tensorflow"], intraop_threads=8)
    return replace(
        machine,
        files=files,
        frameworks=(
            framework("torch"),
            framework("tensorflow", ["0000:01:00.0"], settings=settings),
        ),
        variables={"NVIDIA_VISIBLE_DEVICES": "all", "TF_NUM_INTRAOP_THREADS": "8"},
    )


H100 = "NVIDIA H100 80GB HBM3"


def server(
    sick: Mapping[str, Any] | None = None, sick_load: Mapping[str, Any] | None = None
) -> Recording:
    """Eight GPUs with NVLinks, of which number 3 may be sick."""
    links: dict[str, Any] = {f"NvLinkState, {link}": 1 for link in range(4)}
    links["NvLinkState, 4"] = {"error": "InvalidArgument"}
    healthy: dict[str, Any] = {
        **links,
        "CudaComputeCapability": [9, 0],
        "MemoryInfo": {"total": 80 * GIB, "free": 79 * GIB, "used": GIB},
        "MaxPcieLinkGeneration": 5,
        "GpuMaxPcieLinkGeneration": 5,
    }
    calls = [
        gpu_calls(index, H100, **(healthy | (dict(sick or {}) if index == 3 else {})))
        for index in range(8)
    ]
    loads = tuple(
        load(
            index,
            **({"CurrPcieLinkGeneration": 5} | (dict(sick_load or {}) if index == 3 else {})),
        )
        for index in range(8)
    )
    machine = one_gpu()
    # TensorFlow numbers them the other way round.
    backwards = [f"0000:{index + 1:02x}:00.0" for index in reversed(range(8))]
    return replace(
        machine,
        files={
            **machine.files,
            **{f"sys/bus/pci/devices/{bus(index)}/numa_node": "0\n" for index in range(8)},
        },
        pci=tuple(
            PciDevice(bus(index), "0x10de", "0x2330", "0x030200", "nvidia") for index in range(8)
        ),
        calls=driver_calls(*calls),
        frameworks=(
            framework("torch", [uuid(index) for index in range(8)], loads=loads),
            framework("tensorflow", backwards),
        ),
        process=None,
    )


SLICES = ("MIG-11111111-0000-1111-2222-333333333333", "MIG-22222222-0000-1111-2222-333333333333")


def mig(**variables: str) -> Recording:
    """One GPU in two MIG instances; torch sees one of them."""
    instances = {
        "nvmlDeviceGetMaxMigDeviceCount(gpu0)": 7,
        **{
            f"nvmlDeviceGetMigDeviceHandleByIndex(gpu0, {slot})": {"error": "NotFound"}
            for slot in range(2, 7)
        },
    }
    for slot, own in enumerate(SLICES):
        instances[f"nvmlDeviceGetMigDeviceHandleByIndex(gpu0, {slot})"] = f"mig{slot}"
        instances[f"nvmlDeviceGetUUID(mig{slot})"] = own
        instances[f"nvmlDeviceGetName(mig{slot})"] = f"{H100} MIG 1g.10gb"
        instances[f"nvmlDeviceGetMemoryInfo(mig{slot})"] = {"total": 10 * GIB}
    # NVML answers few questions about a GPU that is partitioned while its parts are busy.
    calls = gpu_calls(0, H100, MigMode=[1, 1], CudaComputeCapability=[9, 0])
    return replace(
        one_gpu(),
        calls=driver_calls(calls | instances),
        frameworks=(framework("torch", [SLICES[0].replace("MIG-", "GPU-")], loads=(load(),)),),
        variables=variables,
        process=None,
    )


def wsl() -> Recording:
    """WSL: no PCI bus, no device nodes; the driver comes from Windows."""
    machine = one_gpu()
    without = {"proc/driver/nvidia/version", f"sys/bus/pci/devices/{bus(0)}/numa_node"}
    files = {name: text for name, text in machine.files.items() if name not in without}
    files["proc/sys/kernel/osrelease"] = "5.15.153.1-microsoft-standard-WSL2\n"
    files["sys/devices/system/node/online"] = "0\n"
    return replace(
        machine,
        files=files,
        entries=(
            Entry("dev/dxg", "crw-rw-rw-", "root"),
            Entry("usr/lib/wsl/lib/libcuda.so.1", "-r-xr-xr-x", "root"),
        ),
        pci=(),
        calls=driver_calls(
            gpu_calls(), **{"dlopen(libcuda.so.1)": "/usr/lib/wsl/drivers/nv_dispi/libcuda.so.1.1"}
        ),
        commands=(Said("dmesg", ""),),
        process=None,
    )


def rocm() -> Recording:
    """One GPU of AMD under ROCm."""
    build = {"cuda": None, "hip": "6.4.43482", "arch_list": ["gfx942"]}
    return replace(
        bare_cpu(),
        entries=tuple(
            Entry(path, "crw-rw----", "render") for path in ("dev/kfd", "dev/dri/renderD128")
        ),
        pci=(PciDevice("0000:c3:00.0", "0x1002", "0x74a1", "0x038000", "amdgpu"),),
        frameworks=(
            framework("torch", ["GPU-amd"], build=build, version="2.13.0+rocm6.4", loads=()),
        ),
    )


def apple() -> Recording:
    """A Mac with an Apple chip."""
    return Recording(
        system=System(platform="darwin", machine="arm64", python="3.12.4", translated=False),
        calls={"nvmlInit()": {"error": "LibraryNotFound"}},
        frameworks=(
            framework("torch", ["mps"], kind="mps", build={"cuda": None, "hip": None}, loads=()),
        ),
        commands=(Said("pmset", "Now drawing from 'AC Power'"),),
    )


def windows(version: str = "2.10.1") -> Recording:
    """Native Windows with one GPU."""
    return replace(
        one_gpu(),
        system=replace(SYSTEM, platform="win32", machine="AMD64", libc=None, shm_bytes=None),
        files={},
        entries=(),
        pci=(),
        frameworks=(
            framework("tensorflow", [uuid(0)], version=version)
            if version == "2.10.1"
            else framework("tensorflow", [], build={"is_cuda_build": False}, version=version),
        ),
        commands=(),
        process=None,
    )


CLEAN = {
    "bare CPU host": bare_cpu,
    "one GPU": one_gpu,
    "container": container,
    "eight GPUs": server,
    "MIG, one instance chosen": lambda: mig(CUDA_VISIBLE_DEVICES=SLICES[0]),
    "WSL": wsl,
    "ROCm": rocm,
    "Apple": apple,
    "Windows with the last TensorFlow for it": windows,
}


def changed(machine: Recording, **calls: Any) -> Recording:
    """Other answers of GPU 0, by the names of `gpu_calls`."""
    return replace(machine, calls={**machine.calls, **_only(calls)})


def _only(calls: Mapping[str, Any]) -> dict[str, Any]:
    made = gpu_calls(0)
    whole = gpu_calls(0, **calls)
    return {call: answer for call, answer in whole.items() if made.get(call) != answer}


def under_load(machine: Recording, **answers: Any) -> Recording:
    """Other answers of GPU 0 while torch keeps it busy."""
    first, *rest = machine.frameworks
    return replace(machine, frameworks=(replace(first, loads=(load(0, **answers),)), *rest))


def with_variables(machine: Recording, **variables: str) -> Recording:
    return replace(machine, variables={**machine.variables, **variables})


def with_files(machine: Recording, **files: str | None) -> Recording:
    """Files by path, with ``__`` for a slash; None takes one away. Underscores of a name stay single."""
    named = {name.replace("__", "/"): text for name, text in files.items()}
    kept = {path: text for path, text in machine.files.items() if path not in named}
    return replace(
        machine, files=kept | {path: text for path, text in named.items() if text is not None}
    )


def no_nvml(machine: Recording, error: str) -> Recording:
    """NVML fails on every call, and the frameworks see nothing."""
    return replace(
        machine,
        calls={"nvmlInit()": {"error": error}, "dlopen(libcuda.so.1)": "/usr/lib/libcuda.so.1"},
        frameworks=blind(),
    )


def blind(reason: str = "RuntimeError: No CUDA GPUs are available") -> tuple[FrameworkRecord, ...]:
    """Both frameworks as they come, neither with a GPU."""
    return (
        framework("torch", [], trials=[Trial("cuda:0", reason)]),
        framework("tensorflow", []),
    )
