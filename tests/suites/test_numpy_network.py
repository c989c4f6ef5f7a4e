"""The references themselves, at float64 and without a framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from devbench_suites._numpy_network import (
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool,
    Network,
    ReLU,
    Residual,
    draw_images,
    draw_weights,
)

SHAPES = {"first": (3, 2, 3, 3), "second": (4, 3, 2, 2), "hidden": (5, 16), "logits": (3, 5)}
IMAGE = (2, 12, 12)
BATCH = 70  # more than are taken through the network together


def network(weights: dict[str, np.ndarray]) -> Network:
    return Network(
        *(Conv("first", weights), ReLU(), MaxPool()),
        *(Conv("second", weights), ReLU(), MaxPool()),
        *(Flatten(), Dense("hidden", weights), ReLU(), Dense("logits", weights)),
    )


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    weights = draw_weights(rng, SHAPES)
    images = draw_images(rng, network(weights), BATCH, IMAGE)
    return images, rng.integers(3, size=BATCH), weights


@pytest.mark.parametrize("layer", SHAPES)
@pytest.mark.parametrize("kind", ["weight", "bias"])
def test_gradients_are_the_slopes_of_the_loss(
    drawn: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]], layer: str, kind: str
) -> None:
    assert_gradient_is_slope(network, f"{layer}.{kind}", *drawn)


def assert_gradient_is_slope(
    make: Callable[[dict[str, np.ndarray]], Network],
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    weights: dict[str, np.ndarray],
) -> None:
    step = 1e-6
    _, gradients = make(weights).loss_and_gradients(images, labels)
    slopes = np.zeros_like(weights[name])
    for index in np.ndindex(slopes.shape):
        losses = []
        for sign in (1, -1):
            moved = weights | {name: weights[name].copy()}
            moved[name][index] += sign * step
            losses.append(make(moved).loss_and_gradients(images, labels)[0])
        slopes[index] = (losses[0] - losses[1]) / (2 * step)
    assert np.abs(gradients[name]).max() > 1e-4
    assert np.abs(gradients[name] - slopes).max() < 1e-6 * np.abs(slopes).max() + 1e-9


RESIDUAL_SHAPES = {"stem": (3, 2, 3, 3), "main": (4, 3, 3, 3), "down": (4, 3, 1, 1), "fc": (3, 4)}
NORMS = {"stem_norm": 3, "main_norm": 4, "down_norm": 4}


def residual_network(
    weights: dict[str, np.ndarray], fixed: dict[str, np.ndarray] | None = None
) -> Network:
    """A residual network in small: padded strides, overlapping maxima, a projecting shortcut."""
    bare = {name: weight for name, weight in weights.items() if name != "main.bias"}

    def norm(name: str) -> BatchNorm:
        return BatchNorm(name, weights, 1e-5, fixed)

    main = (Conv("main", bare, 2, 1), norm("main_norm"))
    shortcut = (Conv("down", weights, 2), norm("down_norm"))
    return Network(
        *(Conv("stem", weights, 2, 1), norm("stem_norm"), ReLU(), MaxPool(3, 2, 1)),
        *(Residual(main, shortcut), ReLU(), Residual((ReLU(),), ())),
        *(GlobalAveragePool(), Dense("fc", weights)),
    )


@pytest.fixture(scope="module")
def residual() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    weights = draw_weights(rng, RESIDUAL_SHAPES)
    for name, channels in NORMS.items():
        weights[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels)
        weights[f"{name}.bias"] = rng.uniform(-0.5, 0.5, channels)
    return rng.standard_normal((5, 2, 13, 13)), rng.integers(3, size=5), weights


@pytest.mark.parametrize(
    "name",
    ["stem.weight", "main.weight", "down.weight", "fc.weight", *(f"{n}.bias" for n in NORMS)],
)
def test_gradients_through_normalization_and_shortcuts_are_the_slopes_of_the_loss(
    residual: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]], name: str
) -> None:
    assert_gradient_is_slope(residual_network, name, *residual)


@pytest.mark.parametrize("name", ["stem.weight", "main_norm.weight", "down_norm.bias"])
def test_gradients_with_fixed_statistics_are_the_slopes_of_the_loss(
    residual: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]], name: str
) -> None:
    rng = np.random.default_rng(3)
    fixed = {f"{norm}.running_mean": rng.uniform(-1, 1, size) for norm, size in NORMS.items()}
    fixed |= {f"{norm}.running_var": rng.uniform(0.5, 2, size) for norm, size in NORMS.items()}
    assert_gradient_is_slope(lambda weights: residual_network(weights, fixed), name, *residual)


def test_a_convolution_without_bias_has_no_gradient_of_one(
    residual: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]],
) -> None:
    images, labels, weights = residual
    _, gradients = residual_network(weights).loss_and_gradients(images, labels)
    assert gradients.keys() == weights.keys() - {"main.bias"}


def test_a_normalized_channel_has_mean_bias_and_spread_weight() -> None:
    x = np.random.default_rng(4).normal(3, 2, (6, 2, 5, 5))
    weights = {"n.weight": np.array([1.5, 0.5]), "n.bias": np.array([-1.0, 4.0])}
    y = BatchNorm("n", weights, epsilon=0.0).forward(x)
    assert y.mean((0, 2, 3)) == pytest.approx(weights["n.bias"])
    assert y.std((0, 2, 3)) == pytest.approx(weights["n.weight"])


def test_a_padded_convolution_with_stride_sees_zeros_on_every_side() -> None:
    image = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    weights = {"c.weight": np.ones((1, 1, 3, 3))}
    # Around 1: 1+2+5+6; around 3: 2+3+4+6+7+8; and two rows on.
    expected = [[14.0, 30.0], [57.0, 99.0]]
    assert Conv("c", weights, stride=2, padding=1).forward(image)[0, 0].tolist() == expected


def test_overlapping_maxima_add_up_their_gradients() -> None:
    image = np.zeros((1, 1, 5, 5))
    image[0, 0, 1, 1] = 9.0  # the largest of the first window of each row and column of windows
    pool = MaxPool(3, 2, 1)
    assert pool.forward(image)[0, 0, :2, :2].tolist() == [[9.0, 9.0], [9.0, 9.0]]
    gradient, _ = pool.backward(np.ones((1, 1, 3, 3)))
    assert gradient[0, 0, 1, 1] == 4
    assert gradient.sum() == 9


def test_a_convolution_does_not_flip_its_kernel() -> None:
    weights = {"c.weight": np.arange(4.0).reshape(1, 1, 2, 2), "c.bias": np.array([10.0])}
    image = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(1, 1, 2, 3)
    # 0·1 + 1·2 + 2·4 + 3·5 + 10, and one column on
    assert Conv("c", weights).forward(image).tolist() == [[[[35.0, 41.0]]]]


def test_pooling_keeps_rows_and_columns_apart() -> None:
    image = np.array([[1.0, 2, 5, 6], [3, 4, 7, 8], [0, 9, 1, 1], [0, 0, 2, 1]]).reshape(1, 1, 4, 4)
    pool = MaxPool()
    assert pool.forward(image).tolist() == [[[[4.0, 8.0], [9.0, 2.0]]]]
    gradient, _ = pool.backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert gradient[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [0, 3, 0, 0], [0, 0, 4, 0]]


def test_logits_do_not_depend_on_what_is_computed_together(
    drawn: tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]],
) -> None:
    images, _, weights = drawn
    alone = np.concatenate([network(weights).logits(image[None]) for image in images])
    assert np.abs(alone - network(weights).logits(images)).max() < 1e-13


def test_large_logits_do_not_overflow() -> None:
    weights = {"d.weight": np.array([[1000.0], [-1000.0]]), "d.bias": np.zeros(2)}
    loss, gradients = Network(Dense("d", weights)).loss_and_gradients(
        np.array([[1.0]]), np.array([1])
    )
    assert float(loss) == 2000
    assert gradients["d.bias"].tolist() == [1.0, -1.0]


def test_images_beside_a_kink_are_drawn_again() -> None:
    weights = {"d.weight": np.array([[1.0]]), "d.bias": np.array([0.5])}
    net = Network(Dense("d", weights), ReLU())

    class Planted(np.random.Generator):
        """Draws one image on the kink first, as ill luck would."""

        calls = 0

        def standard_normal(self, size: object = None) -> np.ndarray:  # type: ignore[override]
            self.calls += 1
            return np.array([[-0.5], [0.1]]) if self.calls == 1 else np.array([[0.3]])

    images = draw_images(Planted(np.random.PCG64(0)), net, 2, (1,))
    assert images.tolist() == [[0.3], [0.1]]


def test_margins_see_near_ties_of_a_maximum_but_not_squares_of_zeros() -> None:
    tie = np.array([[1.0, 1.0 + 1e-7], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    zeros = np.zeros((1, 1, 2, 2))
    assert MaxPool().margin(tie)[0] == pytest.approx(1e-7)
    assert MaxPool().margin(zeros)[0] == np.inf
