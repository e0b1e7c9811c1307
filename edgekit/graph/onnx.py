"""Reader of ONNX files; needs the onnx package, does not run the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.errors import ModelFileError
from edgekit.base.extras import require
from edgekit.base.files import existing_file
from edgekit.graph import onnx_ops
from edgekit.graph.layers import with_layers
from edgekit.graph.types import Graph, Op, Port, Tensor
from edgekit.schema.quantization import Quantization

_MOST_QUANTIZATION_VALUES = 1 << 20  # of one tensor: one scale a channel is some thousands


def read_onnx(path: Path) -> Graph:
    """Reads an .onnx file, with the files beside it that hold its weights, if any.

    Shapes are inferred where the file does not give them. Constant nodes become constants, not
    operators. A tensor that is dequantized, or made by a quantization, has its parameters.

    Raises:
        InputError: the file does not exist.
        ModelFileError: it is not an ONNX file, is corrupt, or its weight files are missing.
        MissingDependencyError: the onnx package is not installed.
    """
    existing_file(path, what="model file")
    onnx = require("onnx", purpose="to read ONNX files")
    where = str(path)
    if path.stat().st_size == 0:
        raise ModelFileError("not an ONNX file: it is empty", where=where)
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises what its implementation has
        raise ModelFileError(
            f"not an ONNX file: truncated or corrupt ({error})", where=where
        ) from error
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf leaves bytes as bytes
        raise ModelFileError("not a valid ONNX file: a name is not UTF-8", where=where)
    if not model.graph.node and not model.graph.output:
        raise ModelFileError("not an ONNX file: it has no graph", where=where)
    try:
        shapes = _infer_shapes(onnx, model)
    except Exception as error:  # onnx raises its own and plain ones
        raise ModelFileError(f"its shapes are wrong: {error}", where=where) from error
    try:
        size = path.stat().st_size + sum(_external_files(model, path).values())
        return _Reader(onnx, model, shapes, path).graph(size)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"not a valid ONNX file: {error}", where=where) from error


def _texts(model: Any) -> Iterator[Any]:
    """All strings that the reader takes from a file."""
    graph = model.graph
    yield from (model.producer_name, model.producer_version, graph.name)
    yield from (entry.domain for entry in model.opset_import)
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _external_files(model: Any, path: Path) -> dict[Path, int]:
    """Sizes of the files beside `path` that hold weights; none outside its folder is touched."""
    folder = path.parent.resolve()
    found: dict[Path, int] = {}
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not entries:
            continue
        place = (folder / entries.get("location", "")).resolve()
        if not place.is_relative_to(folder):
            raise ModelFileError(
                f"its weights lie outside its folder: {entries.get('location')}", where=str(path)
            )
        end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
        if not place.is_file() or place.stat().st_size < end:
            raise ModelFileError(
                f"its weight file '{place.name}' is missing or truncated", where=str(path)
            )
        found[place] = place.stat().st_size
    return found


def _infer_shapes(onnx: Any, model: Any) -> list[Any]:
    """The values of the graph with their shapes of one sample, as far as they can be known.

    A free number of samples is followed as 1 to what is computed of it, such as the rows of all
    places of an image, and stays free where it is an axis of its own. QONNX's quantizers are not
    operators of ONNX; they keep the shape of their first input.
    """
    copy = _without_weights(onnx, model)
    for node in copy.graph.node:
        if node.op_type in onnx_ops.QONNX:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
    found = _inferred(onnx, copy)
    if not _take_one_sample(copy.graph):
        return found
    known = {value.name: value.type.tensor_type.shape.dim for value in _inferred(onnx, copy)}
    for value in found:
        sizes = value.type.tensor_type.shape.dim
        for free, size in zip(sizes, known.get(value.name, ()), strict=False):
            if not free.HasField("dim_value") and size.dim_value > 1:
                free.dim_value = size.dim_value
    return found


def _inferred(onnx: Any, model: Any) -> list[Any]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return [*graph.value_info, *graph.input, *graph.output]


def _without_weights(onnx: Any, model: Any) -> Any:
    """A copy whose large constants have shapes only."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    for field in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:  # shapes and axes have one axis or none
            made = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            graph.initializer.append(made)
        else:
            graph.initializer.append(tensor)
    return copy


def _take_one_sample(graph: Any) -> bool:
    """Sets the free first axis of inputs to 1; whether there was one."""
    constants = {tensor.name for tensor in graph.initializer}
    found = False
    for value in graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name not in constants and sizes and not sizes[0].HasField("dim_value"):
            sizes[0].dim_value = 1
            found = True
    return found


class _Reader:
    """Walks a ModelProto.

    Args:
        onnx: the package.
        model: the ModelProto.
        values: ValueInfoProtos with inferred shapes.
        path: of the file.
    """

    def __init__(self, onnx: Any, model: Any, values: list[Any], path: Path) -> None:
        self._onnx = onnx
        self._model = model
        self._inferred = values
        self._path = path
        self._names: dict[str, int] = {}
        self._shapes: dict[str, tuple[tuple[int | None, ...], str]] = {}
        self._constants: dict[str, Any] = {}
        self._collect()

    def graph(self, file_bytes: int) -> Graph:
        """The model's main graph."""
        graph = self._model.graph
        nodes = [node for node in graph.node if node.op_type != "Constant"]
        inputs = [value for value in graph.input if value.name not in self._constants]
        for name in (*(value.name for value in inputs), *self._constants):
            self._index(name)
        for node in nodes:
            for name in (*node.input, *node.output):
                if name:
                    self._index(name)
        quantization = self._quantization(nodes)
        tensors = tuple(
            Tensor(
                index=index,
                name=name,
                shape=self._shapes.get(name, ((), "unknown"))[0],
                dtype=self._shapes.get(name, ((), "unknown"))[1],
                quantization=quantization.get(name),
                constant=name in self._constants,
            )
            for name, index in self._names.items()
        )
        return Graph(
            format="onnx",
            name=graph.name or self._path.stem,
            tensors=tensors,
            ops=self._ops(nodes, tensors),
            inputs=tuple(Port(value.name, self._names[value.name]) for value in inputs),
            outputs=tuple(Port(v.name, self._index(v.name)) for v in graph.output),
            file_bytes=file_bytes,
            metadata={
                "ir_version": self._model.ir_version,
                "opsets": {entry.domain: entry.version for entry in self._model.opset_import},
                "producer": f"{self._model.producer_name} {self._model.producer_version}".strip(),
                **{entry.key: entry.value for entry in self._model.metadata_props},
            },
        )

    def _index(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _collect(self) -> None:
        graph = self._model.graph
        for value in self._inferred:
            kind = value.type.tensor_type
            shape = tuple(
                size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim
            )
            if any(size is not None and size < 0 for size in shape):
                raise ValueError(f"tensor '{value.name}' has shape {shape}")
            self._shapes[value.name] = (shape, self._dtype(kind.elem_type))
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.output:
                tensor = self._constant_node(node)
                if tensor is not None:
                    constants[node.output[0]] = tensor
        for name, tensor in constants.items():
            if min(tensor.dims, default=0) < 0:
                raise ValueError(f"constant '{name}' has shape {list(tensor.dims)}")
            self._constants[name] = tensor
            self._shapes[name] = (tuple(tensor.dims), self._dtype(tensor.data_type))
            self._check_size(name, tensor)

    def _check_size(self, name: str, tensor: Any) -> None:
        """A corrupt shape must not become a size of petabytes in a report."""
        expected = Tensor(0, name, tuple(tensor.dims), self._dtype(tensor.data_type)).bytes
        if tensor.raw_data and len(tensor.raw_data) < expected:
            raise ValueError(
                f"constant '{name}' needs {expected} bytes, the file holds {len(tensor.raw_data)}"
            )

    def _constant_node(self, node: Any) -> Any:
        for attribute in node.attribute:
            if attribute.name == "value":
                return attribute.t
            if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
                value = self._onnx.helper.get_attribute_value(attribute)
                dtype = "float32" if "float" in attribute.name else "int64"
                return self._onnx.numpy_helper.from_array(np.array(value, dtype))
        return None

    def _dtype(self, number: int) -> str:
        if number == self._onnx.TensorProto.STRING:
            return "string"
        if number not in self._onnx.TensorProto.DataType.values() or number == 0:
            return "unknown"
        name: str = self._onnx.TensorProto.DataType.Name(number).lower()
        return {"float": "float32", "double": "float64"}.get(name, name)

    def _quantization(self, nodes: list[Any]) -> dict[str, Quantization]:
        """Parameters of the tensors that a quantization makes or a dequantization reads."""
        found: dict[str, Quantization] = {}
        for node in nodes:
            if node.op_type == "DequantizeLinear" and node.input:
                name = node.input[0]
            elif node.op_type == "QuantizeLinear" and node.output:
                name = node.output[0]
            else:
                continue
            parameters = self._parameters(node)
            if parameters is not None:
                found.setdefault(name, parameters)
        return found

    def _parameters(self, node: Any) -> Quantization | None:
        scale = self._values(node.input[1]) if len(node.input) > 1 else None
        if scale is None or scale.ndim > 1 or scale.size == 0:  # blockwise: see its operator
            return None
        zero = self._values(node.input[2]) if len(node.input) > 2 else None
        zero_point = [0] * scale.size if zero is None else zero.reshape(-1).astype(int).tolist()
        if len(zero_point) != scale.size:
            raise ValueError(
                f"'{node.name}' has {scale.size} scales, {len(zero_point)} zero points"
            )
        axis = self._attributes(node).get("axis", 1)
        return Quantization(
            scale=tuple(scale.reshape(-1).astype(float).tolist()),
            zero_point=tuple(zero_point),
            axis=int(axis) if scale.size > 1 else None,
        )

    def _values(self, name: str) -> Any:
        tensor = self._constants.get(name)
        if tensor is None or tensor.external_data:
            return None
        if Tensor(0, name, tuple(tensor.dims), "int8").elements > _MOST_QUANTIZATION_VALUES:
            return None
        return self._onnx.numpy_helper.to_array(tensor)

    def _ops(self, nodes: list[Any], tensors: tuple[Tensor, ...]) -> tuple[Op, ...]:
        fixed = {tensor.index for tensor in tensors if tensor.constant}
        ops = []
        for index, node in enumerate(nodes):
            inputs = [tensors[self._names[name]] if name else None for name in node.input]
            outputs = [tensors[self._names[name]] for name in node.output if name]
            attributes = self._attributes(node)
            standard = node.domain in onnx_ops.STANDARD_DOMAINS or (
                node.domain in onnx_ops.QONNX_DOMAINS and node.op_type in onnx_ops.QONNX
            )
            ops.append(
                Op(
                    index=index,
                    name=node.op_type,
                    kind=onnx_ops.classify(node.op_type, inputs, attributes, fixed)
                    if standard
                    else "custom",
                    layer="",
                    inputs=tuple(tensor.index for tensor in inputs if tensor is not None),
                    outputs=tuple(tensor.index for tensor in outputs),
                    attributes=attributes,
                    macs=onnx_ops.count_macs(node.op_type, inputs, outputs, attributes)
                    if standard
                    else 0,
                    node=node.name,
                )
            )
            if inputs and fixed.issuperset(ops[-1].inputs):
                fixed.update(ops[-1].outputs)
        candidates = [
            [name for name in (node.name, *node.output[:1], *node.input[1:]) if name]
            for node in nodes
        ]
        return tuple(with_layers(ops, candidates))

    def _attributes(self, node: Any) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for attribute in node.attribute:
            value = self._onnx.helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                found[attribute.name] = value.decode(errors="replace")
            elif isinstance(value, bool | int | float):
                found[attribute.name] = value
            elif attribute.type in (attribute.FLOATS, attribute.INTS):
                found[attribute.name] = list(value)
        if node.domain:
            found["domain"] = node.domain
        return found
