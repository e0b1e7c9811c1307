"""Writes a measuring network as a .tflite file, float or int8, with the schema's object form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.graph.tflite_edit import EIGHT_BIT_VERSIONS
from edgekit.pipeline.calibration.network import Layer, Network
from edgekit.pipeline.calibration.quantization import ACTIVATION, Quantization, quantizations
from edgekit.pipeline.calibration.weights import biases, integer_biases, weight_scales, weights

_UNSIGNED_ZERO = 128
_GATES, _INTERMEDIATES = 4, 5  # of a long short-term memory
_PLAIN = {
    "mul": "MUL", "add": "ADD", "sub": "SUB", "squared_difference": "SQUARED_DIFFERENCE",
    "relu": "RELU", "relu6": "RELU6", "hard_swish": "HARD_SWISH", "logistic": "LOGISTIC",
    "tanh": "TANH", "rsqrt": "RSQRT",
}  # fmt: skip
_FUSED = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}


def write_tflite(network: Network, *, quantized: bool) -> bytes:
    """The network as a .tflite file.

    Args:
        network: what to write.
        quantized: int8 with a scale for each filter, else float32.

    Raises:
        MissingDependencyError: the schema's object form is not installed.
    """
    return _Writer(network, quantized=quantized).content()


class _Writer:
    def __init__(self, network: Network, *, quantized: bool) -> None:
        self._schema = require("ai_edge_litert.schema_py_generated", purpose="to write .tflite")
        self._flatbuffers = require("flatbuffers", purpose="to write .tflite")
        self._network, self._quantized = network, quantized
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [self._schema.BufferT()]
        self._codes: dict[str, int] = {}
        self._ops: list[Any] = []
        self._of: dict[int, int] = {}  # tensor of a layer
        self._quantizations = quantizations(network)
        self._middle = _UNSIGNED_ZERO if network.unsigned else 0  # from int8 to how it is stored

    def content(self) -> bytes:
        for number, layer in enumerate(self._network.layers):
            self._of[number] = self._tensor(layer.shape, self._quantizations[number])
            if layer.kind != "input":
                self._layer(number, layer)
        schema = self._schema
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.buffers, model.subgraphs = 3, self._buffers, [graph]
        graph.tensors, graph.operators = self._tensors, self._ops
        graph.inputs = [self._of[0]]
        graph.outputs = [self._of[n] for n in self._network.outputs]
        model.operatorCodes = [self._code(name) for name in self._codes]
        builder = self._flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, name: str) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode = getattr(self._schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = EIGHT_BIT_VERSIONS.get(name, 1) if self._quantized else 1
        return code

    def _tensor(self, shape: Sequence[int], quantization: Quantization | None) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.name, tensor.buffer = list(shape), f"t{len(self._tensors)}", 0
        tensor.type = self._schema.TensorType.FLOAT32
        if self._quantized and quantization is not None:
            types = self._schema.TensorType
            tensor.type = types.UINT8 if self._network.unsigned else types.INT8
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale = [quantization.scale]
            tensor.quantization.zeroPoint = [quantization.zero_point + self._middle]
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _constant(self, values: NDArray[Any], scales: Sequence[float] = (), axis: int = 0) -> int:
        shift = self._middle if values.dtype == np.int8 else 0
        if shift:
            values = (values.astype(np.int16) + shift).astype(np.uint8)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._buffers.append(buffer)
        index = self._tensor(values.shape, None)
        tensor = self._tensors[index]
        tensor.buffer = len(self._buffers) - 1
        tensor.type = getattr(self._schema.TensorType, values.dtype.name.upper())
        if scales:
            tensor.quantization = self._schema.QuantizationParametersT()
            tensor.quantization.scale = list(scales)
            tensor.quantization.zeroPoint = [shift] * len(scales)
            # XNNPACK leaves a depthwise convolution to slower kernels if one scale has another.
            tensor.quantization.quantizedDimension = axis if len(scales) > 1 else 0
        return index

    def _op(
        self, name: str, inputs: list[int], output: int, options: str = "", **fields: Any
    ) -> Any:
        op = self._schema.OperatorT()
        op.opcodeIndex = self._codes.setdefault(name, len(self._codes))
        op.inputs, op.outputs = inputs, [output]
        if options:
            op.builtinOptions = getattr(self._schema, f"{options}T")()
            op.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            for key, value in fields.items():
                setattr(op.builtinOptions, key, value)
        self._ops.append(op)
        return op

    def _weighted(self, number: int, shape: tuple[int, ...], k: int, axis: int) -> list[int]:
        """Data, weights and biases of a layer; `axis` is that of the filters."""
        layer = self._network.layers[number]
        channels = shape[axis]
        values, bias = (
            weights(number, shape, k, quantized=self._quantized),
            biases(number, channels),
        )
        data = self._of[layer.inputs[0]]
        if not self._quantized:
            return [data, self._constant(values), self._constant(bias)]
        per = 1 if layer.kind == "dense" or self._network.unsigned else channels
        scales = weight_scales(number, per, k)
        sums = scales * np.float32(self._quantizations[layer.inputs[0]].scale)
        return [
            data,
            self._constant(values, scales.tolist(), axis),
            self._constant(integer_biases(bias, sums), sums.tolist()),
        ]

    def _layer(self, number: int, layer: Layer) -> None:
        handler: Callable[[int, Layer], None] | None = getattr(self, f"_{layer.kind}", None)
        if handler is not None:
            handler(number, layer)
            return
        name = _PLAIN[layer.kind]
        inputs = [self._of[source] for source in layer.inputs]
        options: dict[str, Any] = {}
        if name in ("ADD", "MUL", "SUB"):
            options = {"options": f"{name.capitalize()}Options", **self._fused(layer)}
        self._op(name, inputs, self._of[number], **options)

    def _fused(self, layer: Layer) -> dict[str, int]:
        functions = self._schema.ActivationFunctionType
        return {"fusedActivationFunction": getattr(functions, _FUSED[layer.activation])}

    def _window(self, layer: Layer) -> dict[str, int]:
        padding = self._schema.Padding
        return {
            "padding": padding.VALID if layer.valid else padding.SAME,
            "strideH": layer.stride,
            "strideW": layer.stride,
        }

    def _channels(self, layer: Layer) -> int:
        return self._network.shape(layer.inputs[0])[-1]

    def _conv(self, number: int, layer: Layer) -> None:
        per_group = self._channels(layer) // layer.groups
        shape = (layer.shape[-1], *layer.kernel, per_group)
        inputs = self._weighted(number, shape, int(np.prod(shape[1:])), 0)
        self._op("CONV_2D", inputs, self._of[number], "Conv2DOptions",
                 **self._window(layer), **self._fused(layer))  # fmt: skip

    def _depthwise(self, number: int, layer: Layer) -> None:
        shape = (1, *layer.kernel, layer.shape[-1])
        inputs = self._weighted(number, shape, int(np.prod(layer.kernel)), 3)
        self._op("DEPTHWISE_CONV_2D", inputs, self._of[number], "DepthwiseConv2DOptions",
                 depthMultiplier=1, **self._window(layer), **self._fused(layer))  # fmt: skip

    def _transpose_conv(self, number: int, layer: Layer) -> None:
        shape = (layer.shape[-1], *layer.kernel, self._channels(layer))
        data, kernel, bias = self._weighted(number, shape, int(np.prod(shape[1:])), 0)
        size = self._constant(np.array(layer.shape, np.int32))
        self._op("TRANSPOSE_CONV", [size, kernel, data, bias], self._of[number],
                 "TransposeConvOptions", **self._window(layer))  # fmt: skip

    def _dense(self, number: int, layer: Layer) -> None:
        k = self._channels(layer)
        inputs = self._weighted(number, (layer.shape[-1], k), k, 0)
        self._op("FULLY_CONNECTED", inputs, self._of[number], "FullyConnectedOptions",
                 keepNumDims=len(layer.shape) > 2, **self._fused(layer))  # fmt: skip

    def _matmul(self, number: int, layer: Layer) -> None:
        inputs = [self._of[source] for source in layer.inputs]
        self._op("BATCH_MATMUL", inputs, self._of[number], "BatchMatMulOptions")

    def _with_constant(self, number: int, layer: Layer, name: str) -> None:
        values = biases(number, 1 if layer.one_scale else layer.shape[-1]) + 1
        constant = (
            self._constant(np.full(len(values), 50, np.int8), [ACTIVATION.scale])
            if self._quantized
            else self._constant(values)
        )
        self._op(name, [self._of[layer.inputs[0]], constant], self._of[number],
                 f"{name.capitalize()}Options", **self._fused(layer))  # fmt: skip

    def _scale(self, number: int, layer: Layer) -> None:
        self._with_constant(number, layer, "MUL")

    def _shift(self, number: int, layer: Layer) -> None:
        self._with_constant(number, layer, "ADD")

    def _pool(self, number: int, layer: Layer, name: str) -> None:
        height, width = layer.kernel
        self._op(name, [self._of[layer.inputs[0]]], self._of[number], "Pool2DOptions",
                 filterHeight=height, filterWidth=width, **self._window(layer))  # fmt: skip

    def _max_pool(self, number: int, layer: Layer) -> None:
        self._pool(number, layer, "MAX_POOL_2D")

    def _average_pool(self, number: int, layer: Layer) -> None:
        self._pool(number, layer, "AVERAGE_POOL_2D")

    def _reduce(self, number: int, layer: Layer, axes: Sequence[int], *, keep: bool = True) -> None:
        constant = self._constant(np.array(axes, np.int32))
        self._op("MEAN", [self._of[layer.inputs[0]], constant], self._of[number],
                 "ReducerOptions", keepDims=keep)  # fmt: skip

    def _mean(self, number: int, layer: Layer) -> None:
        self._reduce(number, layer, (1, 2))

    def _global_mean(self, number: int, layer: Layer) -> None:
        self._reduce(number, layer, (1, 2), keep=False)

    def _mean_channels(self, number: int, layer: Layer) -> None:
        self._reduce(number, layer, (len(layer.shape) - 1,))

    def _concat(self, number: int, layer: Layer) -> None:
        inputs = [self._of[source] for source in layer.inputs]
        self._op("CONCATENATION", inputs, self._of[number], "ConcatenationOptions",
                 axis=len(layer.shape) - 1)  # fmt: skip

    def _pad(self, number: int, layer: Layer) -> None:
        margin = layer.kernel[0]
        paddings = self._constant(
            np.array([(0, 0), (margin, margin), (margin, margin), (0, 0)], np.int32)
        )
        self._op("PAD", [self._of[layer.inputs[0]], paddings], self._of[number], "PadOptions")

    def _slice(self, number: int, layer: Layer) -> None:
        source = self._network.shape(layer.inputs[0])
        step = (1, *(layer.stride for _ in source[1:-1]), 1)
        begin = (0, *(layer.begin for _ in source[1:-1]), 0)
        end = (*source[:-1], layer.shape[-1])
        limits = [self._constant(np.array(values, np.int32)) for values in (begin, end, step)]
        self._op("STRIDED_SLICE", [self._of[layer.inputs[0]], *limits], self._of[number],
                 "StridedSliceOptions")  # fmt: skip

    def _transpose(self, number: int, layer: Layer) -> None:
        order = self._constant(np.array((0, 2, 1), np.int32))
        self._op("TRANSPOSE", [self._of[layer.inputs[0]], order], self._of[number],
                 "TransposeOptions")  # fmt: skip

    def _reshape(self, number: int, layer: Layer) -> None:
        shape = self._constant(np.array(layer.shape, np.int32))
        self._op("RESHAPE", [self._of[layer.inputs[0]], shape], self._of[number],
                 "ReshapeOptions", newShape=list(layer.shape))  # fmt: skip

    def _resize(self, number: int, layer: Layer) -> None:
        size = self._constant(np.array(layer.shape[1:3], np.int32))
        self._op("RESIZE_BILINEAR", [self._of[layer.inputs[0]], size], self._of[number],
                 "ResizeBilinearOptions", halfPixelCenters=True)  # fmt: skip

    def _softmax(self, number: int, layer: Layer) -> None:
        self._op("SOFTMAX", [self._of[layer.inputs[0]]], self._of[number], "SoftmaxOptions",
                 beta=1.0)  # fmt: skip

    def _gelu(self, number: int, layer: Layer) -> None:
        self._op("GELU", [self._of[layer.inputs[0]]], self._of[number], "GeluOptions")

    def _split(self, number: int, layer: Layer) -> None:
        (source,) = layer.inputs
        parts = self._channels(layer) // layer.shape[-1]
        axis = self._constant(np.array(len(layer.shape) - 1, np.int32))
        op = self._op("SPLIT", [axis, self._of[source]], self._of[number], "SplitOptions",
                      numSplits=parts)  # fmt: skip
        quantization = self._quantizations[number]
        op.outputs += [self._tensor(layer.shape, quantization) for _ in range(parts - 1)]

    def _lstm(self, number: int, layer: Layer) -> None:
        """Weights and biases of four gates, and two states; no peepholes, projection, norms."""
        (source,), units, k = layer.inputs, layer.shape[-1], self._channels(layer)
        gates = range(_GATES * number, _GATES * (number + 1))
        scales = weight_scales(number, 1, k).tolist() if self._quantized else []
        kernels = [
            self._constant(weights(gate, (units, size), size, quantized=self._quantized), scales)
            for size in (k, units)
            for gate in gates
        ]
        sums = [biases(gate, units) for gate in gates]
        if self._quantized:
            sums = [(1000 * one).astype(np.int32) for one in sums]
        states = [self._tensor((1, units), self._quantizations[number]), self._cell((1, units))]
        inputs = [self._of[source], *kernels, *[-1] * 3, *map(self._constant, sums), -1, -1]
        op = self._op("UNIDIRECTIONAL_SEQUENCE_LSTM", [*inputs, *states, *[-1] * 4],
                      self._of[number], "UnidirectionalSequenceLSTMOptions",
                      fusedActivationFunction=self._schema.ActivationFunctionType.TANH,
                      cellClip=10.0)  # fmt: skip
        for state in states:
            self._tensors[state].isVariable = True
        if self._quantized:
            op.intermediates = [self._tensor((), ACTIVATION) for _ in range(_INTERMEDIATES)]

    def _cell(self, shape: Sequence[int]) -> int:
        """A state of 16 bits, whose scale is a power of two."""
        index = self._tensor(shape, Quantization(2.0**-11, 0))
        if self._quantized:
            self._tensors[index].type = self._schema.TensorType.INT16
        return index
