"""The rows that `devbench detect` shows of GPUs and of what frameworks say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devbench import detection
from devbench.cli.detect import detect
from devbench.cli.hardware import framework_rows, gpu_rows
from devbench.detection import AmdGpu, FrameworkAnswer, Gpu, GpuHealth, Hardware, Host, join
from devbench.frameworks.base import FrameworkView
from devbench.model import Device, Json
from tests.detection import adapters
from tests.detection.recorded import recorded


def gpu(index: int, **known: Json) -> Gpu:
    return Gpu(index=index, name="NVIDIA H100", uuid=f"GPU-{index}", ecc=True, **known)


def shown(gpus: list[Gpu], health: list[GpuHealth] | None = None) -> list[tuple[str, str]]:
    return gpu_rows(gpus, health or [GpuHealth(index=gpu.index) for gpu in gpus], None)


def test_what_most_gpus_have_in_common_is_said_once_and_each_gpu_says_how_it_differs() -> None:
    fine, hot = GpuHealth(index=0, pstate=0), GpuHealth(index=1, pstate=8)
    rows = shown([gpu(index) for index in range(4)], [fine, hot, fine, fine])
    position = [name for name, _ in rows].index("GPU 0")
    usual = dict(rows[:position])
    assert usual["model"] == "NVIDIA H100 · compute capability ?? · ?? cores"
    assert usual["clocks"].endswith("P0")
    assert [name for name, _ in rows[position:]] == ["GPU 0", "GPU 1", "clocks", "GPU 2", "GPU 3"]
    assert rows[position + 2][1].endswith("P8")


def test_gpus_that_have_little_in_common_keep_their_own_rows() -> None:
    rows = shown([gpu(0, temperature_c=30), replace(gpu(1, temperature_c=60), name="NVIDIA A2")])
    heat = [value for name, value in rows if name == "heat"]
    assert [value.partition(" ")[0] for value in heat] == ["30", "60"]
    assert [name for name, _ in rows].count("model") == 2
    assert [name for name, _ in rows].count("modes") == 1


def test_nothing_in_common_leaves_no_head_over_nothing() -> None:
    one = shown([gpu(0)])
    assert one[0][0] == "GPU 0"
    assert len({name for name, _ in one}) == len(one)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?? since the driver was loaded"),
        ({"sync boost": 0.0}, "never since the driver was loaded"),
        (
            {"reliability": 0.2, "software power cap": 7200.0, "thermal slowdown": 90.0},
            "2.0 h by software power cap, 1.5 min by thermal slowdown, under 1 s by reliability "
            "since the driver was loaded",
        ),
        ({"board limit": 172800.0}, "2.0 d by board limit since the driver was loaded"),
    ],
)
def test_how_long_the_clocks_were_held_down_is_told_longest_first(
    seconds: dict[str, float] | None, text: str
) -> None:
    assert (
        dict(shown([gpu(0)], [GpuHealth(index=0, clock_event_seconds=seconds)]))["slowed"] == text
    )


def test_amds_gpus_stand_below_with_what_amd_smi_tells() -> None:
    known = AmdGpu(index=0, name="MI300X", architecture="gfx942", multiprocessors=304, power_w=139)
    rows = gpu_rows([], [], "no NVIDIA driver is installed", [known, AmdGpu(index=1)])
    assert rows[:2] == [
        ("NVIDIA", "no NVIDIA driver is installed"),
        ("AMD 0", "MI300X · gfx942 · 304 compute units"),
    ]
    assert ("power", "139 W") in rows
    unknown = rows[[name for name, _ in rows].index("AMD 1") :]
    assert [value for _, value in unknown if "??" not in value] == []


def rows_of(device: Device, **build: Json) -> list[tuple[str, str]]:
    view = FrameworkView("torch", "1.0", "torch.py", (device,), build)
    answer = FrameworkAnswer(name="torch", status="ok", view=view)
    missing = FrameworkAnswer(name="tensorflow", status="missing", reason="not installed")
    return framework_rows(join(Hardware(Host()), [answer, missing]))


def test_a_device_tells_its_multiprocessors_memory_and_formats_as_its_framework_says() -> None:
    device = Device(
        *("torch", "cuda:0", "cuda", "H200", "GPU-1", 141 << 30, "9.0"),
        multiprocessors=132,
        unified_memory=False,
        dtypes=("float32", "bfloat16"),
    )
    assert rows_of(device, cuda="13.0", cudnn=91002, arch_list=["sm_90", "sm_120"]) == [
        ("torch", "built for CUDA 13.0 · cuDNN 91002 · sm_90 sm_120"),
        (
            "cuda:0",
            "compute capability 9.0 · 132 multiprocessors · memory of its own, 141.0 GiB · "
            "float32 bfloat16",
        ),
    ]


def test_devices_of_amd_and_apple_tell_what_they_have_instead() -> None:
    amd = Device("torch", "cuda:0", "cuda", "MI300X", "GPU-1", architecture="gfx942")
    built, device = rows_of(amd, cuda=None, hip="6.4")
    assert built == ("torch", "built for ROCm 6.4")
    assert device[1] == "gfx942 · ?? multiprocessors · memory ??, ?? · formats ??"
    apple = Device("torch", "mps", "mps", "Apple GPU", "mps", 12 << 30, unified_memory=True)
    built, device = rows_of(apple, cuda=None, hip=None, mps=True)
    assert built == ("torch", "built for MPS")
    assert "the host's memory, 12.0 GiB" in device[1]


def test_a_build_for_intel_says_so_and_one_for_cpus_too() -> None:
    device = Device("torch", "cpu", "cpu", "CPU", "cpu", dtypes=("float32",))
    assert rows_of(device, cuda=None, xpu="20250101")[0][1] == "built for XPU 20250101"
    assert rows_of(device, cuda=None, cpu_capability="AVX2")[0][1] == "CPU-only build · AVX2"


def test_a_build_that_says_nothing_of_gpus_is_not_called_one_for_cpus() -> None:
    device = Device("torch", "cpu", "cpu", "CPU", "cpu", dtypes=("float32",))
    assert rows_of(device) == [("torch", "built for ??"), ("cpu", "float32")]


def test_equal_gpus_that_each_framework_numbers_its_own_way_meet_on_the_way_through_the_children(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machine = recorded("two_equal_gpus", tmp_path)
    gpus = detection.read_gpus(machine.nvml, machine.root)
    asked = {"torch": adapters.RecordedTorch(), "tensorflow": adapters.RecordedTensorFlow()}
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(detection, "read_gpus", lambda: gpus)
    monkeypatch.setattr("devbench.detection.nvml.Pynvml", lambda: machine.nvml)
    monkeypatch.setattr("devbench.registry.frameworks", lambda: asked)
    monkeypatch.setattr("devbench.registry.broken_frameworks", lambda: ())
    detect(json=True)
    data = json.loads(capsys.readouterr().out)
    physical = {f"{one['framework']}:{one['address']}": one["physical"] for one in data["devices"]}
    first, second = (gpu["uuid"] for gpu in data["gpus"])
    assert (physical["torch:cuda:0"], physical["torch:cuda:1"]) == (first, second)
    assert (physical["tensorflow:GPU:0"], physical["tensorflow:GPU:1"]) == (second, first)
    assert [gpu["multiprocessors"] for gpu in data["gpus"]] == [108, 98]


def test_detect_loads_no_library_that_it_has_no_use_for() -> None:
    """Each costs tens of milliseconds before anything is shown."""
    heavy = {"pydantic", "numpy", "pandas", "psutil", "sqlalchemy", "platformdirs", "jinja2"}
    heavy |= {"rich", "statistics", "concurrent.futures", "devbench.registry", "devbench.declare"}
    program = (
        "import io, sys; from devbench.cli import main; out, sys.stdout = sys.stdout, io.StringIO()\n"
        "sys.argv = ['devbench', 'detect', '--no-frameworks']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)), 'GPUs' in sys.stdout.getvalue(), file=out)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[] True\n", "")
