"""Non-negative least squares (Lawson and Hanson 1974), with and without outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

_ROBUST_ROUNDS = 15


def non_negative(
    matrix: NDArray[np.float64],
    wanted: NDArray[np.float64],
    *,
    robust: bool = False,
    small_error: float = 0.02,
) -> NDArray[np.float64]:
    """Non-negative coefficients with the least squared error.

    A robust fit reweights towards the least absolute error, so that rows which no model of the
    others explains do not bend it (iteratively reweighted least squares; Huber 1964).

    Args:
        matrix: a row an equation.
        wanted: by row.
        robust: whether to reweight.
        small_error: errors below it are squared in a robust fit, too.
    """
    optimize = require("scipy.optimize", purpose="to fit a target")
    scale = np.maximum(np.abs(matrix).max(axis=0), 1e-300)
    weights = np.ones(len(wanted))
    solution = np.zeros(matrix.shape[1])
    for _ in range(_ROBUST_ROUNDS if robust else 1):
        solution = optimize.nnls(
            matrix / scale * weights[:, None], wanted * weights, maxiter=100 * len(scale)
        )[0]
        errors = np.abs(matrix / scale @ solution - wanted)
        weights = 1 / np.sqrt(np.maximum(errors, small_error))
    return np.asarray(solution / scale, dtype=np.float64)
