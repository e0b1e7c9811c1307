"""Interpolation in a table of kernels: a Gaussian process of logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
# Of the prior variance: rounding in the table, and rows that are all but one.
_NUGGET = 1e-3


def covariance(
    left: _Array, right: _Array, *, lengths: Sequence[float], offset: float, spread: float
) -> _Array:
    """Prior covariance of log factors of one kernel.

    offset^2 + spread^2 (1 + sqrt(3) r) exp(-sqrt(3) r), r the distance with each coordinate over
    its length: a constant and a Matern 3/2 covariance (Rasmussen and Williams 2006, equation 4.17)
    that finds out how much each feature matters (section 5.1).

    Args:
        left: coordinates of shape (a, features).
        right: coordinates of shape (b, features).
        lengths: correlation length of each feature.
        offset: standard deviation of the kernel as a whole.
        spread: standard deviation of what depends on the shape.

    Returns:
        Of shape (a, b).
    """
    over = np.asarray(lengths)
    left, right = left / over, right / over
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    scaled = math.sqrt(3) * np.sqrt(np.maximum(squares, 0.0))
    matern: _Array = offset**2 + spread**2 * (1 + scaled) * np.exp(-scaled)
    return matern


def interpolate(
    points: _Array,
    values: _Array,
    queries: _Array,
    *,
    lengths: Sequence[float],
    offset: float,
    spread: float,
) -> tuple[_Array, _Array]:
    """Log factors at `queries`, given those at `points`.

    Args:
        points: coordinates of shape (n, features).
        values: log factors of shape (n,).
        queries: coordinates of shape (q, features).
        lengths: see `covariance`.
        offset: see `covariance`.
        spread: see `covariance`.

    Returns:
        The posterior mean and standard deviation, each of shape (q,).
    """
    own = covariance(points, points, lengths=lengths, offset=offset, spread=spread)
    total = offset**2 + spread**2
    own[np.diag_indices_from(own)] += _NUGGET * total
    cross = covariance(queries, points, lengths=lengths, offset=offset, spread=spread)
    solved = np.linalg.solve(own, np.column_stack([values, cross.T]))
    variance = total - (cross * solved[:, 1:].T).sum(axis=1)
    return cross @ solved[:, 0], np.sqrt(np.maximum(variance, 0.0))
