"""resnet18: parameters, outputs, gradients and statistics; and where images lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devbench.errors import Unsupported
from devbench.measure.inputs import as_reference, draw
from devbench.measure.tree import leaves
from devbench.registry import Source, load_suite
from devbench_suites import _numpy_resnet
from devbench_suites._numpy_network import Dense, Network, ReLU
from devbench_suites._resnet import convolutions, refuse_few_values
from tests.suites.harness import SEED, Answer, Child, builtin, verdict

RESNET = builtin("resnet18", "cnn")
SMALL: dict[str, Any] = {"batch": 4, "image": 64, "layout": "NHWC"}
TRAINING = SMALL | {"phase": "train_step"}
#: Each phase, and each layout, in as few cases as that takes.
CASES = {
    "forward": SMALL | {"layout": "NCHW", "phase": "forward"},
    "forward_backward": SMALL | {"phase": "forward_backward"},
    "train_step": TRAINING,
}

_answers: dict[tuple[Child, str], Answer] = {}


def answer(child: Child, params: dict[str, Any]) -> Answer:
    """Each case is run once in this file."""
    key = child, str(params)
    if key not in _answers:
        _answers[key] = child.run(RESNET, params)
    return _answers[key]


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    inputs: dict[str, Any] = as_reference(draw(RESNET[0], TRAINING, SEED))
    return inputs


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_a_step_gives_what_the_reference_says(child: Child, phase: str) -> None:
    params = CASES[phase]
    found = answer(child, params)
    compared = verdict(RESNET[0], params, found.inputs, found.observed)
    assert compared.numerics == "match", compared
    if phase == "train_step":
        assert not found.observed["moved"]
        trained = {name: array.size for name, array in found.observed["weights"].items()}
        assert sum(trained.values()) == 11_689_512
        assert trained.keys() == found.observed["gradients"].keys()
        for name, weight in found.observed["weights"].items():
            assert (weight != found.inputs["weights"][name]).any(), f"{name} has not moved"


def test_gradients_alone_are_what_the_reference_says(torch_child: Child) -> None:
    params = CASES["forward_backward"]
    found = answer(torch_child, params)
    compared = verdict(RESNET[0], params, found.inputs, found.observed)
    assert compared.numerics == "match", compared


@pytest.mark.parametrize(
    ("constant", "default_of_keras", "caught_in"),
    [("EPSILON", 1e-3, "gradients."), ("MOMENTUM", 0.01, "statistics.")],
)
def test_batch_normalization_with_the_defaults_of_keras_is_caught(
    torch_child: Child,
    monkeypatch: pytest.MonkeyPatch,
    constant: str,
    default_of_keras: float,
    caught_in: str,
) -> None:
    found = answer(torch_child, TRAINING)
    monkeypatch.setattr(_numpy_resnet, constant, default_of_keras)
    compared = verdict(RESNET[0], TRAINING, found.inputs, found.observed)
    assert compared.numerics == "mismatch"
    assert (compared.detail or "").startswith(caught_in)
    assert compared.rel_error is not None
    assert compared.tolerance is not None
    assert compared.rel_error > 100 * compared.tolerance


@pytest.mark.torch
@pytest.mark.parametrize("phase", CASES)
def test_declared_flops_are_those_that_torch_counts(torch_child: Child, phase: str) -> None:
    params = CASES[phase]
    counted = answer(torch_child, params).flops
    assert RESNET[0].work(params).flops == pytest.approx(counted, rel=0.02)


def test_an_image_of_imagenet_takes_the_published_number_of_multiply_adds() -> None:
    """1.8·10⁹: He et al. (2016), table 1."""
    flops = RESNET[0].work({"batch": 1, "image": 224, "phase": "forward"}).flops
    assert flops == 2 * 1_814_073_344


@pytest.mark.parametrize("image", [65, 97])
def test_odd_images_are_halved_as_declared(drawn: dict[str, Any], image: int) -> None:
    x = np.zeros((1, 3, image, image))
    sides = []
    for layer in _numpy_resnet._body(drawn["weights"], drawn["statistics"]):
        x = layer.forward(x)
        sides.append(x.shape[-1])
    declared = convolutions(image)
    assert (sides[0], sides[-2]) == (declared[0].side, declared[-1].side)


def test_a_repeated_batch_has_the_loss_and_gradients_of_its_distinct_images(
    drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = drawn | {name: np.tile(drawn[name][:2].T, 2).T for name in ("images", "labels")}
    monkeypatch.setattr(_numpy_resnet, "distinct", lambda batch: 2)
    short = dict(leaves(_numpy_resnet.reference("train_step", **batch)))
    monkeypatch.setattr(_numpy_resnet, "distinct", lambda batch: batch)
    for name, value in leaves(_numpy_resnet.reference("train_step", **batch)):
        assert np.abs(value - short[name]).max() <= 1e-9 * np.abs(value).max(), name


def test_no_activation_of_a_training_step_is_near_a_kink(
    drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest: list[float] = []

    class Watching(ReLU):
        def forward(self, x: np.ndarray) -> np.ndarray:
            nearest.append(float(self.margin(x).min()))
            return super().forward(x)

    body = _numpy_resnet._body(drawn["weights"], None, lambda bias: Watching())
    Network(*body, Dense("fc", drawn["weights"])).logits(drawn["images"])
    assert len(nearest) == 17
    assert min(nearest) > 1e-4  # rounding moves an activation by about 1e-6


@pytest.mark.parametrize(
    ("batch", "image"), [(1, 64), (5, 64), (8, 32), pytest.param(2, 40, id="two small images")]
)
def test_too_few_values_to_normalize_over_are_refused_with_a_way_out(
    batch: int, image: int
) -> None:
    with pytest.raises(Unsupported, match="take a larger image, or a batch that is a multiple"):
        refuse_few_values(batch, image)


@pytest.mark.parametrize(("batch", "image"), [(1, 224), (4, 64), (7, 224), (128, 33)])
def test_enough_values_to_normalize_over_are_not_refused(batch: int, image: int) -> None:
    refuse_few_values(batch, image)


PROBES = '''
import numpy as np

from devbench import Work, benchmark
from devbench_suites import cnn
from devbench_suites._numpy_network import Network
from devbench_suites._resnet_models import refuse_nchw


@benchmark(name="first_layers", axes={"batch": [4]})
class FirstLayers:
    """What the first convolution and the flattening of the cnn give."""

    def work(self, batch):
        return Work(terms=150)

    def inputs(self, rng, batch):
        return cnn.CNN.call("inputs", {"batch": batch}, rng=rng)

    def reference(self, images, weights):
        layers = cnn._network(weights).layers
        return {
            "first": Network(*layers[:2]).logits(images),
            "flat": Network(*layers[:7]).logits(images),
        }

    def torch(self, ctx, images, weights):
        model = cnn.CNN.definition._torch_model(weights)
        return lambda: {"first": model[:2](images), "flat": model[:7](images)}

    def tensorflow(self, ctx, images, weights):
        import tensorflow as tf
        from keras import Model

        model = cnn.CNN.definition._keras_model(weights)
        named = {"first": "conv1", "flat": "flatten"}
        outputs = {key: model.get_layer(name).output for key, name in named.items()}
        inner = Model(model.inputs, outputs)

        def run():
            found = inner(tf.transpose(images, (0, 2, 3, 1)))
            pixels = tf.reshape(found["flat"], (-1, 5, 5, 16))
            flat = tf.reshape(tf.transpose(pixels, (0, 3, 1, 2)), (-1, 400))
            return {"first": tf.transpose(found["first"], (0, 3, 1, 2)), "flat": flat}

        return run


@benchmark(name="nchw", axes={"batch": [1]})
class NCHW:
    """Whether NCHW is refused once TensorFlow says that it has no such convolution."""

    reference = None

    def tensorflow(self, ctx):
        from unittest import mock

        import tensorflow as tf

        from devbench import Unsupported

        missing = tf.errors.UnimplementedError(None, None, "only supports the NHWC tensor format")
        with mock.patch.object(tf.nn, "conv2d", side_effect=missing):
            try:
                refuse_nchw()
                reason = ""
            except Unsupported as error:
                reason = str(error)
        return lambda: {"refused": tf.constant("oneDNN" in reason)}
'''
_SOURCE = Source("probes", "source", PROBES)


def probe(name: str) -> tuple[Any, Source]:
    return {one.name: one for one in load_suite(_SOURCE)}[name], _SOURCE


def test_both_frameworks_see_the_same_pixels_after_the_first_layer_and_after_flattening(
    child: Child,
) -> None:
    """Both are compared with one reference, in torch's order: channel, row, column."""
    params = {"batch": 4}
    found = child.run(probe("first_layers"), params)
    assert found.observed["first"].shape == (4, 6, 28, 28)
    assert found.observed["flat"].shape == (4, 400)
    compared = verdict(probe("first_layers")[0], params, found.inputs, found.observed)
    assert compared.numerics == "match", compared


@pytest.mark.tensorflow
def test_nchw_is_refused_where_tensorflow_cannot_do_it(tensorflow_child: Child) -> None:
    found = tensorflow_child.run(probe("nchw"), {"batch": 1})
    assert found.observed["refused"]
