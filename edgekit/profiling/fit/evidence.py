"""Scales of a Gaussian process: those with the largest evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

_Array = NDArray[np.float64]
_BOUNDS = {"length": (0.3, 60.0), "spread": (0.03, 3.0), "noise": (0.01, 0.2)}
# Most probable value and width, as logarithms, of what is known before: hardly anything.
_BEFORE = {"length": (math.log(4.0), 1.0), "spread": (math.log(0.5), 1.0),
           "noise": (math.log(0.04), 1.0)}  # fmt: skip
_ROUNDS = 30


@dataclass(frozen=True)
class Scale:
    """One kernel's prior.

    Attributes:
        lengths: correlation length of each feature.
        spread: standard deviation of what depends on the shape.
        noise: relative, of a time that is mostly this kernel's.
    """

    lengths: tuple[float, ...]
    spread: float
    noise: float = 0.03


def best_scale(
    slopes: _Array,
    points: _Array,
    wanted: _Array,
    own_noise: _Array,
    first: Scale,
    *,
    offset: float,
) -> Scale:
    """The scale of a kernel that makes observations most probable, found with gradients.

    Observations are slopes times values; the values have the covariance of
    `edgekit.profiling.kernels.interpolation`. The evidence and its gradient are equations 5.8 and
    5.9 of Rasmussen and Williams 2006.

    Args:
        slopes: of shape (observations, shapes).
        points: coordinates of the shapes, of shape (shapes, features).
        wanted: the observations.
        own_noise: standard deviation of each observation, beside the common one.
        first: to begin with.
        offset: standard deviation of the kernel as a whole.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    minimize = require("scipy.optimize", purpose="to fit kernels").minimize
    names = [*("length" for _ in first.lengths), "spread", "noise"]
    mean, width = np.array([_BEFORE[name] for name in names]).T

    def cost(logs: _Array) -> tuple[float, _Array]:
        pull = (logs - mean) / width
        value, gradient = evidence(logs, slopes, points, wanted, own_noise, offset=offset)
        return 0.5 * float(pull @ pull) - value, pull / width - gradient

    bounds = [tuple(map(math.log, _BOUNDS[name])) for name in names]
    start = np.log([*first.lengths, first.spread, first.noise])
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds,
                     options={"maxiter": _ROUNDS})  # fmt: skip
    *lengths, spread, noise = map(float, np.exp(found.x))
    return Scale(tuple(lengths), spread, noise)


def evidence(
    logs: _Array,
    slopes: _Array,
    points: _Array,
    wanted: _Array,
    own_noise: _Array,
    *,
    offset: float,
) -> tuple[float, _Array]:
    """Logarithm of the evidence but for a constant, and its slopes.

    Args:
        logs: logarithms of the lengths, of the spread, and of the noise.
        slopes: see `best_scale`.
        points: see `best_scale`.
        wanted: see `best_scale`.
        own_noise: see `best_scale`.
        offset: see `best_scale`.

    Returns:
        The value, and its derivative by each of `logs`.
    """
    *lengths, spread, noise = np.exp(logs)
    columns = (points / np.array(lengths)).T
    squares = (columns[:, :, None] - columns[:, None, :]) ** 2
    scaled = math.sqrt(3) * np.sqrt(squares.sum(axis=0))
    decay = spread**2 * np.exp(-scaled)
    matern = (1 + scaled) * decay
    total = np.diag(noise**2 + own_noise**2) + slopes @ (matern + offset**2) @ slopes.T
    inverse = np.linalg.inv(total)
    solved = inverse @ wanted
    _, determinant = np.linalg.slogdet(total)
    pull = np.outer(solved, solved) - inverse
    weight = slopes.T @ pull @ slopes
    gradient = [
        *(1.5 * np.tensordot(squares, weight * decay, axes=2)),
        (weight * matern).sum(),
        noise**2 * np.trace(pull),
    ]
    return -0.5 * float(wanted @ solved + determinant), np.array(gradient)
