"""An ordinary session of pytest, which a calibration takes for a round: the arguments of this one again.

Its process loads this module as a plugin, by which it calibrates nothing and leaves nothing behind but its
file of pytest-benchmark. So here too are only pytest and the standard library imported.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

#: Options whose effect outlives a session, or that make it another kind, and what each is without.
_WITHOUT: Final[Mapping[str, Any]] = {
    "devbench_calibrate": None,
    "basetemp": None,
    "xmlpath": None,
    "benchmark_save": None,
    "benchmark_autosave": None,
    "benchmark_compare": [],
    "benchmark_compare_fail": None,
    "benchmark_histogram": [],
    "benchmark_cprofile_dump": [],
}
#: Plugins that write into pytest's cache.
_CACHING: Final = ("lfplugin", "nfplugin", "stepwiseplugin")


def take(arguments: Sequence[str], folder: Path, file: Path, log: Path) -> str | None:
    """Run pytest in `folder` with these arguments, as far as benchmarks go, into a file of pytest-benchmark.

    Returns the last thing it said where it wrote none.
    """
    words = list(arguments)
    place = words.index("--") if "--" in words else len(words)
    words[place:place] = ["-p", __name__, "--benchmark-only", f"--benchmark-json={file}"]
    start = log.stat().st_size if log.exists() else 0
    # As `pytest` itself it does not look for modules in the folder, unless this process does.
    alone = [] if str(folder) in sys.path else ["-P"]
    with log.open("ab") as chatter:
        subprocess.run(
            [sys.executable, *alone, "-m", "pytest", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=chatter,
            stderr=chatter,
            start_new_session=True,
            check=False,
        )
    if file.exists():
        return None
    said = log.read_bytes()[start:].decode(errors="replace").strip()
    return said.rpartition("\n")[2] or "it said nothing"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    vars(config.option).update(_WITHOUT)


def pytest_collection_finish(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    for name in _CACHING:
        if plugins.hasplugin(name):
            plugins.unregister(name=name)
