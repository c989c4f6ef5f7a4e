"""A comparison for programs: JSON, and JUnit XML for what shows test results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final
from xml.etree import ElementTree

from devbench.regress.comparison import Comparison, Row
from devbench_reports import comparison_view as view
from devbench_reports.tables import finite

#: Version of the JSON answer; it goes up when a field changes its meaning.
SCHEMA: Final = "devbench.compare/1"

#: What XML 1.0 cannot hold in any notation.
_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_json(comparison: Comparison) -> str:
    """One object: ``schema``, the sides, the errors, ``differences``, ``counts``, ``exit_code`` and
    ``results``, one `devbench.regress.compare.Row` a case. What is not a number becomes null."""
    answer = {
        "schema": SCHEMA,
        "base": asdict(comparison.base),
        "new": asdict(comparison.new),
        "margin": comparison.margin,
        "alpha": comparison.alpha,
        "family": comparison.family,
        "allow_inconclusive": comparison.allow_inconclusive,
        "exit_code": comparison.exit_code,
        "counts": comparison.counts,
        "differences": [asdict(item) for item in comparison.differences],
        "results": [finite(asdict(row)) for row in comparison.rows],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_junit(comparison: Comparison) -> str:
    """A test a case, a suite a benchmark, as Jenkins' schema of JUnit's reports has them.

    What regressed is a failure, what broke or is open an error, so that neither is ever green; where
    open questions are allowed, they are skipped tests.
    """
    suites: dict[str, list[Row]] = {}
    for row in comparison.rows:
        suites.setdefault(row.benchmark, []).append(row)
    root = ElementTree.Element("testsuites", {"name": "devbench compare"})
    for benchmark, rows in suites.items():
        kinds = [_kind(row, comparison.allow_inconclusive) for row in rows]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            _clean(
                {
                    "name": benchmark,
                    "tests": str(len(rows)),
                    "failures": str(kinds.count("failure")),
                    "errors": str(kinds.count("error")),
                    "skipped": str(kinds.count("skipped")),
                }
            ),
        )
        for row, kind in zip(rows, kinds, strict=True):
            _add(suite, row, kind)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _add(suite: ElementTree.Element, row: Row, kind: str | None) -> None:
    figures = f"{view.change(row.ratio)} ({view.interval(row)})" if row.ratio is not None else None
    held = f"margin {view.margin(row)}" if row.margin is not None else None
    message = "; ".join(part for part in (view.verdict(row), figures, held, row.reason) if part)
    attributes = {"classname": f"{row.benchmark}@{row.target}", "name": row.case_id}
    if row.new_s is not None:
        attributes["time"] = f"{row.new_s:.9f}"
    test = ElementTree.SubElement(suite, "testcase", _clean(attributes))
    if kind == "skipped":  # for which the schema knows no attributes
        ElementTree.SubElement(test, kind).text = _NO_XML.sub("�", message)
    elif kind is not None:
        ElementTree.SubElement(test, kind, _clean({"message": message, "type": row.verdict}))
    said = ElementTree.SubElement(test, "system-out")
    said.text = _NO_XML.sub("�", "\n".join((message, *row.doubts)))


def _kind(row: Row, allow_inconclusive: bool) -> str | None:
    """The element that tells how a test went; None for one that passed."""
    if row.gate == "fine":
        return "skipped" if row.verdict == "not-measured" else None
    if row.gate == "broken":
        return "failure" if row.verdict == "regressed" else "error"
    return "skipped" if allow_inconclusive else "error"


def _clean(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name: _NO_XML.sub("�", value) for name, value in attributes.items()}
