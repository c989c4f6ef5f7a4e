"""The command line as a process, with the fake framework on its path and a store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PLUGINS = Path(__file__).parent / "plugins"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a child: plugins on the path, store and log below `folder`."""
    return {
        **os.environ,
        "PYTHONPATH": str(PLUGINS),
        "DEVBENCH_STORE": str(folder / "results.sqlite"),
        "XDG_STATE_HOME": str(folder / "state"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        **more,
    }


@dataclass(frozen=True)
class DevBench:
    """`devbench …` as its users run it; `home` holds its store and logs."""

    home: Path

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, "-P", "-c", "from devbench.cli import main; main()", *words]

    def __call__(
        self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(words),
            env=environment(self.home, **(env or {})),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(words),
            env=environment(self.home, **(env or {})),
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
