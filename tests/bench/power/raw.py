"""What was measured, a JSON object a line, so that a later run adds to it and an end in the middle
costs nothing."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Final

from devbench.detection import read_hardware
from devbench.model import Json
from tests.bench.power.harness import HARNESSES
from tests.bench.power.steps import KINDS

SCHEMA: Final = "devbench.bench-power/2"
OURS: Final = "devbench"
TOOLS: Final = (OURS, *HARNESSES)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is measured beside what."""

    kind: str
    noisy: bool


CONDITIONS: Final = tuple(Condition(kind, noisy) for kind, noisy in product(KINDS, (False, True)))


@dataclass(slots=True)
class Raw:
    """Records of one machine: those of others are in the file and are not looked at.

    A record of devbench holds the log ratios of a pair by role, of all or of the same code only; one of
    another harness what it said of one role in one process.
    """

    path: Path
    machine: Json
    records: list[Json]
    sessions: list[str]

    @classmethod
    def open(cls, path: Path) -> Raw:
        raw = cls(path, this_machine(), [], [])
        mine = False
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for line in map(json.loads, lines):
            if "schema" in line:
                mine = line["machine"] == raw.machine
                if mine:
                    raw.sessions.append(line["date"])
            elif mine:
                raw.records.append(line)
        return raw

    def begin(self) -> None:
        """A session of today."""
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        self._write({"schema": SCHEMA, "date": today, "machine": self.machine})
        self.sessions.append(today)

    def add(self, condition: Condition, tool: str, seconds: float, **found: Json) -> None:
        """seconds: what it cost, by which the time is shared out evenly."""
        place = {"kind": condition.kind, "noisy": condition.noisy, "tool": tool}
        record = {**place, "seconds": round(seconds, 2), **found}
        self._write(record)
        self.records.append(record)

    def of(self, condition: Condition, tool: str) -> Iterator[Json]:
        place = (condition.kind, condition.noisy, tool)
        return (one for one in self.records if (one["kind"], one["noisy"], one["tool"]) == place)

    def pairs(self, condition: Condition, role: str) -> list[float]:
        found = (one["ratios"] for one in self.of(condition, OURS))
        return [ratios[role] for ratios in found if role in ratios]

    def pair_seconds(self, condition: Condition) -> float:
        """What one pair of one case has cost on average, its part of the imports included."""
        taken = list(self.of(condition, OURS))
        return float(
            sum(one["seconds"] for one in taken) / sum(len(one["ratios"]) for one in taken)
        )

    def _write(self, record: Json) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")


def this_machine() -> Json:
    """What tells it from another, and what ran on it; nothing that names it."""
    host = read_hardware().host
    return {
        "cpu": host.cpu_model,
        "usable_cpus": host.usable_cpus,
        "memory_gib": None if host.memory_bytes is None else round(host.memory_bytes / 2**30),
        "virtual": host.virtual_machine,
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "pytest-benchmark", "pyperf")},
    }
