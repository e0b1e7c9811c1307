"""Masks: which weights stay zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compress.kernels import Kernel


def zeros_asked(size: int, sparsity: float) -> int:
    """How many of `size` weights a sparsity (0 to 1) makes zero."""
    return round(size * sparsity)


def magnitude_mask(values: NDArray[Any], sparsity: float) -> NDArray[np.bool_]:
    """False for the `zeros_asked` weights of smallest magnitude, True for the rest.

    Among equal magnitudes the first in memory order go first, so that the number is exact.

    Args:
        values: weights of any shape.
        sparsity: share of weights to remove, 0 to 1.
    """
    mask = np.ones(values.size, np.bool_)
    order = np.argsort(np.abs(values), axis=None, kind="stable")
    mask[order[: zeros_asked(values.size, sparsity)]] = False
    return mask.reshape(values.shape)


class Masks:
    """Masks of some kernels, applied to their weights."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = tuple(kernels)

    def choose(self, sparsities: Sequence[float]) -> None:
        """Sets the smallest weights of each kernel to zero, to the sparsity of each."""
        for kernel, sparsity in zip(self._kernels, sparsities, strict=True):
            values = kernel.values
            kernel.variable.assign(values * magnitude_mask(values, sparsity))
