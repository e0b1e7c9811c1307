"""Reader of OpenVINO IR (.xml and .bin); needs the openvino package, does not compile the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ModelFileError
from edgekit.base.extras import require
from edgekit.base.files import existing_file
from edgekit.graph import openvino_ops
from edgekit.graph.layers import with_layers
from edgekit.graph.types import Graph, Op, Port, Tensor
from edgekit.schema.quantization import Quantization

_HEAD_BYTES = 4096
_ELEMENT = re.compile(r"(bf|f|i|u)(\d+)")
_PREFIX = {"bf": "bfloat", "f": "float", "i": "int", "u": "uint"}

# What stands between a stored weight and the operator that uses it: decompression, layout.
_WEIGHT_CHAIN = {
    *("Convert", "FakeQuantize", "Multiply", "Reshape", "Squeeze", "Subtract", "Transpose"),
    "Unsqueeze",
}

Key = tuple[int, int]  # a node's place in execution order, and the place among its outputs


def read_openvino(path: Path) -> Graph:
    """Reads an OpenVINO IR .xml with its .bin.

    A weight that is stored compressed and decompressed by operators is one constant of its stored
    type; those operators are left out. What FakeQuantize makes is a tensor of its integer type.

    Raises:
        InputError: the .xml does not exist.
        ModelFileError: it is no IR, or is corrupt, or its .bin is missing or truncated.
        MissingDependencyError: the openvino package is not installed.
    """
    existing_file(path, what="model file")
    openvino = require("openvino", purpose="to read OpenVINO models")
    where = str(path)
    with path.open("rb") as handle:
        if b"<net" not in handle.read(_HEAD_BYTES):
            raise ModelFileError("not an OpenVINO model: it has no <net> element", where=where)
    weights = path.with_suffix(".bin")
    try:
        model = openvino.Core().read_model(path)
        graph = _Reader(model).graph(path.stem, _sizes(path, weights))
    except Exception as error:  # whatever crosses the C++ boundary
        missing = "" if weights.is_file() else f" ('{weights.name}' is missing beside it)"
        raise ModelFileError(
            f"not a readable OpenVINO model: truncated or corrupt{missing}: {_first_line(error)}",
            where=where,
        ) from error
    if not graph.outputs:
        raise ModelFileError("not an OpenVINO model: it has no output", where=where)
    if not weights.is_file() and graph.parameters:
        raise ModelFileError(f"its weights are missing: no '{weights.name}' beside it", where=where)
    return graph


def _sizes(path: Path, weights: Path) -> int:
    return path.stat().st_size + (weights.stat().st_size if weights.is_file() else 0)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)


class _Reader:
    """Walks an openvino.Model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._nodes = list(model.get_ordered_ops())
        self._place = {node.get_name(): i for i, node in enumerate(self._nodes)}
        self._tensors: list[Tensor] = []
        self._tensor_of: dict[Key, int] = {}
        self._values: dict[int, Any] = {}  # nodes of constants, by tensor
        self._ops: list[Op] = []
        self._names: list[list[str]] = []

    def graph(self, name: str, file_bytes: int) -> Graph:
        """The model's graph."""
        for place, node in enumerate(self._nodes):
            kind = node.get_type_name()
            if kind == "Constant":
                self._values[self._add(place, node.output(0), constant=True)] = node
            elif kind == "Parameter":
                self._add(place, node.output(0))
            elif kind != "Result" and not self._fold(place, node):
                self._operator(place, node)
        inputs = tuple(
            Port(_port_name(port), self._tensor_of[self._key(port)]) for port in self._model.inputs
        )
        outputs = tuple(
            Port(_port_name(port), self._input(port.get_node(), 0)) for port in self._model.outputs
        )
        return Graph(
            format="openvino",
            name=self._model.get_friendly_name() or name,
            tensors=tuple(self._tensors),
            ops=tuple(with_layers(self._ops, self._names)),
            inputs=inputs,
            outputs=outputs,
            file_bytes=file_bytes,
        )

    def _key(self, output: Any) -> Key:
        return self._place[output.get_node().get_name()], output.get_index()

    def _input(self, node: Any, position: int) -> int:
        return self._tensor_of[self._key(node.input_value(position))]

    def _add(self, place: int, output: Any, *, constant: bool = False) -> int:
        index = len(self._tensors)
        names = output.get_names()
        name = min(names) if names else output.get_node().get_friendly_name()
        shape, dtype = _shape(output), _dtype(output)
        self._tensors.append(Tensor(index, name, shape, dtype, constant=constant))
        self._tensor_of[place, output.get_index()] = index
        return index

    def _fold(self, place: int, node: Any) -> bool:
        """Takes a step from a stored weight to its user into the weight's own tensor."""
        inputs = [self._input(node, i) for i in range(node.get_input_size())]
        if node.get_type_name() not in _WEIGHT_CHAIN or not inputs:
            return False
        tensors = [self._tensors[index] for index in inputs]
        output = Tensor(0, "", _shape(node.output(0)), _dtype(node.output(0)))
        weight = tensors[0]
        if not all(t.constant for t in tensors) or weight.elements != output.elements:
            return False
        quantization = weight.quantization
        if weight.dtype.startswith(("int", "uint")) and weight.dtype != "int64":
            quantization = self._dequantization(node.get_type_name(), weight, inputs)
        self._tensors[weight.index] = Tensor(
            weight.index,
            weight.name,
            output.shape,
            weight.dtype,
            quantization=_moved(quantization, weight.shape, output.shape),
            constant=True,
        )
        self._tensor_of[place, 0] = weight.index
        return True

    def _dequantization(self, kind: str, weight: Tensor, inputs: list[int]) -> Quantization | None:
        """Parameters of an integer weight after one more step: (weight - zero point) * scale."""
        before = weight.quantization
        if kind not in ("Multiply", "Subtract"):
            return before
        values = self._array(inputs[1])
        if values is None or (values.size > 1 and values.size != max(values.shape)):
            return before
        axis = int(np.argmax(values.shape)) if values.size > 1 else None
        numbers = values.reshape(-1)
        if kind == "Subtract":
            zero = tuple(int(number) for number in numbers)
            return Quantization((1.0,) * len(zero), zero, axis)
        zero = before.zero_point if before else (0,)
        if len(zero) != len(numbers):
            zero = zero * len(numbers) if len(zero) == 1 else (0,) * len(numbers)
        return Quantization(tuple(float(number) for number in numbers), zero, axis)

    def _array(self, index: int) -> NDArray[Any] | None:
        node = self._values.get(index)
        values: NDArray[Any] | None = None if node is None else np.asarray(node.get_data())
        return values

    def _operator(self, place: int, node: Any) -> None:
        kind = node.get_type_name()
        inputs = [self._tensors[self._input(node, i)] for i in range(node.get_input_size())]
        outputs = [self._add(place, output) for output in node.outputs()]
        if kind == "FakeQuantize":
            self._as_integers(node, outputs[0])
        attributes = _plain(node.get_attributes())
        made = [self._tensors[index] for index in outputs]
        fixed = {tensor.index for tensor in inputs if tensor.constant}
        name = node.get_friendly_name()
        self._names.append([name, *(t.name for t in made[:1]), *(t.name for t in inputs[1:])])
        self._ops.append(
            Op(
                index=len(self._ops),
                name=kind,
                kind=openvino_ops.classify(kind, inputs, fixed),
                layer="",
                inputs=tuple(tensor.index for tensor in inputs),
                outputs=tuple(outputs),
                attributes=attributes,
                macs=openvino_ops.count_macs(kind, inputs, made, attributes),
                node=name,
            )
        )

    def _as_integers(self, node: Any, index: int) -> None:
        """Gives the output of an 8-bit FakeQuantize the type that it has at run time."""
        levels = node.get_attributes().get("levels", 0)
        low, high = (self._array(self._input(node, position)) for position in (3, 4))
        if levels not in (255, 256) or low is None or high is None or low.size != high.size:
            return
        if low.size > 1 and low.size != max(low.shape):
            return
        scale = ((high - low) / (levels - 1)).reshape(-1).astype(float)
        if not np.all(np.isfinite(scale)) or not np.all(scale > 0):
            return
        signed = bool(np.any(low < 0))
        zero = np.round((-128 if signed else 0) - low.reshape(-1) / scale)
        tensor = self._tensors[index]
        self._tensors[index] = Tensor(
            index,
            tensor.name,
            tensor.shape,
            "int8" if signed else "uint8",
            Quantization(
                tuple(scale.tolist()),
                tuple(int(value) for value in zero),
                int(np.argmax(low.shape)) if low.size > 1 else None,
            ),
        )


def _port_name(port: Any) -> str:
    names = port.get_names()
    return min(names) if names else str(port.get_node().get_friendly_name())


def _shape(output: Any) -> tuple[int | None, ...]:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _dtype(output: Any) -> str:
    name = output.get_element_type().get_type_name()
    match = _ELEMENT.fullmatch(name)
    if match:
        return f"{_PREFIX[match[1]]}{match[2]}"
    return {"boolean": "bool", "dynamic": "unknown"}.get(name, str(name))


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return all(isinstance(item, bool | int | float | str) for item in value)
        return isinstance(value, bool | int | float | str)

    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in attributes.items()
        if plain(value)
    }


def _moved(
    quantization: Quantization | None, before: tuple[int | None, ...], after: tuple[int | None, ...]
) -> Quantization | None:
    """The parameters with their channel axis where a change of layout has moved it."""
    if quantization is None or quantization.axis is None or before == after:
        return quantization
    channels = len(quantization.scale)
    places = [axis for axis, size in enumerate(after) if size == channels]
    return Quantization(
        quantization.scale, quantization.zero_point, places[0] if places else quantization.axis
    )
