"""What a plan says of its measurements, without reading them."""

from __future__ import annotations

import math

import pytest

from devbench.store import Store
from devbench.store.facts import pack_facts, rounded, unpack_facts
from devbench.store.outcome import figures
from devbench.store.records import dumps, to_json
from tests.store.example import example_case, example_info, example_measurement, example_run


def test_the_rounds_of_a_case_are_known_without_its_samples(location: str) -> None:
    case, other = example_case(), example_case(512)
    stick = {"yardstick": "gemm", "yardstick_s": 0.25}
    with Store.open(location) as store:
        store.create_run(example_info(), [case, other])
        for one in (
            example_measurement(case, 0, samples=(0.1, 0.3, 0.2), **stick),
            example_measurement(case, 1, samples=(), status="crashed"),
            example_measurement(case, 2, samples=(0.5, 0.75), yardstick="gemm"),
            example_measurement(case, 3, samples=(0.0, 0.0, 1e-6), **stick),
        ):
            store.add_measurement(example_info().id, one)
        outcomes = store.outcomes()
    (row,) = outcomes.rows
    assert (outcomes.runs[row[0]].id, outcomes.cases[row[1]]) == (example_info().id, case)
    assert row[2] == "gemm"
    found = figures(row[3])
    assert found["median"] == pytest.approx([0.2, 0.625])
    assert found["yardstick"][0] == 0.25
    assert math.isnan(found["yardstick"][1])


def test_an_imported_run_has_the_outcomes_of_one_that_arrived_piece_by_piece(location: str) -> None:
    run = example_run()
    with Store.open(location) as store:
        store.import_run(run)
        imported = store.outcomes().rows
        store.create_run(example_info("other"), run.cases)
        for one in run.measurements:
            store.add_measurement("other", one)
        both = store.outcomes().rows
    assert sorted(row[1:] for row in both) == sorted(row[1:] for row in [*imported, *imported])


def test_wrong_results_and_unwanted_cases_are_left_out_and_runs_are_in_order(location: str) -> None:
    case, other = example_case(), example_case(512)
    with Store.open(location) as store:
        for id_, hour, numerics in (
            ("late", 13, "match"),
            ("early", 11, "match"),
            ("bad", 12, "mismatch"),
        ):
            store.create_run(
                example_info(id_, started_at=f"2026-01-31T{hour}:00:00.000+00:00"), [case, other]
            )
            store.add_measurement(id_, example_measurement(case, numerics=numerics))
            store.add_measurement(
                id_, example_measurement(case, 1)
            )  # checked in the first round only
            store.add_measurement(id_, example_measurement(other))
        outcomes = store.outcomes(lambda known: [case])
    assert [info.id for info in outcomes.runs] == ["early", "bad", "late"]
    assert outcomes.cases == (case,)
    assert sorted(row[0] for row in outcomes.rows) == [0, 2]


def test_the_same_case_of_many_runs_is_stored_once(location: str) -> None:
    with Store.open(location) as store:
        for place in range(20):
            store.import_run(example_run(f"run-{place}"))
        assert len(store.outcomes().cases) == 2
        assert store.load("run-7").cases == example_run().cases


def test_a_yardstick_that_changed_between_rounds_has_no_name(location: str) -> None:
    case = example_case()
    with Store.open(location) as store:
        store.create_run(example_info(), [case])
        for place, name in enumerate(("gemm", "copy", "gemm")):
            store.add_measurement(
                example_info().id,
                example_measurement(case, place, yardstick=name, yardstick_s=0.1),
            )
        assert store.outcomes().rows[0][2] == ""


def test_facts_keep_seven_digits_and_whole_numbers_all_of_theirs() -> None:
    facts = {
        "a": 1.23456789e-7,
        "b": [2**60, 0.1, True, None, "nan"],
        "c": {"d": 123456789.0, "ünï": "çode"},
    }
    kept = unpack_facts(pack_facts(facts))
    assert kept == rounded(facts)
    assert kept["a"] == 1.234568e-7
    assert kept["b"] == [2**60, 0.1, True, None, "nan"]
    assert kept["c"]["d"] == 123456800.0


def test_facts_of_one_measurement_take_a_fraction_of_their_text() -> None:
    measured = example_measurement(example_case())
    facts = to_json(measured)
    assert len(pack_facts(facts)) < 0.6 * len(dumps(facts))
