"""Kernels as products of thin ones: truncated SVD and Tucker-2."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
Method = Literal["svd", "tucker"]
Ranks = tuple[int, ...]

_SWEEPS = 5  # of higher-order orthogonal iteration; more change the error by less than a percent
_ROUNDING = 1e-12  # share of the energy that is lost in float64 arithmetic


@dataclass(frozen=True)
class Places:
    """How often a layer uses its kernel for one sample: input and output positions."""

    inputs: int = 1
    outputs: int = 1


@dataclass(frozen=True)
class Factorization(ABC):
    """One way to write a kernel as a product.

    Attributes:
        kernel: of shape (..., inputs, outputs).
    """

    kernel: Values
    method: ClassVar[Method]

    @abstractmethod
    def ranks(self, energy: float) -> Ranks:
        """The smallest ranks that keep this share (0 to 1) of the sum of squared weights."""

    @abstractmethod
    def weights(self, ranks: Ranks) -> int:
        """How many weights the factors have."""

    @abstractmethod
    def macs(self, ranks: Ranks, places: Places) -> int:
        """Multiply-accumulate operations of the factors, one after the other."""

    @abstractmethod
    def factors(self, ranks: Ranks) -> list[Values]:
        """The kernels to apply one after the other, float64, in the layout of Keras."""


@dataclass(frozen=True)
class Svd(Factorization):
    """A dense or convolution kernel as one with few outputs, and a mixing of those.

    The kernel is taken as a matrix of (positions x inputs) by outputs (Zhang et al. 2016,
    arXiv 1505.06798); the two factors share the singular values evenly.
    """

    method: ClassVar[Method] = "svd"

    @cached_property
    def _parts(self) -> tuple[Values, Values, Values]:
        matrix = self.kernel.reshape(-1, self.kernel.shape[-1]).astype(np.float64)
        left, scale, right = np.linalg.svd(matrix, full_matrices=False)
        return left, scale, right

    def ranks(self, energy: float) -> Ranks:
        """See `Factorization`."""
        return (_rank(self._parts[1], 1 - energy),)

    def weights(self, ranks: Ranks) -> int:
        """See `Factorization`."""
        outputs = int(self.kernel.shape[-1])
        return ranks[0] * (int(self.kernel.size) // outputs + outputs)

    def macs(self, ranks: Ranks, places: Places) -> int:
        """See `Factorization`."""
        return places.outputs * self.weights(ranks)

    def factors(self, ranks: Ranks) -> list[Values]:
        """See `Factorization`."""
        (rank,) = ranks
        left, scale, right = self._parts
        root = np.sqrt(scale[:rank])
        *spatial, _, outputs = self.kernel.shape
        thin = (left[:, :rank] * root).reshape(*self.kernel.shape[:-1], rank)
        mixing = (root[:, None] * right[:rank]).reshape(*(1 for _ in spatial), rank, outputs)
        return [thin, mixing]


@dataclass(frozen=True)
class Tucker(Factorization):
    """A convolution kernel as 1x1, spatial and 1x1 ones (Kim et al. 2016, arXiv 1511.06530).

    Tucker-2 over the input and output channels, by the higher-order orthogonal iteration of De
    Lathauwer et al. 2000 from the truncated higher-order SVD.
    """

    method: ClassVar[Method] = "tucker"

    @cached_property
    def _tensor(self) -> Values:
        return self.kernel.reshape(-1, *self.kernel.shape[-2:]).astype(np.float64)

    @cached_property
    def _scales(self) -> list[Values]:
        return [_basis(self._tensor, axis)[1] for axis in (1, 2)]

    def ranks(self, energy: float) -> Ranks:
        """See `Factorization`."""
        # The squared error is at most the sum of what the two truncations lose.
        lost = (1 - energy) / 2
        return _rank(self._scales[0], lost), _rank(self._scales[1], lost)

    def weights(self, ranks: Ranks) -> int:
        """See `Factorization`."""
        before, core, after = self._sizes(ranks)
        return before + core + after

    def macs(self, ranks: Ranks, places: Places) -> int:
        """See `Factorization`."""
        before, core, after = self._sizes(ranks)
        return places.inputs * before + places.outputs * (core + after)

    def factors(self, ranks: Ranks) -> list[Values]:
        """See `Factorization`."""
        tensor = self._tensor
        into, out = (_basis(tensor, axis)[0][:, :r] for axis, r in zip((1, 2), ranks, strict=True))
        for _ in range(_SWEEPS):
            into = _basis(np.einsum("kio,or->kir", tensor, out), 1)[0][:, : ranks[0]]
            out = _basis(np.einsum("kio,ir->kro", tensor, into), 2)[0][:, : ranks[1]]
        core = np.einsum("kio,ir,os->krs", tensor, into, out)
        spatial = self.kernel.shape[:-2]
        ones = (1,) * len(spatial)
        return [
            into.reshape(*ones, *into.shape),
            core.reshape(*spatial, *core.shape[1:]),
            out.T.reshape(*ones, *out.T.shape),
        ]

    def _sizes(self, ranks: Ranks) -> tuple[int, int, int]:
        *spatial, inputs, outputs = self.kernel.shape
        return inputs * ranks[0], math.prod(spatial) * ranks[0] * ranks[1], ranks[1] * outputs


def product(factors: list[Values]) -> Values:
    """The kernel that factors one after the other amount to: only one has spatial axes."""
    result = factors[0]
    for factor in factors[1:]:
        left = result.reshape(-1, *result.shape[-2:])
        right = factor.reshape(-1, *factor.shape[-2:])
        spatial = max(result.shape[:-2], factor.shape[:-2], key=math.prod)
        result = np.einsum("aio,bor->abir", left, right)
        result = result.reshape(*spatial, *result.shape[-2:])
    return result


def kept_energy(kernel: Values, factors: list[Values]) -> float:
    """Share of the sum of squared weights that the factors keep: 1 less the squared error."""
    total = float(np.sum(kernel.astype(np.float64) ** 2)) or 1.0
    return 1 - float(np.sum((kernel - product(factors)) ** 2)) / total


def _basis(tensor: Values, axis: int) -> tuple[Values, Values]:
    """Left singular vectors and singular values of a tensor unfolded along one axis."""
    unfolded = np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1)
    left, scale, _ = np.linalg.svd(unfolded, full_matrices=False)
    return left, scale


def _rank(scale: Values, lost: float) -> int:
    """The smallest rank (at least 1) that loses at most a share of the squared singular values."""
    energy = scale**2
    total = energy.sum()
    tails = np.append(np.cumsum(energy[::-1])[::-1], 0.0)  # lost at ranks 0, 1, ...
    return max(1, int(np.argmax(tails <= total * (lost + _ROUNDING))))
