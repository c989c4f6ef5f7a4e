"""Whether a framework's build fits the machine: its import, its CUDA, its architectures, its libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord
from devbench.doctor.records import Fix

#: Python versions with wheels, at the releases that devbench was tested with: torch 2.13, TensorFlow 2.21.
PYTHONS: Final = {"torch": ((3, 10), (3, 14)), "tensorflow": ((3, 10), (3, 13))}


def _names_its_build(framework: FrameworkRecord) -> bool:
    """torch and TensorFlow do; of a plugin's framework nothing is known."""
    return not {"cuda", "hip", "is_cuda_build", "is_rocm_build"}.isdisjoint(framework.build)


def no_wheel(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """D08"""
    name = framework.name
    if framework.answer.status != "missing" or name not in PYTHONS:
        return
    system = facts.recording.system
    oldest, newest = PYTHONS[name]
    mine = tuple(int(part) for part in re.findall(r"\d+", system.python)[:2])
    reason = None
    if not oldest <= mine <= newest:
        reason = f"Python {mine[0]}.{mine[1]}"
    elif system.free_threaded and name == "tensorflow":
        reason = "a free-threaded Python"
    elif system.platform.startswith("linux") and not (system.libc or "glibc").startswith("glibc"):
        reason = "the C library musl (Alpine)"
    elif system.platform == "darwin" and system.machine == "x86_64":
        reason = "Macs with Intel processors"
    if reason is None:
        return
    wanted = f"{newest[0]}.{newest[1]}"
    make = {
        "uv": (f"uv venv --python {wanted}", f"uv pip install {name}"),
        "conda": (
            f"conda create -n {name} python={wanted}",
            f"conda activate {name}",
            fixes.package(facts, name),
        ),
        "pip": (
            (f"py -{wanted} -m venv .venv", f".venv\\Scripts\\python -m pip install {name}")
            if facts.is_windows
            else (f"python{wanted} -m venv .venv", f".venv/bin/python -m pip install {name}")
        ),
    }[system.installer]
    yield Found(
        "warning",
        f"{name} is not installed, and there is no wheel of it for {reason}",
        (
            f"Python {system.python}, {system.platform} {system.machine}, {system.libc or 'libc not told'}",
        ),
        (
            Fix(
                f"make an environment with Python {wanted} (wheels: {oldest[0]}.{oldest[1]} to {wanted})",
                make,
            )
            if "Python" in reason
            else Fix(
                "use a system that has wheels: a Debian-based image for Alpine, "
                "an older release for Macs with Intel processors"
            ),
        ),
    )


def native_windows(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """D07"""
    view = framework.answer.view
    if not facts.is_windows or framework.name != "tensorflow" or view is None:
        return
    version = tuple(int(part) for part in re.findall(r"\d+", view.version)[:2])
    if version >= (2, 11):
        yield Found(
            "error",
            f"TensorFlow {view.version} uses no GPU on native Windows; 2.10 was the last that did",
            ("platform: win32", f"tensorflow {view.version}"),
            (
                Fix("use WSL 2", ("wsl --install",)),
                Fix(
                    "or the last release with GPUs here, in an environment with Python 3.10, with CUDA "
                    "11.2 and cuDNN 8.1",
                    (fixes.install(facts, "tensorflow<2.11"),),
                ),
            ),
        )


def cpu_only(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D01"""
    if framework.answer.view is None or not _names_its_build(framework):
        return
    if framework.cuda or framework.is_rocm or framework.build.get("is_cuda_build"):
        return
    name = framework.name
    build = framework.build
    field = "torch.version.cuda" if name == "torch" else "is_cuda_build"
    way = (
        fixes.torch_for_rocm(facts)
        if gpu.vendor == "amd"
        else fixes.framework_for_cuda(facts, name)
    )
    yield Found(
        "error",
        f"{framework.label} is a build for the CPU only",
        (
            f"{field}: {build.get('cuda', build.get('is_cuda_build'))}",
            *facts.complaints(framework, gpu),
        ),
        (way,),
    )


def wrong_vendor(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D21"""
    if gpu.vendor == "nvidia" and framework.is_rocm:
        yield Found(
            "error",
            f"{framework.label} is built for AMD's ROCm, and the GPU is NVIDIA's",
            (f"GPU: {gpu.name}", "build: ROCm"),
            (fixes.framework_for_cuda(facts, framework.name),),
        )
    elif (
        gpu.vendor == "amd"
        and framework.cuda
        and not any(one.vendor == "nvidia" for one in facts.gpus)
    ):
        yield Found(
            "error",
            f"{framework.label} is built for NVIDIA's CUDA, and the GPU is AMD's",
            (f"GPU: {gpu.name}", f"build: CUDA {framework.cuda}"),
            (
                fixes.torch_for_rocm(facts)
                if framework.name == "torch"
                else Fix("install AMD's build", (fixes.install(facts, "tensorflow-rocm"),)),
            ),
        )


def driver_too_old(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D02"""
    wanted, has = framework.cuda, fixes.driver_cuda(facts)
    if wanted is None:
        return
    major = int(wanted.partition(".")[0])
    complains = [error for error in facts.refusals(framework, gpu) if "too old" in error]
    older = has is not None and int(has.partition(".")[0]) < major
    if not older and not complains:
        return
    least = fixes.OLDEST_DRIVER.get(major)
    driver = gpu.nvml.driver if gpu.nvml else None
    other = (
        fixes.torch_for_cuda(facts, fixes.torch_tag(facts))
        if framework.name == "torch"
        else Fix(
            "or a release of TensorFlow built for that CUDA: https://www.tensorflow.org/install/source"
        )
    )
    yield Found(
        "error",
        f"the driver is for CUDA {has or 'of another version'} and {framework.label} was built for "
        f"CUDA {wanted}",
        (f"driver {driver or '??'}, CUDA {has or '??'}", f"build: CUDA {wanted}", *complains[:1]),
        (
            fixes.driver(
                facts, f"update the driver, to {least} or newer" if least else "update the driver"
            ),
            Fix(f"or take a build that the driver runs: {other.text}", other.commands)
            if other.commands
            else other,
        ),
    )


def _native_python(facts: Facts, name: str) -> tuple[str, ...]:
    return {
        "uv": ("uv venv --python cpython-3.13-macos-aarch64", f"uv pip install {name}"),
        "conda": (
            "CONDA_SUBDIR=osx-arm64 conda create -n native python=3.13",
            "conda activate native",
            fixes.package(facts, name),
        ),
        "pip": (
            "/opt/homebrew/bin/brew install python@3.13",
            "/opt/homebrew/bin/python3.13 -m venv .venv",
            f".venv/bin/python -m pip install {name}",
        ),
    }[facts.recording.system.installer]


def apple(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D20"""
    system = facts.recording.system
    name = framework.name
    if system.translated:
        yield Found(
            "error",
            "this Python is built for Intel and runs under Rosetta, where there is no Metal for it",
            ("sysctl.proc_translated: 1", f"Python for {system.machine}"),
            (Fix("make an environment with a native Python", _native_python(facts, name)),),
        )
    elif name == "tensorflow" and not facts.sees(framework, gpu):
        if facts.recording.package("tensorflow-metal") is None:
            yield Found(
                "error",
                "TensorFlow uses Apple's GPU through a plugin, which is not installed",
                ("tensorflow-metal is not installed",),
                (Fix("install the plugin", (fixes.install(facts, "tensorflow-metal"),)),),
            )
    elif name == "torch" and not facts.working(framework, gpu):
        yield Found(
            "error",
            "torch was built with MPS and cannot use it here",
            (*facts.complaints(framework, gpu), f"system: {facts.host.os}"),
            (
                Fix("update macOS: MPS needs 14.0 or newer"),
                Fix(
                    "install torch again, built with MPS",
                    (fixes.package(facts, "torch", "again"),),
                ),
            ),
            "likely",
        )
