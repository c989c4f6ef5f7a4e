"""TensorFlow with Keras 3 behind the `Framework` protocol.

Run for real on CPUs. The GPU paths follow TensorFlow's documentation and have not yet run on a GPU.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from devbench.frameworks.base import NO_TF32, FrameworkView, Timer, WallTimer
from devbench.frameworks.probes import Probes
from devbench.frameworks.tensorflow_probes import TensorFlowProbes
from devbench.model import DTYPES, Device, DType, Json, Target

if TYPE_CHECKING:
    import numpy as np


#: What an InternalError says when there is no memory left: of a tensor that is moved to a full GPU, and of
#: the CUDA driver.
_NO_MEMORY: Final = ("Dst tensor is not initialized", "CUDA_ERROR_OUT_OF_MEMORY")


class TensorFlowFramework:
    #: Bus ids come from a list that opens a context on every GPU, which a worker of one must not.
    _lists_devices = True

    name = "tensorflow"
    extra = "tensorflow"
    module = "tensorflow"
    modes = ("function", "eager", "xla")

    def environment(self, target: Target | None, threads: int) -> dict[str, str]:
        variables = {
            # The getter still answers 0 with these set, so the worker counts threads under load.
            "TF_NUM_INTRAOP_THREADS": str(threads),
            "TF_NUM_INTEROP_THREADS": str(threads),
            "OMP_NUM_THREADS": str(threads),
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "TF_CPP_MIN_LOG_LEVEL": "1",
            "KERAS_BACKEND": "tensorflow",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
        if target is not None and all(address.startswith("CPU") for address in target.devices):
            variables["CUDA_VISIBLE_DEVICES"] = "-1"
        return variables

    def start(self, target: Target | None, threads: int) -> None:
        self.adopt()
        self._lists_devices = target is None
        tf = self._tf
        # float32 means float32 in both frameworks; TensorFlow has TF32 on by default.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        if target is not None:
            # Otherwise TensorFlow opens a context on every GPU of the machine.
            wanted = {address for address in target.devices if address.startswith("GPU")}
            gpus = tf.config.list_physical_devices("GPU")
            tf.config.set_visible_devices(
                [gpu for index, gpu in enumerate(gpus) if f"GPU:{index}" in wanted], "GPU"
            )

    def adopt(self) -> None:
        import tensorflow as tf

        self._tf = tf

    def address_of(self, value: Any) -> str | None:
        if isinstance(value, self._tf.keras.Model) and value.weights:
            value = value.weights[0].value
        if self._tf.is_tensor(value) and getattr(value, "device", ""):
            return str(value.device).split("device:")[-1]
        return None

    def opened(self) -> Sequence[str]:
        from tensorflow.python.eager import context

        # Nothing public tells without opening them, after which no setting of theirs can be changed.
        if not context.context()._initialized:
            return []
        gpus = self._tf.config.list_logical_devices("GPU")
        return [gpu.name.split("device:")[-1] for gpu in gpus]

    def describe(self) -> FrameworkView:
        tf = self._tf
        devices = [Device("tensorflow", "CPU:0", "cpu", "CPU", "cpu", dtypes=self._dtypes("CPU:0"))]
        gpus = tf.config.list_physical_devices("GPU")
        bus_ids = self._bus_ids() if gpus and self._lists_devices else {}
        for index, gpu in enumerate(gpus):
            facts = tf.config.experimental.get_device_details(gpu)
            capability = facts.get("compute_capability")
            devices.append(
                Device(
                    "tensorflow",
                    f"GPU:{index}",
                    "gpu",
                    str(facts.get("device_name", gpu.name)),
                    bus_ids.get(index, f"gpu:{index}"),
                    None,
                    ".".join(map(str, capability)) if capability else None,
                    pci_bus_id=bus_ids.get(index),
                    dtypes=self._dtypes(f"GPU:{index}"),
                )
            )
        return FrameworkView(
            name="tensorflow",
            version=str(tf.__version__),
            file=str(tf.__file__),
            devices=tuple(devices),
            # Asked of the distribution: importing Keras takes seconds.
            build={**tf.sysconfig.get_build_info(), "keras": version("keras")},
        )

    def _dtypes(self, address: str) -> tuple[str, ...]:
        """TensorFlow names no format that a device lacks, TF32 aside."""
        return tuple(
            name for name, dtype in DTYPES.items() if self.unsupported(dtype, address) is None
        )

    def _bus_ids(self) -> dict[int, str]:
        """GPU index → PCI bus id, from the description of the local devices.

        `get_device_details` gives name and compute capability only, and two GPUs may share both.
        """
        from tensorflow.python.client import device_lib

        found = {}
        for device in device_lib.list_local_devices():
            match = re.search(r"pci bus id: ([0-9a-fA-F:.]+)", device.physical_device_desc)
            if device.device_type == "GPU" and match:
                found[int(device.name.rsplit(":", 1)[1])] = match[1].lower()
        return found

    def settings(self) -> Mapping[str, Json]:
        tf = self._tf
        return {
            "intraop_threads": tf.config.threading.get_intra_op_parallelism_threads(),
            "interop_threads": tf.config.threading.get_inter_op_parallelism_threads(),
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
            "xla_jit": str(tf.config.optimizer.get_jit()),
            "denormals_flushed": not float(tf.constant(2.0**-126) * 0.5),
        }

    def device(self, address: str) -> str:
        return f"/{self._local(address)}"

    def scope(self, address: str) -> AbstractContextManager[Any]:
        return self._tf.device(self.device(address))  # type: ignore[no-any-return]

    def _local(self, address: str) -> str:
        """The address among the visible devices: the only visible GPU is GPU:0 whatever its index."""
        kind, index = address.split(":")
        if kind == "CPU":
            return address
        visible = [gpu.name.rsplit(":", 1)[1] for gpu in self._tf.config.get_visible_devices("GPU")]
        return f"GPU:{visible.index(index)}"

    @contextmanager
    def math(self, dtype: DType) -> Iterator[None]:
        if dtype.name != "tfloat32":
            yield
            return
        switch = self._tf.config.experimental.enable_tensor_float_32_execution
        switch(True)
        try:
            yield
        finally:
            switch(False)

    def tensor(self, array: np.ndarray, dtype: DType, address: str) -> Any:
        with self.scope(address):
            is_float = array.dtype.kind == "f"
            return self._tf.convert_to_tensor(array, dtype=dtype.storage if is_float else None)

    def numpy(self, tensor: Any) -> np.ndarray | None:
        if not self._tf.is_tensor(tensor) and not isinstance(tensor, self._tf.Variable):
            return None
        if tensor.dtype.is_floating:
            tensor = self._tf.cast(tensor, self._tf.float64)
        return tensor.numpy()  # type: ignore[no-any-return]

    def unsupported(self, dtype: DType, address: str) -> str | None:
        if dtype.name == "tfloat32" and not self._has_tf32(address):
            return NO_TF32
        return None

    def _has_tf32(self, address: str) -> bool:
        kind, index = address.split(":")
        if kind != "GPU":
            return False
        gpu = self._tf.config.list_physical_devices("GPU")[int(index)]
        details = self._tf.config.experimental.get_device_details(gpu)
        return details.get("compute_capability", (0, 0)) >= (8, 0)  # type: ignore[no-any-return]

    def compile(self, function: Callable[..., Any], mode: str) -> Callable[..., Any]:
        if mode == "eager":
            return function
        return self._tf.function(function, jit_compile=mode == "xla")  # type: ignore[no-any-return]

    def synchronize(self, address: str) -> None:
        self._tf.test.experimental.sync_devices()

    def timer(self, address: str) -> Timer:
        return WallTimer(self._tf.test.experimental.sync_devices, "sync_devices a block")

    def probes(self, address: str, cache_bytes: int) -> Probes:
        return TensorFlowProbes(self._tf, address, cache_bytes)

    def cache_bytes(self, address: str) -> int | None:
        # TensorFlow does not tell a GPU's L2. 64 MB exceed that of every GPU up to Ada's 72 MB but
        # one, and a vector of four times that exceeds them all.
        return None if address.startswith("CPU") else 64 << 20

    def is_out_of_memory(self, error: BaseException) -> bool:
        errors = self._tf.errors
        if isinstance(error, errors.ResourceExhaustedError | MemoryError):
            return True
        return isinstance(error, errors.InternalError) and any(
            words in str(error) for words in _NO_MEMORY
        )

    def reset_peak_memory(self, address: str) -> None:
        if address.startswith("GPU"):
            self._tf.config.experimental.reset_memory_stats(self._local(address))

    def peak_memory(self, address: str) -> int | None:
        if address.startswith("GPU"):
            return int(self._tf.config.experimental.get_memory_info(self._local(address))["peak"])
        return None

    def release(self) -> None:
        self._tf.keras.backend.clear_session()
        gc.collect()
