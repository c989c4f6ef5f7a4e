"""A run without what tells whose machine it is from, as valid as the run that it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from devbench.model import Case, Json, Run
from devbench.redaction import Redactor
from devbench.store.exchange import as_json, parse_run
from devbench.store.records import from_json

#: Words of closed lists, times, and what cases are joined on between runs. A user may be called ``mlp``
#: or ``ok``, and neither the join nor the list would survive that.
_RUN: Final = ("id", "state", "started_at", "finished_at", "devbench_version")
_CASE: Final = ("suite", "benchmark", "target", "work")
_MEASUREMENT: Final = ("round", "status", "started_at", "reason", "numerics", "samples")


def redacted(run: Run, names: Iterable[str] = ()) -> Run:
    """The run as `devbench.redaction.redact` leaves it; it imports and compares like the original.

    names: further names of hosts and people. Names of suites, benchmarks and axes stay. Raises
    RunFileError where two cases differ in nothing but what was taken out.
    """
    data = as_json(run)
    redactor = Redactor(data, names)

    def apply(part: Json, kept: Iterable[str]) -> Json:
        clean: dict[str, Json] = redactor.apply(part)
        return clean | {name: part[name] for name in kept if name in part}

    renamed: dict[str, str] = {}
    cases = []
    for original in data["cases"]:
        old = original.pop("id")
        clean = apply(original, _CASE)
        # A value such as ``row_max`` is a word of the benchmark's, whoever is called max.
        clean["params"] = redactor.apply(original["params"], names=False)
        renamed[old] = from_json(Case, clean).id
        cases.append({"id": renamed[old], **clean})
    measurements = [
        apply(original, _MEASUREMENT) | {"case_id": renamed[original["case_id"]]}
        for original in data["measurements"]
    ]
    done = {
        "schema": data["schema"],
        "run": apply(data["run"], _RUN),
        "cases": cases,
        "measurements": measurements,
    }
    return parse_run(json.dumps(done), "the redacted run")
