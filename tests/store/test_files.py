from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from devbench.errors import UsageError
from devbench.store.files import reserve


def test_a_text_takes_the_place_of_a_file_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    path.chmod(0o640)
    with reserve(path) as write:
        assert path.read_text() == "old"
        write("new\n")
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), reserve(path):
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_encoded_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(UsageError, match="cannot be written"), reserve(path) as write:
        write("\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to("real.json")
    with reserve(link) as write:
        write("new")
    assert link.is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    with reserve(os.devnull) as write:
        write("gone")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with reserve(f"/dev/fd/{writer}") as write:
        write("through\n")
    os.close(writer)
    with os.fdopen(reader) as text:
        assert text.read() == "through\n"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there is no /dev/fd")
def test_an_open_file_keeps_what_was_written_to_it_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as log:
        log.write("before\n")
        log.flush()
        with reserve(f"/dev/fd/{log.fileno()}") as write:
            write("the text\n")
        log.write("after\n")
    assert path.read_text() == "before\nthe text\nafter\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is a folder"),
        ("none/page.html", "there is no folder"),
        ("file/page.html", "there is no folder|Not a directory"),
        ("loop", "[Ll]oop|too many levels"),
        ("x" * 300, "too long"),
        ("nul\0", "null"),
    ],
)
def test_an_unwritable_path_is_refused_before_any_work(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=message) as caught, reserve(f"{tmp_path}/{name}"):
        pytest.fail("work was done")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


def test_a_folder_that_takes_no_file_is_refused(tmp_path: Path) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc, which nobody can make files in")
    with pytest.raises(UsageError, match="cannot be written"), reserve("/proc/page.html"):
        pytest.fail("work was done")
