from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devbench.doctor.recording import RecordedCalls
from devbench.environment import (
    allowed_variables,
    gather,
    git_state,
    placement,
)
from devbench.redaction import without_password

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in no repository whatever lies above it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- variables


@pytest.mark.parametrize(
    "name",
    [
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_TF32_OVERRIDE",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "KMP_AFFINITY",
        "TF_NUM_INTRAOP_THREADS",
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "TF_CPP_MIN_LOG_LEVEL",
        "TF_XLA_FLAGS",
        "TF_DETERMINISTIC_OPS",
        "TF_CUDNN_USE_AUTOTUNE",
        "XLA_FLAGS",
        "KERAS_BACKEND",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "PYTORCH_CUDA_ALLOC_CONF",
        "LD_PRELOAD",
        "MALLOC_ARENA_MAX",
        "DNNL_VERBOSE",
        "NSYS_PROFILING_SESSION_ID",
        "PYTHONDEVMODE",
    ],
)
def test_what_changes_speed_is_recorded(name: str) -> None:
    assert allowed_variables({name: "1"}) == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        "HOME",
        "USER",
        "PATH",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "NVIDIA_API_KEY",
        "TF_VAR_database_password",
        "TF_TOKEN_app_terraform_io",
        "MY_CUDA_KEY",
        "XLA_FLAGS_SECRET",
        "cuda_secret",
    ],
)
def test_secrets_and_names_are_not_recorded(name: str) -> None:
    assert allowed_variables({name: "hunter2"}) == {}


@pytest.mark.parametrize(
    ("word", "masked"),
    [
        ("postgresql://ann:hunter2@db/results", "postgresql://ann:***@db/results"),
        (
            "--store=postgresql+psycopg://ann:p@ss@db:5432/x",
            "--store=postgresql+psycopg://ann:***@db:5432/x",
        ),
        (
            "postgresql://db/x?user=ann&password=hunter2&a=1",
            "postgresql://db/x?user=ann&password=***&a=1",
        ),
        ("postgresql://db/x?sslpassword=hunter2", "postgresql://db/x?sslpassword=***"),
        ("postgresql://db:5432/results", "postgresql://db:5432/results"),
        ("matmul[n=1024]@torch:cpu", "matmul[n=1024]@torch:cpu"),
        ("sqlite:///results.sqlite", "sqlite:///results.sqlite"),
        ("--param", "--param"),
    ],
)
def test_the_password_of_a_store_is_not_recorded(word: str, masked: str) -> None:
    assert without_password(word) == masked


# ---- git


def test_outside_a_repository_there_is_no_commit(folder: Path) -> None:
    assert git_state() is None


def test_a_repository_without_a_commit_has_none(folder: Path) -> None:
    git(folder, "init")
    assert git_state() is None


def test_the_commit_and_its_cleanness_are_told(folder: Path) -> None:
    git(folder, "init")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "-m", "first")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "untracked").write_text("")
    assert git_state() == {"commit": commit, "dirty": False}
    (folder / "file").write_text("two")
    assert git_state() == {"commit": commit, "dirty": True}


def test_a_machine_without_git_has_no_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert git_state() is None


# ---- together


def test_the_environment_of_a_run_can_be_stored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["devbench", "run", "--store", "postgresql://a:b@c/d"])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    facts = gather({"host": {"hostname": "host-1"}})
    assert json.loads(json.dumps(facts)) == facts
    assert facts["machine"] == {"host": {"hostname": "host-1"}}
    assert facts["argv"] == ["devbench", "run", "--store", "postgresql://a:***@c/d"]
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["variables"]["OMP_NUM_THREADS"] == "2"
    assert "hunter2" not in json.dumps(facts)


# ---- where host and GPUs stand to each other


def test_what_a_slow_gpu_is_explained_with_is_recorded(tmp_path: Path) -> None:
    for name, text in {
        "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-3,8\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    calls = {
        "nvmlInit()": 0,
        **{f"nvmlDeviceGetHandleByIndex({index})": f"gpu{index}" for index in range(3)},
        "nvmlDeviceGetDisplayActive(gpu0)": 1,
        "nvmlDeviceGetDisplayActive(gpu1)": 0,
    }
    machine = {
        "gpus": [
            {"index": 0, "uuid": "GPU-0"},
            {"index": 1, "uuid": None, "pci_bus_id": "00000000:02:00.0"},
            {"index": 2, "uuid": "GPU-2"},
        ]
    }
    assert placement(machine, tmp_path, RecordedCalls(calls)) == {
        "allowed_cpus": "0-3,8",
        "frequency_driver": "acpi-cpufreq",
        "displays": {"GPU-0": True, "00000000:02:00.0": False, "GPU-2": None},
    }


def test_a_machine_that_tells_nothing_is_recorded_as_such(tmp_path: Path) -> None:
    told = placement({}, tmp_path, RecordedCalls({}))
    assert told == {"allowed_cpus": None, "frequency_driver": None, "displays": {}}
