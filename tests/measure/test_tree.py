from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from devbench.measure.tree import leaves, tree_map

NESTED = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner),
    max_leaves=12,
)


@given(NESTED)
def test_mapping_a_tree_reaches_every_leaf_once_and_keeps_the_paths(tree: object) -> None:
    before = list(leaves(tree))
    after = list(leaves(tree_map(lambda leaf: -leaf, tree)))
    assert after == [(path, -leaf) for path, leaf in before]


def test_paths_read_as_a_person_would_write_them() -> None:
    tree = {"weights": [1, (2, 3)], "bias": 4}
    assert dict(leaves(tree)) == {"weights.0": 1, "weights.1.0": 2, "weights.1.1": 3, "bias": 4}


def test_a_lone_leaf_has_the_empty_path() -> None:
    assert list(leaves(7)) == [("", 7)]


def test_flattening_twice_gives_the_same_paths() -> None:
    tree = {"a": [1, {"b": 2}]}
    once = dict(leaves(tree))
    assert dict(leaves(once)) == once
