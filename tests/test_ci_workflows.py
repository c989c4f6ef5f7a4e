"""The workflows that docs/ci.md offers: valid by their published schemas, and their commands run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers import environment

FOLDER = Path(__file__).parents[1] / "docs" / "ci"
SCHEMAS = {"github.yml": "vendor.github-workflows", "gitlab.yml": "vendor.gitlab-ci"}


def read(name: str) -> Any:
    return YAML(typ="safe").load((FOLDER / name).read_text(encoding="utf-8"))


def checked(schema: str, file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_workflow_follows_its_published_schema(name: str, tmp_path: Path) -> None:
    done = checked(SCHEMAS[name], FOLDER / name)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / name
    wrong.write_text(
        (FOLDER / name).read_text().replace("paths:", "pahts:").replace("steps:", "stepz:")
    )
    assert checked(SCHEMAS[name], wrong).returncode == 1, "the schema would accept anything"


SUITE = """
from devbench import benchmark

@benchmark(name="mine", axes={"n": [1, 2]})
class Mine:
    def fake(self, ctx, n):
        return lambda: STEP
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project whose head breaks a benchmark, which one pair shows. Gives the commit of the base."""
    monkeypatch.chdir(tmp_path)
    suite = tmp_path / "benchmarks" / "my_suite.py"
    suite.parent.mkdir()

    def commit(step: str) -> str:
        suite.write_text(SUITE.replace("STEP", step))
        for words in (["add", "--all"], ["commit", "--quiet", "--message", step]):
            identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
            subprocess.run(["git", *identity, *words], check=True)
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, check=True)
        return done.stdout.decode().strip()

    subprocess.run(["git", "init", "--quiet"], check=True)
    base = commit("[n]")
    commit("[n / 0]")
    return base


def shell(lines: Sequence[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run as the services do: bash, which stops at the first command that fails."""
    scripts = Path(sys.executable).parent
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        env=environment(folder, **{"PATH": path, "FRAMEWORK": "fake"} | variables),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_for_github_leave_a_summary_and_run_files_and_fail(
    repository: str, tmp_path: Path
) -> None:
    workflow = read("github.yml")
    (job,) = workflow["jobs"].values()
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert list(steps) == ["Install", "Compare", "Export"]
    summary = tmp_path / "summary.md"
    store = workflow["env"]["DEVBENCH_STORE"]
    variables = {"BASE": repository, "GITHUB_STEP_SUMMARY": str(summary), "DEVBENCH_STORE": store}
    done = shell([steps["Compare"]], tmp_path, **variables)
    assert done.returncode == 1, done.stderr
    assert "division by zero" in summary.read_text()
    done = shell([steps["Export"]], tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    (upload,) = [step["with"]["path"] for step in job["steps"] if "upload" in step.get("uses", "")]
    assert all(Path(file).stat().st_size for file in upload.split())


def test_the_commands_for_gitlab_leave_a_table_and_run_files_and_fail(
    repository: str, tmp_path: Path
) -> None:
    job = read("gitlab.yml")["benchmarks"]
    store = job["variables"]["DEVBENCH_STORE"]
    variables = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": repository, "DEVBENCH_STORE": store}
    done = shell(job["script"], tmp_path, **variables)
    assert done.returncode == 1, done.stderr
    done = shell(job["after_script"], tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "division by zero" in done.stdout
    assert all(Path(file).stat().st_size for file in job["artifacts"]["paths"])
