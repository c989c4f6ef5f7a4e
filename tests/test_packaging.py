"""What a user gets from the wheel, in an environment without torch and TensorFlow."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers import DevBench

ROOT = Path(__file__).parent.parent
FRAMEWORKS = re.compile(
    r"^_*(editable_impl_)?(torch|functorch|torchgen|tensorflow|tensorboard|keras|devbench)"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "dist", "build")
    shutil.copytree(ROOT, source, ignore=ignore)
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of an environment that holds the wheel and its dependencies, but no framework.

    The dependencies are linked from the environment of the tests, so nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    words = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*words, str(wheel)], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not FRAMEWORKS.match(entry.name) and not entry.name.endswith(".pth"):
            link = Path(paths["purelib"]) / entry.name
            if not link.exists():
                link.symlink_to(entry)
    return folder / "bin" / "devbench"


def test_the_wheel_holds_exactly_the_three_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "devbench",
        "devbench_suites",
        "devbench_reports",
    }
    for package in ("devbench", "devbench_suites", "devbench_reports"):
        assert f"{package}/py.typed" in names
    assert any(name.startswith("devbench_reports/templates/") for name in names)


def test_without_a_framework_everything_but_run_works_and_run_names_the_extra(
    fresh: Path, devbench_cli: DevBench, tmp_path: Path
) -> None:
    run_file = tmp_path / "run.json"
    done = devbench_cli("run", "sum[n=100]", "--framework", "fake", "--quick")
    assert done.returncode == 0, done.stderr
    assert devbench_cli("export", "-o", str(run_file)).returncode == 0

    def program(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DEVBENCH_STORE": str(tmp_path / "other.sqlite")}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            [fresh, *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    assert "detect" in program("--help").stdout
    listed = program("list")
    assert listed.returncode == 0, listed.stderr
    assert "matmul" in listed.stdout
    detected = program("detect", "--json")
    assert detected.returncode == 0, detected.stderr
    answer = json.loads(detected.stdout)
    assert {one["name"]: one["status"] for one in answer["frameworks"]} == {
        "torch": "missing",
        "tensorflow": "missing",
    }
    assert program("import", str(run_file)).returncode == 0
    shown = program("show", "--format", "csv")
    assert "sum[n=100,dtype=float32]@fake:cpu" in shown.stdout
    reported = program("report", "-o", "page.html")
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "page.html").stat().st_size > 100_000
    run = program("run", "matmul", "--quick")
    assert run.returncode == 3
    assert "pip install 'devbench[torch]'" in run.stderr
    assert "pip install 'devbench[tensorflow]'" in run.stderr


def test_mypy_follows_an_installed_devbench(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "from devbench import Work\nfrom devbench_suites.matmul import MatMul\n"
        "reveal_type(MatMul)\nWork(flops='many')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # To mypy a decorated class stays the class; at run time it is a devbench.Benchmark.
    assert 'Revealed type is "def () -> devbench_suites.matmul.MatMul"' in done.stdout
    assert 'Argument "flops" to "Work" has incompatible type "str"' in done.stdout
