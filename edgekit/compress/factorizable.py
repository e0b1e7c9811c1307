"""Which layers can be factorized, and how much they compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.base.errors import PreconditionError
from edgekit.base.extras import require
from edgekit.compress.constraints import constraints_of
from edgekit.compress.kernels import Untreated, find_kernels
from edgekit.compress.lowrank import Factorization, Places
from edgekit.models.calls import CallGraph, call_graph
from edgekit.models.inspect import macs

if TYPE_CHECKING:
    import keras

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")


@dataclass(frozen=True)
class Factorizable:
    """A layer that can be factorized.

    Attributes:
        label: of the layer; `outer/inner` within a nested model.
        layer: of Keras.
        kernel: its values.
        ways: the factorizations that may take its place.
        calls: its positions, call by call.
    """

    label: str
    layer: Any
    kernel: Any
    ways: tuple[Factorization, ...]
    calls: tuple[Places, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of all its calls, for one sample."""
        return sum(places.outputs for places in self.calls) * int(self.kernel.size)


def find_factorizable(
    model: keras.Model, ways: Callable[[Any], tuple[Factorization, ...]]
) -> tuple[list[Factorizable], list[Untreated]]:
    """The layers that can be factorized, and the others that have kernels, with the reason."""
    graph = call_graph(model)
    called = {calls[0].label: calls[0].layer for calls in graph.calls_of().values()}
    kept = {one.kernel.layer: one for one in constraints_of(model).kept}
    kernels, untreated = find_kernels(model)
    layers: list[Factorizable] = []
    for label in dict.fromkeys(kernel.layer for kernel in kernels):
        kernel = next(kernel for kernel in kernels if kernel.layer == label)
        layer = called.get(label)
        reason = _reason(layer, kernel.kind)
        if reason is None and label in kept:
            what = "pruned" if kept[label].groups is None else "clustered"
            reason = f"it is {what}, which its factors would not be"
        if reason is None:
            calls = _calls(layer, graph)
            layers.append(Factorizable(label, layer, kernel.values, ways(kernel.values), calls))
        else:
            untreated.append(Untreated(label, kernel.kind, reason))
    return layers, untreated


def _reason(layer: Any, kind: str) -> str | None:
    """Why a layer cannot be factorized, or None if it can."""
    layers = require("keras", purpose="to compress models").layers
    if layer is None:
        return "it is a part of another layer"
    if not any(type(layer) is getattr(layers, name) for name in ("Dense", *_CONVOLUTIONS)):
        return f"it is no plain dense or convolution layer, but {kind}"
    if getattr(layer, "groups", 1) != 1:
        return f"its channels are in {layer.groups} groups"
    return None


def _calls(layer: Any, graph: CallGraph) -> tuple[Places, ...]:
    """The positions of each call; those of a nested model that is called twice count twice."""
    nodes = [(n.input_tensors[0].shape, n.outputs[0].shape) for n in layer._inbound_nodes]
    first = getattr(layer, "data_format", None) == "channels_first"

    def places(shape: tuple[int | None, ...]) -> int:
        return int(np.prod([size or 1 for size in (shape[2:] if first else shape[1:-1])]))

    times = len(graph.calls_of()[id(layer)]) // len(nodes) or 1
    return tuple(Places(places(a), places(b)) for a, b in nodes) * times


def model_macs(model: keras.Model) -> int:
    """Multiply-accumulate operations of the whole model for one sample."""
    graph = call_graph(model)
    total = 0
    for calls in graph.calls_of().values():
        layer = calls[0].layer
        if _reason(layer, "") is None:
            total += sum(p.outputs for p in _calls(layer, graph)) * int(np.prod(layer.kernel.shape))
            continue
        try:
            total += len(calls) * macs(layer)
        except AttributeError:
            raise PreconditionError(
                "the MACs of a layer that is shared by several places are not known",
                where=calls[0].label,
                hint="give a budget of parameters",
            ) from None
    return total
