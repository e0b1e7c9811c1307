"""What the sources share that make their samples themselves: size, seed, difficulty, balance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.errors import DataError
from edgekit.data.raw import SourceOptions

Floats = NDArray[np.float32]

_CHUNK = 128
_MOST_VALUES = 1 << 31


class ProceduralOptions(SourceOptions):
    """Options of every source that makes its samples.

    Attributes:
        samples: how many.
        seed: the same options give the same samples.
        difficulty: factor on all that hides the class: noise, clutter, distortion; 0 is none.
    """

    samples: int = Field(4000, ge=20, le=200_000)
    seed: int = Field(0, ge=0, lt=2**31)
    difficulty: float = Field(1.0, ge=0, le=2)


def balanced_classes(samples: int, classes: int, generator: np.random.Generator) -> NDArray[Any]:
    """Classes as int32 (samples,) in random order, each as often as the others to within one."""
    return generator.permutation(np.arange(samples, dtype=np.int32) % classes)


def uniform(generator: np.random.Generator, low: float, high: float, *shape: int) -> Floats:
    """Uniform float32 values."""
    return low + (high - low) * generator.random(shape, np.float32)


def chunks(samples: int, values: int, where: str) -> Iterator[slice]:
    """Slices of all samples, small enough for the cache.

    Args:
        samples: how many there are.
        values: numbers that one sample holds.
        where: for messages.

    Raises:
        DataError: all samples together would not fit in memory.
    """
    if samples * values > _MOST_VALUES:
        raise DataError(
            f"{samples} samples of {values} values are too many", where=where,
            hint="fewer or smaller samples",
        )  # fmt: skip
    return (slice(start, min(start + _CHUNK, samples)) for start in range(0, samples, _CHUNK))


def pixel_places(size: int) -> Floats:
    """Centres of a row's pixels as shares of its length, from the middle: -0.5 to 0.5."""
    return np.asarray((np.arange(size) + 0.5) / size - 0.5, np.float32)


def smooth_fields(generator: np.random.Generator, shape: tuple[int, ...], size: int) -> Floats:
    """Random fields without fine detail.

    Args:
        generator: of the values.
        shape: (n, channels, k, k): k random values a side, of mean 0 and deviation 1.
        size: side of the square fields that these are interpolated to, linearly.

    Returns:
        float32 (n, channels, size, size).
    """
    knots = shape[-1]
    place = np.linspace(0, knots - 1, size, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(knots, dtype=np.float32)))
    field: Floats = weights @ generator.standard_normal(shape, np.float32) @ weights.T
    return field
