from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devbench import detection
from devbench.cli.detect import detect
from devbench.detection import FrameworkAnswer, machine_from_json
from devbench.doctor.recording import RecordedCalls
from tests.detection.recorded import recorded
from tests.doctor.machines import server
from tests.helpers import DevBench


@pytest.fixture
def on_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Put the command on a recorded machine, with other answers of frameworks if given."""

    def go(name: str, *answers: FrameworkAnswer) -> None:
        machine = recorded(name, tmp_path)
        asked = [answer.name for answer in machine.answers + answers]
        hardware = detection.read_hardware(machine.root, machine.nvml)
        health = [
            detection.read_health(RecordedCalls(machine.nvml.calls), gpu.index)
            for gpu in hardware.gpus
        ]

        @contextmanager
        def asking(adapters: object, threads: int) -> Iterator[tuple[FrameworkAnswer, ...]]:
            yield machine.answers + answers

        monkeypatch.setattr(detection, "read_host", lambda: hardware.host)
        monkeypatch.setattr(detection, "read_gpus", lambda: (hardware.gpus, hardware.nvml_error))
        monkeypatch.setattr(detection, "read_health", lambda nvml, index: health[index])
        monkeypatch.setattr(detection, "start_asking", asking)
        monkeypatch.setattr("devbench.registry.frameworks", lambda: dict.fromkeys(asked))
        monkeypatch.setattr("devbench.registry.broken_frameworks", lambda: ())
        monkeypatch.setenv("COLUMNS", "80")

    return go


def row(text: str, start: str) -> str:
    """The line of the output that starts so."""
    (line,) = (line for line in text.splitlines() if " ".join(line.split()).startswith(start))
    return " ".join(line.split())


def test_equal_gpus_stand_in_one_row_each_with_both_addresses(
    on_machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    on_machine("two_equal_gpus")
    detect()
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    hardware, _, devices = out.partition("Devices")
    assert "clocks SM 210 of 1410 MHz · memory 1215 of 1215 MHz · held by: gpu idle" in " ".join(
        hardware.split()
    )
    assert "power ?? of 400 W · default limit 400 W" in " ".join(hardware.split())
    table = [line.split("  ") for line in devices.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in table]
    assert ["NVIDIA A100-SXM4-40GB", "cuda:0", "GPU:1"] in cells
    assert ["NVIDIA A100-SXM4-40GB", "cuda:1", "GPU:0"] in cells


def test_why_a_framework_has_no_address_stands_in_its_column(
    on_machine: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_machine(
        "mig",
        FrameworkAnswer(name="jax", status="missing", reason="not installed: pip install x"),
        FrameworkAnswer(name="broken", status="failed", reason="crashed with SIGSEGV"),
    )
    monkeypatch.setenv("COLUMNS", "120")
    detect()
    out = capsys.readouterr().out
    assert row(out, "jax not") == "jax not installed: pip install x"
    assert row(out, "broken crashed") == "broken crashed with SIGSEGV"
    devices = " ".join(out.partition("Devices")[2].split())
    assert "cuda:0 not installed failed" in devices
    assert "MIG-bbbbbbbb-1111-2222-3333-444444444444" in devices


SICK = {
    "EccMode": [1, 0],
    "TotalEccErrors, 1, 0": 3,
    "TotalEccErrors, 1, 1": 5,
    "RemappedRows": [0, 2, 1, 0],
    "PcieReplayCounter": 1,
    "FieldValues, [230]": [{"fieldId": 230, "nvmlReturn": 0, "value": 1}],
    "NvLinkState, 1": 0,
}


@pytest.fixture
def on_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eight GPUs, of which number 3 is sick."""
    machine = server(SICK)
    calls = RecordedCalls(machine.calls)
    with machine.root() as root:
        gpus = detection.read_gpus(calls, root)
        monkeypatch.setattr(detection, "read_gpus", lambda: gpus)
        monkeypatch.setattr("devbench.detection.nvml.Pynvml", lambda: calls)
        monkeypatch.setenv("COLUMNS", "80")
        yield


def test_each_gpu_tells_its_limits_links_and_health(
    on_server: None, capsys: pytest.CaptureFixture[str]
) -> None:
    detect(no_frameworks=True)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    usual, _, each = out.partition("GPU 0")
    usual = " ".join(usual.split())
    sick = " ".join(each.partition("GPU 3")[2].partition("GPU 4")[0].split())
    for row in (
        "NUMA 0",
        "PCIe generation 1 ×16, at most 5 ×16 · GPU alone 5, slot alone ?? ×?? · 1 replay",
        "NVLink 3 of 4 active, 1 inactive",
        "ECC on (off after a reset) · MIG off",
        "health uncorrected ECC errors 3, ever 5",
        "remapped rows 2",
        "remap pending yes · page retirement pending no · no remap failed · recovery reset the GPU",
    ):
        assert row in sick, row
    for row in (
        "BAR1 32.0 GiB",
        "application 2520 MHz, default 2520 · P8",
        "power 20 of 450 W · default limit 450 W · settable 150 to 600 W",
        "heat 35 °C · slows down at 90 °C · margin 55 °C",
        "NVLink 4 of 4 active",
    ):
        assert row in usual, row
    assert "NVLink" not in out.partition("GPU 4")[2]


def test_a_figure_that_cannot_be_read_is_two_question_marks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every call about the GPU fails but its handle and its number."""
    calls = {"nvmlInit()": 0, "nvmlDeviceGetCount()": 1, "nvmlDeviceGetHandleByIndex(0)": "gpu0"}
    gpus = detection.read_gpus(RecordedCalls(calls), tmp_path)
    monkeypatch.setattr(detection, "read_gpus", lambda: gpus)
    monkeypatch.setattr("devbench.detection.nvml.Pynvml", lambda: RecordedCalls(calls))
    detect(no_frameworks=True)
    text = "  GPU 0" + capsys.readouterr().out.partition("GPU 0")[2]
    rows = re.split(r"\n  (?=\S)", text)
    assert len(rows) == 13
    assert [row for row in rows if "??" not in row] == []


def test_json_tells_the_health_of_each_gpu(
    on_server: None, capsys: pytest.CaptureFixture[str]
) -> None:
    detect(json=True, no_frameworks=True)
    data = json.loads(capsys.readouterr().out)
    health = data["gpus"][3]["health"]
    assert (health["ecc_uncorrected"], health["remap_pending"]) == (3, True)
    assert health["nvlinks"] == [True, False, True, True]
    assert len(machine_from_json(data).gpus) == 8


def test_json_is_one_object_with_the_joined_devices(
    on_machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    on_machine("two_equal_gpus")
    detect(json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "devbench.detect/1"
    physical = {f"{d['framework']}:{d['address']}": d["physical"] for d in data["devices"]}
    assert physical["torch:cuda:0"] == physical["tensorflow:GPU:1"]
    assert data["gpus"][1]["power_w"] is None
    assert len(machine_from_json(data).devices) == 6


def test_an_unknown_host_prints_question_marks(
    on_machine: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_machine("arm")
    monkeypatch.setattr(detection, "read_host", detection.Host)
    detect(no_frameworks=True)
    out = capsys.readouterr().out
    assert row(out, "CPU") == "CPU ??"
    assert row(out, "usable CPUs") == "usable CPUs ?? of ??"
    assert row(out, "NUMA") == "NUMA ??"
    assert row(out, "NVIDIA") == (
        "NVIDIA no NVIDIA driver is installed (its NVML library is not there)"
    )


def test_a_name_that_looks_like_markup_stays_text(
    on_machine: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_machine("arm", FrameworkAnswer(name="[bold]x[/]", status="failed", reason="[red]no[/red]"))
    detect()
    assert "[bold]x[/]  [red]no[/red]" in capsys.readouterr().out


def test_no_frameworks_asks_none_and_says_nothing_of_them(devbench_cli: DevBench) -> None:
    done = devbench_cli("detect", "--no-frameworks")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Host" in done.stdout
    assert "Frameworks" not in done.stdout
    assert "\x1b" not in done.stdout


def test_frameworks_that_fail_are_an_ordinary_answer(devbench_cli: DevBench) -> None:
    done = devbench_cli("detect", "--json", env={"FAKE_START_FAILS": "libfake.so.1 is missing"})
    assert done.returncode == 0
    (fake,) = (
        answer for answer in json.loads(done.stdout)["frameworks"] if answer["name"] == "fake"
    )
    assert fake["status"] == "failed"
    assert fake["reason"] == "does not start: ImportError: libfake.so.1 is missing"


@pytest.mark.torch
@pytest.mark.tensorflow
def test_torch_and_tensorflow_meet_on_the_cpu_of_this_machine(devbench_cli: DevBench) -> None:
    done = devbench_cli("detect", "--json")
    assert done.returncode == 0
    data = json.loads(done.stdout)
    status = {answer["name"]: answer["status"] for answer in data["frameworks"]}
    assert status["torch"] == status["tensorflow"] == "ok"
    cpus = {device["framework"]: device for device in data["devices"] if device["kind"] == "cpu"}
    assert cpus["torch"]["physical"] == cpus["tensorflow"]["physical"] == "cpu"
    assert cpus["torch"]["name"] == cpus["tensorflow"]["name"] == data["host"]["cpu_model"]
    assert data["host"]["logical_cpus"] == os.cpu_count()


def test_a_call_of_the_driver_that_never_comes_back_leaves_the_rest_of_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()
    monkeypatch.setattr("devbench.cli.detect.NVML_S", 0.1)
    monkeypatch.setattr(detection, "read_gpus", over.wait)
    try:
        detect(no_frameworks=True)
    finally:
        over.set()
    out = capsys.readouterr().out
    assert row(out, "usable CPUs")
    assert "NVML did not come back within 0.1 s: a call of the driver hangs" in out


def test_what_goes_wrong_in_the_thread_of_nvml_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise RuntimeError("no such field")

    monkeypatch.setattr(detection, "read_gpus", broken)
    with pytest.raises(RuntimeError, match="no such field"):
        detect(no_frameworks=True)
