"""Random weights and scales of measuring networks: equal in all formats."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ACTIVATION_SCALE = 0.05
WEIGHT_SCALE = 0.02
FIXED_SCALES = {  # that TFLite demands of these operators: scale, zero point
    "logistic": (1 / 256, -128),
    "softmax": (1 / 256, -128),
    "tanh": (1 / 128, 0),
}


def weights(
    seed: int, shape: tuple[int, ...], k: int, *, quantized: bool
) -> NDArray[np.float32] | NDArray[np.int8]:
    """Weights of a layer that sums `k` products: int8 over their range, or normal floats."""
    generator = np.random.default_rng(seed)
    if quantized:
        return generator.integers(-127, 128, shape, np.int8)
    return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / k))


def biases(seed: int, channels: int) -> NDArray[np.float32]:
    """Small floats, one a filter."""
    return np.random.default_rng(seed).standard_normal(channels, np.float32) / np.float32(10)
