"""Reader of TFLite files, after the public schema (version 3); needs NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ModelFileError
from edgekit.base.files import existing_file
from edgekit.graph import tflite_ops
from edgekit.graph.flatbuffer import Budget, Fault, StrictBytes, faults_as_errors, plain_fields
from edgekit.graph.layers import with_layers
from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.graph.zero_channels import with_zero_channels
from edgekit.schema.quantization import Quantization

MAGIC = b"TFL3"  # FlatBuffers file identifier, at byte 4

_NEWER_TYPES = {19: "int2", 20: "uint4"}  # in the schema, not yet in the generated classes
_NO_VALUES = ("resource", "string", "unknown", "variant")
_BUILTIN_CODE_SLOT = 10  # of an operator code's table
_PACKED = {"int2": 2, "int4": 4, "uint4": 4}


def read_tflite(path: Path) -> Graph:
    """Reads a .tflite file.

    The tensors are those of the main graph, then the constants of graphs that it calls (loops,
    branches); an operator that calls a graph has the multiply-accumulates of one execution of it.

    Raises:
        InputError: the file does not exist.
        ModelFileError: it is not a TFLite file, or is truncated or corrupt.
    """
    data = existing_file(path, what="model file").read_bytes()
    return read_buffer(data, where=str(path), name=path.stem)


def read_buffer(data: bytes, *, where: str | None = None, name: str = "model") -> Graph:
    """Reads the content of a .tflite file; see `read_tflite`."""
    file = _File(data, where)
    with faults_as_errors("TFLite file", where):
        return file.graph(name)


def constant_values(source: Path | bytes, tensor: int) -> NDArray[Any]:
    """The values of a constant tensor as stored, in the tensor's shape.

    Values of 2 and 4 bits are unpacked to int8 or uint8, bfloat16 is widened to float32.

    Args:
        source: a .tflite file or its content.
        tensor: index in `Graph.tensors`.

    Raises:
        ModelFileError: the file is corrupt, or the tensor has no dense numeric values in it.
    """
    where = None if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else existing_file(source).read_bytes()
    file = _File(data, where)
    with faults_as_errors("TFLite file", where):
        return file.values(tensor)


@dataclass(frozen=True)
class _Entry:
    """A tensor and the bytes that the file holds for it."""

    tensor: Tensor
    content: memoryview
    sparse: bool


@dataclass(frozen=True)
class _OpCode:
    name: str
    kind: OpClass | None
    version: int


class _File:
    """A parsed file. Methods may raise whatever the generated classes raise."""

    def __init__(self, data: bytes, where: str | None) -> None:
        if data[4:8] != MAGIC:
            raise ModelFileError(
                "not a TFLite file: the identifier 'TFL3' is missing",
                where=where,
                hint="is it another format, or a download that failed?" if data else "it is empty",
            )
        import tflite  # 0.1 s: kept out of the start of commands that read no TFLite file

        self._tflite = tflite
        self._data = data
        self._budget = Budget(len(data))
        self._dtypes = _enum(tflite.TensorType) | _NEWER_TYPES
        with faults_as_errors("TFLite file", where):
            self._model = tflite.Model.GetRootAs(StrictBytes(data), 0)
            self._buffers = self._budget.items(self._model, "Buffers")
            self._codes = [
                self._code(code) for code in self._budget.items(self._model, "OperatorCodes")
            ]
            self._subgraphs = self._budget.items(self._model, "Subgraphs")
            if not self._subgraphs:
                raise Fault("it has no graph")
            self._entries = [self._read_entries(subgraph) for subgraph in self._subgraphs]

    def graph(self, name: str) -> Graph:
        """The main graph."""
        ops = [self._ops(position) for position in range(len(self._subgraphs))]
        counts: dict[int, int] = {}
        main = [
            replace(op, macs=_macs_of_called(op, ops, counts)) if op.kind == "control" else op
            for op in ops[0]
        ]
        entries = self._all_entries()
        tensors = tuple(entry.tensor for entry in entries)
        inputs, outputs = self._ports()
        graph = Graph(
            format="tflite",
            name=self._budget.text(self._subgraphs[0].Name()) or name,
            tensors=tensors,
            ops=tuple(main),
            inputs=inputs,
            outputs=outputs,
            file_bytes=len(self._data),
            metadata=self._metadata(),
        )
        return with_zero_channels(graph, lambda index: self._dense_values(entries[index]))

    def values(self, index: int) -> NDArray[Any]:
        """The values of one constant tensor."""
        entries = self._all_entries()
        if not 0 <= index < len(entries):
            raise Fault(f"there is no tensor {index}")
        return self._dense_values(entries[index])

    def _dense_values(self, entry: _Entry) -> NDArray[Any]:
        tensor = entry.tensor
        if not tensor.constant or entry.sparse or tensor.dtype in _NO_VALUES:
            raise Fault(f"tensor '{tensor.name}' has no dense numeric values in the file")
        return _unpack(entry.content, tensor.dtype, tensor.elements).reshape(
            [size or 0 for size in tensor.shape]
        )

    def _all_entries(self) -> list[_Entry]:
        """The main graph's tensors, then the constants of the others, numbered through."""
        entries = list(self._entries[0])
        for others in self._entries[1:]:
            entries += [entry for entry in others if entry.tensor.constant]
        return [
            replace(entry, tensor=replace(entry.tensor, index=index))
            for index, entry in enumerate(entries)
        ]

    def _code(self, code: Any) -> _OpCode:
        number = max(_builtin_code(code), code.DeprecatedBuiltinCode())
        names = self._tflite.BUILTIN_OPCODE2NAME
        name = names.get(number, f"BUILTIN_{number}")
        if name == "CUSTOM":
            custom = self._budget.text(code.CustomCode())
            return _OpCode(custom or "CUSTOM", "custom", code.Version())
        return _OpCode(name, None, code.Version())

    def _read_entries(self, subgraph: Any) -> list[_Entry]:
        tables = self._budget.items(subgraph, "Tensors")
        return [self._entry(index, table) for index, table in enumerate(tables)]

    def _entry(self, index: int, table: Any) -> _Entry:
        shape = self._budget.numbers(table, "Shape")
        signature = self._budget.numbers(table, "ShapeSignature")
        content = self._content(table.Buffer())
        constant = len(content) > 0
        name = self._budget.text(table.Name())
        if min(shape, default=0) < 0 or min(signature, default=0) < -1:
            raise Fault(f"tensor '{name}' has shape {shape}, signature {signature}")
        if len(signature) == len(shape) and not constant:
            shape = [None if size == -1 else size for size in signature]
        dtype = self._dtypes.get(table.Type(), "unknown")
        tensor = Tensor(
            index=index,
            name=name,
            shape=tuple(shape),
            dtype=dtype,
            quantization=self._quantization(table.Quantization(), len(shape), name),
            constant=constant,
        )
        sparse = table.Sparsity() is not None
        if constant and not sparse and dtype not in _NO_VALUES and len(content) < tensor.bytes:
            raise Fault(
                f"tensor '{name}' needs {tensor.bytes} bytes, the file holds {len(content)}"
            )
        return _Entry(tensor, content, sparse)

    def _content(self, number: int) -> memoryview:
        """The bytes of a buffer; beyond 2 GB they lie behind the FlatBuffer (offset and size)."""
        if number >= len(self._buffers):
            raise Fault(f"there is no buffer {number}")
        buffer = self._buffers[number]
        if buffer.Size() and buffer.Offset() > 1:
            content = memoryview(self._data)[buffer.Offset() :][: buffer.Size()]
            if len(content) < buffer.Size():
                raise Fault(f"buffer {number} ends after the file")
            return content
        return memoryview(b"") if buffer.DataIsNone() else memoryview(buffer.DataAsNumpy())

    def _quantization(self, table: Any, rank: int, name: str) -> Quantization | None:
        scale = [] if table is None else self._budget.numbers(table, "Scale")
        if not scale:
            return None
        zero_point = self._budget.numbers(table, "ZeroPoint") or [0]
        if len(zero_point) == 1:
            zero_point *= len(scale)
        axis = table.QuantizedDimension() if len(scale) > 1 else None
        if (
            len(zero_point) != len(scale)
            or not all(map(math.isfinite, scale))
            or (axis is not None and not 0 <= axis < rank)
        ):
            raise Fault(f"tensor '{name}' has impossible quantization parameters")
        return Quantization(tuple(scale), tuple(zero_point), axis)

    def _ops(self, position: int) -> list[Op]:
        tensors = [entry.tensor for entry in self._entries[position]]
        tables = self._budget.items(self._subgraphs[position], "Operators")
        fixed = {tensor.index for tensor in tensors if tensor.constant}
        ops: list[Op] = []
        for index, table in enumerate(tables):
            inputs = self._indices(table, "Inputs", len(tensors))
            outputs = self._indices(table, "Outputs", len(tensors))
            code = self._codes[table.OpcodeIndex()]
            attributes = {**self._attributes(table), "version": code.version}
            arguments = [tensors[i] for i in inputs]
            ops.append(
                Op(
                    index=index,
                    name=code.name,
                    kind=code.kind or tflite_ops.classify(code.name, arguments, fixed),
                    layer="",
                    inputs=inputs,
                    outputs=outputs,
                    attributes=attributes,
                    macs=0
                    if code.kind
                    else tflite_ops.count_macs(
                        code.name, arguments, [tensors[o] for o in outputs], attributes, fixed
                    ),
                )
            )
            if inputs and fixed.issuperset(inputs):
                fixed.update(outputs)
        return with_layers(ops, [_naming(op, tensors) for op in ops])

    def _indices(self, table: Any, field: str, count: int) -> tuple[int, ...]:
        indices = [index for index in self._budget.numbers(table, field) if index != -1]
        if any(not 0 <= index < count for index in indices):
            raise Fault(f"{field.lower()} {indices} of {count} tensors")
        return tuple(indices)

    def _attributes(self, op: Any) -> dict[str, Any]:
        tflite = self._tflite
        unions = (
            (tflite.BuiltinOptions, op.BuiltinOptionsType(), op.BuiltinOptions()),
            (tflite.BuiltinOptions2, op.BuiltinOptions2Type(), op.BuiltinOptions2()),
        )
        found: dict[str, Any] = {}
        for union, number, table in unions:
            kind = getattr(tflite, _enum(union, lower=False).get(number, ""), None)
            if table is not None and kind is not None:
                options = kind()
                options.Init(table.Bytes, table.Pos)
                found.update(plain_fields(options, self._budget))
        return {name: self._in_words(name, value) for name, value in found.items()}

    def _in_words(self, name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        if name.endswith(("data_type", "out_type", "output_type", "bias_type")):
            return self._dtypes.get(value, value)
        words = {
            "padding": self._tflite.Padding,
            "fused_activation_function": self._tflite.ActivationFunctionType,
            "weights_format": self._tflite.FullyConnectedOptionsWeightsFormat,
            "mode": self._tflite.MirrorPadMode,
            "kernel_type": self._tflite.LSTMKernelType,
        }.get(name)
        return value if words is None else _enum(words, lower=False).get(value, value)

    def _ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Inputs and outputs of the main graph, named by the signature where there is one."""
        names: dict[str, dict[int, str]] = {"Inputs": {}, "Outputs": {}}
        for signature in self._budget.items(self._model, "SignatureDefs"):
            for field, found in names.items():
                if signature.SubgraphIndex() == 0:
                    for entry in self._budget.items(signature, field):
                        found.setdefault(entry.TensorIndex(), self._budget.text(entry.Name()))
        tensors = [entry.tensor for entry in self._entries[0]]

        def ports(field: str) -> tuple[Port, ...]:
            indices = self._indices(self._subgraphs[0], field, len(tensors))
            return tuple(Port(names[field].get(i) or tensors[i].name, i) for i in indices)

        return ports("Inputs"), ports("Outputs")

    def _metadata(self) -> dict[str, Any]:
        model = self._model
        entries = {
            self._budget.text(entry.Name()): self._content(entry.Buffer())
            for entry in self._budget.items(model, "Metadata")
        }
        runtime = bytes(entries.get("min_runtime_version", b"")[:64]).rstrip(b"\0")
        offsets = self._offline_offsets(entries.get("OfflineMemoryAllocation", b""))
        return {
            "schema_version": model.Version(),
            "description": self._budget.text(model.Description()),
            "min_runtime_version": runtime.decode(errors="replace") or None,
            "metadata": sorted(entries),
            "subgraphs": len(self._subgraphs),
            **({"offline_offsets": offsets} if offsets else {}),
        }

    def _offline_offsets(self, content: bytes | memoryview) -> tuple[int, ...]:
        """Where a compiler put each tensor of the main graph; -1: where the runtime likes.

        Words of 32 bits: the version, the graph (Vela writes how many there are, and runtimes do
        not look), the number of tensors, an offset each.
        """
        words = np.frombuffer(content, "<i4", len(content) // 4).tolist()
        count = len(self._entries[0])
        return tuple(words[3:]) if words[2:3] == [count] and len(words) == 3 + count else ()


def _builtin_code(code: Any) -> int:
    """The field itself: the reader's own method looks at the deprecated one for small numbers.

    Writers may leave that at 0; TFLite takes the larger of the two.
    """
    offset = code._tab.Offset(_BUILTIN_CODE_SLOT)
    kind = flatbuffers.number_types.Int32Flags
    return int(code._tab.Get(kind, offset + code._tab.Pos)) if offset else 0


def _enum(kind: Any, *, lower: bool = True) -> dict[int, str]:
    words = {number: name for name, number in vars(kind).items() if isinstance(number, int)}
    return {number: name.lower() for number, name in words.items()} if lower else words


def _naming(op: Op, tensors: Sequence[Tensor]) -> list[str]:
    """The names that may tell the layer of an operator."""
    constants = [tensors[i].name for i in op.inputs if tensors[i].constant]
    return [*(tensors[i].name for i in op.outputs[:1]), *constants]


def _macs_of_called(op: Op, ops: Sequence[Sequence[Op]], counts: dict[int, int]) -> int:
    """Multiply-accumulates of one execution of the largest graph that `op` calls."""
    called = [
        number
        for name, number in op.attributes.items()
        if name.endswith("subgraph_index") or name == "subgraph"
    ]
    if op.name == "CALL_ONCE":  # initialization, not part of an inference
        return 0
    for number in called:
        if number not in counts:
            counts[number] = 0  # a graph that calls itself counts once
            counts[number] = sum(
                _macs_of_called(inner, ops, counts) if inner.kind == "control" else inner.macs
                for inner in ops[number]
            )
    return max((counts[number] for number in called), default=0)


def _unpack(content: memoryview, dtype: str, count: int) -> NDArray[Any]:
    if dtype == "bfloat16":
        halves = np.frombuffer(content, np.uint16, count)
        return (halves.astype(np.uint32) << 16).view(np.float32)
    if dtype not in _PACKED:
        return np.frombuffer(content, dtype, count).copy()
    bits = _PACKED[dtype]
    packed = np.frombuffer(content, np.uint8)
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    values = np.stack(parts, axis=-1).reshape(-1)[:count]
    if dtype.startswith("uint"):
        return values
    return ((values.astype(np.int8) ^ (1 << (bits - 1))) - (1 << (bits - 1))).astype(np.int8)
