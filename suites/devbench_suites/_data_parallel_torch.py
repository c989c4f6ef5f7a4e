"""DistributedDataParallel, a process a device; and DataParallel, all devices in one process.

``python -m devbench_suites._data_parallel_torch`` is one rank of the former. Ranks find each other
through a file and talk over gloo on a CPU, over NCCL on CUDA. NCCL and DataParallel follow torch's
documentation and have not yet run on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np

from devbench.frameworks.torch import TorchFramework
from devbench.measure import memory
from devbench_suites._data_parallel_networks import OPTIMIZER, torch_module
from devbench_suites._ranks import serve

#: CPU threads of a rank, as torchrun sets it: the same for every number of ranks, or a rank among
#: many would be slower for another reason than the others.
THREADS: Final = 1


class Rank:
    """One of `world_size` processes. Its times are in seconds, of this rank, after a barrier."""

    def __init__(
        self,
        *,
        rank: int,
        world_size: int,
        device: str,
        store: str,
        network: str,
        images: np.ndarray,
        labels: np.ndarray,
        weights: dict[str, np.ndarray],
    ) -> None:
        import torch
        from torch import distributed
        from torch.nn.parallel import DistributedDataParallel

        # The same settings as in a worker, so float32 means float32 here too.
        self._framework = TorchFramework()
        self._framework.start(None, THREADS)
        on_gpu = device != "cpu"
        if on_gpu:
            torch.cuda.set_device(device)
        distributed.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=distributed.FileStore(store, world_size),
            rank=rank,
            world_size=world_size,
        )
        model = torch_module(network, weights).to(device)
        self._device = device
        self._barrier: Callable[[], Any] = distributed.barrier
        self._parameters = dict(model.named_parameters())
        self._optimizer = OPTIMIZER.torch(model.parameters())
        self._model = DistributedDataParallel(model, device_ids=[device] if on_gpu else None)
        self._images = torch.from_numpy(images).to(device)
        self._labels = torch.from_numpy(labels).to(device)
        self._loss: Any = None

    def step(self) -> float:
        """A training step: gradients, averaged over the ranks, and the update."""

        def train() -> None:
            self._backward()
            self._optimizer.step()

        return self._timed(train)

    def gradients(self) -> float:
        """Forward and backward; the ranks' gradients are averaged meanwhile."""
        return self._timed(self._backward)

    def compute(self) -> float:
        """Forward and backward of this rank's share, without the others."""
        with self._model.no_sync():
            return self._timed(self._backward)

    def answers(self) -> list[dict[str, Any]]:
        """After one step: the loss of this rank's share, the averaged gradients, the new weights."""
        parameters = self._parameters.items()
        gradients = {name: self._on_host(parameter.grad) for name, parameter in parameters}
        weights = {name: self._on_host(parameter) for name, parameter in parameters}
        return [{"loss": self._loss.item(), "gradients": gradients, "weights": weights}]

    def memory(self) -> float | None:
        """Peak bytes: of the allocator on a GPU, else resident, with the framework itself."""
        return self._framework.peak_memory(self._device) or memory.peak()

    def _backward(self) -> None:
        from torch.nn.functional import cross_entropy

        self._optimizer.zero_grad()
        self._loss = cross_entropy(self._model(self._images), self._labels)
        self._loss.backward()

    def _timed(self, work: Callable[[], None]) -> float:
        self._barrier()
        self._framework.synchronize(self._device)
        start = time.perf_counter()
        work()
        self._framework.synchronize(self._device)
        return time.perf_counter() - start

    @staticmethod
    def _on_host(tensor: Any) -> np.ndarray:
        return tensor.detach().cpu().numpy()  # type: ignore[no-any-return]


class Replicated:
    """DataParallel: in each forward pass, the weights go from the first device to the others."""

    def __init__(
        self,
        devices: tuple[str, ...],
        network: str,
        images: Any,
        labels: Any,
        weights: dict[str, np.ndarray],
    ) -> None:
        from torch.nn import DataParallel

        self._devices = devices
        self._module = torch_module(network, weights).to(devices[0])
        self._parallel = DataParallel(self._module, device_ids=list(devices))
        self._optimizer = OPTIMIZER.torch(self._module.parameters())
        self._images, self._labels = images, labels

    def step(self) -> Any:
        """A training step. Gives the loss."""
        from torch.nn.functional import cross_entropy

        self._optimizer.zero_grad()
        loss = cross_entropy(self._parallel(self._images), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss

    def answer(self, loss: Any) -> dict[str, Any]:
        parameters = dict(self._module.named_parameters())
        gradients = {name: parameter.grad for name, parameter in parameters.items()}
        return {"loss": loss, "gradients": gradients, "weights": parameters}

    def metrics(self) -> dict[str, float]:
        """The parts of a step, each waited for: medians of ten, in seconds.

        all_reduce: adding up the gradients on the first device. compute: forward and backward of the
        replicas without that.
        """
        from torch.nn.functional import cross_entropy
        from torch.nn.parallel import comm, gather, parallel_apply, replicate, scatter

        taken: dict[str, list[float]] = {}

        def part(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
            self._wait()
            start = time.perf_counter()
            result = work(*arguments)
            self._wait()
            taken.setdefault(name, []).append(time.perf_counter() - start)
            return result

        devices = list(self._devices)
        for _ in range(10):
            self._optimizer.zero_grad()
            if len(devices) == 1:  # DataParallel then calls the module itself
                logits = part("forward", self._module, self._images)
            else:
                shares = part("scatter", scatter, (self._images,), devices)
                replicas = part("replicate", replicate, self._module, devices)
                outputs = part("forward", parallel_apply, replicas, shares, None, devices)
                logits = part("gather", gather, outputs, devices[0])
            loss = cross_entropy(logits, self._labels)
            part("backward", loss.backward)
            if len(devices) > 1:  # once more, to tell its share of the backward pass
                copies = comm.broadcast_coalesced(list(self._module.parameters()), devices)
                part("all_reduce", comm.reduce_add_coalesced, copies, devices[0])
        found = {name: median(seconds) for name, seconds in taken.items()}
        compute = found.pop("forward") + found.pop("backward") - found.get("all_reduce", 0.0)
        return {"compute_s": compute} | {f"{name}_s": s for name, s in found.items()}

    def _wait(self) -> None:
        import torch

        for device in self._devices:
            torch.cuda.synchronize(device)


if __name__ == "__main__":
    serve(Rank)
