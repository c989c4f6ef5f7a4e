"""Whether a build has code for a GPU's generation: machine code, or PTX that the driver compiles."""

from __future__ import annotations

import re
from collections.abc import Iterator

from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord
from devbench.doctor.records import Fix


def _architectures(framework: FrameworkRecord) -> list[str]:
    """What there is code for, as torch writes it: sm for machine code, compute for PTX."""
    listed = framework.build.get("cuda_compute_capabilities")
    if not isinstance(listed, list | tuple):
        found = framework.build.get("arch_list")
        return [str(one) for one in found] if isinstance(found, list | tuple) else []
    # TensorFlow's compute_90 stands for machine code and PTX, its sm_89 for machine code only:
    # https://github.com/tensorflow/tensorflow/blob/master/configure.py
    code = [str(one).replace("compute_", "sm_") for one in listed]
    return list(dict.fromkeys([*code, *map(str, listed)]))


def _runs(architectures: list[str], capability: tuple[int, int]) -> tuple[bool, bool]:
    """Whether there is machine code for a GPU, and whether there is PTX that the driver can compile.

    Code for 8.0 runs on 8.6 and not on 9.0; that with the letter a (sm_90a) on its own only.
    """
    code = ptx = False
    for one in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d{1,3})(\d)([af]?)", one)
        if match is None:
            continue
        version = (int(match[2]), int(match[3]))
        if match[1] == "compute":
            ptx = ptx or (version <= capability and not match[4])
        elif match[4] == "a":
            code = code or version == capability
        else:
            code = code or (version[0] == capability[0] and version <= capability)
    return code, ptx


def no_code_for_it(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D03"""
    architectures = _architectures(framework)
    if not architectures or framework.is_rocm:
        return
    capability = gpu.capability
    if any(_runs(architectures, capability)):
        return
    if framework.name == "torch":
        # CUDA 12.8 was the first for Blackwell; builds for 12.6 still have code for old GPUs.
        newer = fixes.torch_for_cuda(facts, "cu128" if capability >= (10, 0) else "cu126")
        way = Fix(f"take a build that has it: {newer.text}", newer.commands)
    else:
        way = Fix(
            "use NVIDIA's container of TensorFlow, or build it for this GPU: "
            "https://www.tensorflow.org/install/source"
        )
    yield Found(
        "error",
        f"{framework.label} has no code for this GPU's compute capability "
        f"{capability[0]}.{capability[1]}",
        (f"build: {' '.join(architectures)}", *facts.complaints(framework, gpu)),
        (way,),
    )


def compiles_from_ptx(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D04"""
    architectures = _architectures(framework)
    if not architectures or framework.is_rocm:
        return
    capability = gpu.capability
    code, ptx = _runs(architectures, capability)
    if code or not ptx:
        return
    failed = [
        error
        for error in facts.complaints(framework, gpu)
        if re.search(r"INVALID_(HANDLE|PTX|IMAGE)|did not come back", error)
    ]
    build = f"build: {' '.join(architectures)}; GPU: {capability[0]}.{capability[1]}"
    keep = Fix(
        "let the driver keep what it compiles, so that it happens once",
        (fixes.set_variable(facts, "CUDA_CACHE_MAXSIZE", 2**32),),
    )
    newer = Fix(
        "take a build with code for it: NVIDIA's container, or a newer release",
        (fixes.newer(facts, framework.name),),
    )
    if failed:
        yield Found(
            "error",
            f"{framework.label} has no code for this GPU, and what the driver compiles from PTX fails",
            (build, *failed[:1]),
            (newer,),
            "likely",
        )
    else:
        yield Found(
            "warning",
            f"{framework.label} has no code for this GPU: its first start compiles for minutes",
            (build,),
            (keep, Fix(f"or {newer.text}", newer.commands)),
        )
