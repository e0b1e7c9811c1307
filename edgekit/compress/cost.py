"""What a model costs without some of its channels, before it is built."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from edgekit.compress.coupling import Ids, Weight
from edgekit.compress.network import Network
from edgekit.models.calls import call_graph
from edgekit.models.inspect import macs

if TYPE_CHECKING:
    import keras

Product = tuple[int | Ids, ...]
Measure = Literal["macs", "parameters", "bytes"]
MEASURES: tuple[Measure, ...] = ("macs", "parameters", "bytes")


class Cost(Protocol):
    """A cost of a network by the channels that go.

    Attributes:
        total: with all channels.
    """

    total: float

    def without(self, gone: Ids) -> float:
        """The cost without these channels (`Group.roots`)."""


def costs(model: keras.Model) -> dict[Measure, int]:
    """What a model costs.

    Returns:
        `macs`: multiply-accumulate operations for one sample, layers that are called twice
        counted twice; `parameters`: weights, each shared one once; `bytes`: of the weights in
        their dtypes.
    """
    return {
        "macs": sum(macs(call.layer) for call in call_graph(model).calls),
        "parameters": sum(math.prod(weight.shape) for weight in model.weights),
        "bytes": sum(math.prod(weight.shape) * _itemsize(weight) for weight in model.weights),
    }


def _itemsize(variable: Any) -> int:
    return int(variable.numpy().dtype.itemsize)


def _axes(weight: Weight) -> Product:
    return tuple(
        int(size) if ids is None else ids
        for ids, size in zip(weight.axes, weight.variable.shape, strict=True)
    )


class CostModel:
    """The costs of a network by the channels that go; the sizes of kernels give them.

    Args:
        model: the model.
        network: its channels.
        measure: which cost.
    """

    def __init__(self, model: keras.Model, network: Network, measure: Measure) -> None:
        self.total: float = costs(model)[measure]
        self._ids = len(network.coupling)
        calls = Counter(id(call.layer) for call in network.graph.calls)
        self._layers: list[tuple[float, list[list[Ids | int]]]] = []
        for wired in network.layers:
            weights = wired.wiring.weights
            if measure == "macs" and wired.wiring.macs:
                self._add(network, wired.wiring.macs, calls[id(wired.layer)])
            elif measure == "macs":
                kernels = [weight for weight in weights if weight.multiplies]
                size = sum(math.prod(weight.variable.shape) for weight in kernels)
                factor = macs(wired.layer) * calls[id(wired.layer)] / size if size else 0.0
                self._add(network, map(_axes, kernels), factor)
            else:
                for weight in weights:
                    factor = _itemsize(weight.variable) if measure == "bytes" else 1
                    self._add(network, [_axes(weight)], factor)
        self._rest = self.total - self._wired(np.zeros(self._ids, np.bool_))

    def _add(self, network: Network, products: Iterable[Product], factor: float) -> None:
        roots = network.coupling.roots
        shapes = [
            [size if isinstance(size, int) else roots(size) for size in product]
            for product in products
        ]
        self._layers.append((factor, shapes))

    def without(self, gone: Ids) -> float:
        """The cost without these channels (`Group.roots`)."""
        mask = np.zeros(self._ids, np.bool_)
        mask[gone] = True
        return self._rest + self._wired(mask)

    def _wired(self, gone: Any) -> float:
        return sum(
            factor
            * sum(
                math.prod(
                    size if isinstance(size, int) else int((~gone[size]).sum()) for size in shape
                )
                for shape in shapes
            )
            for factor, shapes in self._layers
        )
