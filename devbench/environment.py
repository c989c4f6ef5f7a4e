"""What stands once a run: where and how it was taken."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from devbench.detection import Nvml, NvmlError
from devbench.detection.files import read_line, read_text
from devbench.detection.nvml import Pynvml
from devbench.model import Json
from devbench.redaction import without_password

#: Environment variables that change speed or visibility of devices. Only these are recorded: others
#: may hold secrets, among them NVIDIA_API_KEY and Terraform's TF_VAR_* and TF_TOKEN_*.
ALLOWED = (
    "CUDA_*",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_TF32_OVERRIDE",
    "NCCL_*",
    "HIP_*",
    "ROCR_*",
    "OMP_*",
    "MKL_*",
    "KMP_*",
    "OPENBLAS_*",
    "ONEDNN_*",
    "GOMP_*",
    "TF_ALLOW_*",
    "TF_CPP_*",
    "TF_CPU_*",
    "TF_CUD*",
    "TF_DETERMINISTIC_*",
    "TF_DISABLE_*",
    "TF_ENABLE_*",
    "TF_FORCE_*",
    "TF_GPU_*",
    "TF_INTER*",
    "TF_INTRA*",
    "TF_MKL_*",
    "TF_NUM_*",
    "TF_USE_*",
    "TF_XLA_*",
    "XLA_FLAGS",
    "KERAS_BACKEND",
    "TORCH_*",
    "PYTORCH_*",
    "MALLOC_*",
    "DNNL_*",
    "NSYS_*",
    "PYTHONDEVMODE",
    "LD_PRELOAD",
)


CPU = "sys/devices/system/cpu"


def gather(machine: Json) -> dict[str, Json]:
    """The environment of a run, `machine` being what detection found."""
    return {
        "machine": machine,
        "targets": {},
        "argv": [without_password(word) for word in sys.argv],
        "python": platform.python_version(),
        "git": git_state(),
        "variables": allowed_variables(os.environ),
        "placement": placement(machine),
    }


def placement(machine: Json, root: Path = Path("/"), nvml: Nvml | None = None) -> dict[str, Json]:
    """What decides how well host and GPUs go together, beyond what detection says of each alone.

    allowed_cpus: the CPUs that this process may run on, in the kernel's form. frequency_driver: of the
    CPUs; what a governor does depends on it. displays: UUID (or PCI bus id) of a GPU → whether it draws
    a screen. None where it is not told.
    """
    status = read_text(root, "proc/self/status") or ""
    allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    nvml = nvml or Pynvml()
    return {
        "allowed_cpus": allowed[1] if allowed else None,
        "frequency_driver": read_line(root, f"{CPU}/cpu0/cpufreq/scaling_driver"),
        "displays": {
            name: _draws_a_screen(nvml, gpu["index"])
            for gpu in machine.get("gpus", ())
            if (name := gpu.get("uuid") or gpu.get("pci_bus_id"))
        },
    }


def _draws_a_screen(nvml: Nvml, index: int) -> bool | None:
    try:
        nvml.query("nvmlInit")
        handle = nvml.query("nvmlDeviceGetHandleByIndex", index)
        return bool(nvml.query("nvmlDeviceGetDisplayActive", handle))
    except NvmlError:  # boards without a connector do not support the question
        return None


def allowed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(environ.items())
        if any(fnmatchcase(name, pattern) for pattern in ALLOWED)
    }


def git_state() -> Json:
    """Commit and cleanness of the folder that the run was started in; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": dirty}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=5)
    return done.stdout.strip()
