"""A transformer encoder block: its weights, in torch, in Keras, and in numpy at float64.

Pre-norm, as in Xiong et al. (2020), "On layer normalization in the transformer architecture"::

    y = x + out(attention(norm1(x)))
    z = y + contract(gelu(expand(norm2(y))))

with heads of 64 numbers each, a feed-forward layer four times as wide as the block (both as in
Vaswani et al. 2017), and the exact GELU. The four layers of the attention have no bias: that of the
keys cancels in the softmax, so its gradient is zero but for rounding, and could not be compared.

Weights are a dict in torch's names and layout, ``query.weight`` (out, in); `shapes` lists them.
Activations are (batch, sequence, width). Nothing here hangs on a framework's defaults: the epsilon
of a layer norm is 1e-5 in torch and 1e-3 in Keras, and 1e-5 here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from devbench import Work
from devbench.errors import UsageError
from devbench_suites._attention import attention, attention_gradients

HEAD: Final = 64
EPSILON: Final = 1e-5
_FLOAT32: Final = 4

#: Path of a Keras variable → name of the weight.
_KERAS_NAMES: Final = {
    "norm1/gamma": "norm1.weight",
    "norm1/beta": "norm1.bias",
    "attention/query/kernel": "query.weight",
    "attention/key/kernel": "key.weight",
    "attention/value/kernel": "value.weight",
    "attention/attention_output/kernel": "out.weight",
    "norm2/gamma": "norm2.weight",
    "norm2/beta": "norm2.bias",
    "expand/kernel": "expand.weight",
    "expand/bias": "expand.bias",
    "contract/kernel": "contract.weight",
    "contract/bias": "contract.bias",
}

Array: TypeAlias = np.ndarray


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of every weight. Raises UsageError for a width that heads do not divide."""
    if width < HEAD or width % HEAD:
        raise UsageError(f"the width of an encoder block is a multiple of {HEAD}, not {width}")
    square = {f"{name}.weight": (width, width) for name in ("query", "key", "value", "out")}
    return {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        **square,
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "expand.weight": (4 * width, width),
        "expand.bias": (4 * width,),
        "contract.weight": (width, 4 * width),
        "contract.bias": (width,),
    }


def draw_weights(rng: np.random.Generator, width: int) -> dict[str, Array]:
    """Scales of the norms near 1, all else uniform in ±1/√(inputs of a unit) as torch draws it."""
    drawn = {}
    for name, shape in shapes(width).items():
        fan_in = shape[1] if len(shape) == 2 else 4 * width if name == "contract.bias" else width
        drawn[name] = rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
        if name.startswith("norm") and name.endswith("weight"):
            drawn[name] += 1
    return drawn


def torch_encoder(weights: Mapping[str, Any]) -> Any:
    """The block as an ``nn.Module`` on the device and in the dtype of the weights."""
    from torch import nn
    from torch.nn.functional import gelu, scaled_dot_product_attention

    width = len(weights["norm1.weight"])

    class EncoderBlock(nn.Module):  # type: ignore[misc]  # torch is not followed into
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(width, eps=EPSILON)
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
            self.value = nn.Linear(width, width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.norm2 = nn.LayerNorm(width, eps=EPSILON)
            self.expand = nn.Linear(width, 4 * width)
            self.contract = nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            y = x + self.attend(self.norm1(x))
            return y + self.contract(gelu(self.expand(self.norm2(y))))

        def attend(self, x: Any) -> Any:
            query, key, value = (
                layer(x).unflatten(-1, (-1, HEAD)).transpose(1, 2)
                for layer in (self.query, self.key, self.value)
            )
            heads = scaled_dot_product_attention(query, key, value)
            return self.out(heads.transpose(1, 2).flatten(2))

    block = EncoderBlock().to(weights["norm1.weight"])  # its device and its dtype
    block.load_state_dict(weights)
    return block


def keras_encoder(weights: Mapping[str, Any]) -> Any:
    """The block as a functional Keras model in the dtype of the weights, for any sequence length."""
    import tensorflow as tf
    from keras import Input, Model, activations, layers

    width = len(weights["norm1.weight"])
    kind: dict[str, Any] = {"dtype": weights["norm1.weight"].dtype.name}
    x = Input((None, width), dtype=kind["dtype"])
    normed = layers.LayerNormalization(epsilon=EPSILON, name="norm1", **kind)(x)
    attend = layers.MultiHeadAttention(
        width // HEAD, HEAD, use_bias=False, name="attention", **kind
    )
    y = layers.Add(**kind)([x, attend(normed, normed)])
    normed = layers.LayerNormalization(epsilon=EPSILON, name="norm2", **kind)(y)
    wide = layers.Dense(4 * width, activation=activations.gelu, name="expand", **kind)(normed)
    narrow = layers.Dense(width, name="contract", **kind)(wide)
    model = Model(x, layers.Add(**kind)([y, narrow]))
    for variable in model.trainable_variables:
        weight = weights[_KERAS_NAMES[variable.path]]
        variable.assign(tf.reshape(tf.transpose(weight), variable.shape))
    return model


def keras_canonical(model: Any, values: Sequence[Any]) -> dict[str, Any]:
    """A list like the model's trainable variables in the names and layout of the weights."""
    import tensorflow as tf

    canonical = {}
    for variable, value in zip(model.trainable_variables, values, strict=True):
        name = _KERAS_NAMES[variable.path]
        shape = shapes(model.input_shape[-1])[name]
        canonical[name] = tf.transpose(tf.reshape(value, shape[::-1]))
    return canonical


def reference(x: Array, weights: Mapping[str, Array]) -> Array:
    """What the block makes of x."""
    return np.stack([_Pass(weights).forward(one) for one in x])


def reference_gradients(
    x: Array, target: Array, weights: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """The mean squared error against the target, and its gradient at every weight."""
    total, gradients = 0.0, dict[str, Array]()
    for one, wanted in zip(x, target, strict=True):
        block = _Pass(weights)
        losses, dz = MeanSquaredError().numpy(block.forward(one)[None], wanted[None])
        total += losses.sum() / len(x)
        for name, gradient in block.backward(dz[0] / len(x)).items():
            gradients[name] = gradients.get(name, 0.0) + gradient
    return np.asarray(total), gradients


class MeanSquaredError:
    """The mean of the squared differences, as a loss for `torch_step` and `keras_step`."""

    def torch(self, outputs: Any, labels: Any) -> Any:
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, labels)

    def keras(self, labels: Any, outputs: Any) -> Any:
        import keras

        return keras.losses.MeanSquaredError()(labels, outputs)

    def numpy(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Each sample's loss, and the gradient of their sum with respect to the outputs."""
        difference, numbers = outputs - labels, outputs[0].size
        return (difference**2).sum((1, 2)) / numbers, 2 * difference / numbers


class _Pass:
    """One sequence on its way through the block and back. x is (sequence, width)."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights

    def forward(self, x: Array) -> Array:
        w = self.weights
        self.norm1, self.norm2 = _LayerNorm("norm1", w), _LayerNorm("norm2", w)
        self.normed1 = self.norm1.forward(x)
        self.query, self.key, self.value = (
            _split(self.normed1 @ w[f"{name}.weight"].T) for name in ("query", "key", "value")
        )
        self.heads = _join(attention(self.query, self.key, self.value))
        y = x + self.heads @ w["out.weight"].T
        self.normed2 = self.norm2.forward(y)
        self.wide = self.normed2 @ w["expand.weight"].T + w["expand.bias"]
        self.active = self.wide * _normal_cdf(self.wide)
        return np.asarray(y + self.active @ w["contract.weight"].T + w["contract.bias"])

    def backward(self, dz: Array) -> dict[str, Array]:
        """From the gradient at the output to those of the weights."""
        w = self.weights
        density = np.exp(-(self.wide**2) / 2) / np.sqrt(2 * np.pi)
        dwide = dz @ w["contract.weight"] * (_normal_cdf(self.wide) + self.wide * density)
        dnorm2, own2 = self.norm2.backward(dwide @ w["expand.weight"])
        dy = dz + dnorm2
        dheads = _split(dy @ w["out.weight"])
        through = attention_gradients(self.query, self.key, self.value, dheads)
        dquery, dkey, dvalue = map(_join, through)
        dnormed1 = dquery @ w["query.weight"] + dkey @ w["key.weight"] + dvalue @ w["value.weight"]
        _, own1 = self.norm1.backward(dnormed1)
        return {
            **own1,
            "query.weight": dquery.T @ self.normed1,
            "key.weight": dkey.T @ self.normed1,
            "value.weight": dvalue.T @ self.normed1,
            "out.weight": dy.T @ self.heads,
            **own2,
            "expand.weight": dwide.T @ self.normed2,
            "expand.bias": dwide.sum(0),
            "contract.weight": dz.T @ self.active,
            "contract.bias": dz.sum(0),
        }


class _LayerNorm:
    def __init__(self, name: str, weights: Mapping[str, Array]) -> None:
        self.name = name
        self.scale, self.shift = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def forward(self, x: Array) -> Array:
        self.deviation = np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        self.normal = (x - x.mean(-1, keepdims=True)) / self.deviation
        return np.asarray(self.normal * self.scale + self.shift)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        own = {f"{self.name}.weight": (dy * self.normal).sum(0), f"{self.name}.bias": dy.sum(0)}
        dnormal = dy * self.scale
        along = (dnormal * self.normal).mean(-1, keepdims=True)
        dx = (dnormal - dnormal.mean(-1, keepdims=True) - self.normal * along) / self.deviation
        return dx, own


def _split(x: Array) -> Array:
    """(sequence, width) → (head, sequence, 64)."""
    return x.reshape(len(x), -1, HEAD).swapaxes(0, 1)


def _join(heads: Array) -> Array:
    """The way back."""
    return heads.swapaxes(0, 1).reshape(heads.shape[1], -1)


def _normal_cdf(x: Array) -> Array:
    from scipy.special import erf

    return np.asarray((1 + erf(x / np.sqrt(2))) / 2)


def encoder_work(
    phase: str, batch: int, sequence: int, width: int, optimizer_state: int = 0
) -> Work:
    """The work of one step in float32, where the loss is the mean squared error against a target.

    optimizer_state: numbers that the optimizer keeps for each weight.

    flops: the products of the six layers and the two of the attention, a multiply-add counted as
    two; norms, GELU, softmax, loss and update are left out. The backward pass does every product
    twice: the weights of the first norm want the gradient at the inputs of query, key and value.

    bytes: x and the weights are read once, the output or the gradients written once and the target
    read; the optimizer reads and writes its state and writes the weights. Activations may stay in
    a cache.

    footprint: all of these, the output of each operation, and the scores of the attention before
    and after the softmax, as it is where no fused kernel serves; twice with their gradients.
    """
    tokens, weights = batch * sequence, sum(math.prod(one) for one in shapes(width).values())
    # Norm, query, key, value, heads, out, sum; norm, twice the wide layer, contract, sum.
    activations = (7 + 1 + 2 * 4 + 2) * tokens * width
    activations += 2 * batch * (width // HEAD) * sequence**2
    forward = 2 * tokens * 12 * width**2 + 4 * tokens * sequence * width
    ends = 2 * tokens * width  # x, and the output or the target
    longest = max(4 * width, sequence)
    if phase == "forward":
        held = ends + weights + activations
        return Work(forward, _FLOAT32 * (ends + weights), tokens, _FLOAT32 * held, longest)
    moved, held = ends + 2 * weights, ends + 2 * weights + 2 * activations
    if phase == "train_step":
        moved += weights + 2 * optimizer_state * weights
        held += optimizer_state * weights
    # A weight's gradient sums over every token.
    terms = max(longest, tokens)
    return Work(3 * forward, _FLOAT32 * moved, tokens, _FLOAT32 * held, terms)
