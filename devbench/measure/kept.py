"""Nested arrays as one file, between processes of the same code.

Each array is read into memory that numpy allocates, as if it had been computed: large ones then lie in
huge pages, which a product of them is faster for. An archive (npz) is read in small pieces and checked
by sums, which takes several times as long.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from devbench.measure.tree import leaves, tree_map


def write(tree: Any, file: Path) -> None:
    """Whole or not at all, so that a process that is ended leaves no half of it."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as out:
        pickle.dump(tree_map(lambda _: None, tree), out)
        for _, leaf in leaves(tree):
            np.save(out, leaf, allow_pickle=False)
    part.replace(file)


def read(file: Path) -> Any:
    with file.open("rb") as source:
        nesting = pickle.load(source)
        return tree_map(lambda _: np.load(source, allow_pickle=False), nesting)
