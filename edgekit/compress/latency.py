"""The latency of a model without some of its channels, by the cost model of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.base.errors import PreconditionError
from edgekit.compress.coupling import Ids
from edgekit.compress.network import Network
from edgekit.graph.types import Graph
from edgekit.models.graph import Sizes, model_graph, sized_graph
from edgekit.profiling.dense_scales import refusing_dense_scales
from edgekit.profiling.estimate import estimate
from edgekit.profiling.placement import place
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.names import Precision
from edgekit.schema.target import Target

if TYPE_CHECKING:
    import keras


def usual_precision(target: Target) -> Precision:
    """The first precision that a target takes and that has been measured on it."""
    measured = [word for word, charged in target.precisions.items() if charged is not None]
    return measured[0] if measured else next(iter(target.precisions))


def predicted(model: keras.Model, target: Target, precision: Precision) -> float:
    """The latency of a model on a target in milliseconds.

    Raises:
        PreconditionError: the target's cost model cannot tell.
    """
    simple = bool(refusing_dense_scales([target]))
    graph = model_graph(model, precision=precision, dense_one_scale=simple)
    return _milliseconds(graph, target)


def _milliseconds(graph: Graph, target: Target) -> float:
    target = target.running(graph.format)
    if graph.format not in target.runtime.formats:
        raise PreconditionError(f"{target.name} takes no {graph.format} files")
    view = GraphView(graph)
    result = estimate(view, list(works(view)), place(view, target), target)
    if isinstance(result, str):
        raise PreconditionError(
            f"the latency on {target.name} cannot be predicted: {result}",
            hint="another precision or target, or a budget of macs",
        )
    return result.seconds * 1e3


class LatencyModel:
    """The predicted latency of a network by the channels that go.

    The operators of the smaller model are written anew for each question, from the sizes that
    follow from the channels; no model is built.

    Args:
        model: the model.
        network: its channels.
        target: the hardware.
        precision: of the file.
    """

    def __init__(
        self, model: keras.Model, network: Network, target: Target, precision: Precision
    ) -> None:
        self._model, self._network = model, network
        self._target, self._precision = target, precision
        self._simple = bool(refusing_dense_scales([target]))
        roots = network.coupling.roots
        shapes = {
            value: shape
            for call in network.graph.calls
            for value, shape in zip(call.outputs, call.output_shapes, strict=True)
        }
        self._values = [
            (value, shapes[value], {channels.axis: roots(channels.ids)})
            for value, channels in network.channels.items()
            if channels is not None and value in shapes
        ]
        self._variables = [
            (
                id(weight.variable),
                tuple(weight.variable.shape),
                {axis: roots(ids) for axis, ids in enumerate(weight.axes) if ids is not None},
            )
            for wired in network.layers
            for weight in wired.wiring.weights
        ]
        self.total = self.without(np.empty(0, np.int64))

    def without(self, gone: Ids) -> float:
        """Milliseconds without these channels (`Group.roots`)."""
        stays = np.ones(len(self._network.coupling), np.bool_)
        stays[gone] = False
        sizes = Sizes(_smaller(self._values, stays), _smaller(self._variables, stays))
        graph = sized_graph(
            self._model, self._network.graph, sizes, precision=self._precision,
            dense_one_scale=self._simple,
        )  # fmt: skip
        return _milliseconds(graph, self._target)


def _smaller(
    shapes: list[tuple[int, tuple[int | None, ...], dict[int, Ids]]], stays: Any
) -> dict[int, tuple[int | None, ...]]:
    return {
        key: tuple(
            int(stays[ids[axis]].sum()) if axis in ids else size for axis, size in enumerate(shape)
        )
        for key, shape, ids in shapes
    }
