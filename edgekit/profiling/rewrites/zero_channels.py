"""Channels that hold only zeros, taken out of the file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.dead_channels import dead_channels, kept_channels
from edgekit.graph.tflite import read_buffer
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.graph.zero_channels import zero_channels
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, rewrite
from edgekit.schema.quantization import Quantization

_MAKERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_READERS = {"CONV_2D": 3, "FULLY_CONNECTED": 1}
"""The axis of the weights that the channels of output and input are on."""

Kept = dict[int, NDArray[np.int64]]


@rewrite("zero_channels")
def remove_zero_channels(site: Site[TFLiteEditor]) -> Change:
    """Takes channels out that are zero whatever the input, from filters to the weights behind.

    Those that stay fill the multiple that the target computes at a time.
    """
    edit = site.model
    graph = read_buffer(edit.content())  # after which both number their tensors alike

    def values(index: int) -> NDArray[Any]:
        found = edit.values(index)
        if found is None:
            raise ValueError("it is packed")
        return found

    dead = dead_channels(graph, zero_channels(graph, values))
    multiple = site.target.channel_multiple
    kept = {index: kept_channels(mask, multiple) for index, mask in dead.items()}
    kept = {index: stays for index, stays in kept.items() if len(stays) < len(dead[index])}
    if not kept:
        raise RefusedError("no channel can go")
    gone = sum(_shrink(edit, op, kept) for op in list(edit.ops))
    for index, stays in kept.items():
        _narrow(edit, index, len(stays))
    floats = any(edit.dtype(index) == "float32" for index in kept)
    return Change(f"{gone:,} channels of zeros are gone", "rounding" if floats else "bits")


def _shrink(edit: TFLiteEditor, op: Any, kept: Kept) -> int:
    """Takes channels out of an operator's constants; how many filters are gone."""
    name, made = edit.name(op), int(op.outputs[0])
    gone = 0
    if name in _READERS and op.inputs[0] in kept:
        _take(edit, op, 1, _READERS[name], kept[op.inputs[0]])
    if name in _MAKERS and made in kept:
        gone = edit.shape(made)[-1] - len(kept[made])
        _take(edit, op, 1, _MAKERS[name], kept[made])
        if len(op.inputs) > 2 and op.inputs[2] >= 0:
            _take(edit, op, 2, 0, kept[made])
    if name == "RESHAPE" and made in kept:
        _reshape(edit, op, len(kept[made]))
    return gone


def _take(edit: TFLiteEditor, op: Any, place: int, axis: int, kept: NDArray[np.int64]) -> None:
    """Leaves a constant with a part of an axis, and of its scales."""
    index = op.inputs[place]
    values, scale = edit.values(index), edit.quantization(index)
    if values is None:
        raise RefusedError(f"{edit.label(index)} is computed, or packed")
    if scale is not None and scale.per_channel and scale.axis == axis:
        scale = Quantization(
            tuple(scale.scale[i] for i in kept), tuple(scale.zero_point[i] for i in kept), axis
        )
    new = edit.add_constant(np.take(values, kept, axis), edit.label(index), scale)
    op.inputs = [*op.inputs[:place], new, *op.inputs[place + 1 :]]


def _reshape(edit: TFLiteEditor, op: Any, channels: int) -> None:
    form = edit.values(op.inputs[1]) if len(op.inputs) > 1 else None
    if form is None:
        raise RefusedError("a shape is computed")
    if form.reshape(-1)[-1] >= 0:
        form.reshape(-1)[-1] = channels
        op.inputs = [op.inputs[0], edit.add_constant(form, edit.label(op.inputs[1]))]
    if op.builtinOptions is not None and op.builtinOptions.newShape is not None:
        op.builtinOptions.newShape = [int(size) for size in form.reshape(-1)]


def _narrow(edit: TFLiteEditor, index: int, channels: int) -> None:
    table = edit.tensor(index)
    table.shape = [*edit.shape(index)[:-1], channels]
    if table.shapeSignature is not None and len(table.shapeSignature):
        table.shapeSignature = [*(int(size) for size in table.shapeSignature[:-1]), channels]
