"""Chosen ranges for the activations of a model that NNCF has quantized: it knows no least error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.base.extras import require
from edgekit.models.ranges import Calibration, Histogram, choose_range
from edgekit.runtimes.session import Arrays

_EDGES = range(1, 5)  # of FakeQuantize's inputs: both ends before and after
_SAME = 0.02


def choose_ranges(
    model: Any, samples: list[Arrays], calibration: Calibration, percentile: float
) -> int:
    """Sets the ranges of a model's activations, in place.

    Signed ranges stay symmetric and those from zero start there. Ranges a channel stay as they
    are, and so do those of what is concatenated, which is to have one scale.

    Args:
        model: an `openvino.Model` with FakeQuantize operators and integer weights.
        samples: by input name, with a batch axis of 1.
        calibration: how the ranges are chosen.
        percentile: in percent, for that.

    Returns:
        How many were set.
    """
    ops = require("openvino.opset13", purpose="to quantize for OpenVINO")
    chosen = [node for node in model.get_ordered_ops() if _can_be_chosen(node)]
    names = [node.get_friendly_name() for node in chosen]
    lows, highs = np.full(len(chosen), np.inf), np.full(len(chosen), -np.inf)
    run = _float_inputs(model, names)
    for values in _each(run, samples):
        lows = np.minimum(lows, [value.min() for value in values])
        highs = np.maximum(highs, [value.max() for value in values])
    histograms = [Histogram.between(*ends) for ends in zip(lows, highs, strict=True)]
    for values in _each(run, samples):
        for histogram, value in zip(histograms, values, strict=True):
            histogram.add(value)
    for node, histogram in zip(chosen, histograms, strict=True):
        low, high = _on_its_grid(node, *choose_range(histogram, calibration, percentile))
        for edge, value in zip(_EDGES, (low, high, low, high), strict=True):
            constant = ops.constant(np.full(_edge(node, edge).shape, value, np.float32))
            node.input(edge).replace_source_output(constant.output(0))
    model.validate_nodes_and_infer_types()
    return len(chosen)


def _can_be_chosen(node: Any) -> bool:
    if node.get_type_name() != "FakeQuantize":
        return False
    if any(node.input_value(e).get_node().get_type_name() != "Constant" for e in _EDGES):
        return False
    low, high, out_low, out_high = (_edge(node, edge) for edge in _EDGES)
    readers = [port.get_node().get_type_name() for port in node.output(0).get_target_inputs()]
    return (
        low.size == 1
        and np.array_equal(low, out_low)
        and np.array_equal(high, out_high)
        and "Concat" not in readers
    )


def _edge(node: Any, index: int) -> Any:
    return np.asarray(node.input_value(index).get_node().data)


def _float_inputs(model: Any, names: list[str]) -> Any:
    """A compiled model without rounding, whose results are what the named operators quantize."""
    ov = require("openvino", purpose="to quantize for OpenVINO")
    copy = model.clone()
    nodes = [node for node in copy.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    for node in nodes:
        for port in node.output(0).get_target_inputs():
            port.replace_source_output(node.input_value(0))
    by_name = {node.get_friendly_name(): node for node in nodes}
    results = [ov.opset13.result(by_name[name].input_value(0)) for name in names]
    made = ov.Model(results, copy.get_parameters(), "ranges")
    return ov.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _each(run: Any, samples: list[Arrays]) -> Iterator[list[Any]]:
    for sample in samples:
        found = run(sample)
        yield [found[index] for index in range(len(run.outputs))]


def _on_its_grid(node: Any, low: float, high: float) -> tuple[float, float]:
    """The nearest range of the kind that NNCF chose: symmetric, from zero, or with a zero point."""
    steps = node.get_attributes()["levels"] - 1
    was_low, was_high = float(_edge(node, 1).item()), float(_edge(node, 2).item())
    if was_low >= 0:
        return 0.0, high
    if abs(was_low + was_high) < _SAME * was_high:
        largest, half = max(-low, high), (steps + 1) // 2
        return (-largest * half / (half - 1), largest) if steps % 2 else (-largest, largest)
    step = (high - low) / steps
    zero = round(-low / step)
    return -zero * step, (steps - zero) * step
