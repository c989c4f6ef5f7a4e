"""Nested dicts, lists and tuples of arrays: how inputs, weights and outputs travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting with `function` applied to every leaf."""
    if isinstance(tree, Mapping):
        return {key: tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [tree_map(function, value) for value in tree]
    return function(tree)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its path, which reads ``weights.0``; the path of a lone leaf is empty."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}.{index}" if path else str(index))
    else:
        yield path, tree
