"""Every id is found where it is, with its fix, and is not found on a clean machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from devbench.doctor import diagnose
from devbench.doctor.facts import Facts, gather
from devbench.doctor.pages import pages
from devbench.doctor.records import CouldNotCheck
from devbench.doctor.table import CHECKS, LINKS, Check, words
from tests.doctor.faults import FAULTS
from tests.doctor.machines import CLEAN

PAGES = Path(__file__).parents[2] / "docs" / "doctor"


@pytest.mark.parametrize("id", FAULTS)
def test_the_fault_is_found_with_its_fix(id: str) -> None:
    fault = FAULTS[id]
    found = [one for one in diagnose(fault.machine()).findings if one.id == id]
    assert found, f"{id} is not found"
    told = [line for one in found for fix in one.fixes for line in (fix.text, *fix.commands)]
    assert any(fault.fix in line for line in told), told
    assert found[0].severity == fault.severity
    assert fault.says in found[0].says
    assert all(one.evidence for one in found)


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found_on_a_clean_machine(name: str) -> None:
    diagnosis = diagnose(CLEAN[name]())
    assert diagnosis.findings == ()
    assert all(chain.works for chain in diagnosis.chains)
    assert diagnosis.exit_code(strict=True) == 0


def subjects(facts: Facts, check: Check) -> Iterator[tuple[object, ...]]:
    """All that a check could be asked about, whether the chain would reach it or not."""
    gpus = [gpu for gpu in facts.gpus if gpu.vendor in check.vendors]
    if check.scope == "machine":
        yield ()
    elif check.scope == "framework":
        yield from ((framework,) for framework in facts.frameworks)
    elif check.scope == "gpu":
        yield from ((gpu,) for gpu in gpus)
    else:
        yield from ((framework, gpu) for framework in facts.frameworks for gpu in gpus)


@cache
def clean_facts() -> tuple[Facts, ...]:
    return tuple(gather(make()) for make in CLEAN.values())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_the_check_is_really_made_on_a_clean_machine_and_finds_nothing(check: Check) -> None:
    made = 0
    for facts in clean_facts():
        for subject in subjects(facts, check):
            try:
                found = list(check.run(facts, *subject))
            except CouldNotCheck:
                continue
            assert found == []
            made += 1
    assert made, f"{check.id} could be checked on no clean machine"


def test_every_id_has_a_check_a_fault_words_and_a_page() -> None:
    checks = [check.id for check in CHECKS]
    assert len(checks) == len(set(checks))
    expected = {f"D{number:02}" for number in range(1, 26)}
    expected |= {f"S{number:02}" for number in range(1, 16)}
    expected |= {f"H{number:02}" for number in range(1, 9)}
    assert set(checks) == set(FAULTS) == set(words()) == expected
    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()} == pages(), (
        "run python -m devbench.doctor.pages docs/doctor"
    )


def test_every_check_of_the_chain_stands_at_a_link_of_it() -> None:
    for check in CHECKS:
        assert (check.link in LINKS) == check.id.startswith("D"), check.id
        assert check.run.__doc__ == check.id


def test_a_finding_names_a_page_that_is_there() -> None:
    (finding,) = (one for one in diagnose(FAULTS["D01"].machine()).findings if one.id == "D01")
    assert (PAGES.parents[1] / finding.page).is_file()
