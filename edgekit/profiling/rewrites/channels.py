"""Channels of zeros, for an accelerator that computes several at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.wide_channels import (
    NEW,
    Places,
    channel_constants,
    makes_channels,
    read_places,
    widening,
)
from edgekit.schema.quantization import Quantization


@rewrite({"full_lanes": {"multiple": 16}})
def pad_channels(site: Site[TFLiteEditor]) -> Change:
    """Pads a convolution's channels with zeros to the multiple that a target computes at a time.

    The layers behind read the new channels with weights of zero, and what is added to them becomes
    as wide; where the channels are an output of the model, or what follows mixes them, a SLICE
    takes them away.
    """
    edit, op = site.model, operator(site)
    kind = edit.name(op)
    if kind == "DEPTHWISE_CONV_2D":
        raise RefusedError("a depthwise convolution has the channels of the layer before it")
    if kind != "CONV_2D":
        raise RefusedError(f"channels of {kind} are not padded")
    if not makes_channels(edit, op):
        raise RefusedError("its weights are computed, packed, or of groups of channels")
    before = edit.shape(op.outputs[0])[-1]
    extra = -before % site.arguments["multiple"]
    if not extra:
        raise RefusedError("its channels fill the lanes")
    found = widening(edit, op.outputs[0], extra)
    for one in list(edit.ops):
        _widen_constants(edit, one, found.places)
    for tensor, places in found.places.items():
        if tensor in found.cuts:
            _cut(edit, tensor, len(places), found.cuts[tensor])
        else:
            _widen(edit, tensor, len(places))
    others = f" in {found.layers} layers" if found.layers > 1 else ""
    end = f", {len(found.cuts)} SLICE behind" if found.cuts else ""
    floats = edit.dtype(op.outputs[0]) == "float32"
    return Change(
        f"{before + extra} channels for {before}{others}, the new ones zero{end}",
        "rounding" if floats else "bits",
    )


def _widen_constants(edit: TFLiteEditor, op: Any, found: Mapping[int, Places]) -> None:
    """Gives an operator's constants the new channels of what it reads and of what it makes."""
    wider: list[tuple[int, int, Places]] = []
    for tensor in {*op.inputs}.intersection(found):
        read = read_places(edit, op, tensor, found[tensor])
        if read is not None:
            wider.append((1, *read))
    made = found.get(op.outputs[0]) if op.outputs else None
    if made is not None:
        wider += [(place, axis, made) for place, axis in channel_constants(edit, op)]
        if edit.name(op) == "RESHAPE":
            _widen_form(edit, op, len(made))
    for place, axis, places in wider:
        _pad(edit, op, place, axis, places)


def _widen_form(edit: TFLiteEditor, op: Any, width: int) -> None:
    """The shape that a RESHAPE is given."""
    form = edit.values(op.inputs[1])
    if form is None:
        raise RefusedError("a shape is computed")
    if form.reshape(-1)[-1] >= 0:
        form.reshape(-1)[-1] = width
        op.inputs = [op.inputs[0], edit.add_constant(form, edit.label(op.inputs[1]))]
        if op.builtinOptions is not None:
            op.builtinOptions.newShape = [int(size) for size in form.reshape(-1)]


def _pad(edit: TFLiteEditor, op: Any, place: int, axis: int, places: Places) -> None:
    """Puts zeros between the parts of a constant, in its own zero point."""
    index = op.inputs[place]
    values, scale = edit.values(index), edit.quantization(index)
    if values is None:
        raise RefusedError(f"{edit.label(index)} is computed, or packed")
    if scale is not None and scale.per_channel and any(scale.zero_point):
        raise RefusedError(f"{edit.label(index)} has a zero point a channel")
    kept = np.array(places)
    zero = 0 if scale is None else scale.zero_point[0]
    wide = np.take(values, np.maximum(kept, 0), axis)
    wide[(slice(None),) * axis + (kept == NEW,)] = zero
    if scale is not None and scale.per_channel and scale.axis == axis:
        last = len(scale.scale) - 1
        scales = tuple(scale.scale[last if one == NEW else one] for one in places)
        scale = Quantization(scales, (0,) * len(places), axis)
    new = edit.add_constant(wide, edit.label(index), scale)
    op.inputs = [*op.inputs[:place], new, *op.inputs[place + 1 :]]


def _widen(edit: TFLiteEditor, tensor: int, width: int) -> None:
    """Gives a tensor more channels."""
    table = edit.tensor(tensor)
    table.shape = [*edit.shape(tensor)[:-1], width]
    if table.shapeSignature is not None and len(table.shapeSignature):
        table.shapeSignature = [*(int(size) for size in table.shapeSignature[:-1]), width]


def _cut(edit: TFLiteEditor, tensor: int, width: int, blind: list[Any]) -> None:
    """A SLICE that gives the tensor as it was to those that need it so."""
    old, maker = edit.shape(tensor), edit.producer(tensor)
    if maker is None:
        raise RefusedError("it has no producer")
    wide = edit.add_tensor(
        (*old[:-1], width), edit.dtype(tensor), f"{edit.label(tensor)}/padded",
        edit.quantization(tensor), like=tensor,
    )  # fmt: skip
    seeing = [op for op in edit.consumers(tensor) if all(op is not one for one in blind)]
    maker.outputs = [wide if index == tensor else index for index in maker.outputs]
    for op in seeing:
        op.inputs = [wide if index == tensor else index for index in op.inputs]
    begin = edit.add_constant(np.zeros(len(old), np.int32), f"{edit.label(tensor)}/begin")
    size = edit.add_constant(np.array([-1, *old[1:]], np.int32), f"{edit.label(tensor)}/size")
    cut = edit.make("SLICE", [wide, begin, size], [tensor], "SliceOptions")
    edit.ops.insert(edit.position(maker) + 1, cut)
