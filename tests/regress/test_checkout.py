"""The two variants of an interleaved comparison, from real git repositories and interpreters."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devbench.errors import UsageError
from devbench.registry import Source
from devbench.regress.variant import Variant, stage, variants


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two commits of a package in src/, tagged v1 and v2, and a suite file since v2."""
    top = tmp_path.resolve() / "project"
    (top / "src" / "pkg").mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    for version in ("v1", "v2"):
        (top / "src" / "pkg" / "__init__.py").write_text(f"version = {version!r}\n")
        if version == "v2":
            (top / "suite.py").write_text("x = 1\n")
        git(top, "add", "-A")
        git(top, "commit", "-qm", version)
        git(top, "tag", version)
    monkeypatch.chdir(top)
    yield top
    assert git(top, "worktree", "list").count("\n") == 0, "a worktree was left behind"


def version_of(variant: Variant, folder: Path) -> str:
    """What its interpreter imports."""
    done = subprocess.run(
        [str(variant.python), "-P", "-c", "import pkg; print(pkg.version)"],
        env={**os.environ, **variant.variables(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_each_ref_is_imported_from_its_own_tree(repository: Path, tmp_path: Path) -> None:
    with variants("v1", "v2") as (base, head):
        assert (version_of(base, tmp_path), version_of(head, tmp_path)) == ("v1", "v2")
        assert base.commit == git(repository, "rev-parse", "v1")
        tree = base.tree
    assert tree is not None
    assert not tree.exists()


def test_without_a_head_the_files_are_taken_as_they_are(repository: Path, tmp_path: Path) -> None:
    (repository / "src" / "pkg" / "__init__.py").write_text("version = 'not committed'\n")
    with variants("v2", None) as (base, head):
        assert version_of(base, tmp_path) == "v2"
        assert version_of(head, tmp_path) == "not committed"


def test_a_worktree_is_gone_after_an_interruption(repository: Path) -> None:
    with pytest.raises(KeyboardInterrupt), variants("v1", "v2"):
        raise KeyboardInterrupt


def test_a_worktree_that_was_still_being_made_is_gone_too(repository: Path) -> None:
    with variants("v1", "v2") as (base, _):
        assert base.tree is not None
        git(repository, "worktree", "lock", str(base.tree))  # as git does until all files are there
        (base.tree / ".git").unlink()


def test_hooks_of_the_project_do_not_run_in_a_worktree(repository: Path, tmp_path: Path) -> None:
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with variants("v1", "v2") as (base, _):
        assert version_of(base, tmp_path) == "v1"


def test_called_by_a_hook_it_leaves_the_index_alone(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = repository / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setenv("GIT_DIR", ".git")
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    with variants("v1", None) as (base, _):
        assert base.tree is not None
        assert not (base.tree / "suite.py").exists()
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert index.read_bytes() == before


def test_a_repository_that_git_will_not_read_is_told_in_its_words(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        with pytest.raises(UsageError, match="dubious ownership"), variants("v1", None):
            pass


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 0", "is no Python interpreter: asked for its version it did not tell"),
        ("exit 1", "is no Python interpreter"),
        ("echo devbench 3 8 10", r"is Python 3\.8\.10; devbench needs 3\.11 or later there too"),
    ],
)
def test_a_program_that_cannot_run_the_engine_is_refused_by_name(
    tmp_path: Path, body: str, message: str
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    with pytest.raises(UsageError, match=message), variants(str(program), None):
        pass


def test_a_head_that_leaves_changes_out_is_refused_by_their_names(repository: Path) -> None:
    (repository / "suite.py").write_text("x = 2\n")
    with pytest.raises(UsageError, match=r"HEAD leaves out what is not committed: suite\.py"):  # noqa: SIM117
        with variants("v1", "HEAD"):
            pass


def test_a_ref_that_does_not_exist_is_answered_with_those_that_do(repository: Path) -> None:
    with (
        pytest.raises(
            UsageError, match=r"'v3' is neither .* branches and tags there: main, v1, v2"
        ),
        variants("v3", None),
    ):
        pass


def test_outside_a_repository_only_an_interpreter_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is in no git repository"), variants("main", None):
        pass
    with variants(sys.executable, None) as (base, head):
        assert base.python == head.python == Path(sys.executable)
        assert base.version == head.version == platform.python_version()


def test_a_suite_file_of_the_repository_is_each_sides_own(repository: Path) -> None:
    suite = Source("suite", "file", str(repository / "suite.py"))
    elsewhere = Source("other", "file", "/elsewhere/suite.py")
    with variants("v2", None) as (base, head):
        assert base.tree is not None
        assert base.source(suite).location == str(base.tree / "suite.py")
        assert head.source(suite) == suite
        assert base.source(elsewhere) == elsewhere
        assert base.has(suite)
    with variants("v1", None) as (base, head):
        assert (base.has(suite), head.has(suite)) == (False, True)


def test_the_staged_engine_knows_the_frameworks_and_nothing_else_is_staged(tmp_path: Path) -> None:
    here = Variant("here", Path(sys.executable))
    stage(tmp_path, [], (here, here))
    found = {path.name for path in tmp_path.iterdir()}
    assert len(found) == 2
    assert "devbench" in found
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-c"),
            "from devbench import registry; print(registry.__file__, *registry.frameworks())",
        ],
        env={**os.environ, **here.variables(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, *names = done.stdout.split()
    assert file == str(tmp_path / "devbench" / "registry.py")
    assert set(names) == {"torch", "tensorflow"}
