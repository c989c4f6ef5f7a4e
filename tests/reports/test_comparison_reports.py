"""A comparison as text, Markdown, JSON and JUnit XML."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from devbench.regress.comparison import Comparison, Row, SideInfo
from devbench.regress.environment_diff import Difference
from devbench_reports.comparison_data import to_json, to_junit
from devbench_reports.comparison_markdown import to_markdown
from devbench_reports.comparison_text import to_text
from devbench_reports.comparison_view import MANY, change
from tests.reports.factory import HOSTILE


def row(n: int, verdict: str = "equivalent", gate: str = "fine", **changes: object) -> Row:
    known = (
        {}
        if verdict == "not-measured"
        else {
            "ratio": 1.05,
            "low": 1.04,
            "high": 1.0712,
            "level": 0.001,
            "base_s": 0.01,
            "new_s": 0.0105,
        }
    )
    fields = {
        "case_id": f"matmul[n={n},dtype=float32]@torch:cpu",
        "benchmark": "matmul",
        "params": {"n": n, "dtype": "float32"},
        "target": "torch:cpu",
        "verdict": verdict,
        "gate": gate,
        **known,
    } | changes
    return Row(**fields)  # type: ignore[arg-type]


def side(name: str) -> SideInfo:
    return SideInfo(
        name=name,
        kind="run",
        id=f"id-{name}",
        label=name,
        started_at="2026-01-31T12:00:00.000+00:00",
        state="complete",
    )


REGRESSED = row(1, "regressed", "broken", certain="slower")
OPEN = row(2, "inconclusive", "open", reason="about 9 more rounds a side would decide it")
CRASHED = row(3, "not-measured", "broken", reason="crashed now: signal")
SKIPPED = row(4, "not-measured", "fine", reason="skipped on both sides: too-slow")
SLOWER = row(5, certain="slower", yardstick="gemm", doubts=("base, steal: 3 %", "new, steal: 4 %"))
EVERY = (REGRESSED, OPEN, CRASHED, SKIPPED, SLOWER)
DRIVER = Difference(severity="matters", scope="torch:cpu", what="driver", base="1.0", new=None)
COMMIT = Difference(severity="noted", scope=None, what="git commit", base="aaa", new="bbb")


def comparison(*rows: Row, differences: tuple[Difference, ...] = ()) -> Comparison:
    return Comparison(
        base=side("base"), new=side("new"), margin=0.03, differences=differences, rows=rows
    )


ALL = comparison(*EVERY, differences=(DRIVER, COMMIT))


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_fits_and_says_differences_first_and_the_outcome_last(width: int) -> None:
    lines = to_text(ALL, width=width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert text.index("driver 1.0 on the base, not known now") < text.index("matmul  dtype=float32")
    assert lines[-1] == "1 regressed, 1 equivalent, 1 inconclusive, 2 not-measured"
    order = [lines.index(line) for n in (1, 3, 4, 2, 5) for line in lines if f"  n={n} " in line]
    assert order == sorted(order)  # the gravest verdicts first
    assert ("10.0 ms" in text) is (width >= 100)
    assert "equivalent, slower" in text
    assert "in doubt: steal (both)" in text


def test_a_case_without_parameters_is_told_by_its_target_once() -> None:
    plain = row(1, case_id="sum@torch:cpu", benchmark="sum", params={})
    text = to_text(comparison(plain), width=80)
    assert "sum  torch:cpu" in text
    assert "@torch:cpu" not in text


def test_quiet_rows_are_counted_where_there_are_many() -> None:
    many = comparison(REGRESSED, *(row(n) for n in range(100, 100 + MANY)))
    text = to_text(many, width=80)
    assert f"and {MANY} equivalent cases" in text
    assert "n=100 " not in text
    assert "n=1 " in text


def test_a_change_is_in_percent_and_a_large_one_a_factor() -> None:
    assert [change(ratio) for ratio in (1.052, 0.9, 1.0012, 1.0, 3.0, 0.25, None)] == [
        "+5.2 %",
        "−10.0 %",
        "+0.12 %",
        "+0.00 %",
        "×3.00",
        "×0.250",
        "–",
    ]


def test_an_interval_that_tells_nothing_has_no_figures() -> None:
    text = to_text(comparison(row(1, "inconclusive", "open", low=1e-19, high=6e16)), width=80)
    assert "wider than ×1000" in text


@pytest.mark.parametrize(
    ("found", "heading"),
    [
        (ALL, "Something got slower, or broke"),
        (comparison(SLOWER), "Nothing got slower"),
        (comparison(OPEN), "Not decided"),
        (replace(comparison(OPEN), allow_inconclusive=True), "Not decided, which is allowed here"),
        (comparison(SKIPPED), "Nothing could be compared"),
    ],
)
def test_the_markdown_begins_with_what_it_means(found: Comparison, heading: str) -> None:
    assert to_markdown(found).startswith(f"## {heading}\n")


def test_the_markdown_shows_what_matters_and_folds_the_rest_away() -> None:
    text = to_markdown(ALL)
    shown, folded = text.split("<details>", 1)
    assert "driver 1.0 on the base" in shown
    assert all(f"n={n}," in shown for n in (1, 2, 3, 4))
    assert "n=5," in folded
    assert "git commit aaa on the base, bbb now" in folded
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"}
    assert widths == {8}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    hostile = comparison(
        row(1, "inconclusive", "open", case_id=text, benchmark=text, reason=text),
        differences=(replace(DRIVER, what=text, new=text),),
    )
    assert "<script" not in to_markdown(hostile)
    assert "<img" not in to_markdown(hostile)
    assert json.loads(to_json(hostile))["results"][0]["reason"] == text
    root = ElementTree.fromstring(to_junit(hostile))
    assert [case.get("name") for case in root.iter("testcase")] == [text]
    assert to_text(hostile, width=80)


def test_what_xml_cannot_hold_is_replaced() -> None:
    root = ElementTree.fromstring(to_junit(comparison(row(1, reason="\x00\x1b[31m\ud800 ]]>"))))
    (said,) = root.iter("system-out")
    assert str(said.text).endswith("��[31m� ]]>")


def test_json_has_a_null_for_what_is_no_number() -> None:
    answer = json.loads(to_json(comparison(row(1, ratio=float("inf"), low=None))))
    assert (answer["results"][0]["ratio"], answer["results"][0]["low"]) == (None, None)


#: Element → (attributes it must have, attributes it may have, children in their order), as Jenkins'
#: published schema of JUnit reports has them, without what is not written here.
JUNIT: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (
        set(),
        {"name", "time", "tests", "failures", "disabled", "errors"},
        ["testsuite"],
    ),
    "testsuite": (
        {"name", "tests"},
        {
            "failures",
            "errors",
            "time",
            "disabled",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
        },
        ["testcase"],
    ),
    "testcase": (
        {"name"},
        {"assertions", "time", "classname", "status"},
        ["skipped", "error", "failure", "system-out"],
    ),
    "failure": (set(), {"type", "message"}, []),
    "error": (set(), {"type", "message"}, []),
    "skipped": (set(), set(), []),
    "system-out": (set(), set(), []),
}


def check(element: ElementTree.Element) -> None:
    """That an element and all below it are as the schema has them."""
    must, may, children = JUNIT[element.tag]
    assert must <= set(element.keys()) <= must | may, element.tag
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places), element.tag
    for child in element:
        check(child)


@pytest.mark.parametrize("allowed", [False, True])
def test_junit_follows_the_schema_and_is_green_for_nothing_that_is_open(allowed: bool) -> None:
    root = ElementTree.fromstring(to_junit(replace(ALL, allow_inconclusive=allowed)))
    check(root)
    (suite,) = root
    outcome = {
        str(test.get("name")): [child.tag for child in test if child.tag != "system-out"]
        for test in suite
    }
    open_ = "skipped" if allowed else "error"
    assert outcome == {
        REGRESSED.case_id: ["failure"],
        OPEN.case_id: [open_],
        CRASHED.case_id: ["error"],
        SKIPPED.case_id: ["skipped"],
        SLOWER.case_id: [],
    }
    counted = {
        name: int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")
    }
    assert counted == {
        "tests": 5,
        "failures": 1,
        "errors": 1 if allowed else 2,
        "skipped": 2 if allowed else 1,
    }
