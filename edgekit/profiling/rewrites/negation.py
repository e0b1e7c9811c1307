"""Differences and negations for targets that have sums and products only."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.schema.fixing import Promise
from edgekit.schema.quantization import Quantization


@rewrite("element_wise", ops="NEG SUB")
def negation(site: Site[TFLiteEditor]) -> Change:
    """Writes a negation as a depthwise 1x1 convolution with weights of -1, a difference as a sum.

    Constants change their sign where they are.
    """
    edit, op = site.model, operator(site)
    result = int(op.outputs[0])
    if edit.name(op) == "NEG":
        edit.replace(op, [negative(edit, int(op.inputs[0]), result)])
        return Change("a depthwise convolution by -1 for NEG", _promise(edit, result))
    first, second = (int(index) for index in op.inputs)
    new, minus = minus_of(edit, second)
    fused = getattr(op.builtinOptions, "fusedActivationFunction", 0)
    options = {"fusedActivationFunction": fused}
    new.append(edit.make("ADD", [first, minus], [result], "AddOptions", **options))
    edit.replace(op, new)
    return Change("ADD of the negative for SUB", _promise(edit, result))


def minus_of(edit: TFLiteEditor, source: int) -> tuple[list[Any], int]:
    """A tensor with the other sign, and the operators that make it of `source`."""
    values, scale = edit.values(source), edit.quantization(source)
    name = f"{edit.label(source)}/negative"
    turned = None
    if scale is not None:  # of int8: -1 - q is in its range for every q
        zeros = tuple(-1 - zero for zero in scale.zero_point)
        turned = Quantization(scale.scale, zeros, scale.axis)
    if values is not None:
        return [], edit.add_constant(-values if scale is None else ~values, name, turned)
    made = edit.add_tensor(edit.shape(source), edit.dtype(source), name, turned, like=source)
    return [negative(edit, source, made)], made


def negative(edit: TFLiteEditor, source: int, result: int) -> Any:
    """A depthwise convolution by -1, not yet among the operators.

    Raises:
        RefusedError: it is not of a map, or of another dtype than float32 and int8.
    """
    shape, dtype, name = edit.shape(source), edit.dtype(source), edit.label(result)
    if len(shape) != 4 or dtype not in ("float32", "int8"):
        raise RefusedError(f"there is no depthwise convolution of {len(shape)} axes of {dtype}")
    channels = shape[3]
    scale = edit.quantization(source)
    if dtype == "float32":
        weights = edit.add_constant(np.full((1, 1, 1, channels), -1, np.float32), f"{name}/by")
        bias = edit.add_constant(np.zeros(channels, np.float32), f"{name}/bias")
    elif scale is None or scale.per_channel:
        raise RefusedError("its input has not one scale")
    else:
        ones, zeros = (1.0,) * channels, (0,) * channels
        several = channels > 1
        one = Quantization(ones, zeros, 3 if several else None)
        weights = edit.add_constant(np.full((1, 1, 1, channels), -1, np.int8), f"{name}/by", one)
        inner = Quantization(scale.scale * channels, zeros, 0 if several else None)
        bias = edit.add_constant(np.zeros(channels, np.int32), f"{name}/bias", inner)
    return edit.make(
        "DEPTHWISE_CONV_2D", [source, weights, bias], [result], "DepthwiseConv2DOptions",
        padding=1, strideH=1, strideW=1, depthMultiplier=1, dilationHFactor=1, dilationWFactor=1,
    )  # fmt: skip


def _promise(edit: TFLiteEditor, result: int) -> Promise:
    return "bits" if edit.dtype(result) == "float32" else "approximate"
