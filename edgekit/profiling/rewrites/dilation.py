"""Dilated convolutions that converters leave taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.forms import reshape_to

_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
_FORMS = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE"})
_SAME, _VALID = 0, 1


@dataclass(frozen=True)
class _Axis:
    """One direction of a map.

    Attributes:
        size: of what is divided into blocks.
        kernel: how many values a kernel spans.
        dilation: the block's size.
        before: how many zeros a convolution of the whole takes before it.
        after: and after it.
    """

    size: int
    kernel: int
    dilation: int
    before: int
    after: int

    @property
    def result(self) -> int:
        """Size of the result."""
        return self.size + self.before + self.after - self.dilation * (self.kernel - 1)

    @property
    def same(self) -> bool:
        """Whether the zeros are those of the padding SAME."""
        total = self.dilation * (self.kernel - 1)
        return self.before == total // 2 and self.before + self.after == total


@rewrite("operator", ops="SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND")
def dilation(site: Site[TFLiteEditor]) -> Change:
    """Writes a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND as a dilated one.

    What they pad beyond its own padding becomes a PAD.
    """
    edit = site.model
    parts = _parts(edit, operator(site))
    conv = next(op for op in parts if edit.name(op) in _CONVOLUTIONS)
    source, result = int(parts[0].inputs[0]), int(parts[-1].outputs[0])
    flat = len(edit.shape(source)) == 3
    axes = _axes(edit, parts, conv)
    if any(axis.before < 0 or axis.after < 0 for axis in axes):
        raise RefusedError("more is cropped than was padded")
    channels, name = edit.shape(source)[-1], edit.label(result)
    scale, new = edit.quantization(source), []
    if flat:
        shape = [edit.shape(source)[0], *(axis.size for axis in axes), channels]
        map_ = edit.add_tensor(shape, edit.dtype(source), f"{name}/map", scale, like=source)
        new.append(reshape_to(edit, source, map_))
        source = map_
    valid = not any(axis.before or axis.after for axis in axes)
    if not valid and not all(axis.same for axis in axes):
        pads = [[0, 0], *([axis.before, axis.after] for axis in axes), [0, 0]]
        sizes = [axis.size + axis.before + axis.after for axis in axes]
        shape = [edit.shape(source)[0], *sizes, channels]
        padded = edit.add_tensor(shape, edit.dtype(source), f"{name}/padded", scale, like=source)
        zeros = edit.add_constant(np.array(pads, np.int32), f"{name}/padding")
        new.append(edit.make("PAD", [source, zeros], [padded], "PadOptions"))
        source, valid = padded, True
    options, (down, across) = conv.builtinOptions, _factors(axes)
    options.padding = _VALID if valid else _SAME
    options.dilationHFactor, options.dilationWFactor = down, across
    conv.inputs, target = [source, *conv.inputs[1:]], result
    if flat:
        shape = [edit.shape(result)[0], *(a.result for a in axes), edit.shape(result)[-1]]
        target = edit.add_tensor(
            shape, edit.dtype(result), f"{name}/rows", edit.quantization(result), like=result
        )
    conv.outputs = [target]
    edit.replace(conv, [*new, conv, *([reshape_to(edit, target, result)] if flat else [])])
    for op in parts:
        if op is not conv:
            edit.replace(op, [])
    floats = edit.dtype(result) == "float32"
    return Change(f"a convolution of dilation {down}x{across}", "rounding" if floats else "bits")


def _parts(edit: TFLiteEditor, op: Any) -> list[Any]:
    """The operators from SPACE_TO_BATCH_ND to BATCH_TO_SPACE_ND that an operator is one of."""
    while edit.name(op) != "SPACE_TO_BATCH_ND":
        before = edit.producer(int(op.inputs[0]))
        if before is None or edit.name(before) not in _CONVOLUTIONS | _FORMS | {
            "SPACE_TO_BATCH_ND"
        }:
            raise RefusedError("no convolution of what SPACE_TO_BATCH_ND gives comes before it")
        op = before
    parts = [op]
    while edit.name(parts[-1]) != "BATCH_TO_SPACE_ND":
        between = int(parts[-1].outputs[0])
        if not edit.private(between):
            raise RefusedError("others read what is between the blocks, too")
        after = edit.consumers(between)[0]
        if int(after.inputs[0]) != between or (
            edit.name(after) not in _CONVOLUTIONS | _FORMS | {"BATCH_TO_SPACE_ND"}
        ):
            raise RefusedError(f"{edit.name(after)} is between the blocks, not only a convolution")
        parts.append(after)
    if len([one for one in parts if edit.name(one) in _CONVOLUTIONS]) != 1:
        raise RefusedError("there is not one convolution between the blocks")
    return parts


def _axes(edit: TFLiteEditor, parts: list[Any], conv: Any) -> list[_Axis]:
    """Both directions of the convolution, as one of the whole map."""
    first, last = parts[0], parts[-1]
    source, result = int(first.inputs[0]), int(last.outputs[0])
    for index in (source, result):
        if -1 in edit.signature(index)[1:]:
            raise RefusedError("a size beside the batch is free")
    if any(
        edit.quantization(int(op.inputs[0])) != edit.quantization(int(op.outputs[0]))
        for op in parts
        if op is not conv
    ):
        raise RefusedError("the scale changes on the way")
    tables = [edit.values(int(op.inputs[place])) for op in (first, last) for place in (1, 2)]
    if any(table is None for table in tables):
        raise RefusedError("the blocks are computed")
    blocks, pads, again, crops = (np.asarray(table).tolist() for table in tables)
    if blocks != again:
        raise RefusedError(f"blocks of {blocks} become blocks of {again}")
    sizes, results = list(edit.shape(source)[1:-1]), list(edit.shape(result)[1:-1])
    if len(sizes) == 1:
        place = _place_of_one(edit, parts, conv)
        for values, one in ((blocks, 1), (sizes, 1), (results, 1)):
            values.insert(place, one)
        for values in (pads, crops):
            values.insert(place, [0, 0])
    elif len(parts) != 3:
        raise RefusedError("the map changes its form between the blocks")
    options = conv.builtinOptions
    steps = {options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor}
    if steps != {1}:
        raise RefusedError("the convolution has strides, or is dilated already")
    kernel = edit.shape(int(conv.inputs[1]))[1:3]
    axes = []
    for size, block, pad, crop, span in zip(sizes, blocks, pads, crops, kernel, strict=True):
        inside = span - 1 if options.padding == _SAME else 0
        before, after = block * (inside // 2), block * (inside - inside // 2)
        axes.append(_Axis(size, span, block, pad[0] + before - crop[0], pad[1] + after - crop[1]))
    if [axis.result for axis in axes] != results:
        raise RefusedError("its sizes are not those of a dilated convolution")
    return axes


def _place_of_one(edit: TFLiteEditor, parts: list[Any], conv: Any) -> int:
    """In which direction a sequence has a size of one, where it is a map: 0 down, 1 across.

    Raises:
        RefusedError: the forms on the way do more than add this size and take it away.
    """
    for place in (0, 1):
        if (
            len(parts) == 5
            and parts[2] is conv
            and all(
                list(edit.shape(wide)[1:]) == _with_one(edit.shape(narrow)[1:], place)
                for wide, narrow in (
                    (int(conv.inputs[0]), int(parts[0].outputs[0])),
                    (int(conv.outputs[0]), int(parts[4].inputs[0])),
                )
            )
        ):
            return place
    raise RefusedError("the sequence is not a map of one row between the blocks")


def _with_one(shape: tuple[int, ...], place: int) -> list[int]:
    return [*shape[:place], 1, *shape[place:]]


def _factors(axes: list[_Axis]) -> tuple[int, int]:
    """Dilation down and across; where a kernel spans one value, that of the other direction."""
    down, across = (axis.dilation if axis.kernel > 1 else None for axis in axes)
    return down or across or 1, across or down or 1
