"""Random weights of measuring networks: equal in all formats."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SCALE = 0.02
SCALE_VARIATION = 0.3  # of the logarithm: of filters, and of tensors between layers


def weights(
    seed: int, shape: tuple[int, ...], k: int, *, quantized: bool
) -> NDArray[np.float32] | NDArray[np.int8]:
    """Weights of a layer that sums `k` products: int8 over their range, or normal floats."""
    generator = np.random.default_rng(seed)
    if quantized:
        return generator.integers(-127, 128, shape, np.int8)
    return generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / k))


def weight_scales(seed: int, filters: int, k: int) -> NDArray[np.float32]:
    """Steps of the weights of each filter: OpenVINO takes one for all where they are equal."""
    spread = np.random.default_rng(seed).uniform(-SCALE_VARIATION, SCALE_VARIATION, filters)
    return (_SCALE / math.sqrt(k) * np.exp(spread)).astype(np.float32)


def biases(seed: int, channels: int) -> NDArray[np.float32]:
    """Small floats, one a filter."""
    return np.random.default_rng(seed).standard_normal(channels, np.float32) / np.float32(10)


def integer_biases(
    values: NDArray[np.float32], scale: float | NDArray[np.float32]
) -> NDArray[np.int32]:
    """Biases in steps of `scale`, none of them zero: OpenVINO drops a sum with zeros."""
    steps = np.rint(values / scale).astype(np.int32)
    return np.where(steps == 0, np.int32(1), steps)
