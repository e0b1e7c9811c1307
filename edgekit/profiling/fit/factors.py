"""Factors on linear costs, found from latencies of whole networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.profiling.fit.evidence import Scale, best_scale
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.kernels.interpolation import covariance
from edgekit.profiling.kernels.shapes import FEATURE_VERSION, KernelShape, logarithms
from edgekit.schema.kernels import KernelRows, KernelTable

_Array = NDArray[np.float64]
_Rows = Any  # a sparse matrix of SciPy's: a time is the sum of few of all kernels
_ROUNDS = 40
_SETTLED = 1e-3
_LEAST_SHARE = 1e-2  # of a step
_HUGE = 50.0  # no factor is larger than its exponential
_TAILS = 4.0  # degrees of freedom of noise: some measurements are far off
_LENGTH, _SPREAD = 3.0, 0.5  # to begin with
_OFFSET = 2.0
_MAIN = 0.7  # of a time is in one kernel: it tells that kernel's factor
_MOST_ROWS = 300  # of a kernel, in the table


Scales = Mapping[str, Scale]
"""What the table's prior is made of: lengths, spread and noise by kernel."""


@dataclass(frozen=True)
class Row:
    """One measured time as a sum.

    Attributes:
        kernels: and their linear costs in seconds.
        seconds: measured.
        uncertainty: relative, of `seconds`.
        fixed: seconds that are in it whatever the kernels take.
    """

    kernels: Sequence[tuple[KernelShape, float]]
    seconds: float
    uncertainty: float = 0.0
    fixed: float = 0.0


class Problem:
    """Times as sums over distinct kernel shapes.

    Args:
        rows: what was measured.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._sparse = require("scipy.sparse", purpose="to fit kernels")
        self._linalg = require("scipy.linalg", purpose="to fit kernels")
        columns: dict[KernelShape, int] = {}
        entries: list[tuple[int, int, float]] = []
        for number, row in enumerate(rows):
            for shape, seconds in row.kernels:
                key = _rounded_shape(shape)
                entries.append((number, columns.setdefault(key, len(columns)), seconds))
        self._shapes = sorted(columns, key=lambda shape: (shape.kernel, shape.features))
        place = {columns[shape]: new for new, shape in enumerate(self._shapes)}
        kernels = [shape.kernel for shape in self._shapes]
        edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(kernels)) if a != b), len(kernels)]
        self._blocks = list(pairwise(edges)) if kernels else []
        self._kernels = [kernels[start] for start, _ in self._blocks]
        self._points = [
            np.array([logarithms(one) for one in self._shapes[start:end]])
            for start, end in self._blocks
        ]
        self._fixed = np.array([row.fixed for row in rows])
        self._measured = np.log([row.seconds for row in rows])
        self._own_noise = np.array([row.uncertainty for row in rows])
        self._tails = np.ones(len(rows))
        sizes = [end - start for start, end in self._blocks]
        numbers = np.repeat(np.arange(len(sizes)), sizes)  # of the kernel of each shape
        self._membership = self._sparse.csr_array(np.eye(len(sizes))[numbers])
        lines, columns_of, seconds_of = zip(*entries, strict=True)
        linear = self._sparse.coo_array(
            (seconds_of, (lines, [place[column] for column in columns_of])),
            shape=(len(rows), len(self._shapes)),
        ).tocsr()
        by_kernel = self._by_kernel(linear)
        rest = by_kernel.sum(axis=1) + self._fixed
        self._typical = [self._typical_factor(own, rest - own) for own in by_kernel.T]
        self._linear = linear @ self._sparse.diags_array(np.array(self._typical)[numbers])
        self._main = np.argmax(self._by_kernel(self._linear), axis=1)

    def _typical_factor(self, own: _Array, rest: _Array) -> float:
        """What the networks that a kernel dominates say of it; 1 if there is none."""
        main = (own > _MAIN * (own + rest)) & (np.exp(self._measured) > rest)
        if not main.any():
            return 1.0
        return rounded(float(np.median((np.exp(self._measured[main]) - rest[main]) / own[main])))

    def _by_kernel(self, rows: _Rows) -> _Array:
        """Sums over the shapes of each kernel."""
        sums: _Array = (rows @ self._membership).toarray()
        return sums

    def first_scales(self) -> Scales:
        """Scales to begin with."""
        return {
            kernel: Scale((_LENGTH,) * points.shape[1], _SPREAD)
            for kernel, points in zip(self._kernels, self._points, strict=True)
        }

    def solve(self, scales: Scales) -> _Array:
        """The most probable logarithms of the factors, over what is typical."""
        prior = self._prior(scales)
        noise = self._tails * self._variances(scales)
        logs, pulls = np.zeros(len(self._shapes)), np.zeros(len(self._shapes))
        cost = self._cost(logs, pulls, noise)
        for _ in range(_ROUNDS):
            slopes, wanted = self._linearized(logs)
            noisy = slopes @ (slopes @ prior).toarray().T
            noisy[np.diag_indices_from(noisy)] += noise
            new_pulls = slopes.T @ self._linalg.solve(noisy, wanted, assume_a="pos")
            new = prior @ new_pulls
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

    def doubt(self, scales: Scales, logs: _Array) -> None:
        """Takes rows that are far off less seriously: noise of Student's t distribution."""
        total = self._linear @ np.exp(logs) + self._fixed
        off = (self._measured - np.log(total)) ** 2 / self._variances(scales)
        self._tails = (_TAILS + off) / (_TAILS + 1)

    def better_scales(self, scales: Scales, logs: _Array) -> Scales:
        """Scales with a larger evidence where times are linear in the logarithms.

        Each kernel's are found from the times that are mostly its own, with those of the others as
        they are.
        """
        slopes, wanted = self._linearized(logs)
        shares = self._by_kernel(slopes)
        better = dict(scales)
        for number, (kernel, (start, end)) in enumerate(
            zip(self._kernels, self._blocks, strict=True)
        ):
            rows = shares[:, number] > _MAIN
            if not rows.any():
                continue
            own = slopes[rows][:, start:end].toarray()
            others = slopes[rows] @ logs - own @ logs[start:end]
            known = self._tails[rows] * self._variances(scales)[rows]
            own_noise = np.sqrt(np.maximum(0.0, known - self._common(scales)[rows]))
            used = np.abs(own).max(axis=0) > 0
            better[kernel] = best_scale(
                own[:, used],
                self._points[number][used],
                wanted[rows] - others,
                own_noise,
                scales[kernel],
                offset=_OFFSET,
            )
        return better

    def _variances(self, scales: Scales) -> _Array:
        """Of the logarithms of the measured times."""
        variances: _Array = self._common(scales) + self._own_noise**2
        return variances

    def _common(self, scales: Scales) -> _Array:
        """What all rows of a kernel have of them."""
        noises = np.array([scale.noise for _, scale in self._scaled(scales)])
        common: _Array = noises[self._main] ** 2
        return common

    def _prior(self, scales: Scales) -> _Rows:
        """Covariances of the logarithms of all factors; kernels are independent."""
        blocks = [
            covariance(points, points, lengths=scale.lengths, offset=_OFFSET, spread=scale.spread)
            for points, scale in self._scaled(scales)
        ]
        return self._sparse.block_diag(blocks, format="csr")

    def _scaled(self, scales: Scales) -> list[tuple[_Array, Scale]]:
        plain = self.first_scales()
        return [
            (points, scales.get(kernel, plain[kernel]))
            for kernel, points in zip(self._kernels, self._points, strict=True)
        ]

    def _linearized(self, logs: _Array) -> tuple[_Rows, _Array]:
        """Slopes of the logarithms of latencies, and what slopes times logarithms should be."""
        times = np.exp(logs)
        total = self._linear @ times + self._fixed
        diagonal = self._sparse.diags_array
        slopes = diagonal(1 / total) @ self._linear @ diagonal(times)
        return slopes, self._measured - np.log(total) + slopes @ logs

    def _cost(self, logs: _Array, pulls: _Array, noise: _Array) -> float:
        """Negative logarithm of the posterior; `pulls` are the inverse prior times `logs`."""
        total = self._linear @ np.exp(np.minimum(logs, _HUGE)) + self._fixed
        off = self._measured - np.log(total)
        return float((off**2 / noise).sum() + logs @ pulls) / 2

    def table(self, logs: _Array, scales: Scales) -> KernelTable:
        """The table of a solution."""
        found = {}
        blocks = zip(self._blocks, self._kernels, self._typical, self._scaled(scales), strict=True)
        for (start, _), kernel, typical, (points, scale) in blocks:
            kept = start + np.array(far_apart(points / np.array(scale.lengths), _MOST_ROWS))
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
        return KernelTable(feature_version=FEATURE_VERSION, offset=_OFFSET, kernels=found)


def far_apart(points: _Array, most: int) -> list[int]:
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
