"""Resizing in modes and steps that a target takes, where they are the same.

Resizing along an axis is a matrix; two modes, or several steps, are the same where the matrices
are. The formulas are those of TFLite's kernels.
"""

from __future__ import annotations

import itertools
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.schema.fixing import Promise

Mode = tuple[bool, bool]
"""align_corners, half_pixel_centers."""
_MODES: tuple[Mode, ...] = ((False, False), (True, False), (False, True))
_WORDS = {(False, False): "plain", (True, False): "align_corners", (False, True): "half_pixel"}
RULES = ("resize_by_two", "resize_by_power", "one_alignment", "small_resize")
_OPS = "RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR"
_STEPS = (2, 4, 8)
_SAME = 1e-6  # of two matrices of float32 weights


@rewrite(*RULES, ops=_OPS)
def resize_mode(site: Site[TFLiteEditor]) -> Change:
    """Resizes in another mode (align_corners, half_pixel_centers) that is the same there."""
    edit, op = site.model, operator(site)
    now = _mode(op)
    sizes = _sizes(edit, op)
    wanted = [_matrix(edit.name(op), *pair, now) for pair in sizes]
    for mode in _MODES:
        found = [_matrix(edit.name(op), *pair, mode) for pair in sizes]
        if mode != now and all(map(_equal, found, wanted)):
            op.builtinOptions.alignCorners, op.builtinOptions.halfPixelCenters = mode
            return Change(f"mode {_WORDS[mode]}", _promise(edit, op))
    raise RefusedError("no other mode is the same at these sizes")


@rewrite(*RULES, ops=_OPS)
def resize_steps(site: Site[TFLiteEditor]) -> Change:
    """Resizes by 16 and more in steps of up to 8, where that is the same: from 1x1 it always is."""
    edit, op = site.model, operator(site)
    name, mode = edit.name(op), _mode(op)
    sizes = _sizes(edit, op)
    heights, widths = _stations(*sizes)
    for stations in (heights, widths):
        product = np.eye(stations[0])
        for before, after in itertools.pairwise(stations):
            product = _matrix(name, before, after, mode) @ product
        if not _equal(product, _matrix(name, stations[0], stations[-1], mode)):
            raise RefusedError(f"in mode {_WORDS.get(mode, 'both')} steps are not the same")
    batch, _, _, channels = edit.shape(op.inputs[0])
    source, result, new = op.inputs[0], op.outputs[0], []
    for number, (height, width) in enumerate(zip(heights[1:], widths[1:], strict=True)):
        made = result
        if number < len(heights) - 2:
            made = edit.add_tensor(
                (batch, height, width, channels), edit.dtype(result),
                f"{edit.label(result)}/{number}", edit.quantization(result), like=result,
            )  # fmt: skip
        size = edit.add_constant(np.array([height, width], np.int32), f"{edit.label(made)}/size")
        options = "ResizeBilinearOptions" if name == "RESIZE_BILINEAR" else (
            "ResizeNearestNeighborOptions"
        )  # fmt: skip
        new.append(
            edit.make(
                name, [source, size], [made], options,
                alignCorners=mode[0], halfPixelCenters=mode[1],
            )
        )  # fmt: skip
        source = made
    edit.replace(op, new)
    places = [f"{tall}x{wide}" for tall, wide in zip(heights[1:], widths[1:], strict=True)]
    words = f"{len(places)} steps: to {' and '.join(places)}"
    return Change(words, _promise(edit, op))


def _stations(down: tuple[int, int], across: tuple[int, int]) -> tuple[list[int], list[int]]:
    """Heights and widths from the first to the last.

    Raises:
        RefusedError: there are no steps between them.
    """
    (height, tall), (width, wide) = down, across
    if (height, width) == (1, 1):  # one value everywhere, by whatever sizes
        count = 1
        while _STEPS[-1] ** count < max(tall, wide):
            count += 1
        if count < 2:
            raise RefusedError("it is one step already")
        sides = ([min(_STEPS[-1] ** n, end) for n in range(count)] for end in (tall, wide))
        heights, widths = ([*side, end] for side, end in zip(sides, (tall, wide), strict=True))
        return heights, widths
    factor = tall // height
    if (height * factor, width * factor) != (tall, wide):
        raise RefusedError("it does not resize by one whole number")
    steps = list(itertools.accumulate([1, *power_factors(factor)], mul))
    return [height * step for step in steps], [width * step for step in steps]


def power_factors(factor: int) -> list[int]:
    """Factors of 2 to 8 whose product it is, at least two of them."""
    steps: list[int] = []
    while factor > 1:
        step = next((s for s in reversed(_STEPS) if factor % s == 0 and s < factor), None)
        if step is None:
            step = factor if factor in _STEPS else 0
        if not step:
            raise RefusedError("it does not resize by a power of two")
        steps.append(step)
        factor //= step
    if len(steps) < 2:
        raise RefusedError("it is one step already")
    return steps


def _mode(op: Any) -> Mode:
    options = op.builtinOptions
    if options is None:
        return (False, False)
    return bool(options.alignCorners), bool(options.halfPixelCenters)


def _sizes(edit: TFLiteEditor, op: Any) -> list[tuple[int, int]]:
    """Height and width, before and after."""
    before, after = edit.shape(op.inputs[0]), edit.shape(op.outputs[0])
    if len(before) != 4 or len(after) != 4 or edit.values(op.inputs[1]) is None:
        raise RefusedError("it does not resize a map to a known size")
    return [(before[axis], after[axis]) for axis in (1, 2)]


def _promise(edit: TFLiteEditor, op: Any) -> Promise:
    if edit.name(op) == "RESIZE_NEAREST_NEIGHBOR":
        return "bits"
    if edit.shape(op.inputs[0])[1:3] == (1, 1) and edit.dtype(op.inputs[0]) != "float32":
        return "bits"  # weights that add up to one, of one value
    return "rounding" if edit.dtype(op.inputs[0]) == "float32" else "approximate"


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.abs(one - other).max() <= _SAME)


def _matrix(name: str, before: int, after: int, mode: Mode) -> NDArray[np.float64]:
    """What each of `after` places takes of each of `before`."""
    aligned, half = mode
    corners = aligned and after > 1
    scale = (before - 1) / (after - 1) if corners else before / after
    places = np.arange(after)
    found = np.zeros((after, before))
    if name == "RESIZE_NEAREST_NEIGHBOR":  # in float32, as the kernel: ties fall as they fall there
        at = (places + np.float32(0.5 if half else 0)).astype(np.float32) * np.float32(scale)
        nearest = np.floor(at + np.float32(0.5)) if aligned else np.floor(at)
        found[places, np.clip(nearest, 0, before - 1).astype(int)] = 1
        return found
    at = (places + 0.5) * scale - 0.5 if half else places * scale
    low = np.maximum(np.floor(at), 0).astype(int)
    low = np.minimum(low, before - 1)
    high = np.minimum(np.ceil(at), before - 1).astype(int).clip(0)
    share = np.clip(at - low, 0, 1)
    np.add.at(found, (places, low), 1 - share)
    np.add.at(found, (places, high), share)
    return found
