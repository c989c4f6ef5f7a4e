"""Scaled-dot-product attention, fused and written out, and a transformer encoder block."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from devbench import Context, DType, Step, Unsupported, Work, benchmark
from devbench.errors import UsageError
from devbench_suites import _encoder
from devbench_suites._attention import attention, attention_gradients
from devbench_suites._optimizers import SGD
from devbench_suites._phases import PHASES, keras_step, torch_step

HEADS: Final = 8
HEAD: Final = 64


@benchmark(
    name="attention",
    axes={
        "sequence": [128, 512, 1024, 2048, 4096],
        "kind": ["fused", "written_out"],
        "dtype": ["float32", "bfloat16", "float16"],
        "phase": ["forward", "forward_backward"],
    },
    quick={
        "sequence": [128, 512],
        "kind": ["fused", "written_out"],
        "dtype": ["float32"],
        "phase": ["forward_backward"],
    },
    size="sequence",
)
class Attention:
    """softmax(Q·Kᵀ/√64)·V for 8 heads of 64 numbers, without mask, of one sequence.

    The kind fused is one kernel that never stores the scores (Dao et al. 2022, "FlashAttention"):
    ``scaled_dot_product_attention`` in torch. The kind written_out is two matrix products with a
    softmax between them. forward_backward gives the output and, from a random gradient at it, the
    gradients at Q, K and V.

    The work declared is the same for both kinds, two products forwards and four backwards. That a
    fused kernel computes the scores again on its way back, a seventh product, is its own affair.
    """

    def work(self, sequence: int, kind: str, dtype: DType, phase: str) -> Work:
        if sequence < 2:
            raise UsageError("one place attends to itself alone: take a sequence of 2 or more")
        matrix, scores = HEADS * sequence * HEAD, HEADS * sequence**2
        product = 2 * HEAD * scores
        forward = phase == "forward"
        # Q, K, V and the output; with the gradients of all four.
        matrices = 4 if forward else 8
        # Scores and probabilities; with the gradients of both.
        kept = 0 if kind == "fused" else (2 if forward else 4) * scores
        return Work(
            flops=(2 if forward else 6) * product,
            bytes=matrices * matrix * dtype.itemsize,
            items=sequence,
            footprint=(8 * matrix + kept) * dtype.itemsize,
            # A sum over the sequence, each of whose terms hangs on a sum over the head.
            terms=sequence + HEAD,
        )

    def inputs(self, rng: np.random.Generator, sequence: int) -> dict[str, np.ndarray]:
        shape = (1, HEADS, sequence, HEAD)
        names = ("query", "key", "value", "upstream")
        drawn = {name: rng.standard_normal(shape, np.float32) for name in names}
        # A score s that is stored in a narrow dtype moves its probability by s·eps, which no sum
        # behind an output explains; so scores stay well below 1.
        drawn["query"] /= 4
        return drawn

    def reference(
        self,
        phase: str,
        query: np.ndarray,
        key: np.ndarray,
        value: np.ndarray,
        upstream: np.ndarray,
    ) -> Any:
        output = attention(query, key, value)
        if phase == "forward":
            return output
        gradients = attention_gradients(query, key, value, upstream)
        names = ("query", "key", "value")
        return {"output": output, "gradients": dict(zip(names, gradients, strict=True))}

    def torch(
        self, ctx: Context, kind: str, phase: str, query: Any, key: Any, value: Any, upstream: Any
    ) -> Step:
        import torch
        from torch.nn.functional import scaled_dot_product_attention, softmax

        inputs = {"query": query, "key": key, "value": value}
        for one in inputs.values():
            one.requires_grad_(phase == "forward_backward")

        def written_out(query: Any, key: Any, value: Any) -> Any:
            scores = query @ key.transpose(-1, -2) / HEAD**0.5
            return softmax(scores, -1) @ value

        if kind == "fused":
            _refuse_what_is_not_fused(ctx, phase, query, key, value)
        attend = ctx.compile(scaled_dot_product_attention if kind == "fused" else written_out)

        def forward() -> Any:
            with torch.inference_mode():
                return attend(query, key, value)

        def forward_backward() -> Any:
            output = attend(query, key, value)
            return output, torch.autograd.grad(output, (query, key, value), upstream)

        return Step(forward) if phase == "forward" else Step(forward_backward, _named)

    def tensorflow(
        self, ctx: Context, kind: str, phase: str, query: Any, key: Any, value: Any, upstream: Any
    ) -> Step:
        import tensorflow as tf

        if kind == "fused":
            raise Unsupported(
                "TensorFlow has no fused attention: keras.ops.dot_product_attention refuses "
                "flash_attention there and computes the products one by one"
            )

        if _rounds_the_softmax(ctx):
            raise Unsupported(
                "on a CPU TensorFlow rounds every step of the softmax to float16, which loses more "
                "than the rounding of its result"
            )

        def forward(query: Any, key: Any, value: Any) -> Any:
            scores = tf.matmul(query, key, transpose_b=True) / HEAD**0.5
            return tf.matmul(tf.nn.softmax(scores), value)

        def forward_backward(query: Any, key: Any, value: Any, upstream: Any) -> Any:
            inputs = (query, key, value)
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = forward(*inputs)
            return output, tape.gradient(output, inputs, output_gradients=upstream)

        if phase == "forward":
            attend = ctx.compile(forward)
            return Step(lambda: attend(query, key, value))
        learn = ctx.compile(forward_backward)
        return Step(lambda: learn(query, key, value, upstream), _named)


def _rounds_the_softmax(ctx: Context) -> bool:
    """TensorFlow 2.21 on a CPU computes each step of a float16 softmax in float16: probabilities
    are off by up to 1.8 eps, where one rounding is half an eps; in bfloat16 it does not."""
    return ctx.dtype.name == "float16" and "CPU" in ctx.device


def _named(result: Any) -> dict[str, Any]:
    output, gradients = result
    names = ("query", "key", "value")
    return {"output": output, "gradients": dict(zip(names, gradients, strict=True))}


def _refuse_what_is_not_fused(ctx: Context, phase: str, query: Any, key: Any, value: Any) -> None:
    """Raise Unsupported where torch would quietly write the attention out, or adds up too coarsely.

    The GPU side has not run on a GPU.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    narrow = ctx.dtype.itemsize < 4
    if narrow and ctx.device == "cpu" and phase == "forward_backward":
        # Seen in torch 2.13: against float64 their error grows with the sequence, past the rounding
        # of the dtype from 512 on; the forward pass and written-out attention keep within it.
        raise Unsupported(
            "on a CPU torch's fused attention adds up the gradients of keys and values in "
            f"{ctx.dtype.name} itself, which loses more than its rounding"
        )
    fused = [
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
    ]
    try:
        # torch prefers these to the written-out one wherever they serve, so one look is enough.
        with sdpa_kernel(fused):
            scaled_dot_product_attention(query, key, value)
    except RuntimeError as error:
        if "No available kernel" not in str(error) and "No viable backend" not in str(error):
            raise
        raise Unsupported(
            f"torch has no fused attention for {ctx.dtype.name} on {ctx.device}: {error}"
        ) from error


@benchmark(
    name="encoder_block",
    axes={"sequence": [32, 128, 512, 2048], "width": [256, 768], "phase": PHASES},
    quick={"sequence": [32, 128], "width": [256], "phase": PHASES},
    size="sequence",
)
class EncoderBlock:
    """A pre-norm transformer encoder block on 8 sequences, trained by SGD with momentum.

    Layer norm, attention with heads of 64, layer norm, and two dense layers with GELU between them,
    four times as wide as the block; float32, no dropout, no mask. Weights, the epsilon of the norms
    (1e-5) and the GELU (the exact one) are the same in both frameworks. Attention is what each
    framework makes of it: fused where torch can, written out in Keras.

    The phase forward computes the output only; forward_backward gives the mean squared error against
    a random target and the gradient of every weight; train_step updates the weights as well.
    """

    _batch = 8
    _loss = _encoder.MeanSquaredError()
    _optimizer = SGD(learning_rate=0.01, momentum=0.9)

    def work(self, sequence: int, width: int, phase: str) -> Work:
        return _encoder.encoder_work(phase, self._batch, sequence, width, self._optimizer.state)

    def inputs(self, rng: np.random.Generator, sequence: int, width: int) -> dict[str, Any]:
        shape = (self._batch, sequence, width)
        return {
            "x": rng.standard_normal(shape),
            "target": rng.standard_normal(shape),
            "weights": _encoder.draw_weights(rng, width),
        }

    def reference(
        self, phase: str, x: np.ndarray, target: np.ndarray, weights: dict[str, np.ndarray]
    ) -> Any:
        if phase == "forward":
            return _encoder.reference(x, weights)
        loss, gradients = _encoder.reference_gradients(x, target, weights)
        return {"loss": loss, "gradients": gradients}

    def closed_form(
        self, phase: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found."""
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(self, ctx: Context, phase: str, x: Any, target: Any, weights: Any) -> Step:
        model = _encoder.torch_encoder(weights)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_step(ctx, phase, model, optimizer, x, target, loss=self._loss)

    def tensorflow(self, ctx: Context, phase: str, x: Any, target: Any, weights: Any) -> Step:
        model = _encoder.keras_encoder(weights)
        optimizer = self._optimizer.keras()

        def canonical(values: list[Any]) -> dict[str, Any]:
            return _encoder.keras_canonical(model, values)

        return keras_step(ctx, phase, model, optimizer, x, target, canonical, loss=self._loss)
