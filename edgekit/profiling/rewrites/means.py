"""Means over height and width: as average pools, whole or in two steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.schema.fixing import Promise

_MOST_WINDOW = 256  # of a pool's height: Vela's limit
_MOST_VALUES = 128 * 128  # of a pool and of a mean: what the Edge TPU is known to map
_MOST_AXIS = 4096  # of a mean: Vela's limit


@rewrite("small_mean", ops="MEAN")
def split_mean(site: Site[TFLiteEditor]) -> Change:
    """Splits a large mean over height and width: an average pool over equal parts, then a mean.

    The mean of means over parts of equal size is the mean; in int8 the parts are rounded.
    """
    edit, op = site.model, operator(site)
    source = _pooled(edit, op)
    _, height, width, channels = edit.shape(source)
    tall, wide = even_parts(height, width)
    shape = (edit.shape(source)[0], height // tall, width // wide, channels)
    part = edit.add_tensor(
        shape, edit.dtype(source), f"{edit.label(op.outputs[0])}/parts",
        edit.quantization(source), like=source,
    )  # fmt: skip
    pool = _pool(edit, source, part, tall, wide)
    op.inputs = [part, *op.inputs[1:]]
    edit.replace(op, [pool, op])
    words = f"the mean of {shape[1]}x{shape[2]} means over {tall}x{wide}"
    return Change(words, _promise(edit, source))


@rewrite(
    "operator", "optimized_operator", "mean_over_depth", "constant_axes",
    "float_only", "reduction_axes", "constant_parameters",
    ops="MEAN",
)  # fmt: skip
def pool_mean(site: Site[TFLiteEditor]) -> Change:
    """Makes a mean over height and width an average pool over the whole map, and a reshape.

    Where the int8 mean has a scale of its own, a QUANTIZE to it follows the pool.
    """
    edit, op = site.model, operator(site)
    source, result = _pooled(edit, op), op.outputs[0]
    batch, height, width, channels = edit.shape(source)
    new, last = [], result
    rank = len(edit.shape(result))
    parameters, wanted = edit.quantization(source), edit.quantization(result)
    name = edit.label(result)
    if parameters != wanted:
        last = edit.add_tensor(
            edit.shape(result), edit.dtype(source), f"{name}/pooled", parameters, like=source
        )
        new.append(edit.make("QUANTIZE", [last], [result], "QuantizeOptions"))
    pooled = last
    if rank == 2:
        pooled = edit.add_tensor(
            (batch, 1, 1, channels), edit.dtype(source), f"{name}/pool", parameters, like=source
        )
        shape = np.array([-1, channels], np.int32)
        form = edit.add_constant(shape, f"{name}/shape")
        new.insert(
            0,
            edit.make("RESHAPE", [pooled, form], [last], "ReshapeOptions", newShape=[-1, channels]),
        )
    new.insert(0, _pool(edit, source, pooled, height, width))
    edit.replace(op, new)
    return Change(f"an average pool over {height}x{width}", _promise(edit, source))


def mean_axes(edit: TFLiteEditor, op: Any) -> list[int] | None:
    """The axes that a mean is over, in order and from the front; None: they are computed."""
    axes = edit.values(op.inputs[1]) if len(op.inputs) > 1 else None
    rank = len(edit.shape(op.inputs[0]))
    return None if axes is None else sorted(int(axis) % rank for axis in axes.reshape(-1))


def _pooled(edit: TFLiteEditor, op: Any) -> int:
    """The map that is averaged over height and width.

    Raises:
        RefusedError: it is another mean.
    """
    source = int(op.inputs[0])
    if len(edit.shape(source)) != 4 or mean_axes(edit, op) != [1, 2]:
        raise RefusedError("the mean is not over height and width")
    if edit.dtype(source) not in ("float32", "int8", "uint8"):
        raise RefusedError(f"there is no average pool of {edit.dtype(source)}")
    return source


def even_parts(height: int, width: int) -> tuple[int, int]:
    """The window that leaves the most even work to the pool and to the mean."""
    found = [
        (max(tall * wide, rows * columns), tall, wide)
        for tall in range(1, min(height, _MOST_WINDOW) + 1)
        if height % tall == 0
        for wide in range(1, min(width, _MOST_WINDOW) + 1)
        if width % wide == 0 and tall * wide > 1
        for rows, columns in [(height // tall, width // wide)]
        if max(tall * wide, rows * columns) <= _MOST_VALUES and max(rows, columns) <= _MOST_AXIS
    ]
    if not found:
        raise RefusedError(f"{height}x{width} has no divisors for parts of equal size")
    _, tall, wide = min(found)
    return tall, wide


def _pool(edit: TFLiteEditor, source: int, result: int, tall: int, wide: int) -> Any:
    return edit.make(
        "AVERAGE_POOL_2D", [source], [result], "Pool2DOptions", padding=1,
        strideH=tall, strideW=wide, filterHeight=tall, filterWidth=wide,
    )  # fmt: skip


def _promise(edit: TFLiteEditor, source: int) -> Promise:
    return "rounding" if edit.dtype(source) == "float32" else "approximate"
