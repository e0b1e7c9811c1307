"""What passes must keep of those before them: zeros stay zero, weights that share a value share it.

Nothing is noted beside a model: its weights tell. A kernel with some zeros was pruned, one with few
different values was clustered. So a model from a file is treated as one that a pass just made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import PostconditionError
from edgekit.base.extras import require
from edgekit.compress.kernels import Kernel, find_kernels

if TYPE_CHECKING:
    import keras

MOST_CLUSTERS = 256  # that a code of one byte tells apart


def distinct(values: NDArray[Any]) -> int:
    """How many different values there are, zero not counted."""
    return int(np.unique(values[values != 0]).size)


def is_pruned(values: NDArray[Any]) -> bool:
    """Whether some weights, but not all, are exactly zero."""
    return 0 < int(np.count_nonzero(values)) < values.size


def groups_of(values: NDArray[Any], channels: tuple[int, ...]) -> NDArray[np.int32] | None:
    """Which weights share a value, or None if the values are not few.

    They are few if a codebook for the whole kernel, or one for each of its output channels, has at
    most `MOST_CLUSTERS` values and at most half as many as there are weights. Zeros do not count.

    Args:
        values: a kernel.
        channels: its axes of output channels.

    Returns:
        A number for each weight, of the shape of `values`: equal for weights that share a value,
        within a channel where channels have codebooks of their own. Zeros have the number 0.
    """
    weights = int(np.count_nonzero(values))
    if not weights:
        return None
    found, numbers = np.unique(values, return_inverse=True)
    numbers = numbers.reshape(values.shape)
    if not _few([distinct(values)], weights):
        if not _few([distinct(channel) for channel in by_channel(values, channels)], weights):
            return None
        book = _numbers_of_channels(values.shape, channels)
        numbers = numbers + book * len(found)
    numbers = np.where(values == 0, -1, numbers)
    _, dense = np.unique(numbers, return_inverse=True)
    first = 0 if is_pruned(values) else 1
    return (dense.reshape(values.shape) + first).astype(np.int32)


def has_one_codebook(values: NDArray[Any]) -> bool:
    """Whether a kernel has few values as a whole, not only within its channels."""
    return _few([distinct(values)], int(np.count_nonzero(values)))


def _few(clusters: Sequence[int], weights: int) -> bool:
    return max(clusters) <= MOST_CLUSTERS and 2 * sum(clusters) <= weights


def _numbers_of_channels(shape: tuple[int, ...], channels: tuple[int, ...]) -> NDArray[np.int64]:
    """The number of each output channel, to be broadcast to the kernel."""
    axes = {axis % len(shape) for axis in channels}
    sizes = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    return np.arange(np.prod(sizes)).reshape(sizes)


def by_channel(values: NDArray[Any], channels: tuple[int, ...]) -> NDArray[Any]:
    """One row of weights for each output channel."""
    moved = np.moveaxis(values, channels, tuple(range(len(channels))))
    return moved.reshape(int(np.prod(moved.shape[: len(channels)])), -1)


@dataclass(frozen=True)
class Constraint:
    """What one kernel keeps.

    Attributes:
        kernel: the kernel; its weights that are zero before a training step are zero after it.
        groups: as of `groups_of`, or None if each weight is free.
        factors: what the shared values are multiplied with, to be broadcast to the kernel; None: 1.
    """

    kernel: Kernel
    groups: NDArray[np.int32] | None = None
    factors: NDArray[np.float32] | None = None


class Constraints:
    """What some kernels of a model keep while it is trained."""

    def __init__(self, kept: Iterable[Constraint]) -> None:
        self.kept = tuple(kept)

    def callback(self) -> keras.callbacks.Callback:
        """A Keras callback that keeps the constraints in every training step.

        Zeros get no gradient. Weights of one group get the sum of their gradients, which is that
        of their centroid (Han et al. 2016, section 3.3), so that centroids are trained and
        assignments kept; after the step they are set to one value exactly. Any Keras optimizer
        is fine: while the training lasts, its `apply` is wrapped.
        """
        callbacks = require("keras", purpose="to compress models").callbacks
        steps = {id(one.kernel.variable): _Step(one) for one in self.kept}

        class KeepConstraints(callbacks.Callback):  # type: ignore[misc, name-defined]
            def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
                self.wrapped = self.model.optimizer
                apply = self.wrapped.apply

                def constrained(grads: Any, trainable_variables: Any = None) -> None:
                    variables = trainable_variables or self.wrapped._trainable_variables
                    found = [steps.get(id(variable)) for variable in variables]
                    alive = [step.alive() if step else None for step in found]
                    triples = list(zip(found, alive, grads, strict=True))
                    apply([s.gradient(g, a) if s and g is not None else g for s, a, g in triples],
                          trainable_variables)  # fmt: skip
                    for step, mask in zip(found, alive, strict=True):
                        if step:
                            step.project(mask)

                self.wrapped.apply = constrained
                self.model.make_train_function(force=True)  # it may be traced already

            def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
                del self.wrapped.apply
                self.model.make_train_function(force=True)

        return KeepConstraints()

    def check(self, model: keras.Model) -> None:
        """Checks that a model of the same kernels keeps them.

        Raises:
            PostconditionError: a weight is zero no more, or weights that shared a value differ.
        """
        kernels = {(kernel.layer, kernel.name): kernel for kernel in find_kernels(model)[0]}
        for one in self.kept:
            place = f"{one.kernel.layer}.{one.kernel.name}"
            kernel = kernels.get((one.kernel.layer, one.kernel.name))
            if kernel is None:
                raise PostconditionError("pruned or clustered weights are gone", where=place)
            if is_pruned(one.kernel.values) and np.any(kernel.values[one.kernel.values == 0]):
                raise PostconditionError("weights that were pruned are zero no more", where=place)
            if one.groups is not None and not _shared(kernel.values, one.groups):
                raise PostconditionError("weights that shared a value differ", where=place)


class _Step:
    """The constraint of one kernel, on tensors."""

    def __init__(self, constraint: Constraint) -> None:
        self._ops = require("keras", purpose="to compress models").ops
        self._variable = constraint.kernel.variable
        self._groups = constraint.groups
        self._count = 0 if self._groups is None else int(self._groups.max()) + 1
        self._factors: Any = 1.0 if constraint.factors is None else constraint.factors

    def alive(self) -> Any:
        """1 where a weight is not zero; 1 everywhere if all are, as some are initialized."""
        mask = self._ops.cast(self._ops.not_equal(self._variable, 0), self._variable.dtype)
        return self._ops.maximum(mask, 1 - self._ops.max(mask))

    def gradient(self, gradient: Any, alive: Any) -> Any:
        """The gradient of the centroids, at each weight."""
        if self._groups is None:
            return gradient * alive
        return self._sums(gradient * self._factors * alive) * self._factors * alive

    def project(self, alive: Any) -> None:
        """Sets the weights of each group to the nearest that share a value, and zeros to zero."""
        weights = self._ops.convert_to_tensor(self._variable) * alive
        if self._groups is not None:
            present = self._sums(self._factors**2 * alive)
            shared = self._sums(weights * self._factors) / self._ops.where(present > 0, present, 1)
            weights = shared * self._factors * alive
        self._variable.assign(weights)

    def _sums(self, values: Any) -> Any:
        assert self._groups is not None
        flat = self._ops.reshape(values, (-1,))
        sums = self._ops.segment_sum(flat, self._groups.reshape(-1), self._count)
        return self._ops.take(sums, self._groups)


def constraints_of(model: keras.Model) -> Constraints:
    """What the passes before gave a model: zeros in kernels, and few values."""
    found = [
        Constraint(kernel, groups_of(kernel.values, kernel.channels))
        for kernel in find_kernels(model)[0]
    ]
    return Constraints(
        one for one in found if one.groups is not None or is_pruned(one.kernel.values)
    )


def _shared(values: NDArray[Any], groups: NDArray[np.int32]) -> bool:
    """Whether the weights of each group that are not zero have one value."""
    alive = values != 0
    pairs = np.unique(
        np.stack([groups[alive], values[alive].astype(np.float32).view(np.int32)]), axis=1
    )
    return bool(np.unique(pairs[0]).size == pairs.shape[1])
