"""What RUN of a command line stands for."""

from __future__ import annotations

from pathlib import Path

from devbench.model import Run
from devbench.store.database import Store
from devbench.store.exchange import read_run


def resolve(reference: str | None, store_location: str | None) -> Run:
    """The run in a run file if `reference` names one, else what `Store.load` makes of it."""
    if reference is not None and is_file(reference):
        return read_run(reference)
    with Store.open(store_location, create=False) as store:
        return store.load(reference)


def is_file(reference: str) -> bool:
    """Whether it names a file, be it one that is not there."""
    try:
        return reference.endswith(".json") or Path(reference).is_file()
    except OSError:  # longer than a name can be
        return False
