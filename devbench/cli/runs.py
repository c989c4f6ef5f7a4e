"""``devbench runs``: what the results store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devbench.cli.common import JsonOption, StoreOption, note, print_json, store_location
from devbench.cli.table import print_table

if TYPE_CHECKING:
    from devbench.store import RunSummary


def runs(as_json: JsonOption = False, store: StoreOption = None) -> None:
    """List the stored runs, the newest first."""
    from devbench.store import Store

    with Store.open(store_location(store), create=False) as opened:
        rows = [_row(summary) for summary in opened.runs()]
        name = opened.name
    if as_json:
        print_json({"schema": "devbench.runs/1", "runs": rows})
    elif rows:
        print_table(
            (
                "run",
                "label",
                "started (UTC)",
                "state",
                "kind",
                "cases",
                "host",
                "cpu",
                "frameworks",
            ),
            [_cells(row) for row in rows],
            below=("kind", "cases", "host", "cpu", "frameworks"),
        )
    else:
        note(f"the results store {name} holds no run yet; `devbench run` makes one")


def _row(summary: RunSummary) -> dict[str, Any]:
    info = summary.info
    host = _mapping(_mapping(info.environment.get("machine")).get("host"))
    targets = _mapping(info.environment.get("targets"))
    return {
        "id": info.id,
        "label": info.label,
        "kind": info.kind,
        "started_at": info.started_at,
        "finished_at": info.finished_at,
        "state": info.state,
        "devbench_version": info.devbench_version,
        "cases": {"planned": summary.planned, **summary.counts},
        "host": host.get("hostname"),
        "cpu": host.get("cpu_model"),
        "frameworks": {
            target.partition(":")[0]: _mapping(facts).get("framework_version")
            for target, facts in targets.items()
        },
    }


def _mapping(value: Any) -> dict[str, Any]:
    """A part of the environment; an imported run may come from a version that had none."""
    return value if isinstance(value, dict) else {}


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    counts = dict(row["cases"])
    planned = counts.pop("planned")
    waiting = planned - sum(counts.values())
    parts = [f"{count} {status}" for status, count in reversed(counts.items())]
    frameworks = [f"{name} {version or '??'}" for name, version in row["frameworks"].items()]
    return (
        row["id"],
        row["label"] or "–",
        row["started_at"][:19].replace("T", " "),
        row["state"],
        row["kind"],
        ", ".join([*parts, f"{waiting} not measured"] if waiting else parts) or "none",
        str(row["host"] or "??"),
        str(row["cpu"] or "??"),
        ", ".join(frameworks) or "??",
    )
