from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from devbench import Unsupported
from devbench.measure.inputs import as_reference, draw
from devbench_suites._epochs import Epoch, Epochs
from devbench_suites._image_items import ImageItems
from devbench_suites._shared_memory import shortage
from devbench_suites.input_pipeline import ITEMS, refuse
from tests.suites.harness import SEED, Child, builtin, verdict

PIPELINE = builtin("input_pipeline")
PARAMS = {"workers": 0, "side": 8, "batch": 100}  # a last batch of 12


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_holds_every_item_once_as_the_reference_makes_it(
    child: Child, workers: int
) -> None:
    params = PARAMS | {"workers": workers}
    answer = child.run(PIPELINE, params)
    found = verdict(PIPELINE[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    told = answer.metrics
    assert told.keys() == {"startup_s", "batch_s", "train_step_s", "starved_fraction"}
    waits = max(0.0, 1 - told["train_step_s"] / told["batch_s"])
    assert told["starved_fraction"] == waits
    left = [process.cmdline() for process in psutil.Process().children(recursive=True)]
    assert not [command for command in left if "spawn_main" in " ".join(command)]


def test_an_item_is_the_same_in_numpy_alone() -> None:
    inputs = draw(PIPELINE[0], PARAMS, SEED)
    items = ImageItems(8, **inputs)
    wanted = PIPELINE[0].call("reference", PARAMS, **as_reference(inputs))["images"]
    assert len(items) == ITEMS
    assert inputs["flips"].any()
    assert not inputs["flips"].all()
    for number in range(20):
        index, image = items[number]
        assert index == number
        np.testing.assert_allclose(image.transpose(1, 2, 0), wanted[number], atol=1e-6)


class Host(np.ndarray[Any, Any]):
    """An array that answers as a tensor of either framework does."""

    def numpy(self) -> np.ndarray:
        return np.asarray(self)


def epochs(*orders: Sequence[int]) -> Epochs:
    """Epochs in these orders, in batches of two; image i consists of i."""
    coming = iter(orders)

    def batches() -> Iterator[tuple[Any, Any]]:
        order = np.array(next(coming))
        for items in np.split(order, range(2, len(order), 2)):
            yield items.view(Host), np.repeat(items[:, None], 3, axis=1).view(Host)

    return Epochs(batches)


def test_the_first_epoch_is_put_in_order() -> None:
    both = epochs([2, 0, 1], [1, 0, 2])
    found = both.sorted(both.run())
    assert found["items"].tolist() == [0, 1, 2]
    assert found["images"][:, 0].tolist() == [0, 1, 2]


def test_an_order_that_repeats_is_caught() -> None:
    both = epochs([2, 0, 1], [2, 0, 1])
    with pytest.raises(RuntimeError, match="nothing was shuffled"):
        both.sorted(both.run())


@pytest.mark.parametrize("wrong", ["one twice", "one missing", "one crop off", "one mirrored"])
def test_a_wrong_epoch_is_caught(wrong: str) -> None:
    inputs = draw(PIPELINE[0], PARAMS, SEED)
    right = PIPELINE[0].call("reference", PARAMS, **as_reference(inputs))
    items, images = right["items"].copy(), right["images"].copy()
    if wrong == "one twice":
        items[3], images[3] = items[2], images[2]
    elif wrong == "one missing":
        items, images = items[:-1], images[:-1]
    elif wrong == "one crop off":
        images[7] = np.roll(images[7], 1, axis=0)
    else:
        images[7] = images[7][:, ::-1]
    found = verdict(PIPELINE[0], PARAMS, inputs, {"items": items, "images": images})
    assert found.numerics == "mismatch"
    assert verdict(PIPELINE[0], PARAMS, inputs, right).numerics == "match"


def test_the_first_epoch_alone_keeps_its_images_and_is_not_timed() -> None:
    three = epochs([0, 1, 2], [2, 1, 0], [1, 2, 0])
    kept: list[Epoch] = [three.run(), three.run(), three.run()]
    assert [epoch.images is None for epoch in kept] == [False, True, True]
    steps = []
    told = three.metrics(lambda: steps.append("a step"))
    assert told["startup_s"] > 0
    assert told["batch_s"] > 0
    assert len(steps) == 13


def test_too_little_shared_memory_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert shortage(1000, tmp_path) is None
    assert "there is no" in (shortage(1000, tmp_path / "shm") or "")
    assert "--shm-size" in (shortage(2**60, tmp_path) or "")


def test_the_queue_needs_room_for_what_workers_prepare_ahead() -> None:
    without, with_two = (
        PIPELINE[0].work(PARAMS | {"workers": workers}).footprint or 0 for workers in (0, 2)
    )
    assert with_two - without == 4 * 100 * (3 * 8 * 8 * 4 + 8)


def test_fewer_workers_than_none_are_refused() -> None:
    with pytest.raises(Unsupported, match="workers=-1"):
        refuse(-1)
