"""The result table: a DataFrame with the columns of `devbench.model.COLUMNS`, CSV and JSON.

pandas is imported inside the functions that need it: `devbench show --json` does not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

from devbench.model import COLUMNS, Result, Run
from devbench.stats.crossover import find_crossovers

if TYPE_CHECKING:
    import pandas as pd

#: Version of the JSON answer; it goes up when a column changes its meaning.
SCHEMA: Final = "devbench.results/1"

_CATEGORIES: Final = frozenset(
    {"suite", "benchmark", "framework", "dtype", "mode", "status", "quality", "bound", "numerics"}
)
_COUNTS: Final = frozenset({"world_size", "rounds", "samples"})
_MAYBE_COUNTS: Final = frozenset({"threads", "peak_memory_bytes"})
_RECORDS: Final = frozenset({"params", "quality_reasons", "metrics"})
_FLOATS: Final = frozenset(
    field.name
    for field in fields(Result)
    if field.type in ("float | None", float | None) and field.name not in _MAYBE_COUNTS
)


def to_frame(run: Run, results: Sequence[Result]) -> pd.DataFrame:
    """One row a case, the columns of `COLUMNS` in their order; units in ``frame.attrs["units"]``.

    dtypes: figures float64 (NaN where there is none), ``threads`` and ``peak_memory_bytes`` Int64,
    ``rounds``, ``samples`` and ``world_size`` int64, ``started_at`` datetime64[ns, UTC], closed sets of
    words category, other text string, ``params`` and ``metrics`` a dict and ``quality_reasons`` a
    tuple a row.
    """
    import pandas as pd

    frame = pd.DataFrame(
        {name: _series([getattr(result, name) for result in results], name) for name in COLUMNS},
        columns=list(COLUMNS),
    )
    frame.attrs["units"] = {name: unit for name, (unit, _) in COLUMNS.items()}
    frame.attrs["run"] = run.info.id
    return frame


def _series(values: list[Any], name: str) -> pd.Series[Any]:
    import pandas as pd

    if name == "started_at":
        return pd.to_datetime(pd.Series(values, dtype="string"), utc=True, format="ISO8601").astype(
            "datetime64[ns, UTC]"
        )
    if name in _RECORDS:
        return pd.Series([dict(v) if isinstance(v, Mapping) else v for v in values], dtype="object")
    dtype = (
        "float64"
        if name in _FLOATS
        else "int64"
        if name in _COUNTS
        else "Int64"
        if name in _MAYBE_COUNTS
        else "string"
    )
    series = pd.Series(values, dtype=dtype)
    return series.astype("category") if name in _CATEGORIES else series


def to_csv(run: Run, results: Sequence[Result]) -> str:
    """The same table as text; what holds several values is JSON, times are ISO 8601 in UTC."""
    frame = to_frame(run, results)
    for name in _RECORDS:
        frame[name] = [json.dumps(value, ensure_ascii=False) for value in frame[name]]
    frame["started_at"] = [result.started_at for result in results]
    return frame.to_csv(index=False, lineterminator="\n")


def to_json(run: Run, results: Sequence[Result]) -> str:
    """One object: ``schema``, ``run`` (what stands once a run), ``results`` (the rows) and
    ``crossovers`` (`devbench.stats.crossover.Crossover`).

    A figure that is not a number or infinite becomes null.
    """
    answer = {
        "schema": SCHEMA,
        "run": finite(asdict(run.info)),
        "results": [finite(asdict(result)) for result in results],
        "crossovers": [finite(asdict(item)) for item in find_crossovers(run, results)],
    }
    return json.dumps(answer, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The same JSON value with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
