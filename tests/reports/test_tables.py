"""The DataFrame's schema, and what csv and json keep of it."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import pandas as pd
import pytest

from devbench.model import COLUMNS, Result
from devbench_reports import tables
from tests.reports import factory


def test_frame_has_the_documented_columns_in_order_and_one_row_a_case() -> None:
    rows = [*factory.sweep(), *factory.troubled()]
    frame = tables.to_frame(factory.run(rows), rows)
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["case_id"]) == [row.case_id for row in rows]
    assert frame.attrs["units"]["median"] == "s"
    assert frame.attrs["units"].keys() == COLUMNS.keys()


@pytest.mark.parametrize(
    "rows", [[], [factory.result()], factory.troubled()], ids=["0", "1", "many"]
)
def test_frame_dtypes_do_not_depend_on_the_rows(rows: list[Result]) -> None:
    frame = tables.to_frame(factory.run(rows), rows)
    assert len(frame) == len(rows)
    for name in ("median", "ci_low", "within_p95", "flop_per_s", "energy_j", "temperature_c"):
        assert frame[name].dtype == "float64", name
    for name in ("threads", "peak_memory_bytes"):
        assert frame[name].dtype == "Int64", name
    for name in ("rounds", "samples", "world_size"):
        assert frame[name].dtype == "int64", name
    for name in ("status", "quality", "framework", "numerics"):
        assert isinstance(frame[name].dtype, pd.CategoricalDtype), name
    for name in ("case_id", "reason", "label", "driver"):
        assert pd.api.types.is_string_dtype(frame[name].dtype), name
    assert str(frame["started_at"].dtype) == "datetime64[ns, UTC]"


def test_frame_says_what_is_missing_in_the_pandas_way() -> None:
    rows = factory.troubled()
    frame = tables.to_frame(factory.run(rows), rows)
    missing = frame.isna().to_dict("records")[0]
    for name in ("median", "peak_memory_bytes", "quality", "driver"):
        assert missing[name], name
    assert frame["params"].iloc[0] == {"n": 2048, "dtype": "float16"}


def test_csv_reads_back_to_the_same_figures_and_names() -> None:
    rows = [
        *factory.troubled(),
        *(factory.result(params={"n": 1}, label=name, suite=name) for name in factory.HOSTILE),
    ]
    text = tables.to_csv(factory.run(rows), rows)
    back = pd.read_csv(io.StringIO(text), keep_default_na=False, dtype=str)
    assert list(back.columns) == list(COLUMNS)
    assert list(back["suite"]) == [row.suite for row in rows]
    assert [json.loads(value) for value in back["params"]] == [dict(row.params) for row in rows]
    assert [tuple(json.loads(value)) for value in back["quality_reasons"]] == [
        row.quality_reasons for row in rows
    ]
    assert [float(value) if value else None for value in back["median"]] == [
        row.median for row in rows
    ]
    assert list(back["started_at"]) == [row.started_at for row in rows]


def test_json_keeps_every_field_and_has_no_nan() -> None:
    odd = factory.result(rel_error=math.nan, within_p99=math.inf, label=factory.HOSTILE[0])
    rows = [*factory.troubled(), odd]
    run = factory.run(rows, settings={"seed": math.nan})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    answer = json.loads(tables.to_json(run, rows), parse_constant=refuse)
    assert answer["schema"] == "devbench.results/1"
    assert answer["run"]["id"] == run.info.id
    assert answer["run"]["settings"] == {"seed": None}
    assert list(answer["results"][0]) == list(COLUMNS)
    assert answer["results"][-1]["rel_error"] is None
    assert answer["results"][-1]["within_p99"] is None
    expected = json.loads(json.dumps(dataclasses.asdict(rows[0])))
    assert answer["results"][0] == expected


def test_json_of_an_empty_run_is_still_one_object() -> None:
    answer = json.loads(tables.to_json(factory.run([]), []))
    assert answer["results"] == []


def test_json_gives_the_crossovers_beside_the_rows() -> None:
    rows = factory.sweep()
    answer = json.loads(tables.to_json(factory.run(rows), rows))
    found = [item for item in answer["crossovers"] if item["subject"] == "tensorflow:GPU:0"]
    (forward,) = [item for item in found if item["params"].get("phase") == "forward"]
    assert forward["base"] == "tensorflow:CPU:0"
    assert forward["without_transfer"]["status"] == "crosses"
    assert forward["without_transfer"]["low"] == 32
    assert forward["without_transfer"]["high"] == 256
    assert forward["with_transfer"] is None
    assert forward["moving"] == "unknown"
    assert json.loads(tables.to_json(factory.run([]), []))["crossovers"] == []
