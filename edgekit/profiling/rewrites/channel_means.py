"""Means over the channels, as in layer normalization, in forms that a target takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.forms import reshape_to
from edgekit.profiling.rewrites.means import mean_axes
from edgekit.schema.quantization import Quantization


@rewrite("mean_over_depth", ops="MEAN")
def flat_mean(site: Site[TFLiteEditor]) -> Change:
    """Takes a mean over the channels of a map of one row: reshapes before and behind it."""
    edit, op = site.model, operator(site)
    source, result = _averaged(edit, op), op.outputs[0]
    row = _row(edit, source)
    if edit.shape(source)[1:-2] == (1,) * (len(edit.shape(source)) - 3):
        raise RefusedError("its map is one row already")
    last = _between(edit, result, (*row[:3], 1), "row")
    flat = _between(edit, source, row, "row")
    axes = edit.add_constant(np.array([3], np.int32), f"{edit.label(result)}/axes")
    mean = edit.make("MEAN", [flat, axes], [last], "ReducerOptions", keepDims=True)
    edit.replace(op, [reshape_to(edit, source, flat), mean, reshape_to(edit, last, result)])
    return Change(f"a mean over the channels of {row[1]}x{row[2]}, not of more rows", "bits")


@rewrite(
    "mean_channels", "mean_over_depth", "operator", "optimized_operator", "float_only",
    "reductions",
    ops="MEAN",
)  # fmt: skip
def mean_convolution(site: Site[TFLiteEditor]) -> Change:
    """Makes a mean over the channels a 1x1 convolution with equal weights.

    In int8 every weight is 1, at a scale of one over the number of channels: nothing is rounded
    but the result.
    """
    edit, op = site.model, operator(site)
    source, result = _averaged(edit, op), op.outputs[0]
    row = _row(edit, source)
    channels = row[3]
    name, scale = edit.label(result), edit.quantization(source)
    if edit.dtype(source) == "float32":
        weights = edit.add_constant(
            np.full((1, 1, 1, channels), 1 / channels, np.float32), f"{name}/weights"
        )
        bias = edit.add_constant(np.zeros(1, np.float32), f"{name}/bias")
    elif edit.dtype(source) == "int8" and scale is not None and not scale.per_channel:
        one = Quantization((1 / channels,), (0,))
        weights = edit.add_constant(np.ones((1, 1, 1, channels), np.int8), f"{name}/weights", one)
        inner = Quantization((scale.scale[0] / channels,), (0,))
        bias = edit.add_constant(np.zeros(1, np.int32), f"{name}/bias", inner)
    else:
        raise RefusedError(f"there is no convolution of {edit.dtype(source)}")
    new, read = [], source
    if len(edit.shape(source)) != 4:
        read = _between(edit, source, row, "row")
        new.append(reshape_to(edit, source, read))
    shape = (*(edit.shape(source)[:3] if read == source else row[:3]), 1)
    made = result if edit.shape(result) == shape else _between(edit, result, shape, "mean")
    new.append(
        edit.make(
            "CONV_2D", [read, weights, bias], [made], "Conv2DOptions", padding=1,
            strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1,
        )
    )  # fmt: skip
    if made != result:
        new.append(reshape_to(edit, made, result))
    edit.replace(op, new)
    floats = edit.dtype(source) == "float32"
    return Change(
        f"a 1x1 convolution over {channels} channels", "rounding" if floats else "approximate"
    )


def _averaged(edit: TFLiteEditor, op: Any) -> int:
    """The tensor that is averaged over its last axis alone.

    Raises:
        RefusedError: it is another mean.
    """
    source = int(op.inputs[0])
    rank = len(edit.shape(source))
    if rank < 2 or mean_axes(edit, op) != [rank - 1]:
        raise RefusedError("the mean is not over the channels alone")
    return source


def _row(edit: TFLiteEditor, source: int) -> tuple[int, int, int, int]:
    batch, *places, channels = edit.shape(source)
    return batch, 1, math.prod(places), channels


def _between(edit: TFLiteEditor, like: int, shape: tuple[int, ...], part: str) -> int:
    return edit.add_tensor(
        shape, edit.dtype(like), f"{edit.label(like)}/{part}", edit.quantization(like), like=like
    )
