"""A history for programs: JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from devbench.regress.history import History
from devbench_reports.tables import finite

#: Version of the JSON answer; it goes up when a field changes its meaning.
SCHEMA: Final = "devbench.history/1"


def to_json(history: History) -> str:
    """One object: ``schema``, ``store``, ``runs`` (the oldest first) and ``series``, one
    `devbench.regress.history.Series` a case and device. What is not a number becomes null."""
    answer = {
        "schema": SCHEMA,
        "store": history.store,
        "runs": [asdict(run) for run in history.runs],
        "series": [finite(asdict(series)) for series in history.series],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
