"""Factors on linear costs, found from latencies of whole networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgekit.profiling.fit.evidence import Scale, best_scales
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.kernels.interpolation import covariance
from edgekit.profiling.kernels.shapes import KernelShape, logarithms
from edgekit.schema.kernels import KernelRows, KernelTable

_Array = NDArray[np.float64]
_ROUNDS = 40
_SETTLED = 1e-3
_LEAST_SHARE = 1e-2  # of a step
_HUGE = 50.0  # no factor is larger than its exponential
_NOISE = 0.03  # relative, of a latency, to begin with
_LENGTH, _SPREAD = 3.0, 0.5  # to begin with
_OFFSET = 2.0
_MAIN = 0.7  # of a network's time is in one kernel: its latency tells that kernel's factor
_MOST_ROWS = 128  # of a kernel, in the table


@dataclass(frozen=True)
class Scales:
    """What the table's prior is made of: lengths and spread by kernel, and the noise."""

    kernels: Mapping[str, Scale]
    noise: float = _NOISE


class Problem:
    """Latencies as sums over distinct kernel shapes.

    Args:
        parts: of each network the kernels and their linear costs in seconds.
        measured: latencies in seconds.
        uncertainties: relative, of the latencies.
        fixed: seconds that an inference costs at all.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[tuple[KernelShape, float]]],
        measured: Sequence[float],
        uncertainties: Sequence[float],
        fixed: float,
    ) -> None:
        columns: dict[KernelShape, int] = {}
        entries: list[tuple[int, int, float]] = []
        for row, operators in enumerate(parts):
            for shape, seconds in operators:
                key = _rounded_shape(shape)
                entries.append((row, columns.setdefault(key, len(columns)), seconds))
        self._shapes = sorted(columns, key=lambda shape: (shape.kernel, shape.features))
        place = {columns[shape]: new for new, shape in enumerate(self._shapes)}
        self._linear = np.zeros((len(parts), len(self._shapes)))
        for row, column, seconds in entries:
            self._linear[row, place[column]] += seconds
        kernels = [shape.kernel for shape in self._shapes]
        edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(kernels)) if a != b), len(kernels)]
        self._blocks = list(pairwise(edges)) if kernels else []
        self._kernels = [kernels[start] for start, _ in self._blocks]
        self._points = [
            np.array([logarithms(one) for one in self._shapes[start:end]])
            for start, end in self._blocks
        ]
        self._fixed = fixed
        self._measured = np.log(measured)
        self._own_noise = np.array(uncertainties)
        self._typical = [self._typical_factor(start, end) for start, end in self._blocks]
        for (start, end), factor in zip(self._blocks, self._typical, strict=True):
            self._linear[:, start:end] *= factor

    def _typical_factor(self, start: int, end: int) -> float:
        """What the networks that a kernel dominates say of it; 1 if there is none."""
        own = self._linear[:, start:end].sum(axis=1)
        rest = self._linear.sum(axis=1) - own + self._fixed
        main = (own > _MAIN * (own + rest)) & (np.exp(self._measured) > rest)
        if not main.any():
            return 1.0
        return rounded(float(np.median((np.exp(self._measured[main]) - rest[main]) / own[main])))

    def first_scales(self) -> Scales:
        """Scales to begin with."""
        return Scales(
            {
                kernel: Scale((_LENGTH,) * points.shape[1], _SPREAD)
                for kernel, points in zip(self._kernels, self._points, strict=True)
            }
        )

    def solve(self, scales: Scales) -> _Array:
        """The most probable logarithms of the factors, over what is typical."""
        prior = self._prior(scales)
        noise = scales.noise**2 + self._own_noise**2
        logs, pulls = np.zeros(len(self._shapes)), np.zeros(len(self._shapes))
        cost = self._cost(logs, pulls, noise)
        for _ in range(_ROUNDS):
            slopes, wanted = self._linearized(logs)
            noisy = self._spread_out(slopes, prior) @ slopes.T
            noisy[np.diag_indices_from(noisy)] += noise
            new_pulls = slopes.T @ np.linalg.solve(noisy, wanted)
            new = self._spread_out(new_pulls[None, :], prior)[0]
            share, before = 1.0, cost
            while share > _LEAST_SHARE:
                tried = logs + share * (new - logs), pulls + share * (new_pulls - pulls)
                cost = self._cost(*tried, noise)
                if cost < before:
                    logs, pulls = tried
                    break
                share /= 2
            if before - cost < _SETTLED * before:
                break
        return logs

    def better_scales(self, scales: Scales, logs: _Array) -> Scales:
        """Scales with a larger evidence where latencies are linear in the logarithms."""
        slopes, wanted = self._linearized(logs)
        used = [slopes[:, start:end] for start, end in self._blocks]
        first = [scales.kernels[kernel] for kernel in self._kernels]
        found, noise = best_scales(
            used, self._points, wanted, self._own_noise, first, scales.noise, offset=_OFFSET
        )
        return Scales(dict(zip(self._kernels, found, strict=True)), noise)

    def _prior(self, scales: Scales) -> list[_Array]:
        """Covariances of the logarithms of each kernel's factors; kernels are independent."""
        return [
            covariance(points, points, lengths=scale.lengths, offset=_OFFSET, spread=scale.spread)
            for points, scale in self._scaled(scales)
        ]

    def _scaled(self, scales: Scales) -> list[tuple[_Array, Scale]]:
        plain = self.first_scales()
        return [
            (points, scales.kernels.get(kernel, plain.kernels[kernel]))
            for kernel, points in zip(self._kernels, self._points, strict=True)
        ]

    def _linearized(self, logs: _Array) -> tuple[_Array, _Array]:
        """Slopes of the logarithms of latencies, and what slopes times logarithms should be."""
        parts = self._linear * np.exp(logs)
        total = parts.sum(axis=1) + self._fixed
        slopes = parts / total[:, None]
        return slopes, self._measured - np.log(total) + slopes @ logs

    def _spread_out(self, rows: _Array, prior: Sequence[_Array]) -> _Array:
        """Rows times the prior covariance."""
        parts = [
            rows[:, start:end] @ block
            for (start, end), block in zip(self._blocks, prior, strict=True)
        ]
        return np.hstack(parts)

    def _cost(self, logs: _Array, pulls: _Array, noise: _Array) -> float:
        """Negative logarithm of the posterior; `pulls` are the inverse prior times `logs`."""
        total = (self._linear * np.exp(np.minimum(logs, _HUGE))).sum(axis=1) + self._fixed
        off = self._measured - np.log(total)
        return float((off**2 / noise).sum() + logs @ pulls) / 2

    def table(self, logs: _Array, scales: Scales) -> KernelTable:
        """The table of a solution."""
        found = {}
        blocks = zip(self._blocks, self._kernels, self._typical, self._scaled(scales), strict=True)
        for (start, _), kernel, typical, (points, scale) in blocks:
            kept = start + np.array(_far_apart(points / np.array(scale.lengths), _MOST_ROWS))
            rows = (
                (*self._shapes[index].features, rounded(typical * math.exp(logs[index])))
                for index in kept
            )
            found[kernel] = KernelRows(
                typical=typical,
                lengths=tuple(map(rounded, scale.lengths)),
                spread=rounded(scale.spread),
                rows=tuple(rows),
            )
        return KernelTable(offset=_OFFSET, kernels=found)


def _far_apart(points: _Array, most: int) -> list[int]:
    """Indices of points each of which was the farthest from those before it, in their order."""
    chosen = [0]
    distances = ((points - points[0]) ** 2).sum(axis=1)
    while len(chosen) < min(most, len(points)) and distances.max() > 0:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


def _rounded_shape(shape: KernelShape) -> KernelShape:
    """As it is written in a table."""
    return KernelShape(shape.kernel, tuple(rounded(max(value, 1e-3)) for value in shape.features))
