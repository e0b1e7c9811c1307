"""A repair for OpenVINO's CPU plugin: it forgets to round where a residual sum follows a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.base.extras import require

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")


def round_before_add(model: Any) -> int:
    """Spells out the quantization of a layer's output that goes into a sum, in place.

    The plugin fuses layer, FakeQuantize, Add, FakeQuantize into one kernel and drops the rounding
    of the first FakeQuantize ("special residual pattern"), so that many of a residual block's
    outputs are off by a step (27% after the first one of MLPerf Tiny's ResNet-8). Multiply, Clamp,
    Round, Multiply say the same and are fused as well, with the rounding.

    Args:
        model: an `openvino.Model` with FakeQuantize operators.

    Returns:
        How many were spelled out.
    """
    ops = require("openvino.opset13", purpose="to convert to OpenVINO")
    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Add":
            continue
        for port in node.inputs():
            quantizer = port.get_source_output().get_node()
            if quantizer.get_type_name() == "FakeQuantize" and _is_layer_output(quantizer):
                spelled_out = _explicit(ops, quantizer)
                if spelled_out is not None:
                    port.replace_source_output(spelled_out.output(0))
                    count += 1
    model.validate_nodes_and_infer_types()
    return count


def _is_layer_output(quantizer: Any) -> bool:
    """Whether it quantizes a layer, with or without bias, for one reader."""
    if len(quantizer.output(0).get_target_inputs()) != 1:
        return False
    source = quantizer.input_value(0).get_node()
    while source.get_type_name() in ("Add", "Relu", "Clamp"):
        if source.get_type_name() == "Add" and not _is_constant(source.input_value(1)):
            return False
        source = source.input_value(0).get_node()
    return source.get_type_name() in _LAYERS


def _is_constant(output: Any) -> bool:
    return bool(output.get_node().get_type_name() == "Constant")


def _explicit(ops: Any, quantizer: Any) -> Any | None:
    """X / scale, limited to the integers, rounded, times scale; None if it is no such grid."""
    ranges = [quantizer.input_value(index).get_node() for index in range(1, 5)]
    if not all(node.get_type_name() == "Constant" for node in ranges):
        return None
    low, high, out_low, out_high = (np.asarray(node.data, np.float64) for node in ranges)
    if low.size != 1 or not (np.array_equal(low, out_low) and np.array_equal(high, out_high)):
        return None
    levels = quantizer.get_attributes()["levels"] - 1
    scale = (float(high.item()) - float(low.item())) / levels
    first = round(float(low.item()) / scale)
    rank = len(quantizer.get_output_partial_shape(0))

    def constant(value: float) -> Any:
        return ops.constant(np.full([1] * rank, value, np.float32))

    steps = ops.multiply(quantizer.input_value(0), constant(1 / scale))
    limited = ops.clamp(steps, float(first), float(first + levels))
    return ops.multiply(ops.round(limited, "half_to_even"), constant(scale))
