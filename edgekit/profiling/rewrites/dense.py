"""Dense layers as 1x1 convolutions, which may have a scale an output, and several places."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.forms import reshape_to
from edgekit.schema.quantization import Quantization


@rewrite("dense_one_scale", "dense_one_dimension", "known_version", ops="FULLY_CONNECTED")
def dense_convolution(site: Site[TFLiteEditor]) -> Change:
    """Makes a dense layer a 1x1 convolution over its rows: the same products, in the same order."""
    edit, op = site.model, operator(site)
    options = op.builtinOptions
    if options is not None and options.weightsFormat:
        raise RefusedError("its weights are shuffled")
    source, result = int(op.inputs[0]), int(op.outputs[0])
    weights = edit.values(op.inputs[1])
    if weights is None or weights.ndim != 2 or weights.dtype not in (np.float32, np.int8):
        raise RefusedError("its weights are computed, packed or of another dtype")
    if weights.dtype != edit.dtype(source):
        raise RefusedError(f"it is hybrid: {weights.dtype} weights, {edit.dtype(source)} values")
    outputs, depth = weights.shape
    batch, rows = _rows(edit, source, depth)
    stored, name = edit.quantization(op.inputs[1]), edit.label(op.inputs[1])
    if stored is not None and stored.per_channel:
        stored = Quantization(stored.scale, stored.zero_point, 0)
    kernel = edit.add_constant(weights.reshape(outputs, 1, 1, depth), f"{name}_kernel", stored)
    bias = op.inputs[2] if len(op.inputs) > 2 and op.inputs[2] >= 0 else None
    if bias is None:
        bias = _no_bias(edit, source, outputs, weights.dtype, stored, name)
    new, read = [], source
    if edit.shape(source) != (batch, 1, rows, depth):
        read = _between(edit, source, (batch, 1, rows, depth), "places")
        new.append(reshape_to(edit, source, read))
    made = result
    if edit.shape(result) != (batch, 1, rows, outputs):
        made = _between(edit, result, (batch, 1, rows, outputs), "places")
    fused = options.fusedActivationFunction if options is not None else 0
    new.append(
        edit.make(
            "CONV_2D", [read, kernel, bias], [made], "Conv2DOptions", padding=1, strideH=1,
            strideW=1, dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=fused,
        )
    )  # fmt: skip
    if made != result:
        new.append(reshape_to(edit, made, result))
    edit.replace(op, new)
    places = f" over {rows} places" if rows > 1 else ""
    words = f"a 1x1 convolution of {depth} channels to {outputs}{places}"
    return Change(words, "rounding" if weights.dtype == np.float32 else "bits")


def _rows(edit: TFLiteEditor, source: int, depth: int) -> tuple[int, int]:
    """Batch, and rows of one sample."""
    shape = edit.shape(source)
    total = int(np.prod(shape))
    batch = shape[0] if len(shape) > 1 else 1
    if batch < 1 or total % (batch * depth):
        raise RefusedError("its rows run across the batch")
    return batch, total // (batch * depth)


def _no_bias(
    edit: TFLiteEditor,
    source: int,
    outputs: int,
    dtype: Any,
    stored: Quantization | None,
    name: str,
) -> int:
    if dtype == np.float32:
        return edit.add_constant(np.zeros(outputs, np.float32), f"{name}_bias")
    given = edit.quantization(source)
    if given is None or stored is None:
        raise RefusedError("it has no scales")
    scales = tuple(given.scale[0] * scale for scale in stored.scale)
    inner = Quantization(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
    return edit.add_constant(np.zeros(outputs, np.int32), f"{name}_bias", inner)


def _between(edit: TFLiteEditor, like: int, shape: tuple[int, ...], part: str) -> int:
    return edit.add_tensor(
        shape, edit.dtype(like), f"{edit.label(like)}/{part}", edit.quantization(like), like=like
    )
