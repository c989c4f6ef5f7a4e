from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from devbench import Context, Unsupported
from devbench.measure.numerics import bit_equal
from devbench.model import dtype
from devbench_suites import _storage
from devbench_suites.checkpoint import Files
from tests.suites.harness import Child, builtin

CHECKPOINT = builtin("checkpoint")


@pytest.mark.parametrize("storage", ["page_cache", "disk"])
@pytest.mark.parametrize("operation", ["save", "load"])
def test_weights_come_back_bit_for_bit(child: Child, operation: str, storage: str) -> None:
    reason = _storage.no_disk(Path(tempfile.gettempdir()))
    if storage == "disk" and reason is not None:
        pytest.skip(reason)
    params: dict[str, Any] = {"layers": 1, "operation": operation, "storage": storage}
    answer = child.run(CHECKPOINT, params)
    assert bit_equal(answer.observed, answer.inputs).numerics == "exact"
    answer.observed[1][5] += 1  # a bias
    assert bit_equal(answer.observed, answer.inputs).numerics == "mismatch"
    if operation == "load" and "storage_read_fraction" in answer.metrics:
        assert 0 <= answer.metrics["storage_read_fraction"] <= 1


@pytest.mark.torch
def test_bytes_are_those_of_the_weights(torch_child: Child) -> None:
    params: dict[str, Any] = {"layers": 1, "operation": "load", "storage": "page_cache"}
    given = torch_child.run(CHECKPOINT, params).inputs["weights"]
    held = sum(array.nbytes for layer in given for array in layer.values())
    assert CHECKPOINT[0].work(params).bytes == held


def context(scratch: Path) -> Context:
    return Context(
        framework="torch",
        device="cpu",
        devices=("cpu",),
        dtype=dtype("float32"),
        mode="eager",
        threads=1,
        params={},
        scratch=scratch,
        compile=lambda function: function,
    )


def write(file: Path) -> None:
    file.write_text("weights")


FILES = Files(write, lambda file: [file.read_text()], ".x")


@pytest.mark.parametrize("operation", ["save", "load"])
def test_nothing_is_left_on_the_disk(tmp_path: Path, operation: str) -> None:
    step = FILES.step(context(tmp_path), operation, "page_cache", 7)
    step.run()
    assert list(tmp_path.rglob("*.x"))
    assert step.close is not None
    step.close()
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path) -> None:
    def save(file: Path) -> None:
        file.write_text("wei")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Files(save, FILES.load, ".x").step(context(tmp_path), "load", "page_cache", 7)
    assert not list(tmp_path.iterdir())


def test_a_save_writes_a_new_file_each_time(tmp_path: Path) -> None:
    step = FILES.step(context(tmp_path), "save", "page_cache", 7)
    assert step.reset is not None
    step.reset()
    file = step.run()
    step.reset()
    assert not file.exists()


def test_only_a_save_to_the_disk_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_storage, "no_disk", lambda folder: None)
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    FILES.step(context(tmp_path), "save", "page_cache", 7).run()
    assert not flushed
    FILES.step(context(tmp_path), "save", "disk", 7).run()
    assert len(flushed) == 1


def test_a_file_that_does_not_fit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"does not fit on the disk.*set TMPDIR"):
        FILES.step(context(tmp_path), "save", "page_cache", 2**60)


def mounts(*table: tuple[str, str]) -> list[Any]:
    return [SimpleNamespace(mountpoint=at, fstype=kind) for at, kind in table]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ([("/", "ext4"), ("/data", "tmpfs")], "tmpfs"),
        ([("/", "ext4"), ("/data/other", "tmpfs"), ("/dat", "tmpfs")], "ext4"),
        ([("/data", "tmpfs"), ("/", "ext4")], "tmpfs"),
        ([("/data", "tmpfs"), ("/data", "xfs")], "xfs"),
        ([], None),
    ],
    ids=["nearest", "beside", "order", "hidden", "unknown"],
)
def test_a_folder_lies_on_the_nearest_mount(table: list[tuple[str, str]], kind: str | None) -> None:
    assert _storage.filesystem(Path("/data/scratch"), table) == kind


def test_what_lives_in_memory_is_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts(("/", "tmpfs")))
    with pytest.raises(Unsupported, match=r"in memory \(tmpfs\).*set TMPDIR"):
        FILES.step(context(tmp_path), "load", "disk", 7)
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts(("/", "ext4")))
    FILES.step(context(tmp_path), "load", "disk", 7)
