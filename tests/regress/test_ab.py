"""`devbench ab`: two git refs for real with the fake framework, and its decisions from told pairs."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devbench.errors import NothingMeasured
from devbench.model import Case, Device, Target
from devbench.regress.ab import Request, _pairs_to_json, interleave, unshared, without_device
from devbench.regress.comparison import Comparison, Row, SideInfo
from devbench.regress.interleave import Found
from devbench.regress.looks import look, with_stillness
from devbench.regress.pairs import log_ratio
from devbench.regress.variant import Variant
from tests.helpers import PLUGINS, DevBench, environment
from tests.regress.test_checkout import git

SUITE = """
import numpy as np
from devbench import benchmark

@benchmark(name="loop", axes={"n": [20_000]}, size="n")
class Loop:
    \"\"\"A loop of a package in the repository.\"\"\"

    def inputs(self, rng):
        return {"x": rng.standard_normal(4)}

    def reference(self, x):
        return x

    def fake(self, ctx, n, x):
        import pkg

        def step():
            pkg.work(n)
            return x

        return step
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """v1, and v2 in which the package does twice the work."""
    top = tmp_path.resolve() / "project"
    (top / "src" / "pkg").mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    for version, times in (("v1", 1), ("v2", 2)):
        (top / "suite.py").write_text(SUITE)
        (top / "src" / "pkg" / "__init__.py").write_text(
            f"def work(n):\n    return sum(i * i for i in range({times} * n))\n"
        )
        git(top, "add", "-A")
        git(top, "commit", "-qm", version)
        git(top, "tag", version)
    return top


#: The command with shorter turns: a doubled time needs no precision.
SHORT = "import devbench.regress.ab as ab; ab.SHARE_S = 0.03; from devbench.cli import main; main()"


def start(
    home: Path,
    top: Path,
    *words: str,
    suite: str = "suite.py",
    select: Sequence[str] = ("loop",),
    **variables: str,
) -> subprocess.Popen[str]:
    given = ["ab", *select, "--suite-path", suite, "--framework", "fake", *words]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SHORT, *given],
        env=environment(home, **variables),
        cwd=top,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ab(
    home: Path,
    top: Path,
    *words: str,
    suite: str = "suite.py",
    select: Sequence[str] = ("loop",),
) -> subprocess.CompletedProcess[str]:
    child = start(home, top, *words, suite=suite, select=select)
    out, err = child.communicate(timeout=300)
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def test_a_slowdown_in_the_head_alone_is_found_named_stored_and_nothing_left_behind(
    repository: Path, tmp_path: Path
) -> None:
    folder = repository / "tmp"  # where the engine is staged then, which is not the project's code
    folder.mkdir()
    words = ("--base", "v1", "--head", "v2", "--label", "twice", "--json")
    child = start(tmp_path, repository, *words, TMPDIR=str(folder))
    out, err = child.communicate(timeout=300)
    assert child.returncode == 1, err
    answer = json.loads(out)
    [row] = answer["results"]
    assert (row["case_id"], row["verdict"]) == ("loop[n=20000]@fake:cpu", "regressed")
    assert row["low"] > 1.03
    assert 1.5 < row["ratio"] < 3
    assert list(folder.iterdir()) == []
    assert git(repository, "worktree", "list").count("\n") == 0
    stored = DevBench(tmp_path)("show", "twice-head", "--json")
    [kept] = json.loads(stored.stdout)["results"]
    assert kept["rounds"] in (8, 16)
    assert kept["numerics"] == "match"
    assert kept["median"] == pytest.approx(row["new_s"])


def test_told_to_end_it_keeps_what_was_measured_and_leaves_no_folder_and_no_worktree(
    repository: Path, tmp_path: Path
) -> None:
    folders = tmp_path / "tmp"
    folders.mkdir()
    words = ("--base", "v1", "--head", "v1", "--label", "ended")
    child = start(tmp_path, repository, *words, TMPDIR=str(folders))
    assert child.stderr is not None
    assert "v1 against v1" in child.stderr.readline()
    assert len(list(folders.iterdir())) == 3  # two worktrees, and the place of the processes
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGINT)  # as a pipeline that is cancelled goes on
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "interrupted; what was measured is stored" in err
    assert list(folders.iterdir()) == []
    assert git(repository, "worktree", "list").count("\n") == 0
    runs = json.loads(DevBench(tmp_path)("runs", "--json").stdout)["runs"]
    assert {run["state"] for run in runs} == {"interrupted"}


def test_a_budget_that_ends_before_the_first_pair_is_said_and_no_empty_table(
    repository: Path, tmp_path: Path
) -> None:
    done = ab(tmp_path, repository, "--base", "v1", "--time-budget", "0.001")
    assert (done.returncode, done.stdout) == (124, "")
    assert "the time budget ran out before any case was timed" in done.stderr


def test_sides_that_run_the_same_installed_code_are_refused(
    repository: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(SUITE.replace("import pkg\n", "").replace("pkg.work(n)", "sum(range(n))"))
    done = ab(tmp_path, repository, "--base", "v1", suite=str(elsewhere))
    assert done.returncode == 2, done.stdout
    assert "ran the same code: nothing that was timed comes from the repository" in done.stderr


def test_sides_that_share_an_installed_package_are_refused_though_the_suite_is_their_own(
    repository: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    (repository / "python").mkdir()
    (repository / "src" / "pkg").rename(repository / "python" / "pkg")
    shutil.copytree(repository / "python" / "pkg", installed / "pkg")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "moved")
    path = os.pathsep.join((str(PLUGINS), str(installed)))
    child = start(tmp_path, repository, "--base", "HEAD", PYTHONPATH=path)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, ""), err
    assert "HEAD and the work tree ran the same code: nothing that was timed" in err
    assert "; pkg of it is installed elsewhere." in err


def verdicts(answer: str) -> dict[str, tuple[str, str | None]]:
    return {
        row["case_id"].partition("@")[0]: (row["verdict"], row["reason"])
        for row in json.loads(answer)["results"]
    }


def test_what_only_one_side_declares_is_a_row_and_never_left_unsaid(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "suite.py").write_text(SUITE.replace('"loop"', '"loop_new"'))
    done = ab(tmp_path, repository, "suite", "--base", "v2", "--json", select=())
    assert done.returncode == 3, done.stderr
    assert verdicts(done.stdout) == {
        "loop_new[n=20000]": ("not-measured", "only now: the base has none of it"),
        "loop[n=20000]": ("not-measured", "only on the base: there is none of it now"),
    }


def test_a_suite_file_that_the_base_does_not_have_yet_is_no_error(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "added.py").write_text(SUITE)
    done = ab(tmp_path, repository, "--base", "v1", "--json", suite="added.py")
    assert done.returncode == 3, done.stderr
    assert verdicts(done.stdout) == {
        "loop[n=20000]": ("not-measured", "only now: the base has none of it")
    }
    git(repository, "stash", "--include-untracked", "--quiet")
    done = ab(tmp_path, repository, "--base", "v1", suite="added.py")
    assert done.returncode == 2
    assert "there is no suite file" in done.stderr


UNLUCKY = (
    SUITE.replace("@benchmark", "declared = benchmark").replace(
        'size="n")\nclass', 'size="n")\n\nclass'
    )
    + """

from devbench import Step

@benchmark(name="unreferenced", axes={"n": [1]}, size="n")
class Unreferenced(Loop):
    def reference(self, x):
        raise RuntimeError("no such thing")

@benchmark(name="unmeasured", axes={"n": [1]}, size="n")
class Unmeasured(Loop):
    def fake(self, ctx, n, x):
        return Step(super().fake(ctx, n, x), metrics=lambda: {"rate": float("nan")})

@benchmark(name="wrong", axes={"n": [1]}, size="n")
class Wrong(Loop):
    def reference(self, x):
        return 2 * x

@benchmark(name="third", axes={"n": [1]}, size="n")
class Third(Loop):
    \"\"\"Fails where two other processes have built it.\"\"\"

    def fake(self, ctx, n, x):
        (ctx.scratch / f"third-{len(list(ctx.scratch.glob('third-*')))}").touch()
        if len(list(ctx.scratch.glob("third-*"))) > 2:
            raise RuntimeError("once too often")
        return super().fake(ctx, n, x)
"""
)


def test_a_case_that_fails_in_any_way_is_a_row_with_its_reason(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "suite.py").write_text(UNLUCKY)
    git(repository, "commit", "-qam", "more")
    words = ("--base", "HEAD", "--threads", "1", "--label", "unlucky", "--json")
    done = ab(tmp_path, repository, "suite", *words, select=())
    assert done.returncode == 1, done.stderr
    found = {case.partition("[")[0]: told for case, told in verdicts(done.stdout).items()}
    assert {verdict for verdict, _ in found.values()} == {"not-measured"}
    assert found.keys() == {"unreferenced", "unmeasured", "wrong", "third"}
    assert "pairs" not in done.stderr  # none is taken that could tell nothing
    for case, reason in (
        ("unreferenced", "its reference failed: RuntimeError: no such thing"),
        ("unmeasured", "unmeasured's metric 'rate' is nan"),
        ("wrong", "worthless now: numerics-mismatch: "),
        ("third", "failed now: error: RuntimeError: once too often"),
    ):
        assert reason in (found[case][1] or "")
    run = json.loads(DevBench(tmp_path)("export", "unlucky-head").stdout)["run"]
    assert {one["threads"] for one in run["environment"]["targets"].values()} == {1}


def test_a_base_that_would_run_the_files_of_the_work_tree_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    """As where what is installed in editable mode is found by an import hook and not by the path."""
    (repository / "src").rename(repository / "lib")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "moved")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    package = repository / "lib" / "pkg" / "__init__.py"
    (hooks / "sitecustomize.py").write_text(
        "import sys\nfrom importlib.util import spec_from_file_location\n"
        "class Editable:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        return spec_from_file_location(name, {str(package)!r}) if name == 'pkg' else None\n"
        "sys.meta_path.append(Editable())\n"
    )
    path = os.pathsep.join((str(PLUGINS), str(hooks)))
    child = start(tmp_path, repository, "--base", "HEAD", PYTHONPATH=path)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, ""), err
    assert f"HEAD ran {package}, which is the work tree's and not its own" in err


def test_another_amount_of_work_is_another_benchmark_between_refs_too(
    repository: Path, tmp_path: Path
) -> None:
    declared = "    def work(self, n):\n        return Work(items={})\n\n    def inputs"
    suite = SUITE.replace("import benchmark", "import Work, benchmark")
    for items in (1, 2):
        (repository / "suite.py").write_text(
            suite.replace("    def inputs", declared.format(items))
        )
        git(repository, "commit", "-qam", f"{items}")
    done = ab(tmp_path, repository, "--base", "HEAD~1", "--json")
    assert done.returncode == 3, done.stderr
    [(verdict, reason)] = verdicts(done.stdout).values()
    assert (verdict, reason) == (
        "not-measured",
        "another amount of work: 1 items a step on the base, 2 now",
    )


def test_a_head_that_declares_other_cases_than_the_work_tree_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    (repository / "suite.py").write_text(SUITE.replace("20_000", "10_000"))
    git(repository, "commit", "-qam", "fewer")
    done = ab(tmp_path, repository, "--base", "v1", "--head", "v2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "suite.py of v2 is not the one in the work tree" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--base", "v1", "--threads", "0"], "--threads 0: between 1 and"),
        (["--base", "v1", "--threads", "9999"], "--threads 9999: between 1 and"),
        (["--base", "v9"], "'v9' is neither a Python interpreter nor a commit"),
        (["--base", "v1", "--margin", "0"], "a margin of 0 % is none"),
        (["--base", "v1", "--time-budget", "0"], "--time-budget takes seconds above zero"),
        (["--base", "v1", "--framework", "fakes"], "there is no framework 'fakes'"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_exit_2(
    repository: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    done = ab(tmp_path, repository, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


# ---- devices of one side


def sees(*devices: Device, reason: str | None = None) -> Any:
    torch = SimpleNamespace(name="torch", view=None if reason else devices, reason=reason)
    return SimpleNamespace(devices=devices, frameworks=[torch])


CPU, GPU = (Device("torch", name, name[:4], name, name) for name in ("cpu", "cuda:0"))


def compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machines: tuple[Any, Any], *devices: str
) -> Comparison:
    """What is said where every case that is timed is equivalent."""
    suite = tmp_path / "suite.py"
    suite.write_text(SUITE.replace("def fake", "def torch"))

    def decide(request: Any, store: Any, place: Any, machines: Any, *rest: Any, **_: Any) -> Any:
        fine = comparison("equivalent")
        rows = tuple(replace(fine.rows[0], case_id=case.id) for case in rest[1])
        return replace(fine, rows=rows)

    monkeypatch.setattr("devbench.regress.ab.machines_of", lambda *_: machines)
    monkeypatch.setattr("devbench.regress.ab.decide", decide)
    asked = Request(
        base=sys.executable, select=("loop",), suite_paths=(suite,), devices=tuple(devices)
    )
    return interleave(asked, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("blind", ["base", "head"])
def test_a_device_that_one_side_does_not_see_leaves_a_question_open_and_passes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blind: str
) -> None:
    machines = sees(CPU, GPU), sees(CPU)
    found = compared(monkeypatch, tmp_path, machines if blind == "head" else machines[::-1])
    told = {row.target: (row.verdict, row.reason) for row in found.rows[1:]}
    side = "this Python" if blind == "head" else sys.executable
    assert told == {"torch:cuda:0": ("not-measured", f"{side} does not see torch:cuda:0")}
    assert found.exit_code == 4
    assert compared(monkeypatch, tmp_path, machines, "cpu").exit_code == 0


def test_a_framework_that_starts_on_one_side_only_passes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tensorflow = Device("tensorflow", "CPU:0", "CPU", "CPU", "cpu")
    machines = sees(tensorflow, CPU), sees(tensorflow, reason="no libcudart")
    why = "this Python does not see torch:cpu: no libcudart"
    with pytest.raises(NothingMeasured, match=f"no case has a device that both sides see: {why}"):
        compared(monkeypatch, tmp_path, machines)


def test_an_address_that_means_another_gpu_on_each_side_is_not_compared_and_said() -> None:
    sides = Variant("old", Path("a")), Variant("new", Path("b"))
    machines = sees(CPU, GPU), sees(CPU, replace(GPU, physical="another"))
    apart = unshared(sides, machines)
    assert apart == {"torch:cuda:0": "torch:cuda:0 is another device on old"}
    both = Case("s", "b", (), Target("torch", ("cuda:0", "cuda:1")))
    assert without_device(both, apart) is not None
    assert without_device(CASES[0], apart) is None


# ---- decisions


CASES = [Case("s", name, (), Target("torch", ("cpu",))) for name in ("same", "slower")]


def told(seed: int, pairs: int, *shifts: float) -> dict[str, Found]:
    rng = np.random.default_rng(seed)
    return {
        case.id: Found(pairs=list(rng.normal(math.log1p(shift), 0.01, pairs)))
        for case, shift in zip(CASES, shifts, strict=True)
    }


def test_a_case_is_decided_at_a_look_and_an_unclear_one_stays_open() -> None:
    found = told(1, 16, 0.0, 0.2)
    judged = look(found, CASES, {}, 0.03, 16)
    assert judged[CASES[1].id][1].verdict == "regressed"
    early = look(told(1, 8, 0.0, 0.035), CASES, {}, 0.03, 8)
    assert {judgement.verdict for _, judgement in early.values()} == {"inconclusive"}


def test_a_case_that_time_cut_short_is_looked_at_with_the_pairs_that_all_have() -> None:
    found = told(2, 12, 0.0, 0.2)
    found[CASES[0].id].pairs.pop()
    assert look(found, CASES, {}, 0.03, 12).keys() == {CASES[1].id}
    early = look(found, CASES, {}, 0.03, 11)
    assert early.keys() == {case.id for case in CASES}
    assert early[CASES[1].id][1].verdict == "regressed"


def comparison(verdict: Any) -> Comparison:
    side = SideInfo(name="a", kind="run", id="a", label=None, started_at="", state="complete")
    rows = tuple(
        Row(
            case_id=case.id,
            benchmark=case.benchmark,
            params={},
            target="torch:cpu",
            verdict=verdict,
            gate="fine",
            margin=0.03,
        )
        for case in CASES
    )
    return Comparison(base=side, new=side, margin=0.03, differences=(), rows=rows)


def moved(name: str) -> dict[str, Found]:
    found = told(3, 16, 0.0, 0.0)
    still = list(np.random.default_rng(4).normal(0, 0.003, 8))
    for one in found.values():
        one.null, one.yardstick = list(still), list(still)
    getattr(found[CASES[1].id], name)[:] = [value + 0.04 for value in still]
    return found


@pytest.mark.parametrize(
    ("control", "words"),
    [("null", "head against itself moved by +4"), ("yardstick", "the fixed step moved by +4")],
)
def test_nothing_is_said_where_something_moved_that_should_not_have(
    control: str, words: str
) -> None:
    rows = with_stillness(comparison("regressed"), moved(control), {"torch:cpu"}).rows
    assert rows[0].verdict == "regressed"
    assert (rows[1].verdict, rows[1].gate) == ("inconclusive", "open")
    assert rows[1].reason is not None
    assert words in rows[1].reason


@pytest.mark.parametrize("verdict", ["regressed", "inconclusive"])
def test_a_machine_that_favours_one_side_leaves_no_certain_change_either(verdict: str) -> None:
    sure = comparison(verdict)
    sure = replace(sure, rows=tuple(replace(row, certain="slower", more=3) for row in sure.rows))
    rows = with_stillness(sure, moved("null"), set()).rows
    assert (rows[0].certain, rows[0].more) == ("slower", 3)
    assert (rows[1].verdict, rows[1].certain, rows[1].more) == ("inconclusive", None, None)


def test_what_kept_an_open_case_from_further_pairs_is_its_reason() -> None:
    found = moved("null")
    found[CASES[0].id].trouble = "in pair 9 it did not start"
    for verdict, reason in (("inconclusive", "in pair 9 it did not start"), ("equivalent", None)):
        assert with_stillness(comparison(verdict), found, set()).rows[0].reason == reason


def test_a_process_that_never_rests_is_a_doubt_of_its_case_alone() -> None:
    found = moved("null")
    found[CASES[0].id].restless = {"head"}
    rows = with_stillness(comparison("equivalent"), found, set()).rows
    assert rows[0].doubts == (
        "new, restless: its process went on using the CPU when it was the others' turn",
    )
    assert rows[1].doubts == ()
    assert json.loads(json.dumps(_pairs_to_json(found)))[CASES[0].id]["restless"] == ["head"]


def test_another_version_of_the_framework_may_move_the_fixed_step() -> None:
    rows = with_stillness(comparison("improved"), moved("yardstick"), set()).rows
    assert [row.verdict for row in rows] == ["improved", "improved"]


def test_the_ratio_of_a_pair_is_the_median_of_its_turns() -> None:
    base, head = [1.0, 2.0, 1.0, 1.0, 1.0], [1.1, 2.2, 9.0, 1.1, 1.1]
    assert log_ratio(head, base) == pytest.approx(math.log(1.1))
    assert log_ratio(base, head) == pytest.approx(-log_ratio(head, base))
