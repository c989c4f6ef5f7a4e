"""MirroredStrategy: one process, a copy of the weights on each device.

``python -m devbench_suites._data_parallel_tensorflow`` is that process. It is a fresh one because
logical devices must be configured before TensorFlow's runtime starts. On GPUs it follows
TensorFlow's documentation and has not yet run there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from devbench.frameworks.tensorflow import TensorFlowFramework
from devbench.measure import memory
from devbench.model import Target
from devbench_suites._data_parallel_networks import (
    OPTIMIZER,
    from_keras,
    keras_images,
    keras_model,
)
from devbench_suites._ranks import serve


class Mirrored:
    """The strategy over `devices`, as TensorFlow addresses them (``GPU:0``), or over as many logical
    devices of the CPU where all of them are ``CPU:0``. Times are in seconds.
    """

    def __init__(
        self,
        *,
        devices: tuple[str, ...],
        threads: int,
        network: str,
        images: np.ndarray,
        labels: np.ndarray,
        weights: dict[str, np.ndarray],
    ) -> None:
        import tensorflow as tf

        # The same settings as in a worker, so float32 means float32 here too.
        self._framework = TensorFlowFramework()
        self._framework.start(Target("tensorflow", devices), threads)
        self._network = network
        kind = devices[0].split(":")[0]
        if kind == "CPU":
            (cpu,) = tf.config.list_physical_devices("CPU")
            logical = [tf.config.LogicalDeviceConfiguration() for _ in devices]
            tf.config.set_logical_device_configuration(cpu, logical)
        # The visible ones are counted from 0.
        names = [f"/{kind}:{index}" for index in range(len(devices))]
        self._address = devices[0]
        strategy = tf.distribute.MirroredStrategy(names)
        with strategy.scope():
            model = keras_model(network, weights)
            optimizer = OPTIMIZER.keras()
            optimizer.build(model.trainable_variables)
        self._variables = model.trainable_variables
        self._local = strategy.experimental_local_results

        def spread(array: np.ndarray) -> Any:
            """A share of the samples on each device."""
            shares = np.split(array, len(names))

            def share(context: Any) -> Any:
                index = context.replica_id_in_sync_group
                with tf.device(names[index]):
                    return tf.identity(shares[index])

            return strategy.experimental_distribute_values_from_function(share)

        def backward(images: Any, labels: Any) -> Any:
            """The replica's share of the loss of the whole batch, and its gradients."""
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels, model(images, training=True)
                )
                loss = tf.reduce_mean(losses) / len(names)
            return loss, tape.gradient(loss, self._variables)

        def reduced(images: Any, labels: Any) -> Any:
            loss, gradients = backward(images, labels)
            context = tf.distribute.get_replica_context()
            return loss, context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)

        def train(images: Any, labels: Any) -> Any:
            loss, gradients = backward(images, labels)
            optimizer.apply_gradients(zip(gradients, self._variables, strict=True))  # adds them up
            return loss, gradients

        def on_all(work: Callable[..., Any]) -> Callable[[], Any]:
            everywhere = tf.function(lambda *shares: strategy.run(work, shares))
            return lambda: everywhere(self._images, self._labels)

        self._images, self._labels = spread(keras_images(images)), spread(labels)
        self._train, self._reduced, self._backward = map(on_all, (train, reduced, backward))
        self._result: Any = None

    def step(self) -> float:
        """A training step: gradients, summed over the replicas, and the update."""
        return self._timed(self._train)

    def gradients(self) -> float:
        """Forward, backward and the sum of the replicas' gradients."""
        return self._timed(self._reduced)

    def compute(self) -> float:
        """Forward and backward on each device, without the sum."""
        return self._timed(self._backward)

    def answers(self) -> list[dict[str, Any]]:
        """After one step, for each replica: the loss of its samples, the summed gradients, and its
        own copy of the new weights.
        """
        loss, gradients = self._result
        shares = [self._local(gradient) for gradient in gradients]
        summed = [np.sum([one.numpy() for one in share], 0) for share in shares]
        losses = [share.numpy() for share in self._local(loss)]
        copies = [self._local(variable.value) for variable in self._variables]
        return [
            {
                "loss": share * len(losses),
                "gradients": from_keras(self._network, summed),
                "weights": from_keras(self._network, [copy[index].numpy() for copy in copies]),
            }
            for index, share in enumerate(losses)
        ]

    def memory(self) -> float | None:
        """Peak bytes: of the first GPU's allocator, else resident, with TensorFlow itself."""
        return self._framework.peak_memory(self._address) or memory.peak()

    def _timed(self, work: Callable[[], Any]) -> float:
        self._framework.synchronize(self._address)
        start = time.perf_counter()
        self._result = work()
        self._framework.synchronize(self._address)
        return time.perf_counter() - start


if __name__ == "__main__":
    serve(Mirrored)
