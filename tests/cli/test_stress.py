from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from devbench.errors import UsageError
from devbench.model import Run
from devbench.regress.sides import side_of
from devbench.stats.results import summarize
from devbench.store import Store
from devbench.stress.effort import Effort
from devbench.stress.records import checks_of, series_of
from devbench.stress.session import prepare
from devbench_reports.html import to_html
from devbench_reports.markdown import to_markdown
from devbench_reports.terminal import to_text
from tests.cli.command import devbench
from tests.helpers import DevBench
from tests.stress.workers import SHORT, plugins

FAKE = ("--framework", "fake")


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any]:
    """A device with a bad memory that was under load: its stored run, and the JSON answer."""
    home = tmp_path_factory.mktemp("load")
    with plugins("stuck-bit"), Store.open(str(home / "store.sqlite")) as store:
        effort = Effort(tier=3, **SHORT)
        session = prepare(store, effort, frameworks=["sickfake"], label="sick")
        answer = session.run().to_json()
        return store.load("sick"), json.loads(json.dumps(answer))


def test_the_answer_has_every_check_and_the_time_series(load: tuple[Run, Any]) -> None:
    _, answer = load
    assert (answer["schema"], answer["verdict"]) == ("devbench.stress/1", "fault")
    verdicts = {check["name"]: check["verdict"] for check in answer["checks"]}
    assert verdicts["memory"] == "fault"
    assert verdicts["sums"] == verdicts["product_under_load"] == "no fault found"
    assert list(verdicts)[-3:] == ["bandwidth", "product_under_load", "rate_kept"]
    [series] = answer["series"]
    assert series["windows"]
    assert all(window["flop_per_s"] > 0 for window in series["windows"])


def test_the_store_gives_back_what_was_answered(load: tuple[Run, Any]) -> None:
    run, answer = load
    assert (run.info.state, run.info.settings["kind"]) == ("complete", "stress")
    told = [(check["name"], check["verdict"], check["says"]) for check in answer["checks"]]
    assert [(one.name, one.verdict, one.says) for one in checks_of(run)] == told
    [series] = series_of(run)
    windows = answer["series"][0]["windows"]
    for name in ("at_s", "flop_per_s", "yardstick_s"):
        assert [getattr(one, name) for one in series.windows] == pytest.approx(
            [one[name] for one in windows], rel=1e-5
        )


def test_a_second_test_holds_its_bandwidths_against_the_first(
    load: tuple[Run, Any], tmp_path: Path
) -> None:
    run, _ = load
    with plugins(), Store.open(str(tmp_path / "store.sqlite")) as store:
        store.import_run(run)
        session = prepare(store, Effort(tier=2), frameworks=["sickfake"])
        roofs = session.roofs(session.targets[0])
    measured = run.info.environment["targets"]["sickfake:cpu"]["ceilings"]
    assert roofs["copy"] == (measured["copy"], "the best of earlier runs")


def test_a_stored_run_is_shown_and_reported_with_its_chart(load: tuple[Run, Any]) -> None:
    run, _ = load
    page = to_html(run, [])
    assert "Rate under load over time (GFLOP/s)" in page
    assert page.count('data-chart="') == 1  # this device has no clock that could be drawn
    assert '<tr class="verdict-fault"><th scope="row">sickfake:cpu</th>' in page
    shown = to_text(run, [])
    assert "Fault in 11 checks" in shown
    assert "pattern ones: " in shown


def test_markdown_of_a_stress_run_names_the_fault(load: tuple[Run, Any]) -> None:
    run, _ = load
    text = to_markdown(run, summarize(run))
    assert "- **sickfake:cpu**: Fault in 11 checks" in text
    assert "| sickfake:cpu | memory | fault | pattern ones: " in text
    assert "| sickfake:cpu | sums | no fault found | " in text
    assert "±" not in text  # windows of one process are no rounds
    assert "Nothing was measured" not in text


def test_stress_runs_are_not_compared_as_timings(load: tuple[Run, Any]) -> None:
    run, _ = load
    with pytest.raises(UsageError, match=rf"^{run.info.id} is a stress test") as refused:
        side_of(run)
    assert f"devbench show {run.info.id}" in str(refused.value)


def test_a_fault_exits_with_1(tmp_path: Path) -> None:
    with plugins("wrong-element"):
        done = devbench("stress", "--framework", "sickfake", "--store", tmp_path / "store.sqlite")
    assert done.code == 1
    assert done.out.startswith("sickfake:cpu: fault\n")
    assert "1 fault in 6 checks." in done.out


def test_the_good_word_is_no_fault_found(tmp_path: Path) -> None:
    with plugins():
        done = devbench("stress", *FAKE, "--store", tmp_path / "store.sqlite")
    assert done.code == 0, done.err
    assert done.out.startswith("fake:cpu: no fault found\n")
    assert "No fault found in 6 checks." in done.out
    assert "healthy" not in done.out + done.err
    assert "fake:cpu gradients: no fault found" in done.err


def test_a_device_of_which_nothing_could_be_told_is_not_one_without_a_fault(tmp_path: Path) -> None:
    store = ("--framework", "sickfake", "--store", tmp_path / "store.sqlite")
    with plugins("full"):
        done = devbench("stress", *store)
        answer = devbench("stress", *store, "--json")
    assert done.code == answer.code == 3, done.err
    assert "Could not tell whether there is a fault in 6 checks; 6 could not tell" in done.out
    assert "no fault found" not in done.out.lower()
    assert json.loads(answer.out)["verdict"] == "cannot tell"


def test_a_full_device_is_named_beside_one_that_could_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICES", "1")
    with plugins("full"):
        done = devbench("stress", "--framework", "sickfake", "--store", tmp_path / "store.sqlite")
    assert done.code == 0, done.err
    assert "; nothing could be told of sickfake:dev:0. Run " in done.out


def test_ctrl_c_keeps_what_was_found_and_exits_with_130(devbench_cli: DevBench) -> None:
    child = devbench_cli.start("stress", *FAKE, "--tier", "3", "--minutes", "5", "--label", "cut")
    assert child.stderr is not None
    deadline = time.monotonic() + 60
    for line in child.stderr:
        assert time.monotonic() < deadline
        if "repeated_product" in line or "integers" in line:
            break
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "integers" in out
    with Store.open(str(devbench_cli.home / "results.sqlite")) as store:
        run = store.load("cut")
    assert run.info.state == "interrupted"
    assert checks_of(run)[0].name == "integers"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tier", "4"), "--tier takes 1, 2 or 3, not 4"),
        (("--tier", "3", "--minutes", "0"), "--minutes takes up to 1440 minutes above zero"),
        (("--framework", "tensorflo"), "did you mean 'tensorflow'?"),
    ],
)
def test_a_wrong_request_is_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "store.sqlite"))
    done = devbench("stress", *words)
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1
