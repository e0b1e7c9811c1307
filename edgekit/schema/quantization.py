"""Affine quantization: real = scale * (integer - zero_point).

Follows the TensorFlow Lite 8-bit quantization specification; rounding is half away from zero in
that specification's kernels and half to even in NumPy, which differ on exact ties only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantization:
    """Parameters of one tensor.

    Attributes:
        scale: one number, or one a channel.
        zero_point: as many as `scale`.
        axis: the channel axis for per-channel parameters, else None.

    Raises:
        ValueError: there is no scale, not one zero point a scale, or no axis for several scales.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if not self.scale or len(self.scale) != len(self.zero_point):
            raise ValueError(
                f"{len(self.scale)} scales and {len(self.zero_point)} zero points do not match"
            )
        if self.per_channel and self.axis is None:
            raise ValueError(f"{len(self.scale)} scales need a channel axis")

    @property
    def per_channel(self) -> bool:
        """Whether each channel has its own parameters."""
        return len(self.scale) > 1

    def quantize(self, real: NDArray[Any], dtype: str) -> NDArray[Any]:
        """Rounds and saturates float values, any shape, to integers of `dtype`."""
        limits = np.iinfo(dtype)
        scale, zero_point = self._broadcast(real.ndim)
        integers = np.round(np.asarray(real, np.float64) / scale) + zero_point
        return np.clip(integers, limits.min, limits.max).astype(dtype)

    def dequantize(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        """The float32 values that integers of any shape stand for."""
        scale, zero_point = self._broadcast(integers.ndim)
        return ((integers.astype(np.float64) - zero_point) * scale).astype(np.float32)

    def _broadcast(self, rank: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        shape = [1] * rank
        if self.per_channel and self.axis is not None:
            shape[self.axis] = len(self.scale)
        return (
            np.array(self.scale, np.float64).reshape(shape),
            np.array(self.zero_point, np.int64).reshape(shape),
        )
