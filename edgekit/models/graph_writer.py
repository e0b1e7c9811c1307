"""A graph that is written operator by operator, as the TensorFlow Lite converter would write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgekit.base.errors import InputError
from edgekit.graph import tflite_ops
from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.schema.names import Precision
from edgekit.schema.quantization import Quantization

Shape = tuple[int | None, ...]

# Activations, weights and biases by precision, as the files hold them.
_DTYPES: dict[str, tuple[str, str, str]] = {
    "fp32": ("float32", "float32", "float32"),
    "fp16": ("float32", "float16", "float16"),
    "int8": ("int8", "int8", "int32"),
    "int8-dynamic": ("float32", "int8", "float32"),
    "int16x8": ("int16", "int8", "int64"),
    "int4-weight": ("float32", "int4", "float32"),
}
_FEWEST_DYNAMIC = 1024  # the converter leaves kernels with fewer weights in float
# Operators that an activation is written into.
_TAKES_ACTIVATION = frozenset(
    {"ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DIV"}
    | {"FULLY_CONNECTED", "L2_POOL_2D", "MAX_POOL_2D", "MUL", "SUB", "TRANSPOSE_CONV"}
)
_FUSED = ("RELU", "RELU6", "RELU_N1_TO_1")
# Operators that a scale and an offset for each channel are multiplied into.
_TAKES_SCALE = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
# Operators without kernels for integers.
_FLOAT_ONLY = frozenset(
    {"COS", "ELU", "EXP", "FLOOR", "LOG", "NEG", "POW", "SIN", "SQRT", "SQUARE"}
)


class GraphWriter:
    """Adds operators in the order of execution; dtypes follow the precision of each layer.

    Args:
        precision: of the file: of its inputs and outputs, and of layers that are not in `layers`;
            `mixed` is int8.
        layers: precision by layer name.

    Raises:
        InputError: a precision that no file of one precision has.
    """

    def __init__(
        self,
        precision: Precision,
        layers: Mapping[str, Precision],
        *,
        dense_one_scale: bool = False,
    ) -> None:
        self._dense_one_scale = dense_one_scale
        self._precision = "int8" if precision == "mixed" else precision
        self._layers = layers
        for word in (self._precision, *layers.values()):
            if word not in _DTYPES:
                raise InputError(f"no graph is made for '{word}'", hint=", ".join(_DTYPES))
        self._tensors: list[Tensor] = []
        self._ops: list[Op] = []
        self._made_by: dict[int, int] = {}
        self._fixed: set[int] = set()
        self._weights: dict[tuple[int, str, Shape], int] = {}
        self._converted: dict[tuple[int, str], int] = {}

    def dtypes(self, layer: str) -> tuple[str, str, str]:
        """Dtypes of activations, weights and biases of a layer."""
        outer = layer.split("/")[-1]
        return _DTYPES[self._layers.get(layer, self._layers.get(outer, self._precision))]

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor."""
        return self._tensors[tensor].shape

    def input(self, name: str, shape: Shape, dtype: str) -> int:
        """An input of the graph; numbers that are quantized are so from the start."""
        known = dtype if dtype.startswith(("int", "uint", "bool")) else self.dtypes("")[0]
        return self._tensor(name, shape, known)

    def constant(self, name: str, shape: Shape, dtype: str, key: int | None = None) -> int:
        """Values that the file holds; those with the same `key` once."""
        if key is not None and (key, dtype, shape) in self._weights:
            return self._weights[key, dtype, shape]
        index = self._tensor(name, shape, dtype, constant=True)
        self._fixed.add(index)
        if key is not None:
            self._weights[key, dtype, shape] = index
        return index

    def numbers(self, count: int, *, name: str = "numbers") -> int:
        """Whole numbers that tell an operator axes, sizes or a shape."""
        return self.constant(name, (count,), "int32")

    def weights(self, layer: str, shape: Shape, key: int | None = None) -> int:
        """A kernel in the layout that its operator takes."""
        activations, dtype, _ = self.dtypes(layer)
        tensor = Tensor(-1, layer, shape, dtype)
        if (activations, dtype) == ("float32", "int8") and tensor.elements < _FEWEST_DYNAMIC:
            dtype = "float32"
        return self.constant(f"{layer}/kernel", shape, dtype, key)

    def bias(self, layer: str, size: int | None, key: int | None = None) -> int:
        """What is added to each channel."""
        return self.constant(f"{layer}/bias", (size,), self.dtypes(layer)[2], key)

    def op(
        self,
        name: str,
        layer: str,
        inputs: tuple[int, ...],
        shape: Shape | tuple[Shape, ...],
        *,
        kind: OpClass | None = None,
        macs: int | None = None,
        **attributes: Any,
    ) -> int:
        """Adds an operator.

        Args:
            name: of TensorFlow Lite.
            layer: name of the Keras layer.
            inputs: tensors.
            shape: of the output, or of each of several.
            kind: class; by default that of the name.
            macs: multiply-accumulates; by default those of the name and the shapes.
            attributes: as in the file.

        Returns:
            The (first) output; others follow it.
        """
        dtype = self.dtypes(layer)[0]
        if name in _FLOAT_ONLY:
            dtype = "float32"
        inputs = tuple(self._as(tensor, dtype) for tensor in inputs)
        if name == "FULLY_CONNECTED" and not self._dense_one_scale:
            self._scale_an_output(inputs[1])
        several = bool(shape) and isinstance(shape[0], tuple)
        shapes: tuple[Any, ...] = shape if several else (shape,)
        if name in _TAKES_ACTIVATION:
            attributes.setdefault("fused_activation_function", "NONE")
        outputs = tuple(self._tensor(f"{layer}/{name}", one, dtype) for one in shapes)
        arguments = [self._tensors[index] for index in inputs]
        results = [self._tensors[index] for index in outputs]
        if macs is None:
            macs = tflite_ops.count_macs(name, arguments, results, attributes, self._fixed)
        kind = kind or tflite_ops.classify(name, arguments, self._fixed)
        self._add(Op(len(self._ops), name, kind, layer, inputs, outputs, attributes, macs))
        return outputs[0]

    def fuse(self, tensor: int, activation: str) -> bool:
        """Writes an activation into the operator that makes a tensor, if that operator takes it.

        Only for a tensor that nothing else reads.
        """
        op = self._maker(tensor, _TAKES_ACTIVATION)
        if op is None or activation not in _FUSED:
            return False
        attributes = {**op.attributes, "fused_activation_function": activation}
        self._ops[op.index] = replace(op, attributes=attributes)
        return True

    def scale(self, tensor: int) -> bool:
        """Multiplies a scale and an offset for each channel into what makes a tensor.

        Only for a tensor that nothing else reads.
        """
        op = self._maker(tensor, _TAKES_SCALE)
        if op is None:
            return False
        if len(op.inputs) == 2:
            bias = self.bias(op.layer, self._tensors[tensor].shape[-1])
            self._ops[op.index] = replace(op, inputs=(*op.inputs, bias))
        return True

    def graph(self, name: str, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Graph:
        """All that was written; inputs and outputs by name."""
        dtype = self.dtypes("")[0]
        ports = tuple(Port(key, self._as(tensor, dtype)) for key, tensor in outputs.items())
        graph = Graph(
            format="tflite",
            name=name,
            tensors=tuple(self._tensors),
            ops=tuple(self._ops),
            inputs=tuple(Port(key, tensor) for key, tensor in inputs.items()),
            outputs=ports,
            file_bytes=0,
        )
        # Structure takes some hundred bytes an operator; the weights are what matters.
        return replace(graph, file_bytes=graph.weight_bytes)

    def _maker(self, tensor: int, names: frozenset[str]) -> Op | None:
        made = self._made_by.get(tensor)
        op = None if made is None else self._ops[made]
        if op is None or op.name not in names:
            return None
        return op if op.attributes.get("fused_activation_function") == "NONE" else None

    def _as(self, tensor: int, dtype: str) -> int:
        """A tensor in the dtype of the layer that reads it."""
        given = self._tensors[tensor]
        plain = given.dtype in ("int8", "int16", "float32")
        if given.constant or given.dtype == dtype or not plain:
            return tensor
        if (tensor, dtype) not in self._converted:
            name = "DEQUANTIZE" if dtype == "float32" else "QUANTIZE"
            index = self._tensor(f"{given.name}/{name}", given.shape, dtype)
            self._add(Op(len(self._ops), name, "quantize", given.name, (tensor,), (index,)))
            self._converted[tensor, dtype] = index
        return self._converted[tensor, dtype]

    def _scale_an_output(self, kernel: int) -> None:
        """Says that integer weights of a dense layer have a scale an output, as exports have."""
        tensor = self._tensors[kernel]
        outputs = tensor.shape[0] or 1
        if tensor.constant and tensor.dtype == "int8" and outputs > 1:
            unknown = Quantization((1.0,) * outputs, (0,) * outputs, axis=0)
            self._tensors[kernel] = replace(tensor, quantization=unknown)

    def _add(self, op: Op) -> None:
        self._ops.append(op)
        self._made_by |= dict.fromkeys(op.outputs, op.index)

    def _tensor(self, name: str, shape: Shape, dtype: str, *, constant: bool = False) -> int:
        self._tensors.append(Tensor(len(self._tensors), name, shape, dtype, None, constant))
        return len(self._tensors) - 1
