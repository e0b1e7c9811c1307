"""Made-up samples, for a comparison where no real ones are given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.runtimes.session import Arrays
from edgekit.schema.artifact import TensorInfo

RANDOM_WITHIN_STEPS = 0.95
"""Share of random samples that must stay within the limit of steps: random inputs leave a
classifier undecided, where one step inside becomes several steps of its probabilities."""

_COARSE = 8  # elements between two independent values along an axis
_NOISE = 0.05  # of the range


def random_samples(infos: tuple[TensorInfo, ...], *, count: int = 200, seed: int = 0) -> Arrays:
    """Seeded random samples over the range of each input, by name.

    Inputs with neighbourhoods (images, spectrograms: three axes or more) get smooth fields with
    some noise, as real ones are; white noise would drive a network far from what it was made for.

    Args:
        infos: the inputs; free dimensions other than the batch are taken as 1.
        count: samples.
        seed: the same seed gives the same samples.

    Returns:
        float32 arrays over the real range of a quantized input, or over 0 to 1; integers 0 or 1
        for integer inputs, which are indices.
    """
    random = np.random.default_rng(seed)
    return {info.name: _values(info, count, random) for info in infos}


def _values(info: TensorInfo, count: int, random: np.random.Generator) -> NDArray[Any]:
    shape = tuple(size or 1 for size in info.shape[1:])
    if info.quantization is None and not np.issubdtype(info.dtype, np.floating):
        return random.integers(0, 2, (count, *shape)).astype(info.dtype)
    low, high = 0.0, 1.0
    if info.quantization is not None:
        limits = np.iinfo(info.dtype)
        ends = info.quantization.dequantize(np.array([limits.min, limits.max]))
        low, high = float(ends[0]), float(ends[1])
    unit = _smooth(shape, count, random) if len(shape) > 1 else random.random((count, *shape))
    return (low + (high - low) * unit).astype(np.float32)


def _smooth(shape: tuple[int, ...], count: int, random: np.random.Generator) -> NDArray[Any]:
    """Values from 0 to 1 that change slowly along all axes but the last, the channels."""
    coarse = tuple(math.ceil(size / _COARSE) + 1 for size in shape[:-1])
    field = random.random((count, *coarse, shape[-1]))
    for axis, size in enumerate(shape[:-1], start=1):
        place = np.linspace(0, field.shape[axis] - 1, size)
        left = np.minimum(place.astype(int), field.shape[axis] - 2)
        weight = (place - left).reshape([-1 if i == axis else 1 for i in range(field.ndim)])
        field = (1 - weight) * field.take(left, axis) + weight * field.take(left + 1, axis)
    return np.clip(field + _NOISE * random.standard_normal(field.shape), 0, 1)
