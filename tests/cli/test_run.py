"""``devbench run`` as a process, with the fake framework: what it measures, skips and refuses."""

from __future__ import annotations

import json
import re
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import DevBench

FAKE = ("--framework", "fake", "--quick")


def results(devbench_cli: DevBench, *words: str, code: int = 0, **env: str) -> list[dict[str, Any]]:
    done = devbench_cli("run", *words, *FAKE, "--json", env=env)
    assert done.returncode == code, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == "devbench.results/1"
    rows: list[dict[str, Any]] = answer["results"]
    return rows


def test_a_run_measures_every_case_and_checks_its_result(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum")
    assert [row["case_id"] for row in rows] == [
        "sum[n=100,dtype=float32]@fake:cpu",
        "sum[n=200,dtype=float32]@fake:cpu",
    ]
    for row in rows:
        assert row["status"] == "ok"
        assert row["numerics"] == "match"
        assert row["rounds"] == 1
        assert row["samples"] >= 5
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert row["ci_low"] is None, "one round says nothing about the next process"
        assert row["mode"] == "eager"
        assert row["flop_per_s"] == pytest.approx(row["params"]["n"] / row["median"])
        assert row["framework_version"] == "1.0"


def test_rounds_give_an_interval_from_fresh_workers(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum[n=100]", "--rounds", "3")
    assert rows[0]["rounds"] == 3
    assert rows[0]["ci_low"] < rows[0]["median"] < rows[0]["ci_high"]


def test_several_thread_counts_make_a_case_each(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum[n=100]", "--threads", "1,2")
    assert {(row["target"], row["threads"]) for row in rows} == {
        ("fake:cpu;threads=1", 1),
        ("fake:cpu;threads=2", 2),
    }


def test_a_device_can_be_chosen_among_several(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum[n=100]", "--device", "dev:1", FAKE_DEVICES="2")
    assert [row["target"] for row in rows] == ["fake:dev:1"]
    assert rows[0]["physical_device"] == "fake-1"
    assert rows[0]["device_name"] == "Fake 1"


def test_an_unsupported_dtype_is_a_skipped_row_with_its_reason(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum", "--param", "dtype=float32,bfloat16", "--param", "n=100")
    by_dtype = {row["dtype"]: row for row in rows}
    assert by_dtype["float32"]["status"] == "ok"
    assert by_dtype["bfloat16"]["status"] == "skipped"
    assert by_dtype["bfloat16"]["reason"] == "unsupported: no bfloat16 here"


@pytest.mark.parametrize(
    ("trouble", "status", "reason"),
    [
        ("segfault", "crashed", "signal: SIGSEGV"),
        ("exit", "crashed", "exit: exit status 7"),
        ("raise", "failed", "error: ValueError: two is not to its taste at "),
        ("wrong", "ok", None),
    ],
)
def test_a_case_in_trouble_costs_its_own_row_only(
    devbench_cli: DevBench, trouble: str, status: str, reason: str | None
) -> None:
    rows = results(devbench_cli, "trouble", "--param", "n=1,2,3", code=1, FAKE_TROUBLE=trouble)
    by_n = {row["params"]["n"]: row for row in rows}
    assert by_n[2]["status"] == status
    assert (by_n[2]["reason"] or "").startswith(reason or "")
    if trouble == "wrong":
        assert by_n[2]["numerics"] == "mismatch"
        assert by_n[2]["quality"] == "invalid"
        assert by_n[2]["quality_reasons"][0].startswith("numerics-mismatch: output is off by 0.5")
    assert by_n[1]["status"] == by_n[3]["status"] == "ok"


def test_out_of_memory_is_one_honest_row_and_prunes_the_larger_sizes(
    devbench_cli: DevBench,
) -> None:
    rows = results(devbench_cli, "trouble", "--param", "n=1,2,3", FAKE_TROUBLE="oom")
    assert [row["status"] for row in rows] == ["ok", "oom", "skipped"]
    assert rows[2]["reason"] == "after-oom: n=2 ran out of memory"


def test_a_builder_that_says_unsupported_makes_a_skipped_row(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "trouble", "--param", "n=1,2", FAKE_TROUBLE="unsupported")
    assert rows[1]["status"] == "skipped"
    assert rows[1]["reason"] == "unsupported: this device has no such unit"


def test_a_size_that_would_take_too_long_is_predicted_and_skipped(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "trouble", "--param", "n=1,2", FAKE_FLOPS_FACTOR="1e9")
    assert rows[1]["status"] == "skipped"
    assert rows[1]["reason"].startswith("too-slow: a step would take")
    assert "the limit is 1 s" in rows[1]["reason"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("changes", "declaration: {suite}: careless.fake gives another output at its second call"),
        ("nothing", "declaration: {suite}: the output of careless.fake holds a NoneType"),
        ("luckless", "error: its reference failed: ArithmeticError: the reference has no luck at "),
    ],
)
def test_a_step_that_cannot_be_checked_is_named_with_its_line(
    devbench_cli: DevBench, how: str, reason: str
) -> None:
    [row] = results(devbench_cli, f"careless[how={how}]", code=1)
    assert row["status"] == "failed"
    place = re.sub(r"\S+devbench_fake_suite.py:\d+", "{suite}", row["reason"])
    assert place.startswith(reason)
    assert "devbench_fake_suite.py:" in row["reason"]


def test_a_step_that_says_it_is_stateful_may_change_its_output(devbench_cli: DevBench) -> None:
    [row] = results(devbench_cli, "careless[how=stateful]")
    assert (row["status"], row["numerics"]) == ("ok", "match")


def test_cold_caches_are_an_axis_of_every_benchmark(devbench_cli: DevBench) -> None:
    rows = results(devbench_cli, "sum[n=100]", "--param", "cache=hot,cold")
    assert [row["params"]["cache"] for row in rows] == ["hot", "cold"]
    assert all(row["status"] == "ok" for row in rows)


def test_what_watched_the_host_is_stored_with_the_measurement(devbench_cli: DevBench) -> None:
    results(devbench_cli, "sum[n=100]")
    run = json.loads(devbench_cli("export").stdout)
    telemetry = run["measurements"][0]["telemetry"]
    assert telemetry["seconds"] > 0
    assert telemetry["host"]["worker_busy"] > 0
    ceilings = run["run"]["environment"]["targets"]["fake:cpu"]["ceilings"]
    assert ceilings["gemm"]["float32"]["burst"] >= ceilings["gemm"]["float32"]["typical"] > 1e6
    assert ceilings["copy"] > 1e6
    assert 0 < ceilings["dispatch_s"] < 1e-3


def test_a_framework_that_does_not_start_in_the_worker_becomes_the_reason_of_its_rows(
    devbench_cli: DevBench, tmp_path: Path
) -> None:
    done = devbench_cli("run", "sum", *FAKE, env={"FAKE_START_FAILS": "libfake.so not found"})
    assert done.returncode == 3
    assert "libfake.so not found" in done.stderr
    assert "Traceback" not in done.stderr


def test_when_nothing_could_be_timed_the_exit_code_says_so(devbench_cli: DevBench) -> None:
    done = devbench_cli("run", "sum", *FAKE, "--param", "dtype=bfloat16", "--param", "n=100")
    assert done.returncode == 3
    assert "nothing was measured" in done.stderr


def test_a_dry_run_lists_the_cases_and_stores_nothing(devbench_cli: DevBench) -> None:
    done = devbench_cli("run", "sum", *FAKE, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "sum[n=100,dtype=float32]@fake:cpu",
        "sum[n=200,dtype=float32]@fake:cpu",
    ]
    assert json.loads(devbench_cli("runs", "--json").stdout)["runs"] == []


def test_a_spent_time_budget_keeps_what_was_measured_and_can_be_resumed(
    devbench_cli: DevBench,
) -> None:
    done = devbench_cli("run", "sum", *FAKE, "--rounds", "40", "--time-budget", "6", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["run"]["state"] == "interrupted"
    assert all(row["status"] == "ok" for row in answer["results"])
    assert "devbench run --resume" in done.stderr


def test_a_time_budget_that_ends_before_anything_exits_124(devbench_cli: DevBench) -> None:
    done = devbench_cli("run", "sum", *FAKE, "--time-budget", "0.01")
    assert done.returncode == 124
    assert "time budget" in done.stderr


def test_ctrl_c_keeps_what_was_measured_and_exits_130(devbench_cli: DevBench) -> None:
    child = devbench_cli.start("run", "sum", *FAKE, "--rounds", "50", "--json")
    _wait_for_measurements(devbench_cli, 2)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    answer = json.loads(out)
    assert answer["run"]["state"] == "interrupted"
    assert answer["results"]


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    devbench_cli: DevBench, tmp_path: Path
) -> None:
    for path in (tmp_path, tmp_path / "nowhere" / "page.html"):
        done = devbench_cli("run", "sum", *FAKE, "--report", str(path))
        assert done.returncode == 2
        assert str(path) in done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(devbench_cli("runs", "--json").stdout)["runs"] == []


def test_a_home_that_cannot_be_written_costs_the_log_its_place_and_nothing_else(
    devbench_cli: DevBench, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    places = {"XDG_STATE_HOME": str(tmp_path / "file" / "state"), "TMPDIR": str(tmp_path)}
    done = devbench_cli("run", "sum[n=100]", *FAKE, env=places)
    assert done.returncode == 0, done.stderr
    assert f"log {tmp_path}/devbench-" in done.stderr
    [log] = tmp_path.glob("devbench-*.log")
    assert "greets standard output" in log.read_text()


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("summ",), "did you mean 'sum'"),
        (("sum[m=1]",), "'m'"),
        (("sum[n=1",), "cannot read the selection"),
        (("sum", "--param", "n=abc"), "takes a whole number, e.g. n=100, not 'abc'"),
        (("sum", "--param", "n=0"), "must be positive"),
        (("sum", "--param", "k=1"), "there is no axis 'k'"),
        (("sum", "--param", "n"), "--param takes axis=value"),
        (("sum", "--param", "dtype=float31"), "did you mean 'float32'"),
        (("sum", "--param", "cache=luke"), "known: cold, hot"),
        (("sum", "--device", "dev:9"), "there is no device 'dev:9'"),
        (("sum", "--threads", "0"), "--threads 0: between 1 and"),
        (("sum", "--threads", "x"), "--threads takes whole numbers"),
        (("sum", "--rounds", "0"), "zero rounds measure nothing"),
        (("sum", "--time-budget", "-1"), "--time-budget takes seconds above zero"),
        (("sum", "--suite-path", "none.py"), "there is no suite file"),
        (("--resume", "nosuchrun"), "holds no run yet"),
    ],
)
def test_bad_input_is_one_line_that_names_the_culprit(
    devbench_cli: DevBench, words: tuple[str, ...], culprit: str
) -> None:
    extra = () if "--resume" in words else FAKE
    done = devbench_cli("run", *words, *extra)
    assert done.returncode == 2, done.stderr
    assert culprit in done.stderr
    assert done.stderr.startswith("devbench: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_an_unknown_framework_is_refused_with_the_close_match(devbench_cli: DevBench) -> None:
    done = devbench_cli("run", "sum", "--framework", "tensorflo")
    assert done.returncode == 2
    assert "did you mean 'tensorflow'" in done.stderr


def test_a_selection_that_matches_no_target_exits_3(devbench_cli: DevBench) -> None:
    done = devbench_cli("run", "sum@torch:*", *FAKE)
    assert done.returncode == 3
    assert "nothing to measure" in done.stderr


def _wait_for_measurements(devbench_cli: DevBench, count: int) -> None:
    """Until the store holds so many; read from outside, as WAL lets one."""
    import sqlite3

    deadline = time.monotonic() + 60
    path = devbench_cli.home / "results.sqlite"
    while time.monotonic() < deadline:
        if path.exists():
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                    [found] = database.execute("select count(*) from measurements").fetchone()
                    if found >= count:
                        return
            except sqlite3.OperationalError:
                pass  # the tables are not there yet
        time.sleep(0.05)
    raise AssertionError("the run measured nothing within a minute")
