"""Where runs are kept: `database` (the results store), `exchange` (run files), `resolve` (what RUN
stands for), `files` (writing a file whole or not at all)."""

from devbench.store.database import Outcomes as Outcomes
from devbench.store.database import RunSummary as RunSummary
from devbench.store.database import Store as Store
from devbench.store.resolve import resolve as resolve
