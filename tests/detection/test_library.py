"""NVML's C interface on the loader's path, asked through the real bindings in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pynvml")
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loader's path is Linux's"),
]

#: An older driver: no third version of the list of processes, no counters by field. Layouts: nvml.h.
LIBRARY = r"""
typedef unsigned long long u64;
struct process { unsigned pid; u64 memory; unsigned instance[2]; };
struct violation { u64 reference, time; };
struct one { unsigned version; int value; };
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)8; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v2(void *gpu, unsigned *count, struct process *found) {
    if (!found) { *count = 1; return 7; }
    *count = 1; found->pid = 4242; found->memory = 1 << 20;
    return 0;
}
int nvmlDeviceGetViolationStatus(void *gpu, int policy, struct violation *status) {
    if (policy > 1) return 3;
    status->reference = 1; status->time = policy ? 0 : 2500000000ull;
    return 0;
}
int nvmlDeviceGetRetiredPages(void *gpu, int cause, unsigned *count, u64 *pages) {
    unsigned found = cause ? 1 : 2;
    if (!pages) { *count = found; return 7; }
    *count = found;
    while (found) pages[--found] = 4096;
    return 0;
}
int nvmlDeviceGetMarginTemperature(void *gpu, struct one *margin) {
    if (margin->version != 0x1000008) return 25;
    margin->value = 17;
    return 0;
}
int nvmlDeviceGetAddressingMode(void *gpu, struct one *mode) {
    if (mode->version != 0x1000008) return 25;
    mode->value = 1;
    return 0;
}
int nvmlDeviceGetNvLinkState(void *gpu, unsigned link, int *active) {
    if (link > 2) return 2;
    *active = link != 1;
    return 0;
}
const char *nvmlErrorString(int code) { return "?"; }
"""


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `devbench detect` tells of the one GPU of that library."""
    folder: Path = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(LIBRARY)
    words = ["cc", "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", "nvml.c"]
    subprocess.run(words, check=True, cwd=folder)
    program = "from devbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "detect", "--no-frameworks", "--json"],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["gpus"]
    return found


def test_structures_and_lists_of_the_real_bindings_become_figures(gpu: Any) -> None:
    health = gpu["health"]
    assert health["clock_event_seconds"] == {"software power cap": 2.5, "thermal slowdown": 0.0}
    assert (health["retired_pages"], health["temperature_margin_c"]) == (3, 17)
    assert (health["addressing_mode"], health["nvlinks"]) == ("HMM", [True, False, True])


def test_an_older_driver_lists_its_processes_in_the_version_that_it_has(gpu: Any) -> None:
    assert gpu["processes"] == 1
    assert gpu["health"]["compute_processes"] == [{"pid": 4242, "memory_bytes": 1 << 20}]


def test_functions_that_the_library_lacks_cost_their_fields_and_nothing_else(gpu: Any) -> None:
    assert set(gpu["unread"].values()) == {"FunctionNotFound"}
    assert gpu["name"] is None
    assert gpu["health"]["pstate"] is None
    assert gpu["health"]["unread"]["pstate"] == "FunctionNotFound"
