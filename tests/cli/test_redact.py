"""`--redact` of export, show and report: what went in by name must not come out, and it stays a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from devbench.errors import RunFileError
from devbench.model import Case, Run, Target
from devbench.store.exchange import dump_run, parse_run
from devbench.store.redacted import redacted
from tests.cli.command import devbench
from tests.store.example import example_info, example_measurement

UUID = "GPU-1f3a9c2e-aaaa-bbbb-cccc-0123456789ab"
OTHER = "GPU-2f3a9c2e-aaaa-bbbb-cccc-0123456789ab"

#: Each of them stands somewhere in the run below.
SECRETS = (
    *("tempest", "lab.example.org", "jane", "mallory_x", "1f3a9c2e", "2f3a9c2e"),
    *("10.11.12.13", "fd00:1:2::7", "52:54:00:ab:cd:ef", "1322021012345"),
    *("alyce_x", "db.corp.example"),
)


def _case(data: str, n: int = 256, address: str = "cuda:0") -> Case:
    params = (("n", n), ("dtype", "float32"), ("data", data))
    return Case("matmul", "matmul", params, Target("torch", (address,)))


def secret_run() -> Run:
    """Two GPUs, with the names of their machine and its owner wherever a run can hold a text."""
    first, second = _case("/home/jane/set"), _case("/home/jane/set", address="cuda:1")
    target = {"framework_version": "2.13.0", "device_name": "A GPU", "driver": "580.82.07"}
    environment = {
        "machine": {
            "host": {"hostname": "tempest.lab.example.org", "kernel": "6.8.0.41", "cpu_model": "C"},
            "gpus": [
                {"index": index, "name": "A GPU", "uuid": uuid, "serial": "1322021012345"}
                for index, uuid in enumerate((UUID, OTHER))
            ],
            "frameworks": [
                {
                    "name": "torch",
                    "status": "failed",
                    "reason": "tempest: no route to 10.11.12.13",
                    "view": None,
                    "log": ["eth0 52:54:00:ab:cd:ef", "/home/jane/venv/torch/__init__.py"],
                }
            ],
            "devices": [
                {"framework": "torch", "address": f"cuda:{index}", "kind": "cuda", "physical": uuid}
                for index, uuid in enumerate((UUID, OTHER))
            ],
        },
        "targets": {
            "torch:cuda:0": {**target, "physical_device": UUID},
            "torch:cuda:1": {**target, "physical_device": OTHER},
        },
        "argv": [
            *("/home/jane/venv/bin/devbench", "run", "--suite-path", "/home/jane/own.py"),
            *("--store", "postgresql+psycopg://alyce_x:***@db.corp.example:5432/results"),
        ],
        "git": None,
        "variables": {"NCCL_SOCKET_IFNAME": "[fd00:1:2::7]", "CUDA_VISIBLE_DEVICES": "GPU-1f3a9c"},
    }
    gpu = {"gpu": UUID, "sm_clock_hz": 1.4e9}
    return Run(
        info=example_info(
            label="jane's run on tempest", environment=environment, settings={"owner": "mallory_x"}
        ),
        cases=(first, second),
        measurements=(
            example_measurement(
                first, telemetry={"seconds": 1.0, "samples": 4, "host": {}, "gpus": [gpu]}
            ),
            example_measurement(
                second,
                status="failed",
                reason="error",
                detail=f"File /home/jane/own.py: {OTHER} is lost, says tempest",
                samples=(),
            ),
        ),
    )


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run.json"
    path.write_text(dump_run(secret_run()))
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "results.sqlite"))
    monkeypatch.setattr("getpass.getuser", lambda: "mallory_x")  # said nowhere as a name
    return path


def case_ids(path: Path) -> list[str]:
    return [case.id for case in parse_run(path.read_text(), str(path)).cases]


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def test_no_name_of_machine_or_person_is_left_in_run_file_table_or_page(
    run_file: Path, tmp_path: Path
) -> None:
    assert leaked(run_file.read_text()) == list(SECRETS)
    page = tmp_path / "page.html"
    assert devbench("report", run_file, "--redact", "-o", page).code == 0
    texts = [page.read_text()]
    for words in (("export",), ("show",), ("show", "--json"), ("show", "--format", "markdown")):
        answer = devbench(*words, run_file, "--redact")
        assert (answer.code, answer.err) == (0, ""), words
        texts.append(answer.out)
    for text in texts:
        assert leaked(text) == []
        assert "matmul" in text


def test_without_the_option_the_names_stay(run_file: Path, tmp_path: Path) -> None:
    assert devbench("export", run_file).out == run_file.read_text()
    devbench("report", run_file, "-o", tmp_path / "page.html")
    assert "tempest" in (tmp_path / "page.html").read_text()


def test_redacted_run_files_import_and_are_compared(run_file: Path, tmp_path: Path) -> None:
    run = secret_run()
    later = tmp_path / "later.json"
    later.write_text(dump_run(replace(run, info=replace(run.info, id="20260201-120000-cd34"))))
    for path in (run_file, later):
        assert devbench("export", path, "--redact", "-o", path).code == 0
        assert devbench("import", path).code == 0
    answer = json.loads(devbench("compare", run_file, later, "--json").out)
    assert answer["differences"] == []
    timed, failed = answer["results"]
    assert (timed["case_id"], timed["ratio"]) == (case_ids(later)[0], 1.0)
    assert failed["case_id"] == case_ids(later)[1]
    assert devbench("export", "--redact").out == later.read_text(), "once redacted, it stays"


def test_two_devices_stay_two_and_each_keeps_one_name_everywhere() -> None:
    clean = redacted(secret_run())
    environment = clean.info.environment
    first, second = (environment["targets"][f"torch:cuda:{i}"]["physical_device"] for i in (0, 1))
    assert first != second
    assert [gpu["uuid"] for gpu in environment["machine"]["gpus"]] == [first, second]
    assert [one["physical"] for one in environment["machine"]["devices"]] == [first, second]
    assert clean.measurements[0].telemetry["gpus"][0]["gpu"] == first
    assert second in str(clean.measurements[1].detail)
    assert environment["variables"]["CUDA_VISIBLE_DEVICES"] == first[:12]


def test_what_decides_a_comparison_stays_whatever_the_user_is_called() -> None:
    case = Case("matmul", "matmul", (("n", 1), ("op", "row_max")), Target("torch", ("cpu",)))
    run = replace(
        secret_run(),
        cases=(case,),
        measurements=(example_measurement(case, reason="error", numerics="exact"),),
    )
    clean = redacted(run, ["matmul", "ok", "exact", "error", "complete", "max"])
    assert clean.cases == run.cases
    assert clean.measurements == run.measurements
    assert clean.info.state == run.info.state
    assert json.loads(dump_run(clean)) == json.loads(
        dump_run(parse_run(dump_run(clean), "run.json"))
    )


def test_cases_that_only_names_told_apart_are_refused() -> None:
    cases = (_case("/home/jane/set"), _case("/home/bob/set"))
    run = replace(secret_run(), cases=cases, measurements=())
    with pytest.raises(RunFileError, match=r"the redacted run: cases\[1\] is the same case"):
        redacted(run)
