"""Layer normalization as an L2 normalization.

A vector less its mean, over its length, is the normalized vector over the root of the number of
channels: (x - m) / sqrt(var) = sqrt(C) (x - m) / |x - m|. The small number that is added to the
variance this form has not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.layer_norms import ROOTS, LayerNorm, layer_norm_of
from edgekit.schema.quantization import Quantization

NO_ROOT = (
    "no exact form of a layer normalization is without a root: allow an L2 normalization "
    "(--allow-inexact) where the target has one; else train with batch normalization in its place, "
    "which folds into the layers beside it, from the weights that are there (fine-tuning)"
)
"""Why the root of a layer normalization stands, and what to do."""
_NORM = Quantization((1 / 128,), (0,))  # int8 L2_NORMALIZATION's, by the quantization specification


@rewrite(
    "operator", "optimized_operator", "float_only", "log_type", {"element_wise": {"no_root": True}},
    ops="DIV POW RSQRT SQRT SQUARE SQUARED_DIFFERENCE",
)  # fmt: skip
def layer_norm(site: Site[TFLiteEditor]) -> Change:
    """Makes layer normalization an L2 normalization of what is left of the mean.

    (x - m) / sqrt(var + eps) is sqrt(channels) times the L2 norm of x - m, but for eps.
    """
    edit, op = site.model, operator(site)
    if site.arguments.get("no_root"):
        raise RefusedError(NO_ROOT)
    found = [layer for root in _roots(edit, op) if (layer := layer_norm_of(edit, root)) is not None]
    if not found:
        raise RefusedError("it is not part of a layer normalization over the channels")
    layer = found[0]
    channels = edit.shape(layer.source)[-1]
    dtype, name = edit.dtype(layer.source), edit.label(layer.result)
    if dtype not in ("float32", "int8") or edit.dtype(layer.result) != dtype:
        raise RefusedError(f"there is no L2 normalization of {dtype}")
    maker = edit.producer(layer.result)
    new, centred = [], layer.difference
    if centred is None:
        centred = _tensor(edit, layer, "centred", _centred_scale(edit, layer))
        new.append(edit.make("SUB", [layer.source, layer.mean], [centred], "SubOptions"))
    unit = _tensor(edit, layer, "unit", _NORM)
    new.append(edit.make("L2_NORMALIZATION", [centred], [unit], "L2NormOptions"))
    gain, offset = layer.gain * math.sqrt(channels), layer.offset
    plain = not offset.any()
    scaled = layer.result if plain else _tensor(edit, layer, "scaled", _scale(edit, layer))
    new.append(edit.make("MUL", [unit, _constant(edit, gain, dtype, name)], [scaled], "MulOptions"))
    if not plain:
        offsets = _constant(edit, offset, dtype, name)
        new.append(edit.make("ADD", [scaled, offsets], [layer.result], "AddOptions"))
    edit.replace(maker, new)
    _sweep(edit)
    if any(one is op for one in edit.ops):
        raise RefusedError("it is not part of the layer normalization that was found")
    return Change("L2_NORMALIZATION of what is left of the mean", "approximate")


def _roots(edit: TFLiteEditor, op: Any) -> list[Any]:
    """The operators that take the root of a variance, the nearest behind `op` first."""
    roots = [one for one in edit.ops if edit.name(one) in ROOTS]
    at = edit.position(op)
    return sorted(roots, key=lambda one: ((place := edit.position(one)) < at, abs(place - at)))


def _tensor(
    edit: TFLiteEditor, layer: LayerNorm, part: str, quantization: Quantization | None
) -> int:
    dtype = edit.dtype(layer.source)
    return edit.add_tensor(
        edit.shape(layer.source), dtype, f"{edit.label(layer.result)}/{part}",
        quantization if dtype == "int8" else None, like=layer.source,
    )  # fmt: skip


def _centred_scale(edit: TFLiteEditor, layer: LayerNorm) -> Quantization | None:
    """The scale of x - m: its largest square is that of the tensor of squares."""
    squares = edit.quantization(layer.spread)
    if squares is None:
        return None
    most = squares.scale[0] * (127 - squares.zero_point[0])
    return Quantization((math.sqrt(most) / 127,), (0,))


def _scale(edit: TFLiteEditor, layer: LayerNorm) -> Quantization | None:
    """The scale of the result before the offset is added."""
    result = edit.quantization(layer.result)
    if result is None:
        return None
    ends = [result.scale[0] * (end - result.zero_point[0]) for end in (-128, 127)]
    most = max(map(abs, ends)) + float(np.abs(layer.offset).max())
    return Quantization((most / 127,), (0,))


def _constant(edit: TFLiteEditor, values: NDArray[np.float64], dtype: str, name: str) -> int:
    one = values[:1] if not np.ptp(values) else values
    if dtype == "float32":
        return edit.add_constant(one.astype(np.float32), f"{name}/constant")
    scale = Quantization((float(np.abs(one).max()) / 127,), (0,))
    return edit.add_constant(scale.quantize(one, "int8"), f"{name}/constant", scale)


def _sweep(edit: TFLiteEditor) -> None:
    """Takes operators away whose results nothing reads any more."""
    for op in reversed(list(edit.ops)):
        if not any(edit.consumers(index) or index in edit.outputs for index in op.outputs):
            edit.ops.remove(op)
