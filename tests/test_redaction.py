from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devbench.redaction import redact

UUID = "GPU-1f3a9c2e-aaaa-bbbb-cccc-0123456789ab"
OTHER = "GPU-2f3a9c2e-aaaa-bbbb-cccc-0123456789ab"

#: What must not be left of the value below.
SECRETS = (
    *("tempest", "lab.example.org", "jane", "1f3a9c2e", "2f3a9c2e", "10.11.12.13", "fd00:1:2::7"),
    *("52:54:00:ab:cd:ef", "1322021012345", "9b5d6a7c", "4026531835abcdef", "12345678_1234"),
    "0324218054321",
)

VALUE = {
    "host": {"hostname": "tempest.lab.example.org", "kernel": "6.8.0.41", "python": "3.12.4"},
    "files": {
        "proc/sys/kernel/hostname": "tempest\n",
        "sys/fs/cgroup/kubepods-pod12345678_1234_1234_1234_123456789abc.slice/cpu.max": "max 100000",
        "proc/self/cgroup": "0::/docker/" + "4026531835abcdef" * 4,
    },
    "calls": {
        "nvmlDeviceGetUUID(gpu0)": UUID,
        f"nvmlDeviceGetHandleByUUID({OTHER})": "gpu1",
        "nvmlDeviceGetSerial(gpu0)": "1322021012345",
        "nvmlDeviceGetPciInfo(gpu0)": {"busId": "00000000:1B:00.0"},
        "nvmlDeviceGetUtilizationRates(gpu0)": {"gpu": 7, "memory": 3},
    },
    "variables": {
        "CUDA_VISIBLE_DEVICES": f"GPU-1f3a9c,{OTHER}",
        "LD_LIBRARY_PATH": "/home/jane/cuda/lib64:/Users/jane.doe/lib:/usr/lib",
        "NCCL_SOCKET": "tcp://10.11.12.13:29500 [fd00:1:2::7] 127.0.0.1",
    },
    "packages": [{"name": "nvidia-cudnn-cu12", "version": "9.10.2.21"}],
    "log": ["Nov 22 02:51:33 tempest kernel: eth0 52:54:00:ab:cd:ef jane's job"],
    "machine-id": "9b5d6a7c" * 4,
    "smi": "Serial Number : 0324218054321, serial console ttyS0; board 1322021012345",
    "driver": "550.90.07",
}


def test_nothing_that_identifies_the_machine_is_left() -> None:
    text = json.dumps(redact(VALUE))
    assert [secret for secret in SECRETS if secret in text] == []


def test_what_tells_nothing_of_a_person_stays() -> None:
    text = json.dumps(redact(VALUE))
    for kept in (
        "9.10.2.21",
        "550.90.07",
        "00000000:1B:00.0",
        "6.8.0.41",
        "02:51:33",
        "127.0.0.1",
        "ttyS0",
    ):
        assert kept in text
    assert redact(VALUE)["calls"]["nvmlDeviceGetUtilizationRates(gpu0)"] == {"gpu": 7, "memory": 3}


def test_the_same_thing_becomes_the_same_and_two_stay_two() -> None:
    done = redact(VALUE)
    first = done["calls"]["nvmlDeviceGetUUID(gpu0)"]
    (second,) = (call[call.index("(") + 1 : -1] for call in done["calls"] if "ByUUID" in call)
    assert first != second
    # A beginning of a UUID, as CUDA takes it, begins the stand-in too.
    named, whole = done["variables"]["CUDA_VISIBLE_DEVICES"].split(",")
    assert first.startswith(named)
    assert whole == second


def test_redacting_again_changes_nothing() -> None:
    once = redact(VALUE)
    assert redact(once) == once


def test_names_from_outside_are_taken_out_of_texts() -> None:
    assert redact("run of mallory_x on deepthought", ["mallory_x", "deepthought"]) == (
        "run of user on user"
    )


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        (
            "postgresql+psycopg://ann:***@db.corp:5432/x",
            "postgresql+psycopg://user:***@host:5432/x",
        ),
        ("--store=postgresql://ann@db/x", "--store=postgresql://user@host/x"),
        ("postgresql:///x?host=db.corp&user=ann", "postgresql:///x?host=host&user=user"),
        ("postgresql://ann:hunter2@[fd00:1:2::7]/x", "postgresql://user:***@[2001:db8::1]/x"),
        ("(tcp://node7.corp:29500)", "(tcp://host:29500)"),
        ("https://ann:token@git.corp/x", "https://user:***@host/x"),
        ("postgresql://localhost/x?host=/tmp/pg", "postgresql://localhost/x?host=/tmp/pg"),
        ("tcp://127.0.0.1:29500 env:// file:///etc", "tcp://127.0.0.1:29500 env:// file:///etc"),
        ("https://docs.nvidia.com/x", "https://docs.nvidia.com/x"),
    ],
)
def test_of_a_url_account_and_server_are_taken_out(url: str, clean: str) -> None:
    assert redact(url) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize("name", ["root", "gpu", "torch", "ubuntu", "a"])
def test_words_of_the_reports_are_no_names(name: str) -> None:
    value = {"hostname": name, "text": f"{name} is used"}
    assert redact(value) == value


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_redacted_without_failing(value: object) -> None:
    json.dumps(redact(value))
