"""Channels of zeros, for an accelerator that computes several at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.means import mean_axes
from edgekit.schema.quantization import Quantization

_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
_INPUTS = {"CONV_2D": 3, "FULLY_CONNECTED": 1}
"""The axis of input channels in the weights."""
_ONE_BY_ONE = frozenset(
    {"AVERAGE_POOL_2D", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "QUANTIZE", "RELU",
     "RELU6", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TANH"}
)  # fmt: skip
"""Operators on each channel alone, that read nothing else of its number."""


@rewrite({"full_lanes": {"multiple": 16}})
def pad_channels(site: Site[TFLiteEditor]) -> Change:
    """Pads a convolution's channels with zeros to the multiple that a target computes at a time.

    The layers behind read the new channels with weights of zero; where the channels are an output
    of the model, or what follows mixes them, a SLICE takes them away.
    """
    edit, op = site.model, operator(site)
    kind = edit.name(op)
    if kind not in _CHANNELS:
        raise RefusedError(f"channels of {kind} are not padded")
    if kind == "DEPTHWISE_CONV_2D":
        raise RefusedError("a depthwise convolution has the channels of the layer before it")
    before = edit.shape(op.outputs[0])[-1]
    extra = -before % site.arguments["multiple"]
    if not extra:
        raise RefusedError("its channels fill the lanes")
    _widen_weights(edit, op, _CHANNELS[kind], extra)
    slices = _widen_map(edit, op.outputs[0], extra)
    end = "" if not slices else f", {slices} SLICE behind"
    floats = edit.dtype(op.outputs[0]) == "float32"
    return Change(
        f"{before + extra} channels for {before}, the new ones zero{end}",
        "rounding" if floats else "bits",
    )


def _widen_map(edit: TFLiteEditor, tensor: int, extra: int) -> int:
    """Gives a tensor, and what is made of it, more channels; how many are cut off again."""
    old = edit.shape(tensor)
    readers = edit.consumers(tensor)
    blind = [op for op in readers if not _takes(edit, op, tensor)]
    cuts = 0
    if blind or tensor in edit.outputs:
        cuts = 1
        tensor = _cut(edit, tensor, old, extra, blind)
    else:
        edit.tensor(tensor).shape = [*old[:-1], old[-1] + extra]
        _widen_signature(edit, tensor, extra)
    for op in (one for one in readers if one not in blind):
        name = edit.name(op)
        if name in _INPUTS:
            _widen_inputs(edit, op, _INPUTS[name], extra)
            continue
        if name == "DEPTHWISE_CONV_2D":
            _widen_weights(edit, op, 3, extra)
        elif name == "RESHAPE":
            _widen_form(edit, op, extra)
        cuts += _widen_map(edit, op.outputs[0], extra)
    return cuts


def _takes(edit: TFLiteEditor, op: Any, tensor: int) -> bool:
    """Whether an operator can be given more channels of zeros."""
    name = edit.name(op)
    if op.inputs[0] != tensor or list(op.inputs).count(tensor) > 1:
        return False
    shape = edit.shape(tensor)
    if name in _ONE_BY_ONE:
        return True
    if name == "MEAN":
        axes = mean_axes(edit, op)
        return axes is not None and len(shape) - 1 not in axes
    if name == "RESHAPE":  # of what has one place only, the channels stay the last axis
        flat = all(size == 1 for size in shape[1:-1])
        return flat and edit.shape(op.outputs[0]) == (shape[0], shape[-1]) and len(op.inputs) > 1
    if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return False
    weights = edit.values(op.inputs[1])
    bias = op.inputs[2] if len(op.inputs) > 2 else -1
    if weights is None or (bias >= 0 and edit.values(bias) is None):
        return False
    axis = {**_INPUTS, "DEPTHWISE_CONV_2D": 3}[name]
    return bool(weights.shape[axis] == shape[-1])  # not grouped, no multiplier, not flattened


def _cut(
    edit: TFLiteEditor, tensor: int, old: tuple[int, ...], extra: int, blind: list[Any]
) -> int:
    """A SLICE that gives the tensor as it was to those that need it so; the wider tensor."""
    wide = edit.add_tensor(
        (*old[:-1], old[-1] + extra), edit.dtype(tensor), f"{edit.label(tensor)}/padded",
        edit.quantization(tensor), like=tensor,
    )  # fmt: skip
    maker = edit.producer(tensor)
    if maker is None:
        raise RefusedError("it has no producer")
    seeing = [op for op in edit.consumers(tensor) if op not in blind]
    maker.outputs = [wide if index == tensor else index for index in maker.outputs]
    for op in seeing:
        op.inputs = [wide if index == tensor else index for index in op.inputs]
    begin = edit.add_constant(np.zeros(len(old), np.int32), f"{edit.label(tensor)}/begin")
    size = edit.add_constant(np.array([-1, *old[1:]], np.int32), f"{edit.label(tensor)}/size")
    cut = edit.make("SLICE", [wide, begin, size], [tensor], "SliceOptions")
    edit.ops.insert(edit.position(maker) + 1, cut)
    return wide


def _widen_weights(edit: TFLiteEditor, op: Any, axis: int, extra: int) -> None:
    """More output channels, of weights and biases of zero."""
    _pad(edit, op, 1, axis, extra)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        _pad(edit, op, 2, 0, extra)


def _widen_inputs(edit: TFLiteEditor, op: Any, axis: int, extra: int) -> None:
    _pad(edit, op, 1, axis, extra)


def _widen_form(edit: TFLiteEditor, op: Any, extra: int) -> None:
    """The shape that a RESHAPE is given."""
    form = edit.values(op.inputs[1])
    if form is None:
        raise RefusedError("a shape is computed")
    if form.reshape(-1)[-1] >= 0:
        form = form.copy()
        form.reshape(-1)[-1] += extra
        op.inputs = [op.inputs[0], edit.add_constant(form, edit.label(op.inputs[1]))]
        if op.builtinOptions is not None:
            op.builtinOptions.newShape = [int(size) for size in form.reshape(-1)]


def _widen_signature(edit: TFLiteEditor, tensor: int, extra: int) -> None:
    table = edit.tensor(tensor)
    if table.shapeSignature is not None and len(table.shapeSignature):
        *others, last = (int(size) for size in table.shapeSignature)
        table.shapeSignature = [*others, last + extra]


def _pad(edit: TFLiteEditor, op: Any, place: int, axis: int, extra: int) -> None:
    """Zeros at the end of an axis of a constant, in its own zero point."""
    index = op.inputs[place]
    values = edit.values(index)
    if values is None:
        raise RefusedError(f"{edit.label(index)} is computed, or packed")
    scale = edit.quantization(index)
    zero = 0 if scale is None else scale.zero_point[0]
    if scale is not None and scale.per_channel and any(scale.zero_point):
        raise RefusedError(f"{edit.label(index)} has a zero point a channel")
    more = np.full((*values.shape[:axis], extra, *values.shape[axis + 1 :]), zero, values.dtype)
    wide = np.concatenate([values, more], axis)
    if scale is not None and scale.per_channel and scale.axis == axis:
        last = (scale.scale[-1],) * extra
        scale = Quantization((*scale.scale, *last), (*scale.zero_point, *(0,) * extra), axis)
    new = edit.add_constant(wide, edit.label(index), scale)
    op.inputs = [*op.inputs[:place], new, *op.inputs[place + 1 :]]
