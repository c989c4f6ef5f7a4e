"""The network 784 → hidden → hidden → 10, as torch and Keras each write it in two ways, and the
small one, 10 → 64 → 32 → 1.

Weights are a dict in torch's names and layout: ``hidden1.weight`` is (out, in).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

PIXELS: Final = 28 * 28
CLASSES: Final = 10
FEATURES: Final = 10  # that the small one takes


def torch_sequential(weights: Mapping[str, Any]) -> Any:
    """As layers in a row."""
    from collections import OrderedDict

    from torch import nn

    hidden = len(weights["hidden1.bias"])
    model = nn.Sequential(
        OrderedDict(
            hidden1=nn.Linear(PIXELS, hidden),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(hidden, hidden),
            relu2=nn.ReLU(),
            logits=nn.Linear(hidden, CLASSES),
        )
    ).to(weights["hidden1.bias"].device)
    model.load_state_dict(weights)
    return model


def torch_module(weights: Mapping[str, Any]) -> Any:
    """As a module with a forward pass of its own."""
    from torch import nn
    from torch.nn.functional import relu

    hidden = len(weights["hidden1.bias"])

    class Classifier(nn.Module):  # type: ignore[misc]  # torch is not followed by the checker
        def __init__(self) -> None:
            super().__init__()
            self.hidden1 = nn.Linear(PIXELS, hidden)
            self.hidden2 = nn.Linear(hidden, hidden)
            self.logits = nn.Linear(hidden, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.logits(relu(self.hidden2(relu(self.hidden1(x)))))

    model = Classifier().to(weights["hidden1.bias"].device)
    model.load_state_dict(weights)
    return model


def keras_sequential(weights: Mapping[str, Any]) -> Any:
    """As layers in a row."""
    from keras import Input, Sequential, layers

    hidden = len(weights["hidden1.bias"])
    model = Sequential(
        [
            Input((PIXELS,)),
            layers.Dense(hidden, activation="relu", name="hidden1"),
            layers.Dense(hidden, activation="relu", name="hidden2"),
            layers.Dense(CLASSES, name="logits"),
        ]
    )
    load_keras(model, weights)
    return model


def keras_functional(weights: Mapping[str, Any]) -> Any:
    """As a graph from an input to an output."""
    from keras import Input, Model, layers

    hidden = len(weights["hidden1.bias"])
    images = Input((PIXELS,))
    x = layers.Dense(hidden, activation="relu", name="hidden1")(images)
    x = layers.Dense(hidden, activation="relu", name="hidden2")(x)
    model = Model(images, layers.Dense(CLASSES, name="logits")(x))
    load_keras(model, weights)
    return model


def torch_binary(weights: Mapping[str, Any]) -> Any:
    from collections import OrderedDict

    from torch import nn

    model = nn.Sequential(
        OrderedDict(
            hidden1=nn.Linear(FEATURES, 64),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(64, 32),
            relu2=nn.ReLU(),
            logit=nn.Linear(32, 1),
            probability=nn.Sigmoid(),
        )
    ).to(weights["hidden1.bias"].device)
    model.load_state_dict(weights)
    return model


def keras_binary(weights: Mapping[str, Any]) -> Any:
    from keras import Input, Sequential, layers

    model = Sequential(
        [
            Input((FEATURES,)),
            layers.Dense(64, activation="relu", name="hidden1"),
            layers.Dense(32, activation="relu", name="hidden2"),
            layers.Dense(1, activation="sigmoid", name="logit"),
        ]
    )
    load_keras(model, weights)
    return model


def load_keras(model: Any, weights: Mapping[str, Any]) -> None:
    """Set the dense layers of a Keras model. Keras keeps a kernel as (in, out)."""
    import tensorflow as tf

    for layer in model.layers:
        if layer.weights:
            kernel = tf.transpose(weights[f"{layer.name}.weight"])
            layer.set_weights([kernel, weights[f"{layer.name}.bias"]])


def canonical(weights: Mapping[str, Any]) -> Callable[[list[Any]], dict[str, Any]]:
    """Turns a list like the variables of dense layers into a dict like `weights`."""
    import tensorflow as tf

    return lambda values: {
        name: tf.transpose(value) for name, value in zip(weights, values, strict=True)
    }
