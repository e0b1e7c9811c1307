"""Masks: which weights become zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.compress.kernels import Kernel

Pattern = Literal["unstructured", "2:4", "1:4", "block_1x4"]
Mask = NDArray[np.bool_]

GROUPS: dict[Pattern, tuple[int, int]] = {"2:4": (2, 4), "1:4": (1, 4)}  # N of M may be non-zero
_BLOCK = 4


def zeros_asked(size: int, sparsity: float) -> int:
    """How many of `size` weights a sparsity (0 to 1) makes zero."""
    return round(size * sparsity)


def magnitude_mask(values: NDArray[Any], sparsity: float) -> Mask:
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


def group_mask(values: NDArray[Any], n: int, m: int, axis: int) -> Mask:
    """True for the `n` largest magnitudes of every `m` weights in a row along an axis.

    The last group of an axis that `m` does not divide is smaller and keeps `n` as well.
    """
    groups = _grouped(np.abs(values), m, axis, fill=-1.0)
    ranks = np.argsort(np.argsort(-groups, axis=-1, kind="stable"), axis=-1)
    return _ungrouped(ranks < n, values.shape, axis)


def block_mask(values: NDArray[Any], sparsity: float, axis: int) -> Mask:
    """False for whole blocks of four along an axis, those of the smallest mean magnitude.

    As few blocks go as make at least `zeros_asked` weights zero; the last block of an axis that
    four does not divide is smaller.
    """
    blocks = _grouped(np.abs(values), _BLOCK, axis, fill=np.nan)
    sizes = np.count_nonzero(~np.isnan(blocks), axis=-1)
    order = np.argsort(np.nanmean(blocks, axis=-1), axis=None, kind="stable")
    zeros = np.concatenate([[0], np.cumsum(sizes.ravel()[order])])
    mask = np.ones(order.size, np.bool_)
    mask[order[: int(np.searchsorted(zeros, zeros_asked(values.size, sparsity)))]] = False
    return _ungrouped(
        np.broadcast_to(mask.reshape(sizes.shape)[..., None], blocks.shape), values.shape, axis
    )


def pattern_mask(kernel: Kernel, values: NDArray[Any], sparsity: float, pattern: Pattern) -> Mask:
    """The mask of one kernel for a sparsity.

    For N:M, a sparsity below that of the pattern removes the smallest of those weights that the
    pattern removes, so that a schedule can end in it.

    Args:
        kernel: for its axes.
        values: its weights.
        sparsity: share of weights to remove, 0 to 1.
        pattern: that the removed weights form; `pattern_reason` is None.
    """
    if pattern in GROUPS and kernel.inputs is not None:
        n, m = GROUPS[pattern]
        mask = group_mask(values, n, m, kernel.inputs)
        removed = np.where(mask, np.inf, np.abs(values))
        share = min(1.0, sparsity / (1 - n / m))
        order = np.argsort(removed, axis=None, kind="stable")
        now = np.ones(values.size, np.bool_)
        now[order[: round(share * np.count_nonzero(~mask))]] = False
        return now.reshape(values.shape)
    if pattern == "block_1x4":
        return block_mask(values, sparsity, kernel.channels[-1])
    return magnitude_mask(values, sparsity)


def holds(kernel: Kernel, pattern: Pattern) -> bool:
    """Whether no group of a kernel has more weights than an N:M pattern allows."""
    if pattern not in GROUPS or kernel.inputs is None:
        return True
    n, m = GROUPS[pattern]
    groups = _grouped(kernel.values != 0, m, kernel.inputs, fill=False)
    return bool(np.all(np.count_nonzero(groups, axis=-1) <= n))


def pattern_reason(kernel: Kernel, pattern: Pattern) -> str | None:
    """Why a kernel cannot have a pattern, or None if it can."""
    if pattern == "unstructured":
        return None
    if kernel.inputs is None:
        return "each of its channels has one input only"
    if pattern in GROUPS:
        m, inputs = GROUPS[pattern][1], kernel.variable.shape[kernel.inputs]
        return None if inputs >= m else f"it has {inputs} inputs, fewer than a group of {m}"
    channels = kernel.variable.shape[kernel.channels[-1]]
    if channels < _BLOCK:
        return f"it has {channels} output channels, fewer than a block of {_BLOCK}"
    return None


def _grouped(values: NDArray[Any], size: int, axis: int, fill: Any) -> NDArray[Any]:
    """Groups of `size` along an axis as a new last axis; the last group is filled up."""
    moved = np.moveaxis(values, axis, -1)
    missing = -moved.shape[-1] % size
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, missing)], constant_values=fill)
    return padded.reshape(*moved.shape[:-1], -1, size)


def _ungrouped(groups: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """What `_grouped` has grouped, without what it has filled up."""
    length = shape[axis]
    flat = groups.reshape(*groups.shape[:-2], math.prod(groups.shape[-2:]))
    return np.moveaxis(flat[..., :length], -1, axis)


class Masks:
    """Masks of some kernels, applied to their weights."""

    def __init__(self, kernels: Sequence[Kernel], pattern: Pattern = "unstructured") -> None:
        self._kernels = tuple(kernels)
        self._pattern: Pattern = pattern

    def choose(self, sparsities: Sequence[float]) -> None:
        """Sets the smallest weights of each kernel to zero, to the sparsity of each."""
        for kernel, sparsity in zip(self._kernels, sparsities, strict=True):
            values = kernel.values
            mask = pattern_mask(kernel, values, sparsity, self._pattern)
            kernel.variable.assign(values * mask)
