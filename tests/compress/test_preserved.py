"""Each pass preserves what the ones before it gave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import compress
from edgekit.compress.kernels import find_kernels
from edgekit.data.dataset import Dataset, Split
from edgekit.models.fakequant import integers, quantized_layers
from edgekit.schema.artifact import Preprocessing

pytestmark = pytest.mark.slow

BLOCKS = st.lists(
    st.sampled_from(["conv", "depthwise", "residual", "nested"]), min_size=1, max_size=3
)


def network(blocks: list[str], seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)

    def block(kind: str, x: Any) -> Any:
        if kind == "depthwise":
            return layers.ReLU()(layers.DepthwiseConv2D(3, padding="same")(x))
        if kind == "residual":
            return layers.ReLU()(layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)]))
        if kind == "nested":
            inner = keras.Input((6, 6, 4))
            return keras.Model(inner, block("conv", inner))(x)
        return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))

    given_ = keras.Input((6, 6, 2), name="x")
    x = layers.Conv2D(4, 3, padding="same")(given_)
    for kind in blocks:
        x = block(kind, x)
    return keras.Model(given_, layers.Dense(3)(layers.Flatten()(x)))


def data(seed: int) -> Dataset:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(48, 6, 6, 2)).astype(np.float32)
    split = Split({"x": x}, generator.integers(0, 3, 48).astype(np.int32))
    return Dataset(split, split, split, split, ("a", "b", "c"), Preprocessing())


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    blocks=BLOCKS,
    seed=st.integers(0, 100),
    sparsity=st.sampled_from([0.3, 0.6]),
    clusters=st.sampled_from([3, 6]),
)
def test_zeros_stay_zero_and_shared_values_few(
    blocks: list[str], seed: int, sparsity: float, clusters: int
) -> None:
    samples = data(seed)
    model = compress.prune(network(blocks, seed), samples, sparsity=sparsity, epochs=1).model
    zeros = [kernel.values == 0 for kernel in find_kernels(model)[0]]
    assert all(zero.mean() > sparsity - 0.1 for zero in zeros)
    model = compress.cluster(model, samples, clusters=clusters, epochs=1).model
    for kernel, zero in zip(find_kernels(model)[0], zeros, strict=True):
        assert not kernel.values[zero].any()
        assert np.unique(kernel.values[~zero]).size <= clusters
    model = compress.qat(model, samples, epochs=1).model
    layers = quantized_layers(model)
    assert len(layers) == len(zeros)
    for layer in layers:
        (name, axes), *_ = layer.rules.items()
        stored = integers(layer, name)
        zero = next(z for z in zeros if z.shape == stored.shape and not stored[z].any())
        assert not stored[zero].any()
        channels = np.moveaxis(stored, axes, range(len(axes)))
        for channel in channels.reshape(-1, stored[..., 0].size if axes == (-1,) else 9):
            assert np.unique(channel[channel != 0]).size <= clusters
