"""The ranges of a float ONNX model's activations, chosen as a plan asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from edgekit.base.extras import require
from edgekit.models.ranges import Calibration, Histogram, choose_range
from edgekit.runtimes.session import Arrays

_PURPOSE = "to quantize with ONNX Runtime"


def activation_ranges(
    model: Any,
    nodes: Collection[str],
    samples: list[Arrays],
    calibration: Calibration,
    percentile: float,
) -> dict[str, tuple[float, float]]:
    """Chooses a range for each float tensor that some nodes take or make.

    Args:
        model: an `onnx.ModelProto`.
        nodes: their names.
        samples: inputs by name.
        calibration: how the ranges are chosen.
        percentile: in percent, for that.
    """
    chosen = [node for node in model.graph.node if node.name in nodes]
    names = {name for node in chosen for name in (*node.input, *node.output)}
    ends: dict[str, tuple[float, float]] = {}
    for tensors in _record(model, names, samples):
        for name, value in tensors.items():
            low, high = ends.get(name, (0.0, 0.0))
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
    histograms = {name: Histogram.between(*between) for name, between in ends.items()}
    for tensors in _record(model, names, samples):
        for name, value in tensors.items():
            histograms[name].add(value)
    return {name: choose_range(h, calibration, percentile) for name, h in histograms.items()}


def _record(model: Any, names: Collection[str], samples: list[Arrays]) -> Iterator[Arrays]:
    """Those of the named tensors that are activations in floats, for each of the samples."""
    onnx = require("onnx", purpose=_PURPOSE)
    runtime = require("onnxruntime", purpose=_PURPOSE)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    graph = opened.graph
    known = {value.name for value in graph.output}
    made = [n for node in graph.node for n in node.output if n in names and n not in known]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    session = runtime.InferenceSession(
        opened.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs = [value.name for value in session.get_outputs()]
    for sample in samples:
        values = dict(zip(outputs, session.run(outputs, sample), strict=True)) | sample
        yield {
            name: value
            for name, value in values.items()
            if name in names and value.dtype == np.float32 and value.size
        }
