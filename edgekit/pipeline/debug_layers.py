"""The layers of a Keras model with what they make on given samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.compress.folding_onward import fold_all
from edgekit.models.calls import Call, call_graph
from edgekit.runtimes.session import match_names
from edgekit.verify.layerwise import Layer

if TYPE_CHECKING:
    import keras


_IDLE = ("Dropout", "Identity", "GaussianNoise", *(f"SpatialDropout{n}D" for n in (1, 2, 3)))


def record_layers(model: keras.Model, x: Mapping[str, NDArray[Any]]) -> tuple[Layer, ...]:
    """Runs samples through a model and keeps what each of its layers makes.

    Nested models are looked into; each call of a shared layer stands for itself.

    Args:
        model: a functional model.
        x: arrays of shape (n, ...) by input name; one array fits one input of any name.

    Returns:
        The calls of layers in the order of their running; those that make no float values, or
        several, or do nothing in inference, are left out.

    Raises:
        DataError: the names do not fit the inputs.
    """
    ops = require("keras", purpose="to run Keras models").ops
    graph = call_graph(model)
    unfoldable = _unfoldable(model)
    arrays = match_names(tuple(tensor.name for tensor in model.inputs), x)
    values: dict[int, Any] = {
        value: ops.convert_to_tensor(array, tensor.dtype)
        for value, array, tensor in zip(graph.inputs, arrays.values(), model.inputs, strict=True)
    }
    outputs = dict(zip(graph.outputs, model.output_names, strict=True))
    places: dict[int, tuple[int, ...]] = dict.fromkeys(graph.inputs, ())
    layers: list[Layer] = []
    for call in graph.calls:
        values |= call.run(values)
        before = tuple(dict.fromkeys(p for value in call.inputs for p in places[value]))
        array = np.asarray(values[call.outputs[0]])
        idle = call.kind in _IDLE and call.outputs[0] not in outputs
        kept = len(call.outputs) == 1 and array.ndim > 1 and array.dtype.kind == "f" and not idle
        places |= dict.fromkeys(call.outputs, (len(layers),) if kept else before)
        if kept:
            layers.append(
                Layer(
                    name=call.label,
                    kind=call.kind,
                    values=array.astype(np.float32),
                    inputs=before,
                    widths=_widths(call),
                    output=outputs.get(call.outputs[0]),
                    unfoldable=unfoldable.get(call.label),
                )
            )
    return tuple(layers)


def _widths(call: Call) -> tuple[int, ...]:
    """The channels of each input of a concatenation along the last axis."""
    if call.kind != "Concatenate":
        return ()
    rank = len(call.shapes[0])
    if call.layer.axis not in (-1, rank - 1):
        return ()
    return tuple(int(shape[-1] or 0) for shape in call.shapes)


def _unfoldable(model: keras.Model) -> dict[str, str]:
    """Why normalizations cannot be folded into the layers beside them, by name."""
    return {row["layer"]: row["reason"] for row in fold_all(model)[1]["untreated"]}
