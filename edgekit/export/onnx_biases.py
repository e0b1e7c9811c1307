"""Bias correction of a quantized ONNX model, layer after layer (Nagel et al. 2019, section 4.2).

Rounding shifts the mean of what a layer makes. On calibration samples the shift is measured against
the float model, with all layers before already corrected, and taken off the layer's bias. A layer
whose weights are int8 values already in the float model keeps its bias: whoever rounded them has
corrected it, against a float model that is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.export.integer_nodes import CONVOLUTIONS, LAYERS
from edgekit.runtimes.session import Arrays

_MOST = 128  # each takes a run of what lies before it
_NEAR = 0.01  # of a step
_PURPOSE = "to quantize with ONNX Runtime"


@dataclass(frozen=True)
class _Bias:
    """A constant that is added to a layer's result.

    Attributes:
        constant: name of the initializer, float32, or int32 in steps.
        steps: that, for int32.
        node: that adds it, by name; the layer itself or an Add behind it.
        axis: that it runs along; None: as broadcasting has it.
    """

    constant: str
    steps: NDArray[Any] | None
    node: str
    axis: int | None


def correct_biases(model: Any, reference: Any, samples: list[Arrays]) -> int:
    """Corrects the biases of a quantized model in place, if its outputs come nearer by that.

    Models of over 128 layers stay as they are.

    Args:
        model: an `onnx.ModelProto` with quantize-dequantize nodes.
        reference: the float model, with the same names of nodes.
        samples: inputs by name.

    Returns:
        How many biases were corrected.
    """
    numpy_helper = require("onnx.numpy_helper", purpose=_PURPOSE)
    found = _biases(model, reference)
    if not 0 < len(found) <= _MOST:
        return 0
    outputs = [value.name for value in model.graph.output]
    constants = {value.name: value for value in model.graph.initializer}
    values = {b.constant: _array(constants[b.constant]) for b in found}
    exact = _Runner(reference, [bias.node for bias in found], {})
    run = _Runner(model, [bias.node for bias in found], values)
    shapes = {name: value.shape for name, value in values.items()}
    wanted, means = _outputs_and_means(exact, found, outputs, samples, shapes)
    before = _distance(run, wanted, samples, values)
    corrected = dict(values)
    for bias in found:
        shift = _mean(run, bias, samples, corrected) - means[bias.constant]
        value = corrected[bias.constant]
        if bias.steps is None:
            corrected[bias.constant] = (value - shift).astype(value.dtype)
        else:
            steps = np.where(bias.steps > 0, bias.steps, 1)
            limits = np.iinfo(value.dtype)
            exact = np.rint(value - np.where(bias.steps > 0, shift / steps, 0))
            corrected[bias.constant] = np.clip(exact, limits.min, limits.max).astype(value.dtype)
    if not _distance(run, wanted, samples, corrected) < before:
        return 0
    for name, value in corrected.items():
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
    return len(found)


def _biases(model: Any, reference: Any) -> list[_Bias]:
    graph = model.graph
    constants = {value.name: value for value in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []

    def constant(name: str) -> tuple[str, NDArray[Any] | None] | None:
        if name in constants:
            return name, None
        maker = makers.get(name)
        if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in constants:
            return None
        if len(readers[maker.input[0]]) > 1 or len(readers[name]) > 1:
            return None
        return maker.input[0], _array(constants[maker.input[1]])

    for layer in _rounded_layers(model, reference):
        node, axis = layer, 1 if layer.op_type in CONVOLUTIONS else None
        name = layer.input[2] if len(layer.input) > 2 else ""
        if not name:
            node, axis = _added(layer, readers, constants), None
            if node is None:
                continue
            name = next((n for n in node.input if constant(n)), "")
        held = constant(name)
        shared = held is not None and len(readers[held[0]]) > 1
        kinds = (1, 6)  # float32, int32
        if held is None or shared or constants[held[0]].data_type not in kinds:
            continue
        found.append(_Bias(*held, node.name, axis))
    return found


def _rounded_layers(model: Any, reference: Any) -> list[Any]:
    """Layers whose weights the quantizer changed, in the order of the graph."""
    exact = {node.name: node for node in reference.graph.node}
    weights = {value.name: value for value in reference.graph.initializer}
    constants = {value.name: value for value in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in [node for node in model.graph.node if node.op_type in LAYERS]:
        maker = makers.get(node.input[1])
        before = weights.get(exact[node.name].input[1]) if node.name in exact else None
        if maker is None or before is None or maker.input[0] not in constants:
            continue
        codes, scale = (_array(constants[name]) for name in maker.input[:2])
        axes = [attribute.i for attribute in maker.attribute if attribute.name == "axis"]
        if scale.size > 1:
            shape = [1] * codes.ndim
            shape[axes[0] if axes else 1] = -1
            scale = scale.reshape(shape)
        if np.max(np.abs(_array(before) - codes * scale) / scale) > _NEAR:
            found.append(node)
    return found


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(require("onnx.numpy_helper", purpose=_PURPOSE).to_array(value))


def _added(layer: Any, readers: dict[str, list[Any]], constants: dict[str, Any]) -> Any:
    """The Add of a constant behind a layer without a bias, with at most new shapes between."""
    node = layer
    while len(readers.get(node.output[0], [])) == 1:
        node = readers[node.output[0]][0]
        if node.op_type == "Add" and any(name in constants for name in node.input):
            return node
        if node.op_type not in ("Mul", "Reshape", "Squeeze", "Unsqueeze"):
            return None
    return None


class _Runner:
    """A model whose inner results can be asked for, and whose biases can be changed."""

    def __init__(self, model: Any, nodes: list[str], biases: Arrays) -> None:
        onnx = require("onnx", purpose=_PURPOSE)
        runtime = require("onnxruntime", purpose=_PURPOSE)
        opened = onnx.ModelProto()
        opened.CopyFrom(model)
        graph = opened.graph
        wanted = set(nodes)
        known = {value.name for value in graph.output}
        self.made = {n.name: n.output[0] for n in graph.node if n.name in wanted}
        new = [name for name in self.made.values() if name not in known]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)
        # An initializer that is an input too may be given another value for each run.
        for value in graph.initializer:
            if value.name in biases:
                graph.input.append(
                    onnx.helper.make_tensor_value_info(value.name, value.data_type, value.dims)
                )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # it warns of biases that are inputs
        self._session = runtime.InferenceSession(
            opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._partly = runtime.RunOptions()
        self._partly.only_execute_path_to_fetches = True

    def __call__(self, names: list[str], sample: Arrays, biases: Arrays) -> list[Any]:
        results: list[Any] = self._session.run(names, {**sample, **biases}, self._partly)
        return results


def _outputs_and_means(
    exact: _Runner,
    biases: list[_Bias],
    outputs: list[str],
    samples: list[Arrays],
    shapes: dict[str, tuple[int, ...]],
) -> tuple[list[Arrays], Arrays]:
    """The float model's outputs for each of the samples, and the means of its layers' results."""
    names = list(dict.fromkeys([*outputs, *(exact.made[bias.node] for bias in biases)]))
    wanted, sums = [], dict.fromkeys(shapes, np.zeros(()))
    count = sum(map(_rows, samples))
    for sample in samples:
        found = dict(zip(names, exact(names, sample, {}), strict=True))
        wanted.append({name: found[name] for name in outputs})
        for bias in biases:
            mean = _like(found[exact.made[bias.node]], bias, shapes[bias.constant])
            sums[bias.constant] = sums[bias.constant] + mean * (_rows(sample) / count)
    return wanted, sums


def _mean(run: _Runner, bias: _Bias, samples: list[Arrays], biases: Arrays) -> NDArray[Any]:
    """The mean of a layer's results, in the shape of its bias."""
    total, count = np.zeros(()), sum(map(_rows, samples))
    for sample in samples:
        (found,) = run([run.made[bias.node]], sample, biases)
        total = total + _like(found, bias, biases[bias.constant].shape) * (_rows(sample) / count)
    return total


def _distance(run: _Runner, wanted: list[Arrays], samples: list[Arrays], biases: Arrays) -> float:
    """Sum of the squared errors of the outputs."""
    total = 0.0
    for sample, exact in zip(samples, wanted, strict=True):
        found = run(list(exact), sample, biases)
        pairs = zip(found, exact.values(), strict=True)
        total += sum(float(np.sum((a.astype(np.float64) - b) ** 2)) for a, b in pairs)
    return total


def _rows(sample: Arrays) -> int:
    return len(next(iter(sample.values())))


def _like(values: NDArray[Any], bias: _Bias, shape: tuple[int, ...]) -> NDArray[Any]:
    """Means over all axes that a bias does not have."""
    if bias.axis is not None:
        others = tuple(axis for axis in range(values.ndim) if axis != bias.axis)
        return np.asarray(values.mean(axis=others, dtype=np.float64))
    missing = values.ndim - len(shape)
    values = values.mean(axis=tuple(range(missing)), dtype=np.float64)
    alike = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return np.asarray(values.mean(axis=alike, keepdims=True))
