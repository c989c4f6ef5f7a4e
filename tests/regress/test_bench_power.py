"""The bench that proves the gate: its rules, its table and its accounts, on figures made up for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devbench.model import Json
from tests.bench.power import decisions, page, simulation
from tests.bench.power.decisions import RULES
from tests.bench.power.pool import SAME, SLOWED, roles
from tests.bench.power.raw import CONDITIONS, OURS, Raw
from tests.bench.power.steps import KINDS, SIZES, UNITS

SLOWDOWNS = dict(zip((SAME, *SLOWED), (0.0, 0.01, 0.02, 0.05, 0.10), strict=True))


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    """A hundred pairs that spread by 0.6 %, and ten runs a role of another harness, by 8 %."""
    rng = np.random.default_rng(0)
    found = Raw.open(tmp_path / "raw.jsonl")
    found.begin()
    here = CONDITIONS[0]
    for _ in range(100):
        ratios = {
            role.name: float(np.log1p(SLOWDOWNS.get(role.name, 0.0)) + rng.normal(0, 0.006))
            for role in roles(here.kind)
        }
        found.add(here, OURS, 9.0, ratios=ratios)
    for role in (SAME, *SLOWED):
        for _ in range(10):
            median = (1 + SLOWDOWNS.get(role, 0.0)) * float(np.exp(rng.normal(0, 0.08)))
            found.add(here, "torch Timer", 20.0, role=role, median=median, given_s=20.0)
    return found


def test_pairs_and_runs_become_the_shares_that_they_show(raw: Raw) -> None:
    rows = {(one.tool, one.rule): one for one in decisions.outcomes(raw, CONDITIONS[0])}
    beyond, certain = rows[OURS, "beyond 3 %"], rows[OURS, "certain"]
    assert beyond.alarms == 0
    assert (beyond.caught["+1 %"], beyond.caught["+2 %"]) == (0, 0)
    assert (beyond.caught["+5 %"], beyond.caught["+10 %"]) == (1, 1)
    assert certain.caught["+2 %"] > 0.9
    assert 12 <= beyond.trials <= 6 * 100 / 8
    assert 0.03 < beyond.at_most < 0.3
    timer = rows["torch Timer", "median +5 %"]
    assert timer.trials == 5
    assert 0.1 < timer.alarms < 0.6
    assert timer.alarms < timer.at_most
    [tuned] = [one for (tool, rule), one in rows.items() if "set for 1%" in rule]
    assert tuned.alarms <= 0.02
    assert tuned.caught["+5 %"] < timer.caught["+5 %"]


def test_pairs_of_the_same_code_alone_add_comparisons_and_leave_the_slowdowns_as_they_are(
    raw: Raw,
) -> None:
    before = {(one.tool, one.rule): one for one in decisions.outcomes(raw, CONDITIONS[0])}
    rng = np.random.default_rng(1)
    same = [role.name for role in roles(CONDITIONS[0].kind) if role.name not in SLOWED]
    for _ in range(100):
        ratios = {name: float(rng.normal(0, 0.006)) for name in same}
        raw.add(CONDITIONS[0], OURS, 5.0, ratios=ratios)
    after = {(one.tool, one.rule): one for one in decisions.outcomes(raw, CONDITIONS[0])}
    rule = (OURS, "certain")
    assert after[rule].trials > 1.5 * before[rule].trials
    assert after[rule].measured.startswith("200 pairs (100 with slowdowns), ")
    assert after[rule].caught["+10 %"] == 1


def test_the_rules_see_figures_only_and_call_the_slower_one_slower() -> None:
    base: Json = {"median": 1.0, "mean": 1.0, "min": 1.0, "values": [1.0, 1.01, 0.99]}
    slower: Json = {"median": 1.2, "mean": 1.2, "min": 1.2, "values": [1.2, 1.21, 1.19]}
    for rules in RULES.values():
        for rule in rules.values():
            assert rule(base, slower)
            assert not rule(slower, base)
            assert not rule(base, base)


def test_a_later_run_adds_to_what_there_is_and_another_machine_begins_anew(raw: Raw) -> None:
    again = Raw.open(raw.path)
    assert (again.records, again.sessions) == (raw.records, raw.sessions)
    again.begin()
    again.add(CONDITIONS[0], OURS, 1.0, ratios={SAME: 0.0})
    assert len(Raw.open(raw.path).records) == len(raw.records) + 1
    text = raw.path.read_text(encoding="utf-8")
    cpu = f'"cpu":"{raw.machine["cpu"]}"'
    assert cpu in text
    raw.path.write_text(text.replace(cpu, '"cpu":"another"'), encoding="utf-8")
    assert Raw.open(raw.path).records == []


def test_the_table_is_put_between_its_marks_and_the_text_around_it_stays(
    raw: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "simulate", lambda: simulation.simulate(2000))
    monkeypatch.setattr(page, "family", lambda: simulation.family(5, 10))
    file = tmp_path / "page.md"
    file.write_text(f"above\n{page.BEGIN}old{page.END}\nbelow\n", encoding="utf-8")
    page.write(file, raw)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    assert f"Measured {raw.sessions[0]}, 0.5 hours" in text
    assert "| CPU | no | devbench | beyond 3 % | 100 pairs, " in text
    assert "| heavy tails" in text
    file.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="marks"):
        page.write(file, raw)


def test_the_page_of_the_project_has_the_marks() -> None:
    text = (Path(page.__file__).parents[3] / "docs" / "bench-power.md").read_text(encoding="utf-8")
    assert text.index(page.BEGIN) < text.index(page.END)


def test_simulated_unchanged_code_is_called_slower_no_more_often_than_said() -> None:
    for one in simulation.simulate(20_000):
        if "autocorrelated" not in one.law:
            assert one.certain[1] <= 0.001
            assert one.beyond[1] <= 0.001


@pytest.mark.parametrize("kind", KINDS)
def test_extra_work_is_what_the_names_of_the_roles_say(kind: str) -> None:
    extra = {
        role.name: role.units / UNITS - 1 for role in roles(kind) if role.size == SIZES[kind][0]
    }
    assert extra == pytest.approx(SLOWDOWNS)
    assert all(role.units == UNITS for role in roles(kind) if role.size != SIZES[kind][0])


def test_what_a_pair_costs_is_shared_by_its_cases(raw: Raw) -> None:
    assert raw.pair_seconds(CONDITIONS[0]) == pytest.approx(9.0 / len(roles(CONDITIONS[0].kind)))
