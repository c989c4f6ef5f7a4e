from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from devbench.errors import StoreError, UsageError
from devbench.model import Case, Run
from devbench.store import Store
from devbench.store.exchange import dump_run, parse_run
from tests.store.example import example_case, example_info, example_measurement, example_run
from tests.store.strategies import runs, works


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(run=runs())
def test_a_run_survives_the_store_and_a_file_and_the_store(location: str, run: Run) -> None:
    with Store.open(location) as store:
        try:
            store.import_run(run)
        except UsageError:  # another example with the same id
            return
        loaded = store.load(run.info.id)
        assert loaded == run
        assert works(loaded) == works(run)
        text = dump_run(loaded)
        store.import_run(parse_run(text, "run.json"))
        assert dump_run(store.load(run.info.id)) == text


def test_a_run_that_arrives_piece_by_piece_equals_one_that_is_imported(location: str) -> None:
    run = example_run()
    begun = replace(run.info, state="running", finished_at=None, environment={})
    with Store.open(location) as store:
        store.create_run(begun, run.cases)
        for measurement in run.measurements:
            store.add_measurement(run.info.id, measurement)
        assert store.load(None).info == begun
        store.update_environment(run.info.id, run.info.environment)
        store.finish_run(run.info.id, "complete", str(run.info.finished_at))
        assert store.load(None) == run
    with Store.open(location) as store:
        assert store.load(None) == run


def test_the_order_of_arrival_is_kept(location: str) -> None:
    with Store.open(location) as store:
        store.import_run(example_run())
        loaded = store.load(None)
    assert [(m.case_id, m.round) for m in loaded.measurements] == [
        (m.case_id, m.round) for m in example_run().measurements
    ]


def test_a_run_counts_by_the_worst_of_a_cases_rounds(location: str) -> None:
    first, second = example_run().cases
    third, fourth = example_case(1024), example_case(2048)
    with Store.open(location) as store:
        store.create_run(example_info(), [first, second, third, fourth])
        for measurement in (
            example_measurement(first, 0),
            example_measurement(first, 1, status="crashed", samples=()),
            example_measurement(first, 2, status="oom", samples=()),
            example_measurement(second),
            example_measurement(third, status="skipped", samples=()),
        ):
            store.add_measurement(example_info().id, measurement)
        store.create_run(example_info("other"), [first])
        summaries = {one.info.id: one for one in store.runs()}
    assert summaries[example_info().id].counts == {"crashed": 1, "ok": 1, "skipped": 1}
    assert summaries[example_info().id].planned == 4
    assert summaries[example_info().id].info == example_info()
    assert (summaries["other"].planned, summaries["other"].counts) == (1, {})


@pytest.fixture
def three(location: str) -> str:
    """A store of three runs, the oldest added last, as an import does."""
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    with Store.open(location) as store:
        for id_, label, hours in (("aa-1", "base", 0), ("aa-2", "base", 1), ("b-3", "aa-1", -1)):
            at = (noon + timedelta(hours=hours)).isoformat(timespec="milliseconds")
            store.import_run(example_run(id_, label=label, started_at=at))
    return location


@pytest.mark.parametrize(
    ("reference", "id_"),
    [(None, "aa-2"), ("aa-1", "aa-1"), ("base", "aa-2"), ("b", "b-3"), ("aa-2", "aa-2")],
)
def test_a_reference_finds_its_run(three: str, reference: str | None, id_: str) -> None:
    with Store.open(three) as store:
        assert store.load(reference).info.id == id_
        assert [one.info.id for one in store.runs()] == ["aa-2", "aa-1", "b-3"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("aa", "2 runs begin with 'aa': aa-2, aa-1; give more of the id"),
        ("bse", "there is no run 'bse'; did you mean 'base'"),
        ("zzz", "there is no run 'zzz'; known: .*base.*devbench runs"),
        ("", "there is no run ''"),
        ("b%", "there is no run 'b%'"),
    ],
)
def test_a_reference_to_no_run_is_answered_with_what_there_is(
    three: str, reference: str, message: str
) -> None:
    with Store.open(three) as store, pytest.raises(UsageError, match=message):
        store.load(reference)


def test_an_empty_store_says_how_to_fill_it(location: str) -> None:
    with Store.open(location) as store:
        assert store.runs() == []
        with pytest.raises(UsageError, match="devbench run"):
            store.load(None)


def test_the_same_round_of_a_case_is_not_stored_twice(location: str) -> None:
    run = example_run()
    with Store.open(location) as store:
        store.import_run(run)
        with pytest.raises(StoreError, match=r"round 1 of .* already"):
            store.add_measurement(run.info.id, run.measurements[2])
        assert store.load(None) == run


def test_what_belongs_to_no_run_or_no_plan_is_refused(location: str) -> None:
    stranger: Case = example_case(framework="tensorflow")
    with Store.open(location) as store:
        store.import_run(example_run())
        with pytest.raises(StoreError, match="plans no case"):
            store.add_measurement(example_info().id, example_measurement(stranger))
        with pytest.raises(StoreError, match="no run 'none'"):
            store.finish_run("none", "complete", "2026-01-31T12:00:00+00:00")
        with pytest.raises(StoreError, match=r"holds a run .* already"):
            store.create_run(example_info(), [])
        with pytest.raises(ValueError, match="zero or more"):
            store.add_measurement(
                example_info().id, example_measurement(example_case(), 7, samples=(-1.0,))
            )
        assert store.load(None) == example_run()


def test_an_import_of_several_runs_is_all_or_nothing(location: str) -> None:
    with Store.open(location) as store:
        store.import_run(example_run("b"))
        with pytest.raises(UsageError, match="another version of run 'b'"):
            store.import_runs([example_run("a"), example_run("b", label="changed")])
        assert [one.info.id for one in store.runs()] == ["b"]
        store.import_runs([example_run("a"), example_run("b"), example_run("a")])
        assert {one.info.id for one in store.runs()} == {"a", "b"}
        assert store.load("a") == example_run("a")


def test_cases_that_are_added_to_a_run_follow_those_that_were_planned(location: str) -> None:
    planned, added = (example_case(256), example_case(512)), (example_case(320), example_case(384))
    with Store.open(location) as store:
        store.create_run(example_info(), planned)
        store.add_cases(example_info().id, added)
        store.add_measurement(example_info().id, example_measurement(added[0]))
        loaded = store.load()
        assert loaded.cases == (*planned, *added)
        assert works(loaded) == [case.work for case in (*planned, *added)]
        assert [one.case_id for one in loaded.measurements] == [added[0].id]


def test_adding_a_case_twice_adds_nothing_and_says_why(location: str) -> None:
    with Store.open(location) as store:
        store.create_run(example_info(), [example_case(256)])
        with pytest.raises(StoreError, match=r"is in run .* already; does another program resume"):
            store.add_cases(example_info().id, [example_case(320), example_case(256)])
        assert store.load().cases == (example_case(256),)
        with pytest.raises(StoreError, match="holds no run 'none'"):
            store.add_cases("none", [example_case(320)])
