"""A repair for OpenVINO's CPU plugin: int8 kernels of depthwise layers, in the layout it knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.base.extras import require

_LAYOUT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")


def lay_out_grouped_kernels(model: Any) -> int:
    """Puts the int8 kernels of grouped convolutions in their final layout, in place.

    OpenVINO reads a depthwise layer of a .tflite file with its kernel in TFLite's layout; after
    its scales stand the operators that make it OpenVINO's. The plugin takes a layer for int8 only
    if its scales stand last, and computes it in float32 otherwise.

    Args:
        model: an `openvino.Model`.

    Returns:
        How many kernels changed.
    """
    ops = require("openvino.opset13", purpose="to convert to OpenVINO")
    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "GroupConvolution":
            continue
        layout, scaled = _layout(node.input_value(1).get_node())
        found = _codes_and_scales(scaled)
        if not layout or found is None:
            continue
        codes, scales = (_laid_out(array, layout) for array in found)
        # One scale where all along an axis are the same: it must not vary within a kernel.
        for axis in range(scales.ndim):
            first = scales.take([0], axis)
            scales = (
                first if np.array_equal(np.broadcast_to(first, scales.shape), scales) else scales
            )
        integers = ops.convert(ops.constant(np.ascontiguousarray(codes)), "f32")
        kernel = ops.multiply(integers, ops.constant(np.ascontiguousarray(scales)))
        kernel.set_friendly_name(node.input_value(1).get_node().get_friendly_name())
        node.input(1).replace_source_output(kernel.output(0))
        count += 1
    model.validate_nodes_and_infer_types()
    return count


def _layout(node: Any) -> tuple[list[Any], Any]:
    """The operators that only move a kernel's values, first to last, and what they move."""
    chain: list[Any] = []
    while node.get_type_name() in _LAYOUT:
        chain.insert(0, node)
        node = node.input_value(0).get_node()
    return chain, node


def _codes_and_scales(node: Any) -> tuple[Any, Any] | None:
    """Of int8 constant times constant; both in the shape of the kernel."""
    if node.get_type_name() != "Multiply":
        return None
    convert, scale = (node.input_value(index).get_node() for index in range(2))
    if convert.get_type_name() != "Convert" or scale.get_type_name() != "Constant":
        return None
    integers = convert.input_value(0).get_node()
    if integers.get_type_name() != "Constant" or integers.get_element_type().to_string() != "i8":
        return None
    codes = np.asarray(integers.data)
    return codes, np.broadcast_to(np.asarray(scale.data), codes.shape)


def _laid_out(array: Any, layout: list[Any]) -> Any:
    for node in layout:
        if node.get_type_name() == "Transpose":
            array = array.transpose(np.asarray(node.input_value(1).get_node().data))
        else:
            array = array.reshape(list(node.get_output_shape(0)))
    return array
