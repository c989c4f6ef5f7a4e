"""Recorded machines: ``machines/NAME.toml`` holds files, NVML's answers, and the frameworks' views."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devbench.detection import FrameworkAnswer, NvmlError
from devbench.detection.records import view_from_json

MACHINES = Path(__file__).parent / "machines"


@dataclass(frozen=True)
class RecordedNvml:
    """Answers from a table of calls; an error is written ``{error = "NotSupported"}``."""

    calls: Mapping[str, Any]

    def query(self, function: str, *arguments: Any) -> Any:
        call = f"{function}({', '.join(map(str, arguments))})"
        answer = self.calls.get(call, {"error": "NotRecorded"})
        if isinstance(answer, dict) and "error" in answer:
            raise NvmlError(answer["error"])
        return answer


@dataclass(frozen=True)
class Recorded:
    root: Path
    nvml: RecordedNvml
    answers: tuple[FrameworkAnswer, ...]


def recorded(name: str, folder: Path) -> Recorded:
    """The machine of that name, its files written below `folder`."""
    data = tomllib.loads((MACHINES / f"{name}.toml").read_text(encoding="utf-8"))
    for path, content in data["files"].items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if content.endswith("\n") else content + "\n", encoding="utf-8")
    return Recorded(
        folder,
        RecordedNvml(data.get("nvml", {"nvmlInit()": {"error": "LibraryNotFound"}})),
        tuple(
            FrameworkAnswer(name=view["name"], status="ok", view=view_from_json(view))
            for view in data.get("frameworks", ())
        ),
    )
