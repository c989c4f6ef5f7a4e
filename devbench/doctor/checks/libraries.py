"""What a framework loads: its import, and the libraries that TensorFlow looks for beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.recording import FrameworkRecord, Library, Package
from devbench.doctor.records import Fix

#: What stands in an import error → the cause in one sentence, and which remedy below it wants.
IMPORT_ERRORS: Final = (
    (
        r"lib(cudnn|cublas|cudart|cufft|nccl|nvrtc|cusolver|cusparse|nvJitLink)[\w.]*: cannot open|"
        r"undefined symbol: .*(nvJitLink|cublas|cudnn|nccl)",
        "a CUDA library that it was built with is missing or of another version",
        "reinstall",
    ),
    (
        r"numpy\.core\.multiarray failed|_ARRAY_API|numpy\.dtype size changed|compiled using NumPy 1",
        "it was built for another major version of NumPy",
        "numpy",
    ),
    (
        r"(GLIBC|GLIBCXX)_[\d.]+' not found|CXXABI",
        "its build needs a newer C or C++ library than this system has",
        "system",
    ),
    ("SIGILL", "its build needs instructions that this CPU does not have", "cpu"),
    (
        r"Descriptors cannot be created directly|protobuf",
        "the protobuf that is installed does not fit it",
        "protobuf",
    ),
    (r"DLL load failed|WinError 126", "a Microsoft runtime library is missing", "windows"),
    ("SIGKILL", "it was killed while it was imported: memory ran out", "memory"),
    ("No module named", "a package that it needs is missing", "reinstall"),
    (
        r"cannot open shared object file|undefined symbol",
        "a library that it needs is missing or of another version",
        "reinstall",
    ),
)


def will_not_import(facts: Facts, framework: FrameworkRecord) -> Iterator[Found]:
    """D24"""
    answer, name = framework.answer, framework.name
    if answer.status != "failed":
        return
    told = " ".join(text[:2000] for text in (answer.reason or "", *answer.log[-5:]))
    known = next(
        ((cause, remedy) for error, cause, remedy in IMPORT_ERRORS if re.search(error, told)), None
    )
    cause, remedy = known or ("its import fails", "reinstall")
    ways = {
        "reinstall": fixes.framework_again(facts, name),
        "numpy": Fix("install the NumPy that it was built for", (fixes.package(facts, "numpy<2"),)),
        "system": Fix("use a newer system or container, or an older release of it"),
        "cpu": Fix("install a build for this CPU: conda-forge's or one built from source"),
        "protobuf": Fix(
            "install it again together with its protobuf",
            (fixes.package(facts, name, "newer"),),
        ),
        "windows": Fix(
            "install the Visual C++ runtime: https://aka.ms/vs/17/release/vc_redist.x64.exe"
        ),
        "memory": Fix("give the process more memory, or look for what else takes it"),
    }
    yield Found(
        "error",
        f"{name} does not start: {cause}",
        (answer.reason or "no reason told", *answer.log[-2:]),
        (ways[remedy],),
        "certain" if known else "possible",
    )


def _loads_none(framework: FrameworkRecord, facts: Facts, gpu: GpuFacts) -> bool:
    """TensorFlow that could use the GPU and says that its libraries do not load."""
    if framework.name != "tensorflow" or not framework.cuda or facts.sees(framework, gpu):
        return False
    return bool(_said(framework)) or any(library.error for library in framework.libraries)


def _said(framework: FrameworkRecord) -> list[str]:
    """What it wrote of libraries that do not load."""
    return [
        line[:200]
        for line in framework.answer.log
        if "dlopen" in line or "Could not load dynamic" in line
    ]


def _wheels(facts: Facts, framework: FrameworkRecord) -> list[Package]:
    """Those of the CUDA that it was built for: torch may have brought another's. From CUDA 13 on the
    version tells it, nvidia-cublas 13.1, where there is no -cu12 in the name."""
    major = (framework.cuda or "").partition(".")[0]
    return [
        one
        for one in facts.recording.packages
        if (named := re.fullmatch(r"nvidia-(?:cudnn|cublas)(?:-cu(\d+))?", one.name))
        and (named[1] or one.version.partition(".")[0]) == major
    ]


def tensorflow_without_libraries(
    facts: Facts, framework: FrameworkRecord, gpu: GpuFacts
) -> Iterator[Found]:
    """D05"""
    if _loads_none(framework, facts, gpu) and not _wheels(facts, framework):
        yield Found(
            "error",
            f"{framework.label} has no CUDA libraries: the wheel comes without them",
            (
                f"no distribution nvidia-cudnn-… for CUDA {framework.cuda} is installed",
                *_said(framework)[:1],
            ),
            (fixes.tensorflow_for_cuda(facts),),
        )


def _with_path(library: Library) -> str:
    """The loader names the path itself, mostly."""
    error = str(library.error)
    return error if library.path is None or library.path in error else f"{error} ({library.path})"


def wheels_not_found(facts: Facts, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Found]:
    """D06"""
    if not _loads_none(framework, facts, gpu) or not _wheels(facts, framework):
        return
    broken = [library for library in framework.libraries if library.error]
    if not broken:
        yield Found(
            "error",
            f"{framework.label} cannot load one of its CUDA libraries and does not say which",
            tuple(_said(framework)),
            (
                Fix(
                    "let it say which",
                    (
                        fixes.run_with(
                            facts, "python -c 'import tensorflow'", TF_CPP_MAX_VLOG_LEVEL="3"
                        ),
                    ),
                ),
            ),
            "likely",
        )
        return
    file = framework.answer.view.file if framework.answer.view else ""
    elsewhere = {
        one.location
        for one in _wheels(facts, framework)
        if one.location and one.location not in file
    }
    yield Found(
        "error",
        f"{framework.label} cannot load {broken[0].name}, looked for at {broken[0].path}",
        (
            *(f"{one.name}: {_with_path(one)}" for one in broken),
            *(f"the wheels lie in {folder}, TensorFlow elsewhere" for folder in sorted(elsewhere)),
        ),
        (
            Fix(
                "install the libraries into the environment of TensorFlow",
                fixes.tensorflow_for_cuda(facts, "again").commands,
            ),
        ),
    )
