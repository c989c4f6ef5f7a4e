from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devbench.measure import kept
from devbench.measure.tree import leaves


def test_nested_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    tree = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layers": [{"w": np.array([[1.5]]), "n": np.array(3)}, {"mask": np.array([True, False])}],
        "none": np.zeros((0, 4), np.int8),
        "across": np.arange(6).reshape(2, 3).T,
    }
    kept.write(tree, tmp_path / "file")
    read = kept.read(tmp_path / "file")
    assert [path for path, _ in leaves(read)] == [path for path, _ in leaves(tree)]
    for (_, one), (_, other) in zip(leaves(read), leaves(tree), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
        assert one.flags.writeable


def test_what_could_not_be_written_whole_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        kept.write({"x": np.arange(3), "odd": np.array([object()])}, tmp_path / "file")
    assert not (tmp_path / "file").exists()
