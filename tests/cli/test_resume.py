"""``devbench run --resume``: only on the machine that the run was begun on, and only what is missing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devbench import session as sessions
from devbench.detection import join, machine_to_json, read_hardware
from devbench.events import Event, Starting
from devbench.model import Case, Run, RunInfo, Target
from devbench.store import Store
from devbench.store.exchange import dump_run
from devbench.store.redacted import redacted
from tests.cli.command import devbench
from tests.helpers import DevBench
from tests.store.example import example_case, example_info, example_measurement

ID = example_info().id
GPU = "GPU-1f3a9c2e-aaaa-bbbb-cccc-0123456789ab"

SUITE = """
from devbench import benchmark


@benchmark(name="own", axes={"n": [1, 2]})
class Own:
    def inputs(self, rng, n):
        return {"x": rng.standard_normal(n)}

    def reference(self, x):
        return x

    def fake(self, ctx, x):
        return lambda: x
"""

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "results.sqlite"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in sessions._CHOOSING:
        monkeypatch.delenv(name, raising=False)
    with Store.open() as opened:
        yield opened


def environment() -> dict[str, Any]:
    """Of a run that was begun on this machine, had it a GPU too."""
    machine = machine_to_json(join(read_hardware(), ()))
    for address, physical in (("cpu", "cpu"), ("cuda:0", GPU)):
        device = {"framework": "torch", "address": address, "kind": address.partition(":")[0]}
        machine["devices"].append({**device, "name": "A device", "physical": physical})
    machine["gpus"].append({"index": 0, "name": "A GPU", "uuid": GPU})
    targets: dict[str, Any] = {f"torch:{one['address']}": {} for one in machine["devices"]}
    return {"machine": machine, "targets": targets, "variables": {}}


def begun(change: Change = lambda told: None, cases: tuple[Case, ...] = (), **more: Any) -> Run:
    """Three rounds, of which the first case has one, the second was skipped, and the third has none."""
    told = environment()
    change(told)
    cases = cases or tuple(map(example_case, (256, 512, 1024)))
    settings = {"rounds": 3, **more}
    skipped: dict[str, Any] = {"status": "skipped", "reason": "too-slow", "samples": ()}
    return Run(
        info=example_info(state="interrupted", environment=told, settings=settings),
        cases=cases,
        measurements=(
            example_measurement(cases[0]),
            *(example_measurement(case, **skipped) for case in cases[1:2]),
        ),
    )


def of_the_host(**changes: Any) -> Change:
    return lambda told: told["machine"]["host"].update(changes)


def without(*names: str) -> Change:
    return lambda told: [told.pop(name) for name in names]


ON_THE_GPU = (replace(example_case(), target=Target("torch", ("cuda:0",))),)


@pytest.mark.parametrize(
    ("change", "cases", "reason"),
    [
        (of_the_host(cpu_model="Another CPU"), (), "not Another CPU"),
        (of_the_host(usable_cores=4096), (), "not 4096"),
        (of_the_host(usable_cpus=0.5), (), "not 0.5"),
        (of_the_host(hostname="elsewhere", container=None), (), "not elsewhere"),
        (of_the_host(hostname="host", container="Docker"), (), "not host"),
        (lambda told: None, ON_THE_GPU, f"no GPU {GPU}"),
        (
            lambda told: told["variables"].update(CUDA_VISIBLE_DEVICES="1"),
            ON_THE_GPU,
            "CUDA_VISIBLE_DEVICES None, not 1",
        ),
        (without("machine", "targets", "variables"), (), "does not say on which machine"),
        (without("targets"), (), "does not say on which machine"),
        (lambda told: told["machine"].clear(), (), "does not say on which machine"),
        (lambda told: told["machine"]["devices"].clear(), (), "does not say on which machine"),
        (lambda told: told["machine"]["devices"][0].pop("name"), (), "does not say on which"),
    ],
)
def test_another_machine_measures_nothing_and_runs_no_code_of_the_run(
    store: Store, tmp_path: Path, change: Change, cases: tuple[Case, ...], reason: str
) -> None:
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w')"
    run = begun(change, cases, sources=[{"suite": "s", "kind": "source", "location": code}])
    (tmp_path / "run.json").write_text(dump_run(run))
    assert devbench("import", tmp_path / "run.json").code == 0
    answer = devbench("run", "--resume", ID)
    assert (answer.code, answer.out) == (2, "")
    assert reason in answer.err
    assert len(answer.err.splitlines()) == 1
    assert store.load(ID) == run
    assert not trace.exists()


def test_a_redacted_run_is_of_no_machine_that_can_be_told(store: Store) -> None:
    store.import_run(redacted(begun(of_the_host(hostname="tempest"))))
    answer = devbench("run", "--resume", ID)
    assert answer.code == 2
    assert "was begun on another machine than this one (host " in answer.err


def test_another_name_of_the_same_machine_is_no_other_machine(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(read_hardware().host.hostname).partition(".")[0]
    of_a_network = begun(of_the_host(hostname=f"{name}.lan", container=None))
    store.import_run(of_a_network)
    assert sessions.resume(ID, store).cases == of_a_network.cases
    here = read_hardware()
    contained = replace(here, host=replace(here.host, container="Docker"))
    monkeypatch.setattr(sessions, "read_hardware", lambda: contained)
    restarted = begun(of_the_host(hostname="9f3c1b22d0aa", container="Docker"))
    store.import_run(replace(restarted, info=replace(restarted.info, id="restarted")))
    assert sessions.resume("restarted", store).cases == restarted.cases


def test_a_dry_run_lists_only_what_will_be_measured(store: Store) -> None:
    store.import_run(begun())
    answer = devbench("run", "--resume", ID, "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines() == [example_case(n).id for n in (256, 1024)]
    assert "2 cases, 3 round(s): 5 visits" in answer.err
    plan = json.loads(devbench("run", "--resume", ID, "--dry-run", "--json").out)
    assert [one["case_id"] for one in plan["cases"]] == answer.out.splitlines()


def test_a_run_that_goes_on_reads_as_running(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle:
        def __init__(self, tell: Callable[[Event], None], **_: Any) -> None:
            self.tell = tell

        def run(self) -> bool:
            self.tell(Starting(example_case().target, 1))
            return True

    store.import_run(begun())
    monkeypatch.setattr(sessions, "Runner", Idle)
    seen: list[RunInfo] = []
    session = sessions.resume(ID, store)
    sessions.carry_out(session, store, lambda event: seen.append(store.load(ID).info))
    [info] = seen
    assert (info.state, info.finished_at) == ("running", None)
    assert store.load(ID).info.state == "complete"


@pytest.mark.parametrize("moved", [True, False])
def test_a_suite_file_that_is_named_takes_the_place_of_the_one_that_was_measured(
    store: Store, tmp_path: Path, moved: bool
) -> None:
    old, new = tmp_path / "old" / "my_suite.py", tmp_path / "new" / "my_suite.py"
    for path in (new,) if moved else (old, new):
        path.parent.mkdir()
        path.write_text(SUITE)
    case = Case("my_suite", "own", (("n", 1),), Target("torch", ("cpu",)))
    source = {"suite": "my_suite", "kind": "file", "location": str(old)}
    store.import_run(begun(cases=(case,), sources=[source]))
    catalog = sessions.resume(ID, store, [new]).catalog
    assert catalog.sources["my_suite"].location == str(new)


def test_a_run_of_a_suite_file_that_was_moved_is_completed(
    devbench_cli: DevBench, tmp_path: Path
) -> None:
    old, new = tmp_path / "old" / "my_suite.py", tmp_path / "new" / "my_suite.py"
    old.parent.mkdir()
    old.write_text(SUITE)
    done = devbench_cli(
        *("run", "own[n=1]", "--suite-path", str(old), "--framework", "fake", "--quick"),
        *("--label", "own"),
    )
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "results.sqlite")) as database, database:
        database.execute(
            "UPDATE runs SET state = 'interrupted', settings = json_set(settings, '$.rounds', 2)"
        )
    new.parent.mkdir()
    old.rename(new)
    refused = devbench_cli("run", "--resume", "own")
    assert refused.returncode == 2
    done = devbench_cli("run", "--resume", "own", "--suite-path", str(new), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["run"]["state"] == "complete"
    assert {row["rounds"] for row in told["results"]} == {2}
