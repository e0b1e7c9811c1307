"""Interpolation in a table of kernels: a Gaussian process of logarithms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
# Of the prior variance: rounding in the table, and rows that are all but one.
_NUGGET = 1e-3


def covariance(
    left: _Array, right: _Array, *, length: float, offset: float, spread: float
) -> _Array:
    """Prior covariance of log factors of one kernel.

    offset^2 + spread^2 (1 + sqrt(3) r) exp(-sqrt(3) r), r the distance over `length`: a constant
    and a Matern 3/2 covariance (Rasmussen and Williams 2006, equation 4.17).

    Args:
        left: coordinates of shape (a, features).
        right: coordinates of shape (b, features).
        length: correlation length.
        offset: standard deviation of the kernel as a whole.
        spread: standard deviation of what depends on the shape.

    Returns:
        Of shape (a, b).
    """
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
    scaled = math.sqrt(3) / length * np.sqrt(np.maximum(squares, 0.0))
    matern: _Array = offset**2 + spread**2 * (1 + scaled) * np.exp(-scaled)
    return matern


def interpolate(
    points: _Array, values: _Array, queries: _Array, *, length: float, offset: float, spread: float
) -> tuple[_Array, _Array]:
    """Log factors at `queries`, given those at `points`.

    Args:
        points: coordinates of shape (n, features).
        values: log factors of shape (n,).
        queries: coordinates of shape (q, features).
        length: see `covariance`.
        offset: see `covariance`.
        spread: see `covariance`.

    Returns:
        The posterior mean and standard deviation, each of shape (q,).
    """
    own = covariance(points, points, length=length, offset=offset, spread=spread)
    total = offset**2 + spread**2
    own[np.diag_indices_from(own)] += _NUGGET * total
    cross = covariance(queries, points, length=length, offset=offset, spread=spread)
    solved = np.linalg.solve(own, np.column_stack([values, cross.T]))
    variance = total - (cross * solved[:, 1:].T).sum(axis=1)
    return cross @ solved[:, 0], np.sqrt(np.maximum(variance, 0.0))
