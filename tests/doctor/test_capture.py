"""The live machine as a recording: children that answer, crash and hang."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from devbench.detection.records import view_to_json
from devbench.doctor import capture as package_capture
from devbench.doctor import diagnose, dump, trials
from devbench.doctor.bounded import Child, Ended
from devbench.doctor.bundle import parse
from devbench.doctor.child import ask_framework
from devbench.doctor.here import read_files
from devbench.doctor.recording import Recording, Trial
from devbench.doctor.trials import try_device
from devbench.doctor.turns import Turns
from devbench.frameworks.tensorflow import TensorFlowFramework
from devbench.frameworks.torch import TorchFramework
from devbench.protocol import encode
from tests.doctor import adapters

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
        *(adapters.Numpy, adapters.Crashing, TorchFramework, TensorFlowFramework),
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


@pytest.mark.torch
@pytest.mark.tensorflow
def test_the_real_frameworks_answer_and_their_products_are_timed(recording: Recording) -> None:
    for name in ("torch", "tensorflow"):
        found = framework(recording, name)
        assert found.answer.status == "ok"
        assert not found.rates or {"numpy", "float32", "bfloat16"} <= found.rates.keys()
        assert "intraop_threads" in found.settings
    if not recording.pci:  # no GPU: torch says why when a kernel is to run all the same
        (trial,) = framework(recording, "torch").trials
        assert trial.address == "cuda:0"
        assert trial.error


#: One GPU that has a name and refuses everything else, through NVML's own interface.
LIBRARY = """
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)8; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned size) { name[0] = 'X'; name[1] = 0; return 0; }
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) { *mode = 1; return 0; }
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
    found = package_capture(adapters={}).calls
    assert found["nvmlDeviceGetCount()"] == 1
    assert found["nvmlDeviceGetHandleByIndex(0)"] == "handle0"
    assert found["nvmlDeviceGetName(handle0)"] == "X"
    assert found["nvmlDeviceGetPersistenceMode(handle0)"] == 1
    assert found["nvmlDeviceGetEccMode(handle0)"] == {"error": "FunctionNotFound"}


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
