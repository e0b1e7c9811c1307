"""Masks: which weights stay zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.kernels import Kernel

if TYPE_CHECKING:
    import keras


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
        self._masks: list[Any] = []

    def choose(self, sparsities: Sequence[float]) -> None:
        """Masks the smallest weights of each kernel, to the sparsity of each."""
        pairs = zip(self._kernels, sparsities, strict=True)
        self._keep([magnitude_mask(kernel.values, sparsity) for kernel, sparsity in pairs])

    def keep_zeros(self) -> None:
        """Masks the weights that are zero now."""
        self._keep([kernel.values != 0 for kernel in self._kernels])

    def _keep(self, masks: Sequence[NDArray[np.bool_]]) -> None:
        ops = require("keras", purpose="to compress models").ops
        self._masks = [
            ops.convert_to_tensor(mask, dtype=kernel.variable.dtype)
            for kernel, mask in zip(self._kernels, masks, strict=True)
        ]
        self.apply()

    def apply(self) -> None:
        """Sets the masked weights to zero."""
        for kernel, mask in zip(self._kernels, self._masks, strict=False):
            kernel.variable.assign(kernel.variable * mask)

    def callback(self) -> keras.callbacks.Callback:
        """A Keras callback that applies the masks after each training step."""
        callbacks = require("keras", purpose="to compress models").callbacks
        return callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self.apply()  # noqa: ARG005
        )


def pruned(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The kernels with some, but not only, zeros: those that a pass before has pruned."""
    return [kernel for kernel in kernels if 0 < np.count_nonzero(kernel.values) < kernel.size]
