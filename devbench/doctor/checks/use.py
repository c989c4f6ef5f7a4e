"""What hides a GPU from a framework that could use it, and what keeps its context from opening."""

from __future__ import annotations

from collections.abc import Iterator

from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord
from devbench.doctor.records import CouldNotCheck, Fix

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def hidden_by_variable(facts: Facts) -> Iterator[Found]:
    """D09"""
    visible = facts.visible
    if visible is None or visible.culprit is None:
        return
    value = facts.variables["CUDA_VISIBLE_DEVICES"]
    gpus = sum(gpu.vendor == "nvidia" for gpu in facts.gpus)
    everything = ",".join(map(str, range(gpus)))
    yield Found(
        "warning" if visible.indices else "error",
        f"CUDA_VISIBLE_DEVICES={value!r} hides "
        + (
            f"GPUs of this machine: {len(visible.indices)} of {gpus} stay"
            if visible.indices
            else "every GPU"
        ),
        (f"CUDA_VISIBLE_DEVICES={value!r}: {visible.says}",),
        (
            Fix("take it away", (fixes.unset_variable(facts, _VISIBLE),)),
            Fix(
                "or name the devices that are there",
                (fixes.set_variable(facts, _VISIBLE, everything),),
            ),
        ),
    )


def set_too_late(facts: Facts) -> Iterator[Found]:
    """D10"""
    process = facts.recording.process
    if process is None:
        raise CouldNotCheck(
            "only the process itself can tell: call devbench.doctor.examine() in it, in a notebook's cell too"
        )
    name = "CUDA_VISIBLE_DEVICES"
    before, now = process.started_with.get(name), process.now.get(name)
    if not process.initialized or before == now:
        return
    framework, devices = next(iter(process.initialized.items()))
    wanted = len(facts.visible.indices) if facts.visible else len(facts.gpus)
    if devices == wanted:  # it was changed before CUDA was opened, as it should be
        return
    yield Found(
        "error",
        f"{name} was set after {framework} had opened CUDA, so it changes nothing",
        (
            f"when the process started: {_shown(before)}",
            f"now: {_shown(now)}, which means {wanted} devices",
            f"{framework} sees {devices}",
        ),
        (
            Fix(
                "set it before Python starts",
                (fixes.run_with(facts, "python program.py", **{name: now or ""}),),
            ),
            Fix("or first of all in the program, before any import of a framework"),
        ),
        "likely",
    )


def _shown(value: str | None) -> str:
    return "not set" if value is None else repr(value)


def mig_instances(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """D16"""
    if gpu.nvml is None or not gpu.nvml.mig:
        return
    index, slices = gpu.nvml.index, gpu.nvml.mig_devices
    if not slices:
        yield Found(
            "error",
            "the GPU is in MIG mode and has no instance, so there is nothing to compute on",
            ("NVML: MIG mode on, no MIG device",),
            (
                fixes.on_host(
                    facts, "make an instance", f"sudo nvidia-smi mig -i {index} -cgi 0 -C"
                ),
                fixes.on_host(facts, "or turn MIG off", f"sudo nvidia-smi -i {index} -mig 0"),
            ),
        )
        return
    visible = facts.variables.get("CUDA_VISIBLE_DEVICES", "")
    if len(slices) > 1 and not visible.upper().startswith("MIG-"):
        yield Found(
            "info",
            f"a process uses one MIG instance only, here the first of {len(slices)}",
            tuple(f"{one.name or 'MIG device'}: {one.uuid}" for one in slices),
            (
                Fix(
                    "choose one for each process",
                    tuple(
                        fixes.set_variable(facts, _VISIBLE, one.uuid) for one in slices if one.uuid
                    )[:2],
                ),
            ),
        )


def fabric_manager(facts: Facts) -> Iterator[Found]:
    """D15"""
    code = facts.error_of("cuInit()") if "cuInit()" in facts.recording.calls else None
    words = [
        error
        for framework in facts.frameworks
        for trial in framework.trials
        if (error := trial.error) and ("802" in error or "system not yet initialized" in error)
    ]
    if code != "802" and not words:
        return
    try:
        state = f"nvidia-fabricmanager: {facts.said('systemctl')}"
    except CouldNotCheck as unknown:
        state = f"nvidia-fabricmanager: not known ({unknown})"
    driver = next((gpu.driver for gpu in facts.machine.gpus if gpu.driver), None)
    yield Found(
        "error",
        "the GPUs wait for the fabric manager, which is not started (error 802)",
        (f"cuInit: {code or 'not told'}", state, *words[:1]),
        (
            fixes.on_host(facts, "start it", "sudo systemctl enable --now nvidia-fabricmanager"),
            Fix(f"its version must be the driver's{f', {driver}' if driver else ''}"),
        ),
    )


def compute_mode(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """D22"""
    mode = gpu.read("compute_mode")
    if mode == "default":
        return
    index = gpu.nvml.index if gpu.nvml else 0
    back = fixes.on_host(
        facts, "let every process use it", f"sudo nvidia-smi -i {index} -c DEFAULT"
    )
    if mode == "prohibited":
        yield Found(
            "error",
            "the GPU's compute mode forbids every CUDA program",
            (f"NVML: {mode}",),
            (back,),
        )
        return
    yield Found(
        "warning",
        f"the GPU's compute mode lets one process at a time use it ({mode})",
        (f"NVML: {mode}", f"processes on it: {gpu.nvml.processes if gpu.nvml else '??'}"),
        (back,),
    )


def no_kernel(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D25"""
    if framework.answer.view is None or facts.working(framework, gpu):
        return
    name = framework.name
    said = facts.complaints(framework, gpu)
    if any(one.is_lost for one in facts.gpus):
        yield _beside_a_lost_one(facts, name, said)
        return
    if not said and not framework.trials and facts.sees(framework, gpu):
        raise CouldNotCheck(f"no kernel of {name} was tried")
    yield Found(
        "error",
        f"{name} runs nothing on this GPU, and none of the known causes fits",
        (
            *(said or (f"{name} does not list this GPU", *framework.answer.log[-3:])),
            *(() if facts.nvml_error is None else (f"NVML: {facts.nvml_error}",)),
        ),
        (
            Fix(
                "save the machine and ask with it",
                ("devbench doctor --save machine.json --redact",),
            ),
        ),
        "possible",
    )


def _beside_a_lost_one(facts: Facts, name: str, said: tuple[str, ...]) -> Found:
    """CUDA starts with all GPUs of the driver, and one that is lost can keep it from the others."""
    lost = [one for one in facts.gpus if one.is_lost]
    kept = ",".join(
        str(one.nvml.index) for one in facts.gpus if one.nvml is not None and not one.is_lost
    )
    return Found(
        "error",
        f"{name} runs nothing on this GPU, while another one is lost",
        (*said, *(f"lost: {one.name} {one.physical}" for one in lost)),
        (
            Fix("first bring the lost GPU back, see D23"),
            Fix(
                "until then, hide it",
                (
                    fixes.set_variable(facts, "CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
                    fixes.set_variable(facts, _VISIBLE, kept),
                ),
            ),
        ),
        "likely",
    )
