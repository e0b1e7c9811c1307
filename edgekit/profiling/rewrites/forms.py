"""The same operator in another form that a target takes: results are the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite

_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}
_MOST_CONCATENATED = 4


@rewrite("leading_squeeze", "batch_untouched", "operator", ops="EXPAND_DIMS SQUEEZE TRANSPOSE")
def reshape(site: Site[TFLiteEditor]) -> Change:
    """Writes SQUEEZE and EXPAND_DIMS as RESHAPE, and a TRANSPOSE that only moves axes of one."""
    edit, op = site.model, operator(site)
    source, result = op.inputs[0], op.outputs[0]
    if edit.name(op) == "TRANSPOSE":
        order, shape = edit.values(op.inputs[1]), edit.shape(source)
        if order is None or edit.free(source):
            raise RefusedError("its order or its batch is not fixed")
        wide = [int(axis) for axis in order if shape[axis] > 1]
        if wide != sorted(wide):
            raise RefusedError("it changes the order of values")
    edit.replace(op, [reshape_to(edit, source, result)])
    return Change(f"RESHAPE for {edit.name(op)}", "bits")


@rewrite("no_fused_activation", "fused_activation", "fused_relu")
def activation_apart(site: Site[TFLiteEditor]) -> Change:
    """Makes a fused activation an operator of its own."""
    edit, op = site.model, operator(site)
    number = getattr(op.builtinOptions, "fusedActivationFunction", 0)
    if number not in _ACTIVATIONS:
        raise RefusedError("it has no fused activation that is an operator too")
    result = op.outputs[0]
    if _ACTIVATIONS[number] == "TANH" and edit.dtype(result) != "float32":
        raise RefusedError("TANH has a scale of its own in integers")
    inner = edit.add_tensor(
        edit.shape(result), edit.dtype(result), f"{edit.label(result)}/linear",
        edit.quantization(result), like=result,
    )  # fmt: skip
    op.builtinOptions.fusedActivationFunction = 0
    op.outputs = [inner]
    edit.replace(op, [op, edit.make(_ACTIVATIONS[number], [inner], [result])])
    return Change(f"{_ACTIVATIONS[number]} behind {edit.name(op)}", "bits")


@rewrite("plain_slice", ops="STRIDED_SLICE")
def slice_and_reshape(site: Site[TFLiteEditor]) -> Change:
    """Takes single indices of a STRIDED_SLICE as slices of one, and a RESHAPE behind."""
    edit, op = site.model, operator(site)
    options = op.builtinOptions
    if options.ellipsisMask or options.newAxisMask or not options.shrinkAxisMask:
        raise RefusedError("it has an ellipsis or a new axis")
    begin, end, steps = (edit.values(index) for index in op.inputs[1:4])
    if begin is None or end is None or steps is None:
        raise RefusedError("its bounds are computed")
    source, result = edit.shape(op.inputs[0]), op.outputs[0]
    kept = iter(edit.shape(result))
    shape = []
    for axis, size in enumerate(source):
        if not options.shrinkAxisMask >> axis & 1:
            shape.append(next(kept))
            continue
        first = int(begin[axis]) % size
        begin[axis], end[axis], steps[axis] = first, first + 1, 1
        options.beginMask &= ~(1 << axis)
        options.endMask &= ~(1 << axis)
        shape.append(1)
    options.shrinkAxisMask = 0
    name = edit.label(result)
    part = edit.add_tensor(
        shape, edit.dtype(result), f"{name}/slice", edit.quantization(result), like=result
    )
    bounds = [edit.add_constant(values, f"{name}/bounds") for values in (begin, end, steps)]
    op.inputs, op.outputs = [op.inputs[0], *bounds], [part]
    edit.replace(op, [op, reshape_to(edit, part, result)])
    return Change("a slice of one and a RESHAPE", "bits")


@rewrite("few_inputs", ops="CONCATENATION")
def concatenate_in_steps(site: Site[TFLiteEditor]) -> Change:
    """Concatenates four tensors at a time."""
    edit, op = site.model, operator(site)
    inputs, result, axis = list(op.inputs), op.outputs[0], op.builtinOptions.axis
    if len(inputs) <= _MOST_CONCATENATED:
        raise RefusedError("there is one input only, or few")
    new: list[Any] = []
    while len(inputs) > _MOST_CONCATENATED:
        taken, inputs = inputs[:_MOST_CONCATENATED], inputs[_MOST_CONCATENATED:]
        shape = list(edit.shape(result))
        shape[axis] = sum(edit.shape(index)[axis] for index in taken)
        part = edit.add_tensor(
            shape, edit.dtype(result), f"{edit.label(result)}/{len(new)}",
            edit.quantization(result), like=result,
        )  # fmt: skip
        new.append(edit.make("CONCATENATION", taken, [part], "ConcatenationOptions", axis=axis))
        inputs = [part, *inputs]
    op.inputs = inputs
    edit.replace(op, [*new, op])
    return Change(f"{len(new) + 1} concatenations", "bits")


def reshape_to(edit: TFLiteEditor, source: int, result: int) -> Any:
    """A RESHAPE from one tensor to another, not yet among the operators."""
    shape = list(edit.shape(result))
    if edit.free(result):
        shape[0] = -1
    form = edit.add_constant(np.array(shape, np.int32), f"{edit.label(result)}/shape")
    return edit.make("RESHAPE", [source, form], [result], "ReshapeOptions", newShape=shape)
