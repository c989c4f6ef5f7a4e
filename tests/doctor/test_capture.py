"""The live machine as a recording: children that answer, crash and hang."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devbench.detection.records import view_to_json
from devbench.doctor import capture as package_capture
from devbench.doctor import diagnose, dump, trials
from devbench.doctor.bounded import Child, Ended
from devbench.doctor.bundle import parse
from devbench.doctor.checks.slow_host import DEBUGGING
from devbench.doctor.child import ask_framework
from devbench.doctor.here import chosen_variables, read_files
from devbench.doctor.recording import Arithmetic, CallingProcess, Recording, Trial
from devbench.doctor.trials import try_device
from devbench.doctor.turns import Turns
from devbench.frameworks.tensorflow import TensorFlowFramework
from devbench.frameworks.torch import TorchFramework
from devbench.protocol import encode
from tests.doctor import adapters
from tests.doctor.machines import server, with_variables

ROOT = Path(__file__).parents[2]

#: The package has a function of the same name.
MODULE: Any = sys.modules["devbench.doctor.capture"]

#: A driver that initialises and then never answers: a module in the place of pynvml.
HANGING_NVML = """
import time
class NVMLError(Exception):
    pass
def nvmlInit():
    return None
def nvmlDeviceGetCount():
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """This machine with the real frameworks, some that misbehave, and a driver that hangs: all at once."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "pynvml.py").write_text(HANGING_NVML)
    kinds: tuple[Any, ...] = (
        *(adapters.Numpy, adapters.Crashing, adapters.Forgetful),
        *(TorchFramework, TensorFlowFramework),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
        patch.setenv("OMP_NUM_THREADS", "2")
        patch.setattr(MODULE, "DRIVER_S", 4.0)
        return package_capture(adapters={kind.name: kind() for kind in kinds})


def framework(recording: Recording, name: str) -> Any:
    return next(one for one in recording.frameworks if one.name == name)


def test_a_framework_is_asked_with_the_users_own_settings(recording: Recording) -> None:
    found = framework(recording, "numpy")
    assert found.answer.status == "ok"
    assert found.answer.view.build == {"threads": "2"}
    assert found.settings == {"intraop_threads": 1}
    assert found.trials == (Trial("dev:0"),)
    # None where other programs keep the CPUs busy.
    assert found.rates.keys() in (set(), {"numpy", "float32", "numpy again"})
    assert all(rate > 0 for rate in found.rates.values())


def test_a_kernel_that_computes_wrongly_is_not_taken_for_one_that_ran() -> None:
    adapter: Any = adapters.Wrong()
    assert try_device(adapter, "dev:0") == (
        "a kernel ran and computed [ 1.  2.  5. 10.] instead of [0, 1, 4, 9]"
    )


def test_a_kernel_that_crashes_is_named_and_what_came_before_is_kept(recording: Recording) -> None:
    found = framework(recording, "crashing")
    assert found.answer.status == "ok"
    (trial,) = found.trials
    assert trial == Trial("dev:0", "its process ended with status -11")


def test_arithmetic_that_crashes_is_a_fault_of_the_check_that_it_crashed_in(
    recording: Recording,
) -> None:
    found = framework(recording, "forgetful")
    assert found.trials == (Trial("dev:0"),)
    *right, crashed = found.arithmetic
    assert [(one.address, one.check) for one in right] == [("cpu", "integers"), ("cpu", "sums")]
    assert {one.verdict for one in right} == {"no fault found"}
    assert crashed == Arithmetic("cpu", "derivative", "fault", "its process ended with status -11")
    assert ("H08", "forgetful") in {(one.id, one.framework) for one in diagnose(recording).findings}


def test_arithmetic_that_takes_too_long_accuses_nobody() -> None:
    told = encode("view", view=view_to_json(adapters.Numpy().describe()), visible_devices=None)
    told += encode("checking", address="cpu", check="integers")

    class Late:
        timeout_s = 120.0

        def wait(self) -> Ended:
            return Ended(None, told, "")

    found = MODULE._framework("numpy", adapters.Numpy(), Late())
    says = "did not come back within 120 s"
    assert found.arithmetic == (Arithmetic("cpu", "integers", "cannot tell", says),)


def test_every_device_of_every_framework_is_put_to_known_answers(recording: Recording) -> None:
    found = framework(recording, "numpy").arithmetic
    assert {one.address for one in found} == {"cpu", "dev:0"}
    assert {one.check for one in found if one.address == "dev:0"} == {
        *("integers", "sums", "derivative", "gradients", "product[float32]", "nan_and_infinity"),
    }
    assert {one.verdict for one in found} == {"no fault found"}, found


def test_a_kernel_that_hangs_is_named_and_what_came_before_is_kept() -> None:
    """As D04 needs it: TensorFlow that compiles for half an hour."""
    view = view_to_json(adapters.Numpy().describe())
    told = encode("view", view=view, visible_devices=None) + encode("trying", address="dev:0")

    class Late:
        timeout_s = 120.0

        def wait(self) -> Ended:
            return Ended(None, told, "I am compiling\n")

    found = MODULE._framework("numpy", adapters.Numpy(), Late())
    assert found.answer.status == "ok"
    assert found.answer.log == ("I am compiling",)
    assert found.trials == (Trial("dev:0", "did not come back within 120 s"),)


def test_a_framework_that_does_not_import_tells_its_reason_and_nothing_more() -> None:
    adapter: Any = adapters.Unloadable()
    told: list[tuple[str, Any]] = []
    ask_framework(adapter, lambda kind, **fields: told.append((kind, fields)), None)
    error = "ImportError: libcudnn.so.9: cannot open shared object file"
    assert told == [("doing", {"what": "import"}), ("failed", {"error": error})]


def test_a_driver_that_hangs_is_given_up_and_its_call_is_named(recording: Recording) -> None:
    assert recording.calls["nvmlInit()"] is None
    assert recording.calls["nvmlDeviceGetCount()"] == {"error": "did not come back within 4 s"}


def test_the_live_machine_and_its_recording_have_the_same_findings(recording: Recording) -> None:
    again = parse(dump(recording), "file")
    assert again == recording
    assert diagnose(again) == diagnose(recording)
    assert "D24" not in {one.id for one in diagnose(again).findings}


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    began = time.monotonic()
    script = "import subprocess, time; print('begun', flush=True); subprocess.run(['sleep', '600'])"
    ended = Child([sys.executable, "-c", script], {"PATH": "/usr/bin:/bin"}, 1.0).wait()
    assert (ended.status, ended.output) == (None, "begun\n")
    assert time.monotonic() - began < 60


def test_files_are_read_below_the_root_only_and_without_what_nobody_needs(tmp_path: Path) -> None:
    for path, text in {
        "proc/cpuinfo": "processor : 0\nmodel name : A\n\nprocessor : 1\nmodel name : B\n",
        "proc/self/mountinfo": (
            "1 0 0:1 / /home/jane rw - ext4 /dev/sda rw\n2 0 0:2 / /cg rw - cgroup2 cgroup2 rw\n"
        ),
        "proc/self/cgroup": "0::/job\n",
        "cg/job/cpu.max": "100000 100000\n",
        "etc/shadow": "secret",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = read_files(tmp_path)
    assert found["proc/cpuinfo"] == "processor : 0\nmodel name : A\n"
    assert found["proc/self/mountinfo"] == "2 0 0:2 / /cg rw - cgroup2 cgroup2 rw\n"
    assert found["cg/job/cpu.max"] == "100000 100000\n"
    assert "etc/shadow" not in found


def test_every_variable_that_a_check_reads_is_recorded_and_no_secret_is() -> None:
    wanted = {*DEBUGGING, "CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH", "LD_LIBRARY_PATH"}
    wanted |= {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_TF32_OVERRIDE"}
    assert chosen_variables(dict.fromkeys(wanted, "1")).keys() == wanted
    secrets = ("TF_VAR_password", "TF_TOKEN_app_terraform_io", "NVIDIA_API_KEY", "HF_TOKEN", "PATH")
    assert chosen_variables(dict.fromkeys(secrets, "hunter2")) == {}


@pytest.mark.torch
@pytest.mark.tensorflow
def test_the_real_frameworks_answer_and_their_products_are_timed(recording: Recording) -> None:
    for name in ("torch", "tensorflow"):
        found = framework(recording, name)
        assert found.answer.status == "ok"
        assert not found.rates or {"numpy", "float32", "bfloat16"} <= found.rates.keys()
        assert "intraop_threads" in found.settings
        assert len(found.arithmetic) >= 6
        assert {one.verdict for one in found.arithmetic} == {"no fault found"}, found.arithmetic
    if not recording.pci:  # no GPU: torch says why when a kernel is to run all the same
        (trial,) = framework(recording, "torch").trials
        assert trial.address == "cuda:0"
        assert trial.error


#: Two GPUs through NVML's own interface. The first is slowed down for two reasons at once, below its
#: default limit, and had errors of its memory; the second has fallen off the bus.
LIBRARY = """
#include <string.h>
typedef unsigned long long u64;
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct memory { u64 total, free, used; };
#define FIRST ((void *)8)
#define SECOND ((void *)16)
#define GIVE(what, value) { if (handle == SECOND) return 15; *(what) = (value); return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strcpy(text, "580.82.07"); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = index ? SECOND : FIRST;
    return 0;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    strcpy(name, "NVIDIA X1");
    return 0;
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    strcpy(uuid, handle == FIRST ? "GPU-00000001-aaaa-bbbb-cccc-dddddddddddd"
                                 : "GPU-00000002-aaaa-bbbb-cccc-dddddddddddd");
    return 0;
}
int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *pci) {
    memset(pci, 0, sizeof *pci);
    strcpy(pci->bus_id, handle == FIRST ? "00000000:F1:00.0" : "00000000:F2:00.0");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
    if (handle == SECOND) return 15;
    memory->total = 80ull << 30; memory->free = 79ull << 30; memory->used = 1ull << 30;
    return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *mask) GIVE(mask, 0x48)
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *heat) GIVE(heat, 91)
int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *limit) GIVE(limit, 230000)
int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *limit) GIVE(limit, 370000)
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) GIVE(mode, 1)
int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int since, u64 *count) GIVE(count, 7)
const char *nvmlErrorString(int code) { return "?"; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_library_with_nvmls_interface_is_asked_through_the_real_bindings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvml.c").write_text(LIBRARY)
    library = tmp_path / "libnvidia-ml.so.1"
    words = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")]
    subprocess.run(words, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    recording = package_capture(tmp_path, adapters={})
    assert recording.calls["nvmlDeviceGetCount()"] == 2
    assert recording.calls["nvmlDeviceGetPersistenceMode(handle0)"] == 1
    assert recording.calls["nvmlDeviceGetEccMode(handle0)"] == {"error": "FunctionNotFound"}
    diagnosis = diagnose(parse(dump(recording), "file"))
    first, second = (f"GPU-0000000{index}-aaaa-bbbb-cccc-dddddddddddd" for index in (1, 2))
    found = {one.id: (one.gpus, one.says) for one in diagnosis.findings}
    assert found["D23"] == ((second,), "the GPU is lost: it has fallen off the bus")
    assert found["H01"][0] == found["S02"][0] == found["S03"][0] == (first,)
    assert "hardware slowdown and hardware thermal slowdown, 91 °C" in found["S02"][1]
    assert "230 of 370 W" in found["S03"][1]
    reasons = {(one.id, gpu): one.reason for one in diagnosis.unchecked for gpu in one.gpus}
    assert reasons["S03", second] == "the GPU is lost"
    assert reasons["S04", first] == "NVML does not tell sm_clock_max_hz (FunctionNotFound)"
    # The library lacks the newest form of this function, as older drivers do.
    assert reasons["S06", first] == "NVML does not tell compute_processes (FunctionNotFound)"


CUDA = """
static int open;
int cuInit(unsigned flags) { open = 1; return 0; }
int cuDeviceGetCount(int *count) { if (!open) return 3; *count = 2; return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loader's path is Linux's")
def test_a_variable_that_came_too_late_for_tensorflow_is_told_by_cuda_itself(
    tmp_path: Path,
) -> None:
    """TensorFlow has no question for it that would not open CUDA."""
    (tmp_path / "cuda.c").write_text(CUDA)
    words = ["cc", "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
    subprocess.run(words, check=True, cwd=tmp_path)
    program = (
        "import ctypes, json, os, sys, types\n"
        "from dataclasses import asdict\n"
        "from devbench.doctor.here import calling_process\n"
        "sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        "seen = [calling_process()]\n"
        "cuda = ctypes.CDLL('libcuda.so.1')\n"
        "seen.append(calling_process())\n"
        "cuda.cuInit(0)\n"
        "os.environ['CUDA_VISIBLE_DEVICES'] = '0'\n"
        "seen.append(calling_process())\n"
        "print(json.dumps([asdict(one) for one in seen]))\n"
    )
    environ = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    unloaded, closed, late = json.loads(done.stdout)
    assert unloaded["initialized"] == closed["initialized"] == {}
    machine = replace(
        with_variables(server(), CUDA_VISIBLE_DEVICES="0"), process=CallingProcess(**late)
    )
    (found,) = (one for one in diagnose(machine).findings if one.id == "D10")
    assert found.says.startswith("CUDA_VISIBLE_DEVICES was set after tensorflow had opened CUDA")
    assert "tensorflow sees 2" in found.evidence


def test_children_measure_one_after_the_other_and_one_that_dies_holds_nobody_up() -> None:
    turns = Turns.start()
    taker = (
        "import sys, time; from devbench.doctor.turns import Turns\n"
        "with Turns.of_child(sys.argv[1]).take() as mine:\n"
        "    print(mine, time.monotonic()); time.sleep(0.2); print(time.monotonic())"
    )
    scripts = [taker, taker, "import time; time.sleep(0.3); raise SystemExit(1)"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [
        Child([sys.executable, "-c", script, str(turns)], environ, 60.0, turns.descriptors())
        for script in scripts
    ]
    turns.close()
    told = [child.wait().output.split() for child in children]
    (first_began, first_ended), (began, ended) = sorted(
        tuple(map(float, one[1:])) for one in told[:2]
    )
    assert [one[0] for one in told[:2]] == ["True", "True"]
    assert first_began < first_ended <= began < ended


def test_products_are_not_judged_while_other_programs_keep_the_cpus_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter: Any = adapters.Numpy()
    devices = adapter.describe().devices
    told = iter((0.0, 0.0))
    monkeypatch.setattr(trials, "_cpu_seconds_of_others", lambda: next(told))
    assert trials.cpu_rates(adapter, devices).keys() == {"numpy", "float32", "numpy again"}
    told = iter((0.0, 1000.0))
    assert trials.cpu_rates(adapter, devices) == {}
