"""One recorded machine for each id: what is wrong there, and the command (or words) that mends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from devbench.doctor.recording import (
    Arithmetic,
    CallingProcess,
    Entry,
    Library,
    Package,
    PciDevice,
    Recording,
    Said,
    Trial,
)
from devbench.doctor.records import Severity
from tests.doctor import machines
from tests.doctor.machines import (
    BUILDS,
    GIB,
    SITE,
    SYSTEM,
    blind,
    bus,
    changed,
    container,
    framework,
    missing,
    no_nvml,
    one_gpu,
    under_load,
    with_files,
    with_variables,
)


@dataclass(frozen=True)
class Fault:
    """id as the diagnosis must find it; fix: a part of one of its fixes, text or command."""

    machine: Callable[[], Recording]
    severity: Severity
    fix: str
    says: str = ""


def cpu_wheel() -> Recording:
    """A CPU-only wheel beside a good driver; TensorFlow uses the GPU."""
    torch = framework(
        "torch",
        [],
        build={"cuda": None, "hip": None, "arch_list": []},
        version="2.13.0+cpu",
        trials=[Trial("cuda:0", "AssertionError: Torch not compiled with CUDA enabled")],
    )
    return replace(one_gpu(), frameworks=(torch, one_gpu().frameworks[1]))


def old_driver() -> Recording:
    """A driver for CUDA 12.4 beside a build for CUDA 13."""
    machine = one_gpu()
    calls = {
        **machine.calls,
        "nvmlSystemGetDriverVersion()": "550.90.07",
        "nvmlSystemGetCudaDriverVersion_v2()": 12040,
    }
    refusal = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040)."
    return replace(
        machine,
        calls=calls,
        frameworks=(
            framework("torch", [], trials=[Trial("cuda:0", refusal)]),
            machine.frameworks[1],
        ),
    )


def old_build() -> Recording:
    build = dict(BUILDS["torch"], arch_list=["sm_50", "sm_60", "sm_70", "sm_80"])
    refusal = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    machine = changed(one_gpu(), CudaComputeCapability=[12, 0])
    torch = framework("torch", build=build, trials=[Trial("cuda:0", refusal)], loads=())
    return replace(machine, frameworks=(torch,))


def from_ptx() -> Recording:
    return replace(
        changed(one_gpu(), CudaComputeCapability=[12, 0]),
        frameworks=(
            framework(
                "tensorflow",
                trials=[
                    Trial("GPU:0", "InternalError: 'cuLaunchKernel' CUDA_ERROR_INVALID_HANDLE")
                ],
            ),
        ),
    )


_DLOPEN = (
    "W gpu_device.cc:2342] Cannot dlopen some GPU libraries. Skipping registering GPU devices..."
)


def tensorflow_alone() -> Recording:
    """TensorFlow without its libraries; torch brings its own."""
    machine = one_gpu()
    return replace(
        machine,
        frameworks=(machine.frameworks[0], framework("tensorflow", [], log=[_DLOPEN])),
        packages=(
            *machine.packages[:2],
            # What torch brings, for another CUDA than TensorFlow's.
            Package("nvidia-cudnn-cu13", "9.15.1.9", SITE),
            Package("nvidia-cublas", "13.1.0.3", SITE),
        ),
    )


def library_broken() -> Recording:
    path = f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9"
    library = Library("libcudnn.so", path, f"{path}: file too short")
    machine = one_gpu()
    return replace(
        machine,
        frameworks=(
            machine.frameworks[0],
            framework("tensorflow", [], log=[_DLOPEN], libraries=(library,)),
        ),
    )


def too_new_a_python() -> Recording:
    machine = one_gpu()
    return replace(
        machine,
        system=replace(SYSTEM, python="3.15.0", installer="uv"),
        frameworks=(machine.frameworks[0], missing("tensorflow")),
    )


def hidden() -> Recording:
    return with_variables(replace(one_gpu(), frameworks=blind()), CUDA_VISIBLE_DEVICES="1,0")


def set_late() -> Recording:
    process = CallingProcess(
        started_with={}, now={"CUDA_VISIBLE_DEVICES": ""}, initialized={"torch": 1}
    )
    return with_variables(replace(one_gpu(), process=process), CUDA_VISIBLE_DEVICES="")


def container_without_nodes() -> Recording:
    return replace(no_nvml(container(), "LibraryNotFound"), entries=())


def node_missing() -> Recording:
    machine = one_gpu()
    return replace(machine, entries=machine.entries[:2], frameworks=blind())


def fabric() -> Recording:
    machine = machines.server()
    error = "RuntimeError: Unexpected error from cudaGetDeviceCount(): Error 802: system not yet initialized"
    return replace(
        machine,
        calls={**machine.calls, "cuInit()": {"error": "802"}},
        frameworks=blind(error),
    )


def linux_driver_in_wsl() -> Recording:
    machine = machines.wsl()
    return replace(
        machine,
        calls={
            "nvmlInit()": {"error": "LibraryNotFound"},
            "dlopen(libcuda.so.1)": {"error": "cannot open shared object file"},
        },
        frameworks=blind(),
    )


def nouveau() -> Recording:
    machine = no_nvml(with_files(one_gpu(), proc__driver__nvidia__version=None), "LibraryNotFound")
    return replace(
        machine,
        pci=(PciDevice(bus(0), "0x10de", "0x2684", "0x030000", "nouveau"),),
        entries=(),
    )


def closed_nodes() -> Recording:
    machine = machines.rocm()
    refusal = Trial("cuda:0", "RuntimeError: No HIP GPUs are available")
    build: dict[str, str | None] = {"cuda": None, "hip": "6.4.43482"}
    return replace(
        machine,
        entries=(Entry("dev/kfd", "crw-rw----", "render", accessible=False),),
        frameworks=(framework("torch", [], build=build, trials=[refusal]),),
    )


def rosetta() -> Recording:
    machine = machines.apple()
    system = replace(machine.system, machine="x86_64", translated=True, installer="uv")
    torch = framework(
        "torch", [], build={"cuda": None, "hip": None}, trials=[Trial("mps", "no MPS")]
    )
    return replace(machine, system=system, frameworks=(torch,))


def rocm_on_nvidia() -> Recording:
    build: dict[str, object] = {"cuda": None, "hip": "6.4.43482", "arch_list": []}
    torch = framework(
        "torch", [], build=build, trials=[Trial("cuda:0", "No HIP GPUs are available")]
    )
    return replace(one_gpu(), frameworks=(torch, one_gpu().frameworks[1]))


def lost() -> Recording:
    """GPU 3 of eight was lost in mid-run."""
    machine = machines.server()
    gone = {
        call: {"error": "GpuIsLost"}
        if "(gpu3" in call and "UUID" not in call and "PciInfo" not in call
        else answer
        for call, answer in machine.calls.items()
    }
    line = (
        "[9.1] NVRM: Xid (PCI:0000:04:00): 79, pid=4242, name=python, GPU has fallen off the bus."
    )
    return replace(machine, calls=gone, commands=(Said("dmesg", line),), frameworks=blind())


def unimportable() -> Recording:
    reason = (
        "does not start: ImportError: libcudnn.so.9: cannot open shared object file: No such file"
    )
    return replace(
        one_gpu(), frameworks=(machines.failed("torch", reason), one_gpu().frameworks[1])
    )


def nothing_fits() -> Recording:
    torch = framework("torch", trials=[Trial("cuda:0", "RuntimeError: CUDA error: 719")], loads=())
    return replace(one_gpu(), frameworks=(torch, one_gpu().frameworks[1]))


def sick() -> Recording:
    """GPU 3 of eight: memory errors, a remap pending, a narrow link, slowed down for two reasons."""
    return machines.server(
        {"TotalEccErrors, 1, 0": 7, "TotalEccErrors, 1, 1": 9, "RemappedRows": [1, 2, 1, 0]},
        {"CurrPcieLinkWidth": 4, "CurrPcieLinkGeneration": 5, "CurrentClocksEventReasons": 0x48},
    )


def link_down() -> Recording:
    return machines.server({"NvLinkState, 2": 0})


def hundred_threads() -> Recording:
    machine = with_files(
        container(),
        **{"sys__fs__cgroup__cpu.stat": "nr_periods 1000\nnr_throttled 990\nthrottled_usec 9\n"},
    )
    torch = framework("torch", settings={"intraop_threads": 192})
    return replace(machine, frameworks=(torch, *machine.frameworks[1:]))


def other_node() -> Recording:
    machine = one_gpu()
    return with_files(machine, **{f"sys__bus__pci__devices__{bus(0)}__numa_node": "1\n"})


def busy() -> Recording:
    machine = changed(
        one_gpu(),
        MemoryInfo={"total": 24 * GIB, "free": 4 * GIB, "used": 20 * GIB},
        ComputeRunningProcesses=[{"pid": 4242, "usedGpuMemory": 20 * GIB}],
    )
    return with_variables(
        with_files(machine, proc__4242__comm="python3\n"), TF_FORCE_GPU_ALLOW_GROWTH="true"
    )


def swapping() -> Recording:
    meminfo = machines.LINUX["proc/meminfo"].replace(
        "SwapFree:        8388608", "SwapFree: 1000000"
    )
    return with_files(one_gpu(), proc__meminfo=meminfo)


def slow_kernels() -> Recording:
    torch = framework("torch", rates={"numpy": 1e11, "float32": 1e10, "bfloat16": 1e10})
    return replace(one_gpu(), frameworks=(torch, *one_gpu().frameworks[1:]))


def careful() -> Recording:
    torch = framework(
        "torch", settings={"intraop_threads": 8, "float32_matmul_precision": "highest"}
    )
    return replace(one_gpu(), frameworks=(torch, *one_gpu().frameworks[1:]))


def wrong_sums() -> Recording:
    """torch adds wrongly on the GPU and crashes at a product; TensorFlow does well on the same GPU."""
    torch, tensorflow = one_gpu().frameworks
    says = "sum of ones: 1 of 1 wrong; it is 1048575.0 instead of 1048576.0"
    crash = "its process ended with status -11"
    wrong = (
        Arithmetic("cuda:0", "sums", "fault", says),
        Arithmetic("cuda:0", "product[float32]", "fault", crash),
    )
    kept = tuple(one for one in torch.arithmetic if one.address == "cpu")
    return replace(one_gpu(), frameworks=(replace(torch, arithmetic=(*kept, *wrong)), tensorflow))


def logged(line: str) -> Recording:
    return replace(one_gpu(), commands=(Said("dmesg", line),))


FAULTS: Mapping[str, Fault] = {
    "D01": Fault(
        cpu_wheel,
        "error",
        "python -m pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
        "torch 2.13.0+cpu is a build for the CPU only",
    ),
    "D02": Fault(old_driver, "error", "https://download.pytorch.org/whl/cu126", "CUDA 12.4"),
    "D03": Fault(old_build, "error", "https://download.pytorch.org/whl/cu128", "12.0"),
    "D04": Fault(from_ptx, "error", "--upgrade 'tensorflow[and-cuda]'"),
    "D05": Fault(tensorflow_alone, "error", "python -m pip install 'tensorflow[and-cuda]'"),
    "D06": Fault(
        library_broken,
        "error",
        "python -m pip install --force-reinstall 'tensorflow[and-cuda]'",
        f"libcudnn.so, looked for at {SITE}/nvidia/cudnn/lib/libcudnn.so.9",
    ),
    "D07": Fault(lambda: machines.windows("2.21.0"), "error", "wsl --install"),
    "D08": Fault(too_new_a_python, "warning", "uv venv --python 3.13", "Python 3.15"),
    "D09": Fault(hidden, "error", "unset CUDA_VISIBLE_DEVICES", "'1,0'"),
    "D10": Fault(set_late, "error", "CUDA_VISIBLE_DEVICES= python program.py"),
    "D11": Fault(container_without_nodes, "error", "docker run --gpus all IMAGE"),
    "D12": Fault(lambda: no_nvml(container(), "Unknown"), "error", "docker restart CONTAINER"),
    "D13": Fault(lambda: no_nvml(one_gpu(), "LibRmVersionMismatch"), "error", "sudo reboot"),
    "D14": Fault(node_missing, "error", "sudo nvidia-modprobe -u -c=0"),
    "D15": Fault(fabric, "error", "sudo systemctl enable --now nvidia-fabricmanager", "802"),
    "D16": Fault(machines.mig, "info", f"export CUDA_VISIBLE_DEVICES={machines.SLICES[0]}"),
    "D17": Fault(
        linux_driver_in_wsl, "error", "export LD_LIBRARY_PATH=/usr/lib/wsl/lib:$LD_LIBRARY_PATH"
    ),
    "D18": Fault(nouveau, "error", "sudo ubuntu-drivers install", "nouveau"),
    "D19": Fault(closed_nodes, "error", "sudo usermod -aG render $USER", "/dev/kfd"),
    "D20": Fault(rosetta, "error", "uv venv --python cpython-3.13-macos-aarch64", "Rosetta"),
    "D21": Fault(rocm_on_nvidia, "error", "--force-reinstall torch --index-url", "ROCm"),
    "D22": Fault(
        lambda: changed(one_gpu(), ComputeMode=2), "error", "sudo nvidia-smi -i 0 -c DEFAULT"
    ),
    "D23": Fault(lost, "error", "power the machine off and on", "fallen off the bus"),
    "D24": Fault(unimportable, "error", "--force-reinstall torch", "a CUDA library"),
    "D25": Fault(nothing_fits, "error", "devbench doctor --save machine.json --redact"),
    "S01": Fault(sick, "warning", "sudo lspci -vv -s 0000:04:00.0 | grep Lnk", "25%"),
    "S02": Fault(sick, "warning", "cooling", "hardware slowdown and hardware thermal slowdown"),
    "S03": Fault(
        lambda: changed(one_gpu(), EnforcedPowerLimit=225000),
        "warning",
        "sudo nvidia-smi -i 0 -pl 450",
        "50%",
    ),
    "S04": Fault(
        lambda: under_load(one_gpu(), **{"ClockInfo, 1": 1200, "CurrentClocksEventReasons": 2}),
        "warning",
        "sudo nvidia-smi -i 0 -rgc",
        "1200 of 2520 MHz",
    ),
    "S05": Fault(
        lambda: changed(one_gpu(), PersistenceMode=0),
        "info",
        "sudo systemctl enable --now nvidia-persistenced",
    ),
    "S06": Fault(busy, "warning", "kill 4242", "4.0 of 24.0 GiB"),
    "S07": Fault(lambda: changed(one_gpu(), DisplayActive=1), "info", "processor's own graphics"),
    "S08": Fault(
        lambda: with_variables(one_gpu(), CUDA_LAUNCH_BLOCKING="1"),
        "warning",
        "unset CUDA_LAUNCH_BLOCKING",
    ),
    "S09": Fault(careful, "info", "torch.set_float32_matmul_precision('high')"),
    "S10": Fault(hundred_threads, "warning", "export OMP_NUM_THREADS=8", "192 threads"),
    "S11": Fault(
        lambda: with_files(one_gpu(), sys__devices__system__cpu__cpufreq__boost="0\n"),
        "warning",
        "echo 1 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
    ),
    "S12": Fault(
        other_node, "warning", "numactl --cpunodebind=1 --membind=1 python program.py", "node"
    ),
    "S13": Fault(
        lambda: replace(container(), system=replace(SYSTEM, shm_bytes=64 * 2**20)),
        "warning",
        "docker run --shm-size=8g IMAGE",
        "64 MiB",
    ),
    "S14": Fault(swapping, "warning", "ps --sort=-rss"),
    "S15": Fault(slow_kernels, "warning", "ONEDNN_VERBOSE=1", "10%"),
    "H01": Fault(sick, "error", "sudo nvidia-smi --gpu-reset -i 3", "7 errors"),
    "H02": Fault(sick, "warning", "sudo nvidia-smi --gpu-reset -i 3"),
    "H03": Fault(
        lambda: changed(one_gpu(), RetiredPagesPendingStatus=1),
        "warning",
        "sudo nvidia-smi --gpu-reset -i 0",
    ),
    "H04": Fault(
        lambda: logged("NVRM: Xid (PCI:0000:01:00): 48, pid=7, Double Bit ECC Error"),
        "error",
        "sudo nvidia-smi --gpu-reset -i 0",
        "XID 48",
    ),
    "H05": Fault(
        lambda: under_load(one_gpu(), PcieReplayCounter=12),
        "warning",
        "seat the board",
        "12 packets",
    ),
    "H06": Fault(link_down, "warning", "nvidia-smi nvlink --status -i 3", "1 of 4"),
    "H07": Fault(
        lambda: changed(one_gpu(), EccMode=[0, 0]), "info", "sudo nvidia-smi -i 0 -e 1", "is off"
    ),
    "H08": Fault(
        wrong_sums,
        "error",
        "devbench stress --tier 3 --device torch:cuda:0",
        "torch computes wrong on cuda:0: 2 of 2 known answers",
    ),
}
