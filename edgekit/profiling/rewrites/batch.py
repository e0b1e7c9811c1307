"""A batch that the file leaves free, and the operators that ask for it at run time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ToolError
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import (
    Change,
    RefusedError,
    Site,
    UnrelatedError,
    operator,
    rewrite,
)
from edgekit.runtimes.recording import LiteRTRecorder

_BY_VALUE = frozenset(
    {"CALL_ONCE", "IF", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "UNIQUE", "WHERE",
     "WHILE"}
)  # fmt: skip
"""Operators whose results may have another shape for other values."""
_OF_OPERATORS = ("operator", "optimized_operator")
"""Rules that an operator breaks by being there."""
_STATEFUL = frozenset(
    {"ASSIGN_VARIABLE", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "READ_VARIABLE", "VAR_HANDLE"}
)


@rewrite(
    "static_shapes", "control_shapes", "operator", "eight_bit", "integer_maps", "no_32_bit",
    "no_64_bit", "quantized", "constant_parameters", "four_dimensions", "three_dimensions",
    "floats_or_eight_bit", "slice_rank", "plain_slice", "optimized_operator",
)  # fmt: skip
def fix_batch(site: Site[TFLiteEditor]) -> Change:
    """Fixes a free batch to 1, and with it every shape.

    What the file computes from shapes becomes constant and its operators (SHAPE, STRIDED_SLICE,
    PACK) go. A free height, width or length is not chosen for you.
    """
    edit = site.model
    edit.content()  # numbers the tensors as the file will
    for index in edit.inputs:
        if any(size == -1 for size in edit.signature(index)[1:]):
            raise RefusedError(f"input {edit.label(index)} has a free size beside its batch")
        if edit.shape(index)[:1] not in ((), (1,)) and _free(edit, index):
            raise RefusedError(f"input {edit.label(index)} was written for another batch than 1")
    free = [index for op in edit.ops for index in (*op.inputs, *op.outputs) if _free(edit, index)]
    shaped = [op for op in edit.ops if edit.name(op) == "SHAPE"]
    if not (free or shaped):
        raise UnrelatedError("its shapes are fixed")
    by_value = sorted({edit.name(op) for op in edit.ops} & _BY_VALUE)
    if by_value or edit.graphs > 1:
        raise RefusedError(f"shapes depend on values: {', '.join(by_value) or 'several graphs'}")
    for index in edit.inputs:
        edit.set_shape(index, edit.shape(index))
    found = operator(site) if site.finding.rule in _OF_OPERATORS else None
    values = _run_once(edit)
    for index, array in values.items():
        edit.set_shape(index, array.shape)
    folded = _fold(edit, values)
    if any(op is found for op in edit.ops):
        raise UnrelatedError("the operator has nothing to do with the batch")
    count = f", {folded} operators on shapes are gone" if folded else ""
    floats = any(edit.dtype(index) == "float32" for index in edit.outputs)
    return Change(f"a batch of 1{count}", "rounding" if floats else "bits")


def _free(edit: TFLiteEditor, index: int) -> bool:
    return index >= 0 and edit.free(index)


def _run_once(edit: TFLiteEditor) -> dict[int, NDArray[Any]]:
    """What every operator makes of inputs of zeros: their shapes, and what depends on shapes."""
    content = edit.content()
    wanted = {index: edit.label(index) for op in edit.ops for index in op.outputs}
    with tempfile.TemporaryDirectory(prefix="edgekit-fix-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(content)
        try:
            with LiteRTRecorder(path, wanted) as session:
                zeros = {
                    info.name: np.zeros([size or 1 for size in info.shape], info.dtype)
                    for info in session.inputs
                }
                found = session.run(zeros)
        except (ToolError, ValueError) as error:
            raise RefusedError(f"it does not run with a batch of 1: {error}") from None
    return {int(name): array for name, array in found.items()}


def _fold(edit: TFLiteEditor, values: dict[int, NDArray[Any]]) -> int:
    """Makes constants of what is computed from shapes alone; how many operators go."""
    known: set[int] = set()
    for op in list(edit.ops):
        name = edit.name(op)
        given = [index for index in op.inputs if index >= 0]
        constant = bool(given) and all(i in known or edit.values(i) is not None for i in given)
        if name in _STATEFUL or not (name == "SHAPE" or constant):
            continue
        if not known.intersection(given) and name != "SHAPE":
            continue  # it has to do with weights, not with shapes
        if any(index in edit.outputs for index in op.outputs):
            continue
        known.update(op.outputs)
        edit.ops.remove(op)
    for index in known:
        array = values[index]
        if edit.consumers(index):
            scale = edit.quantization(index)
            edit.reroute(index, edit.add_constant(array, edit.label(index), scale))
    return _removed(edit, known)


def _removed(edit: TFLiteEditor, known: set[int]) -> int:
    made = {index for op in edit.ops for index in op.outputs}
    return len(known - made)
