"""Scales of a Gaussian process: those with the largest evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    """One kernel's prior: the correlation length of each feature, and the spread."""

    lengths: tuple[float, ...]
    spread: float


def best_scales(
    slopes: Sequence[_Array],
    points: Sequence[_Array],
    wanted: _Array,
    own_noise: _Array,
    first: Sequence[Scale],
    noise: float,
    *,
    offset: float,
) -> tuple[list[Scale], float]:
    """Scales that make observations most probable, found with gradients.

    Observations are sums over kernels of slopes times values; each kernel's values have the
    covariance of `edgekit.profiling.kernels.interpolation`. The evidence and its gradient are
    equations 5.8 and 5.9 of Rasmussen and Williams 2006.

    Args:
        slopes: of each kernel, of shape (observations, shapes).
        points: coordinates of each kernel's shapes, of shape (shapes, features).
        wanted: the observations.
        own_noise: standard deviation of each observation, beside the common one.
        first: scales to begin with.
        noise: common standard deviation to begin with.
        offset: standard deviation of each kernel as a whole.

    Returns:
        The scales of each kernel, and the common noise.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    minimize = require("scipy.optimize", purpose="to fit kernels").minimize
    start = [value for one in first for value in (*one.lengths, one.spread)] + [noise]
    names = [name for one in first for name in (*("length" for _ in one.lengths), "spread")]
    names.append("noise")
    mean, width = np.array([_BEFORE[name] for name in names]).T

    def cost(logs: _Array) -> tuple[float, _Array]:
        pull = (logs - mean) / width
        value, gradient = evidence(logs, slopes, points, wanted, own_noise, offset=offset)
        return 0.5 * float(pull @ pull) - value, pull / width - gradient

    bounds = [tuple(map(math.log, _BOUNDS[name])) for name in names]
    found = minimize(cost, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds,
                     options={"maxiter": _ROUNDS})  # fmt: skip
    *own, last = _split(np.exp(found.x), points)
    return [Scale(tuple(map(float, one[:-1])), float(one[-1])) for one in own], float(last[0])


def _split(values: _Array, points: Sequence[_Array]) -> list[_Array]:
    """Values of each kernel, lengths and spread, and the noise."""
    return np.split(values, np.cumsum([one.shape[1] + 1 for one in points]))


def evidence(
    logs: _Array,
    slopes: Sequence[_Array],
    points: Sequence[_Array],
    wanted: _Array,
    own_noise: _Array,
    *,
    offset: float,
) -> tuple[float, _Array]:
    """Logarithm of the evidence but for a constant, and its slopes.

    Args:
        logs: logarithms of each kernel's lengths and spread, and of the noise.
        slopes: see `best_scales`.
        points: see `best_scales`.
        wanted: see `best_scales`.
        own_noise: see `best_scales`.
        offset: see `best_scales`.

    Returns:
        The value, and its derivative by each of `logs`.
    """
    *own, (noise,) = _split(np.exp(logs), points)
    total = np.diag(noise**2 + own_noise**2)
    parts = []
    for scale, used, point in zip(own, slopes, points, strict=True):
        columns = (point / scale[:-1]).T
        squares = (columns[:, :, None] - columns[:, None, :]) ** 2
        scaled = math.sqrt(3) * np.sqrt(squares.sum(axis=0))
        decay = scale[-1] ** 2 * np.exp(-scaled)
        matern = (1 + scaled) * decay
        total += used @ (matern + offset**2) @ used.T
        parts.append((squares, decay, matern))
    inverse = np.linalg.inv(total)
    solved = inverse @ wanted
    _, determinant = np.linalg.slogdet(total)
    pull = np.outer(solved, solved) - inverse
    gradient: list[float] = []
    for (squares, decay, matern), used in zip(parts, slopes, strict=True):
        weight = used.T @ pull @ used
        gradient += list(1.5 * np.tensordot(squares, weight * decay, axes=2))
        gradient.append(float((weight * matern).sum()))
    gradient.append(float(noise**2 * np.trace(pull)))
    return -0.5 * float(wanted @ solved + determinant), np.array(gradient)
