from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import PostconditionError
from edgekit.compress.constraints import constraints_of, groups_of, is_pruned
from edgekit.compress.contract import copy_of
from edgekit.data.dataset import Dataset

SEEDS = st.integers(0, 2**32 - 1)


def kernel_of(random: Any, shape: tuple[int, ...], clusters: int, zeros: float) -> np.ndarray:
    """Weights of few values, some of them zero."""
    book = random.normal(0, 1, clusters).astype(np.float32)
    values = book[random.integers(0, clusters, shape)]
    return np.where(random.random(shape) < zeros, np.float32(0), values)


@given(SEEDS, st.integers(1, 8), st.floats(0, 0.6))
def test_weights_are_grouped_if_and_only_if_they_share_a_value(
    seed: int, clusters: int, zeros: float
) -> None:
    values = kernel_of(np.random.default_rng(seed), (3, 3, 8, 6), clusters, zeros)
    groups = groups_of(values, (-1,))
    assert groups is not None
    assert groups.shape == values.shape
    pairs = set(zip(groups.ravel().tolist(), values.ravel().tolist(), strict=True))
    assert len(pairs) == len({g for g, _ in pairs}) == len({v for _, v in pairs})
    assert not np.any(groups[values == 0])
    assert np.all(groups[values != 0])


@given(SEEDS, st.integers(1, 4))
def test_codebooks_of_channels_are_found_and_kept_apart(seed: int, clusters: int) -> None:
    random = np.random.default_rng(seed)
    values = np.stack(
        [kernel_of(random, (90,), clusters, 0.2) for _ in range(300)], axis=-1
    )  # more values than one codebook holds
    groups = groups_of(values, (-1,))
    assert groups is not None or np.unique(values).size < 257
    if groups is not None:
        alive = values != 0
        for channel in range(values.shape[1]):
            of_channel = groups[:, channel][alive[:, channel]]
            assert np.unique(of_channel).size == np.unique(values[alive[:, channel], channel]).size


@given(SEEDS)
def test_trained_weights_are_free(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (5, 5, 3, 8)).astype(np.float32)
    assert groups_of(values, (-1,)) is None
    values[0] = 0
    assert groups_of(values, (-1,)) is None
    assert groups_of(np.zeros((4, 4), np.float32), (-1,)) is None


def network() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(3)
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.DepthwiseConv2D(3, name="depth"),
         layers.Conv2D(8, 1, activation="relu", name="conv")], name="inner",
    )  # fmt: skip
    x = image = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(x)
    x = layers.Flatten()(inner(x))
    return keras.Model(image, layers.Dense(3, activation="softmax", name="out")(x))


def book_sizes(model: Any) -> dict[str, int]:
    from edgekit.compress.kernels import find_kernels

    return {k.layer: np.unique(k.values[k.values != 0]).size for k in find_kernels(model)[0]}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_fine_tuning_moves_centroids_and_nothing_else(dataset: Dataset, optimizer: str) -> None:
    import keras

    from edgekit.compress.kernels import find_kernels

    model = network()
    random = np.random.default_rng(0)
    for kernel in find_kernels(model)[0]:
        if kernel.layer in ("inner/conv", "out"):
            kernel.variable.assign(0.3 * kernel_of(random, tuple(kernel.variable.shape), 4, 0.4))
    given_model = copy_of(model)
    constraints = constraints_of(model)
    assert {one.kernel.layer for one in constraints.kept} == {"inner/conv", "out"}
    model.compile(keras.optimizers.get(optimizer), "sparse_categorical_crossentropy")
    callback = constraints.callback()
    model.fit(dataset.train.x["x"], dataset.train.y, epochs=3, verbose=0, callbacks=[callback])
    constraints_of(given_model).check(model)
    assert book_sizes(model)["out"] == book_sizes(given_model)["out"] == 4
    changed = {
        old.layer: not np.array_equal(old.values, new.values)
        for old, new in zip(find_kernels(given_model)[0], find_kernels(model)[0], strict=True)
    }
    assert all(changed.values())
    # Afterwards the optimizer is itself again: free training unties the weights.
    model.fit(dataset.train.x["x"], dataset.train.y, epochs=1, verbose=0)
    with pytest.raises(PostconditionError, match="zero no more") as caught:
        constraints_of(given_model).check(model)
    assert caught.value.where == "inner/conv.kernel"


@pytest.mark.slow
def test_a_step_of_plain_descent_moves_a_centroid_by_the_sum_of_its_gradients() -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, use_bias=False)])
    start = np.repeat(np.array([[0.5], [-0.25], [0.5], [0]], np.float32), 4, axis=1)
    model.layers[0].kernel.assign(start)
    x = np.random.default_rng(0).normal(0, 1, (16, 4)).astype(np.float32)
    y = x @ np.random.default_rng(1).normal(0, 1, (4, 4)).astype(np.float32)
    rate = 0.01
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[constraints_of(model).callback()])
    gradient = 2 * x.T.astype(np.float64) @ (x @ start - y) / y.size
    expected = start.astype(np.float64)
    for value in (0.5, -0.25):
        expected[start == value] -= rate * gradient[start == value].sum()
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), expected, atol=1e-6)
    assert is_pruned(model.layers[0].kernel.numpy())
