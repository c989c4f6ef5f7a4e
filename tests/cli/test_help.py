"""``devbench --help`` as people read it in 80 columns."""

from __future__ import annotations

import pytest

from tests.cli.command import devbench


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_no_verb_is_described_by_half_a_sentence() -> None:
    lines = devbench("--help").out.splitlines()
    verbs = lines[lines.index("Commands:") + 1 :]
    assert len(verbs) >= 15
    for line in verbs:
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("verb", ["run", "show", "report", "runs", "list", "compare", "history"])
def test_the_help_of_a_verb_stays_within_80_columns(verb: str) -> None:
    answer = devbench(verb, "--help")
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= 80
