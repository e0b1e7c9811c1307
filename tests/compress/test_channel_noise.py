from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.compress.channel_noise import ChannelStatistics, best_strength, noise


@settings(deadline=None)
@given(seed=st.integers(0, 999), spread=st.floats(0, 3), power=st.floats(0, 1))
def test_noise_is_what_rounding_in_a_dense_layer_gives(
    seed: int, spread: float, power: float
) -> None:
    """Against the layer computed with rounded activations and weights, in float64."""
    random = np.random.default_rng(seed)
    x = np.abs(random.normal(size=(400, 12))) * np.exp(random.normal(0, spread, 12))
    kernel = random.normal(size=(12, 60)) / x.std(axis=0)[:, None]
    statistics = ChannelStatistics(x.max(axis=0), np.square(x).mean(axis=0))
    factors = (statistics.largest / statistics.largest.mean()) ** power
    step = (x / factors).max() / 255
    coded = np.round(x / factors / step) * step
    steps = np.abs(kernel * factors[:, None]).max(axis=0) / 127
    weights = np.round(kernel * factors[:, None] / steps) * steps
    wanted = x @ kernel
    # To first order: the mean product of the two errors is left out.
    error = np.square(coded @ (kernel * factors[:, None]) - wanted)
    error = error + np.square((x / factors) @ weights - wanted)
    signal = np.sum(kernel**2 * statistics.power[:, None], axis=0)
    found = np.sum(error.mean(axis=0) / signal)
    predicted = noise("Dense", kernel, factors, statistics)
    assert 0.3 < found / predicted < 3


def test_scaling_is_as_strong_as_it_pays() -> None:
    random = np.random.default_rng(0)
    spread = np.exp2(random.integers(-4, 3, 16))
    even = ChannelStatistics(np.ones(16), np.ones(16) / 3)
    uneven = ChannelStatistics(spread, spread**2 / 3)
    kernel = random.normal(size=(3, 3, 16, 1)) / spread[:, None]
    assert best_strength("DepthwiseConv2D", kernel, spread, uneven) == 1
    assert best_strength("DepthwiseConv2D", kernel * spread[:, None], spread, even) == 0
