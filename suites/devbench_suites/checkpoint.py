"""Saving a model's weights to a file and loading them again.

No GPU has been saved from or loaded to yet.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from devbench import Context, DoesNotFit, Step, Unsupported, Work, benchmark
from devbench_suites import _storage

#: Each layer has as many inputs as outputs.
_WIDTH: Final = 1024
_FLOAT32: Final = 4


def _file_bytes(layers: int) -> int:
    """Of the weights in it; names and checksums come to less than a hundredth of that."""
    return layers * (_WIDTH + 1) * _WIDTH * _FLOAT32


@benchmark(
    name="checkpoint",
    axes={
        "layers": [1, 8, 64, 256],
        "operation": ["save", "load"],
        "storage": ["page_cache", "disk"],
    },
    quick={"layers": [4], "operation": ["save", "load"], "storage": ["page_cache", "disk"]},
    size="layers",
)
class Checkpoint:
    """The weights of `layers` dense layers 1024 → 1024 with biases in float32, 4.2 MB a layer.

    save: from the model on the device to a new file. torch: torch.save of the state_dict.
    Keras: save_weights to a .weights.h5 file.

    load: from the file into the weights of a model on the device that held others. torch: torch.load
    with weights_only=True, then load_state_dict. Keras: load_weights.

    storage: how far the data goes. page_cache: a save returns with the file in the host's memory, and
    a load finds it there: no disk is in the time, and a power cut would lose the file. disk: a save
    ends with fsync; before each load the kernel is told, untimed, to forget the file. The row says
    how much of the file such a load really read from the disk (storage_read_fraction). A disk with a
    cache of its own, as a virtual machine's host has, may still answer from memory.

    A save writes a new file; the one before is removed, untimed. What is loaded must equal the
    weights bit for bit, in the last step of load and from the file that save wrote.
    """

    reference = "exact"

    def work(self, layers: int) -> Work:
        size = _file_bytes(layers)
        # As they were given, in the model that is saved, in the one that is loaded, and being read.
        return Work(bytes=size, footprint=4 * size, over="elsewhere")

    def inputs(self, rng: np.random.Generator, layers: int) -> dict[str, Any]:
        return {
            "weights": [
                {
                    "weight": rng.standard_normal((_WIDTH, _WIDTH), np.float32),
                    "bias": rng.standard_normal(_WIDTH, np.float32),
                }
                for _ in range(layers)
            ]
        }

    def torch(self, ctx: Context, layers: int, operation: str, storage: str, weights: Any) -> Step:
        import torch
        from torch import nn

        def model() -> Any:
            return nn.Sequential(
                *(nn.Linear(_WIDTH, _WIDTH, device=ctx.device) for _ in range(layers))
            )

        saved, loaded = model(), model()
        with torch.no_grad():
            for parameter, value in zip(saved.parameters(), _in_order(weights), strict=True):
                parameter.copy_(value)

        def load(file: Path) -> list[Any]:
            loaded.load_state_dict(torch.load(file, map_location=ctx.device, weights_only=True))
            return list(loaded.parameters())

        files = Files(lambda file: torch.save(saved.state_dict(), file), load, ".pt")
        return files.step(ctx, operation, storage, _file_bytes(layers))

    def tensorflow(
        self, ctx: Context, layers: int, operation: str, storage: str, weights: Any
    ) -> Step:
        import keras

        def model() -> Any:
            return keras.Sequential(
                [keras.Input((_WIDTH,)), *(keras.layers.Dense(_WIDTH) for _ in range(layers))]
            )

        saved, loaded = model(), model()
        for variable, value in zip(saved.weights, _in_order(weights), strict=True):
            variable.assign(value)

        def load(file: Path) -> list[Any]:
            loaded.load_weights(file)
            return [variable.value for variable in loaded.weights]

        files = Files(saved.save_weights, load, ".weights.h5")
        return files.step(ctx, operation, storage, _file_bytes(layers))


def _in_order(weights: Sequence[Mapping[str, Any]]) -> list[Any]:
    """As both frameworks list them: each layer's weights, then its biases."""
    return [tensor for layer in weights for tensor in (layer["weight"], layer["bias"])]


@dataclass(frozen=True, slots=True)
class Files:
    """save: writes the weights of one model to a file that is not there yet. load: reads a file into
    another model, which held other weights, and returns them."""

    save: Callable[[Path], None]
    load: Callable[[Path], list[Any]]
    suffix: str

    def step(self, ctx: Context, operation: str, storage: str, size: int) -> Step:
        """Raises DoesNotFit where the file has no room, Unsupported where it has no disk to go to."""
        disk = storage == "disk"
        if shortage := _storage.shortage(ctx.scratch, size):
            raise DoesNotFit(shortage)
        if disk and (reason := _storage.no_disk(ctx.scratch)):
            raise Unsupported(reason)
        with ExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=ctx.scratch))
            undo.callback(shutil.rmtree, folder)
            file = folder / f"weights{self.suffix}"
            make = self._saving if operation == "save" else self._loading
            return replace(make(file, disk), close=undo.pop_all().close)

    def _saving(self, file: Path, disk: bool) -> Step:
        def run() -> Path:
            self.save(file)
            if disk:
                _storage.flush(file)
            return file

        return Step(run, output=self.load, reset=lambda: file.unlink(missing_ok=True))

    def _loading(self, file: Path, disk: bool) -> Step:
        self.save(file)
        _storage.flush(file)  # also for the page cache: nothing is still being written while timing

        def forget() -> None:
            _storage.forget(file)

        def metrics() -> dict[str, float]:
            """Of one more load."""
            if disk:
                forget()
            before = _storage.read_from_disk()
            self.load(file)
            after = _storage.read_from_disk()
            if before is None or after is None:
                return {}
            # Whole pages are read, which may be a few bytes more than the file.
            return {"storage_read_fraction": min(1.0, (after - before) / file.stat().st_size)}

        return Step(lambda: self.load(file), reset=forget if disk else None, metrics=metrics)
