"""An editor of .tflite files: the schema's object form, with what rewrites ask of it.

Operators are replaced, added and taken away in the main graph. Constants are never changed where
they lie, for tensors may share them: an edit adds new ones, and what nothing uses any more is left
out when the file is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgekit.base.errors import ModelFileError
from edgekit.base.extras import require
from edgekit.base.files import existing_file
from edgekit.graph.flatbuffer import faults_as_errors
from edgekit.graph.tflite import MAGIC, read_buffer
from edgekit.schema.quantization import Quantization

EIGHT_BIT_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4, "L2_NORMALIZATION": 2, "LOGISTIC": 2, "MAXIMUM": 2,
    "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2,
    "MUL": 2, "PAD": 2, "QUANTIZE": 2, "RELU": 2, "RELU6": 2, "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3, "SLICE": 2, "SOFTMAX": 2, "SPLIT": 2, "STRIDED_SLICE": 2,
    "SUB": 2, "TANH": 2, "TRANSPOSE": 2,
}  # fmt: skip
"""Versions of operators that take int8, by the schema's rules; version 1 takes float."""


class TFLiteEditor:
    """The main graph of a .tflite file, to be changed.

    Attributes:
        ops: the operators in their order of execution; a list to insert into and remove from.

    Args:
        content: of a .tflite file.
        where: its path, for errors.

    Raises:
        ModelFileError: it is no .tflite file, is corrupt, or has constants behind the FlatBuffer.
        MissingDependencyError: the schema's object form is not installed.
    """

    def __init__(self, content: bytes, *, where: str | None = None) -> None:
        read_buffer(content, where=where)  # the strict reader: refuses what is corrupt
        self.schema = require("ai_edge_litert.schema_py_generated", purpose="to edit .tflite files")
        with faults_as_errors("TFLite file", where):
            self._model = self.schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
        if any(buffer.offset > 1 for buffer in self._model.buffers):
            raise ModelFileError("files beyond 2 GB are not edited", where=where)
        self._graph = self._model.subgraphs[0]
        for graph in self._model.subgraphs:
            graph.inputs, graph.outputs = _numbers(graph.inputs), _numbers(graph.outputs)
            graph.operators = list(graph.operators or ())
            for op in graph.operators:
                op.inputs, op.outputs = _numbers(op.inputs), _numbers(op.outputs)
        self.ops: list[Any] = self._graph.operators
        self._names = _words(self.schema.BuiltinOperator)
        self._types = {name.lower(): n for n, name in _words(self.schema.TensorType).items()}
        self._dtypes = {number: name for name, number in self._types.items()}

    @classmethod
    def open(cls, path: Path) -> TFLiteEditor:
        """The editor of a file; see the class."""
        return cls(existing_file(path, what="model file").read_bytes(), where=str(path))

    @property
    def inputs(self) -> list[int]:
        """Tensors that the graph is given."""
        return list(self._graph.inputs)

    @property
    def outputs(self) -> list[int]:
        """Tensors that the graph gives."""
        return list(self._graph.outputs)

    @property
    def graphs(self) -> int:
        """Number of graphs in the file."""
        return len(self._model.subgraphs)

    def name(self, op: Any) -> str:
        """An operator's name, as in `edgekit.graph.types.Op`; CUSTOM for custom ones."""
        code = self._model.operatorCodes[op.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        return self._names.get(number, f"BUILTIN_{number}")

    def producer(self, tensor: int) -> Any | None:
        """The operator that makes a tensor."""
        return next((op for op in self.ops if tensor in op.outputs), None)

    def consumers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [op for op in self.ops if tensor in op.inputs]

    def private(self, tensor: int) -> bool:
        """Whether one operator reads a tensor and the graph does not give it away."""
        return len(self.consumers(tensor)) == 1 and tensor not in self._graph.outputs

    def tensor(self, index: int) -> Any:
        """A tensor's table."""
        return self._graph.tensors[index]

    def label(self, index: int) -> str:
        """A tensor's name."""
        return bytes(self.tensor(index).name or b"").decode(errors="replace")

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape; a free dimension has the size that the file was written with."""
        return tuple(_numbers(self.tensor(index).shape))

    def signature(self, index: int) -> list[int]:
        """A tensor's shape with -1 for free dimensions; empty where the file has none."""
        return _numbers(self.tensor(index).shapeSignature)

    def free(self, index: int) -> bool:
        """Whether a dimension of a tensor is free."""
        return -1 in self.signature(index)

    def dtype(self, index: int) -> str:
        """A tensor's dtype by its NumPy name, or `int4` and the like."""
        return str(self._dtypes.get(self.tensor(index).type, "unknown"))

    def quantization(self, index: int) -> Quantization | None:
        """A tensor's scales and zero points."""
        found = self.tensor(index).quantization
        scale = [] if found is None or found.scale is None else [float(s) for s in found.scale]
        if not scale:
            return None
        zero = [0] if found.zeroPoint is None else [int(z) for z in found.zeroPoint]
        zero = zero * len(scale) if len(zero) == 1 else zero
        return Quantization(
            tuple(scale), tuple(zero), int(found.quantizedDimension) if len(scale) > 1 else None
        )

    def values(self, index: int) -> NDArray[Any] | None:
        """The values of a constant of whole bytes, as stored; None for other tensors."""
        if index < 0:
            return None
        tensor = self.tensor(index)
        data = self._model.buffers[tensor.buffer].data
        dtype = self.dtype(index)
        if data is None or tensor.sparsity is not None or dtype not in _DTYPES:
            return None
        content = np.asarray(data, np.uint8).tobytes()
        if not content:
            return None
        return np.frombuffer(content, dtype).reshape(self.shape(index)).copy()

    def add_constant(
        self, values: NDArray[Any], name: str, quantization: Quantization | None = None
    ) -> int:
        """A new constant tensor; its index."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        index = self.add_tensor(values.shape, values.dtype, name, quantization)
        self.tensor(index).buffer = len(self._model.buffers) - 1
        return index

    def add_tensor(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        name: str,
        quantization: Quantization | None = None,
        *,
        like: int | None = None,
    ) -> int:
        """A new tensor that is computed; its index.

        Args:
            shape: with the batch.
            dtype: a NumPy dtype.
            name: for people; need not be the only one of this name.
            quantization: its scales and zero points.
            like: a tensor whose free batch it has too.
        """
        tensor = self.schema.TensorT()
        tensor.shape, tensor.name = [int(size) for size in shape], name.encode()
        tensor.type = self._types[np.dtype(dtype).name]
        tensor.buffer, tensor.hasRank = 0, True
        if like is not None and self.free(like) and shape:
            tensor.shapeSignature = [-1, *tensor.shape[1:]]
        self._graph.tensors.append(tensor)
        index = len(self._graph.tensors) - 1
        self.set_quantization(index, quantization)
        return index

    def set_quantization(self, index: int, quantization: Quantization | None) -> None:
        """Gives a tensor other scales and zero points."""
        if quantization is None:
            self.tensor(index).quantization = None
            return
        table = self.schema.QuantizationParametersT()
        table.scale, table.zeroPoint = list(quantization.scale), list(quantization.zero_point)
        table.quantizedDimension = quantization.axis or 0
        self.tensor(index).quantization = table

    def set_shape(self, index: int, shape: Sequence[int]) -> None:
        """Gives a computed tensor another shape, without free dimensions."""
        self.tensor(index).shape = [int(size) for size in shape]
        self.tensor(index).shapeSignature = None

    def make(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str | None = None,
        **fields: Any,
    ) -> Any:
        """A new operator, not yet among `ops`.

        Args:
            name: of the operator, such as `AVERAGE_POOL_2D`.
            inputs: its tensors.
            outputs: its tensors.
            options: name of its options in the schema, such as `Pool2DOptions`.
            fields: of the options, by the names of the object form.
        """
        eight_bit = any(self.dtype(index) in ("int8", "uint8") for index in outputs)
        op = self.schema.OperatorT()
        op.opcodeIndex = self._code(name, EIGHT_BIT_VERSIONS.get(name, 1) if eight_bit else 1)
        op.inputs, op.outputs = list(inputs), list(outputs)
        if options is not None:
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            op.builtinOptions = getattr(self.schema, f"{options}T")()
            for key, value in fields.items():
                setattr(op.builtinOptions, key, value)
        return op

    def replace(self, old: Any, new: Iterable[Any]) -> None:
        """Puts operators in the place of one."""
        place = self.position(old)
        self.ops[place : place + 1] = list(new)

    def position(self, op: Any) -> int:
        """An operator's place in the order of execution."""
        return next(place for place, one in enumerate(self.ops) if one is op)

    def reroute(self, old: int, new: int) -> None:
        """Lets all that read one tensor read another."""
        for op in self.ops:
            op.inputs = [new if index == old else index for index in op.inputs]

    def content(self) -> bytes:
        """The file, without what nothing uses."""
        flatbuffers = require("flatbuffers", purpose="to write .tflite files")
        self._sweep()
        builder = flatbuffers.Builder(1 << 20)
        for buffer in self._model.buffers:
            buffer.Pack = _aligned_pack(self.schema, buffer)
        builder.Finish(self._model.Pack(builder), MAGIC)
        return bytes(builder.Output())

    def _code(self, name: str, version: int) -> int:
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self._model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number and (
                code.version >= version
            ):
                return index
        code = self.schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.version = version
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _sweep(self) -> None:
        """Takes tensors of the main graph, and contents, away that nothing refers to."""
        signed = [
            entry
            for signature in self._model.signatureDefs or ()
            if signature.subgraphIndex == 0
            for entry in (*(signature.inputs or ()), *(signature.outputs or ()))
        ]
        graph = self._graph
        used = {*graph.inputs, *graph.outputs, *(entry.tensorIndex for entry in signed)}
        for op in self.ops:
            used.update((*op.inputs, *op.outputs, *_numbers(op.intermediates)))
        kept = sorted(used - {-1})
        place = {old: new for new, old in enumerate(kept)} | {-1: -1}
        graph.tensors = [graph.tensors[index] for index in kept]
        graph.inputs = [place[index] for index in graph.inputs]
        graph.outputs = [place[index] for index in graph.outputs]
        for entry in signed:
            entry.tensorIndex = place[entry.tensorIndex]
        for op in self.ops:
            op.inputs = [place[index] for index in op.inputs]
            op.outputs = [place[index] for index in op.outputs]
            if op.intermediates is not None:
                op.intermediates = [place[index] for index in _numbers(op.intermediates)]
        held = {tensor.buffer for one in self._model.subgraphs for tensor in one.tensors}
        held.update(entry.buffer for entry in self._model.metadata or ())
        held.update(_numbers(self._model.metadataBuffer))
        for number, buffer in enumerate(self._model.buffers):
            if number not in held:
                buffer.data = None


def _aligned_pack(schema: Any, buffer: Any) -> Callable[[Any], int]:
    """How a buffer is written: on a multiple of 16 bytes, which the generated code leaves out."""

    def pack(builder: Any) -> int:
        data = None
        if buffer.data is not None:
            content = np.asarray(buffer.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), _ALIGNMENT)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))

    return pack


_ALIGNMENT = 16  # the schema's force_align of a buffer's data
_DTYPES = frozenset(
    {"float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"}
)


def _numbers(values: Any) -> list[int]:
    return [] if values is None or isinstance(values, int) else [int(value) for value in values]


def _words(kind: Any) -> dict[int, str]:
    return {number: name for name, number in vars(kind).items() if isinstance(number, int)}
