"""Why the processor, its memory or a setting makes programs slower than they could be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.recording import FrameworkRecord
from devbench.doctor.records import CouldNotCheck, Fix

#: A variable that costs speed → the values that do, and what it does.
DEBUGGING: Final[Mapping[str, tuple[str, str]]] = {
    "CUDA_LAUNCH_BLOCKING": (r"[1-9]\d*", "waits after every kernel"),
    "CUDA_INJECTION64_PATH": (r".+", "loads a profiler into every CUDA program"),
    "CUDA_PROFILE": (r"[1-9]", "profiles"),
    "CUDA_DISABLE_PERF_BOOST": (r"[1-9]", "keeps the clocks low"),
    "NSYS_PROFILING_SESSION_ID": (r".+", "runs under Nsight Systems"),
    "PYTORCH_NO_CUDA_MEMORY_CACHING": (r".+", "allocates every tensor anew"),
    "TORCH_DISTRIBUTED_DEBUG": (r"DETAIL", "checks every collective operation"),
    "TORCH_SHOW_DISPATCH_TRACE": (r"[1-9]", "prints every operation"),
    "TF_CPP_MAX_VLOG_LEVEL": (r"[1-9]\d*", "logs every operation"),
    "TF_DETERMINISTIC_OPS": (r"1|true", "chooses slower operations that repeat exactly"),
    "TF_ENABLE_ONEDNN_OPTS": (r"0", "turns the fast CPU operations off"),
    "TF_DISABLE_MKL": (r"1", "turns the fast CPU operations off"),
    "XLA_FLAGS": (r".*--xla_dump_to.*", "writes every compiled program to disk"),
    "NCCL_DEBUG": (r"TRACE", "logs every transfer"),
    "DNNL_VERBOSE": (r"[1-9]", "logs every operation"),
    "ONEDNN_VERBOSE": (r"[1-9].*|all.*|profile.*", "logs every operation"),
    "MKL_VERBOSE": (r"[1-9]", "logs every operation"),
    "MALLOC_CHECK_": (r"[1-9]", "checks every allocation"),
    "PYTHONDEVMODE": (r"1", "checks in Python that cost time"),
}

#: /dev/shm below this makes data loaders with several processes fail; Docker's default is 64 MiB.
_SMALL_SHM: Final = 512 * 2**20

#: Shares of time or of memory from which on it shows in a program's time.
_PRESSURE: Final = 5.0
_LITTLE_LEFT: Final = 0.05
_SWAPPED: Final = 0.10

#: A CPU's product in 16 bits through a slow path is a hundredth of that in float32; a tenth is broken.
_SLOW_16_BITS: Final = 0.1
#: A framework's small product has more overhead than numpy's; kernels without AVX cost a factor of 4.
_SLOW_FLOAT32: Final = 0.25


def debugging_variables(facts: Facts) -> Iterator[Found]:
    """S08"""
    found = {
        name: does
        for name, (values, does) in DEBUGGING.items()
        if re.fullmatch(values, facts.variables.get(name, ""), re.IGNORECASE)
    }
    if found:
        yield Found(
            "warning",
            f"variables for debugging are set: {', '.join(found)}",
            tuple(f"{name}={facts.variables[name]}: {does}" for name, does in found.items()),
            (Fix("take them away", tuple(fixes.unset_variable(facts, name) for name in found)),),
        )


def math_settings(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """S09"""
    capable = [
        gpu
        for gpu in facts.gpus
        if gpu.vendor == "nvidia" and facts.sees(framework, gpu) and gpu.capability >= (8, 0)
    ]
    name, settings = framework.name, framework.settings
    if not capable:
        return
    evidence, ways = [], []
    precision = settings.get("float32_matmul_precision")
    if facts.variables.get("NVIDIA_TF32_OVERRIDE") == "0":
        evidence.append("NVIDIA_TF32_OVERRIDE=0")
        ways.append(
            Fix(
                "allow TF32 where its 10 bits are enough",
                (fixes.unset_variable(facts, "NVIDIA_TF32_OVERRIDE"),),
            )
        )
    elif precision == "highest":
        evidence.append("torch.get_float32_matmul_precision(): highest")
        ways.append(
            Fix(
                "where 10 bits are enough, in the program: torch.set_float32_matmul_precision('high')",
                (fixes.set_variable(facts, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", 1),),
            )
        )
    elif settings.get("tf32") is False:
        evidence.append("tensor_float_32_execution_enabled(): False")
        ways.append(
            Fix("in the program: tf.config.experimental.enable_tensor_float_32_execution(True)")
        )
    shared = [gpu for gpu in capable if gpu.health and gpu.health.compute_processes]
    grows = facts.variables.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower() == "true"
    if name == "tensorflow" and shared and not grows:
        evidence.append("TF_FORCE_GPU_ALLOW_GROWTH is not set: TensorFlow takes all memory at once")
        ways.append(
            Fix(
                "let it take what it needs beside others",
                (fixes.set_variable(facts, "TF_FORCE_GPU_ALLOW_GROWTH", "true"),),
            )
        )
    if evidence:
        yield Found(
            "info",
            f"{name} does not use all that the GPU has for float32: its settings are the careful ones"
            if any("TF32" in way.text or "10 bits" in way.text for way in ways)
            else f"{name} takes the memory of a GPU that others use",
            tuple(evidence),
            tuple(ways),
        )


def too_many_threads(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """S10"""
    granted = facts.host.usable_cpus
    if granted is None:
        raise CouldNotCheck("nothing tells how many CPUs may be used")
    if framework.answer.view is None:
        return
    threads = framework.settings.get("intraop_threads")
    if threads == 0:  # TensorFlow: one a CPU that it may run on, whatever the quota
        threads = len(facts.allowed_cpus)
    if not isinstance(threads, int) or isinstance(threads, bool):
        raise CouldNotCheck(f"{framework.name} does not tell its number of threads")
    least = max(1, int(granted))
    if threads <= max(least, int(granted + 0.999)):
        return
    evidence = [f"{framework.name}: {threads} threads", f"granted: {granted:g} CPUs"]
    if facts.host.cpu_limit:
        evidence.append(f"limit: {facts.host.cpu_limit}")
    if facts.throttled:
        stopped, periods = facts.throttled
        evidence.append(f"the quota ran out in {stopped} of {periods} periods")
    names = {
        "torch": ("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
        "tensorflow": ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS"),
    }.get(framework.name, ("OMP_NUM_THREADS",))
    yield Found(
        "warning",
        f"{framework.name} starts {threads} threads where {granted:g} CPUs are granted: they stop "
        "each other",
        tuple(evidence),
        (
            Fix(
                "start as many as are granted",
                tuple(fixes.set_variable(facts, name, least) for name in names),
            ),
        ),
    )


def keeps_clock_low(governor: object, driver: str) -> bool:
    """The governor powersave means the lowest clock, but with these drivers an ordinary one."""
    return governor == "powersave" and driver != "intel_pstate" and not driver.endswith("-epp")


def processor_held_back(facts: Facts) -> Iterator[Found]:
    """S11"""
    host, files = facts.host, facts.recording.files
    driver = files.get("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "").strip()
    if keeps_clock_low(host.governor, driver):
        yield Found(
            "warning",
            "the processor is kept at its lowest clock (governor powersave)",
            (f"scaling_governor: powersave, scaling_driver: {driver or 'not told'}",),
            (fixes.on_host(facts, "let it run", "sudo cpupower frequency-set -g performance"),),
        )
    if host.turbo is False:
        file = (
            "intel_pstate/no_turbo" if f"{_CPU}/intel_pstate/no_turbo" in files else "cpufreq/boost"
        )
        value = "0" if file.startswith("intel") else "1"
        yield Found(
            "warning",
            "the processor's turbo is off",
            (f"/{_CPU}/{file}: {files.get(f'{_CPU}/{file}', '??').strip()}",),
            (fixes.on_host(facts, "turn it on", f"echo {value} | sudo tee /{_CPU}/{file}"),),
        )
    if _on_battery(facts):
        yield Found(
            "warning",
            "the machine runs on its battery, which holds its clocks down",
            ("power supply: the battery is discharging",),
            (Fix("plug it in"),),
        )


_CPU: Final = "sys/devices/system/cpu"


def _on_battery(facts: Facts) -> bool:
    files = facts.recording.files
    statuses = [
        text.strip()
        for path, text in files.items()
        if path.startswith("sys/class/power_supply/") and path.endswith("/status")
    ]
    if statuses:
        return "Discharging" in statuses
    return any(
        "Battery Power" in said.output
        for said in facts.recording.commands
        if said.command == "pmset"
    )


def small_shared_memory(facts: Facts) -> Iterator[Found]:
    """S13"""
    if not facts.is_linux:
        return
    size = facts.recording.system.shm_bytes
    if size is None:
        raise CouldNotCheck("the size of /dev/shm is not told")
    if size >= _SMALL_SHM:
        return
    larger = "mount -o remount,size=8G /dev/shm"
    way = (
        fixes.in_container(
            facts,
            "give the container more",
            docker="docker run --shm-size=8g IMAGE",
            podman="podman run --shm-size=8g IMAGE",
            kubernetes=Fix("mount an emptyDir with medium: Memory at /dev/shm"),
            lxc=f"lxc exec NAME -- {larger}",
        )
        if facts.in_container
        else Fix("make it larger", (f"sudo {larger}",))
    )
    yield Found(
        "warning",
        f"/dev/shm holds {size / 2**20:.0f} MiB: data loaders with several processes run out of it",
        (f"/dev/shm: {size} bytes",),
        (way,),
    )


def memory_short(facts: Facts) -> Iterator[Found]:
    """S14"""
    if not facts.is_linux:
        return
    evidence = []
    total, used = facts.swap
    if total and used > _SWAPPED * total and used > 2**28:
        evidence.append(f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB of swap are used")
    pressure = facts.recording.files.get("proc/pressure/memory", "")
    waiting = re.search(r"^some .*\bavg60=(\d+\.\d+)", pressure, re.MULTILINE)
    if waiting and float(waiting[1]) > _PRESSURE:
        evidence.append(f"tasks waited for memory {waiting[1]} % of the last minute")
    for source, limit, left in facts.memory_left:
        # A limit beyond any machine's memory is how version 1 says that there is none.
        if left is not None and limit < 2**60 and left < _LITTLE_LEFT * limit:
            evidence.append(f"{left / 2**20:.0f} of {limit / 2**20:.0f} MiB are left of {source}")
    if evidence and facts.reclaims:
        evidence.append(f"the memory limit was hit {facts.reclaims} times")
    if evidence:
        yield Found(
            "warning",
            "memory is short, and programs wait for it",
            tuple(evidence),
            (
                fixes.in_container(
                    facts,
                    "give the container more memory",
                    docker="docker run --memory=32g IMAGE",
                    podman="podman run --memory=32g IMAGE",
                    kubernetes=Fix("raise limits.memory in the pod's resources"),
                    lxc="lxc config set NAME limits.memory 32GiB",
                )
                if facts.in_container
                else Fix("end what takes the memory", ("ps --sort=-rss -eo pid,rss,comm | head",)),
            ),
        )


def slow_path(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """S15"""
    rates, name = framework.rates, framework.name
    if framework.answer.view is None:
        return
    if not {"float32", "numpy"} <= rates.keys():
        raise CouldNotCheck(f"no product of {name} was timed while the CPUs were free")
    own = [rates["numpy"], rates.get("numpy again", rates["numpy"])]
    if min(own) < 0.5 * max([*own, *(one.rates.get("numpy", 0) for one in facts.frameworks)]):
        raise CouldNotCheck("other programs kept the CPUs busy while it was measured")
    evidence = tuple(f"{kind}: {rate / 1e9:.3g} GFLOP/s" for kind, rate in rates.items())
    if rates["float32"] < _SLOW_FLOAT32 * rates["numpy"]:
        yield Found(
            "warning",
            f"{name} multiplies matrices at {rates['float32'] / rates['numpy']:.0%} of numpy's rate on "
            "this CPU",
            evidence,
            (
                Fix(
                    "see which kernels it takes",
                    (
                        fixes.run_with(
                            facts, "python program.py", ONEDNN_VERBOSE="1", MKL_VERBOSE="1"
                        ),
                    ),
                ),
                Fix("install a build for this CPU, for example conda-forge's"),
            ),
            "possible",
        )
    slow = [
        kind
        for kind in ("bfloat16", "float16")
        if kind in rates and rates[kind] < _SLOW_16_BITS * rates["float32"]
    ]
    if slow:
        worst = min(slow, key=lambda kind: rates[kind])
        yield Found(
            "info",
            f"{name} computes {' and '.join(slow)} slowly on this CPU: {worst} at "
            f"{rates[worst] / rates['float32']:.2g} of float32's rate",
            evidence,
            (Fix("use float32 on this CPU"),),
            "likely",
        )
