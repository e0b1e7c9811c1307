"""Writes a measuring network as an .onnx file: float, or int8 by quantize and dequantize pairs.

Layout and form are those of edgekit's own exports: channels first, activations and the constants
added to them unsigned, weights signed with a scale for each filter, a pair around every operator;
integers are padded and clipped without one, by a layer where it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require
from edgekit.pipeline.calibration.network import Layer, Network, Shape
from edgekit.pipeline.calibration.quantization import ACTIVATION, Quantization, quantizations
from edgekit.pipeline.calibration.weights import biases, integer_biases, weight_scales, weights

_OPSET = 18
_IR_VERSION = 9
_UNSIGNED_ZERO = 128
_ROW = 50  # integer in constants that are added to an activation
_LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
_BINARY = {"add": "Add", "mul": "Mul", "sub": "Sub"}
_UNARY = {"logistic": "Sigmoid", "tanh": "Tanh"}


def write_onnx(network: Network, *, quantized: bool) -> bytes:
    """The network as an .onnx file; see `edgekit.pipeline.calibration.tflite_writer`."""
    return _Writer(network, quantized=quantized).content()


class _Writer:
    def __init__(self, network: Network, *, quantized: bool) -> None:
        self._helper = require("onnx.helper", purpose="to write .onnx")
        self._numpy = require("onnx.numpy_helper", purpose="to write .onnx")
        self._float = require("onnx", purpose="to write .onnx").TensorProto.FLOAT
        self._network, self._quantized = network, quantized
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._of: dict[int, str] = {}  # name of a layer's tensor of floats
        self._integers_of: dict[int, str] = {}  # and of the integers that it comes from
        self._margins: dict[int, int] = {}  # of paddings that the layers behind do
        self._channels_last = network.prepared  # as in exports
        self._quantizations = quantizations(network)
        self._made = 0

    def content(self) -> bytes:
        for number, layer in enumerate(self._network.layers):
            self._place(number, layer)
        outputs = [
            self._helper.make_tensor_value_info(
                self._floats(n), self._float, _first(self._network.shape(n))
            )
            for n in self._network.outputs
        ]
        image = self._network.shape(0)
        shape = list(image) if 0 in self._channels_last else _first(image)
        graph = self._helper.make_graph(
            self._nodes,
            self._network.name,
            [self._helper.make_tensor_value_info("x", self._float, shape)],
            outputs,
            list(self._constants.values()),
        )
        opset = self._helper.make_opsetid("", _OPSET)
        model = self._helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())

    def _place(self, number: int, layer: Layer) -> None:
        if not self._quantized:
            name = "x" if layer.kind == "input" else self._made_by(number, layer)
            self._of[number] = self._turned(number, self._activated(layer, name))
            return
        integers: Callable[[int, Layer], str] | None
        integers = getattr(self, f"_{layer.kind}_of_integers", None)
        if integers is not None:
            self._integers_of[number] = integers(number, layer)
            return
        name = "x" if layer.kind == "input" else self._made_by(number, layer)
        pair = [name, *self._parameters(self._quantizations[number])]
        stored = self._node("QuantizeLinear", pair)
        self._integers_of[number] = self._turned(number, self._clipped_integers(number, stored))

    def _turned(self, number: int, name: str) -> str:
        """An image with the channels first, before the first layer that wants it so."""
        layers = self._network.layers
        readers = (n for n, layer in enumerate(layers) if number in layer.inputs)
        if number not in self._channels_last or self._channels_last.issuperset(readers):
            return name
        return self._node("Transpose", [name], perm=[0, 3, 1, 2])

    def _floats(self, number: int) -> str:
        """The name of a layer's tensor of floats, made of integers if nothing has read it yet."""
        if number not in self._of:
            pair = [self._integers_of[number], *self._parameters(self._quantizations[number])]
            self._of[number] = self._node("DequantizeLinear", pair)
        return self._of[number]

    def _made_by(self, number: int, layer: Layer) -> str:
        make: Callable[[int, Layer], str] = getattr(self, f"_{layer.kind}", self._plain)
        return make(number, layer)

    def _parameters(self, quantization: Quantization) -> list[str]:
        zero_point = quantization.zero_point + _UNSIGNED_ZERO
        return [
            self._number(quantization.scale),
            self._constant(f"zero_{zero_point}", np.array(zero_point, np.uint8)),
        ]

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        self._made += 1
        output = f"{op.lower()}_{self._made}"
        self._nodes.append(self._helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        if name not in self._constants:
            self._constants[name] = self._numpy.from_array(values, name)
        return name

    def _number(self, value: float) -> str:
        return self._constant(f"number_{value!r}", np.array(value, np.float32))

    def _integers(self, *values: int) -> str:
        return self._constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def _activated(self, layer: Layer, name: str) -> str:
        if layer.activation == "none":
            return name
        return self._clipped(name) if layer.activation == "relu6" else self._node("Relu", [name])

    def _clipped_integers(self, number: int, stored: str) -> str:
        """Limits the integers of an activation that do not end where it does."""
        layer, quantization = self._network.layers[number], self._quantizations[number]
        word = layer.kind if layer.kind in _LIMITS else layer.activation
        if word not in _LIMITS or quantization.rectifies:
            return stored
        steps = np.rint(np.array(_LIMITS[word]) / quantization.scale)
        ends = np.clip(steps + quantization.zero_point + _UNSIGNED_ZERO, 0, 255).astype(np.uint8)
        limits = [self._constant(f"integer_{end}", np.array(end)) for end in ends]
        return self._node("Clip", [stored, *limits])

    def _clipped(self, name: str) -> str:
        return self._node("Clip", [name, self._number(0.0), self._number(6.0)])

    def _inputs(self, layer: Layer) -> list[str]:
        return [self._floats(source) for source in layer.inputs]

    def _source(self, layer: Layer) -> Shape:
        return self._network.shape(layer.inputs[0])

    def _weighted(self, number: int, shape: Shape, k: int, axis: int) -> list[str]:
        """Names of weights, laid out as `shape`, and of biases."""
        layer = self._network.layers[number]
        values = weights(number, shape, k, quantized=self._quantized)
        bias = biases(number, shape[axis])
        if not self._quantized:
            return [
                self._constant(f"weights_{number}", values),
                self._constant(f"biases_{number}", bias),
            ]
        scales = weight_scales(number, 1 if layer.one_scale else shape[axis], k)
        scales = scales.reshape(() if layer.one_scale else -1)
        sums = scales * np.float32(self._quantizations[layer.inputs[0]].scale)
        return [
            self._stored(f"weights_{number}", values, scales, axis),
            self._stored(f"biases_{number}", integer_biases(bias, sums), sums, 0),
        ]

    def _stored(
        self, name: str, values: NDArray[Any], scales: NDArray[np.float32], axis: int
    ) -> str:
        inputs = [
            self._constant(name, values),
            self._constant(f"{name}_scale", np.asarray(scales)),
            self._constant(f"{name}_zero", np.zeros(np.shape(scales), values.dtype)),
        ]
        return self._node("DequantizeLinear", inputs, axis=axis)

    def _window(self, layer: Layer) -> dict[str, Any]:
        pads = [0, 0, 0, 0]
        if not layer.valid:
            for axis, taps in enumerate(layer.kernel):
                size, new = self._source(layer)[1 + axis], layer.shape[1 + axis]
                total = max(0, (new - 1) * layer.stride + taps - size)
                pads[axis], pads[axis + 2] = total // 2, total - total // 2
        margin = self._margins.get(layer.inputs[0], 0)
        pads = [size + margin for size in pads]
        return {"kernel_shape": list(layer.kernel), "strides": [layer.stride] * 2, "pads": pads}

    def _conv(self, number: int, layer: Layer) -> str:
        per_group = self._source(layer)[-1] // layer.groups
        shape = (layer.shape[-1], per_group, *layer.kernel)
        parts = self._weighted(number, shape, int(np.prod(shape[1:])), 0)
        return self._node(
            "Conv", [*self._inputs(layer), *parts], group=layer.groups, **self._window(layer)
        )

    def _depthwise(self, number: int, layer: Layer) -> str:
        channels = layer.shape[-1]
        parts = self._weighted(number, (channels, 1, *layer.kernel), int(np.prod(layer.kernel)), 0)
        return self._node(
            "Conv", [*self._inputs(layer), *parts], group=channels, **self._window(layer)
        )

    def _transpose_conv(self, number: int, layer: Layer) -> str:
        shape = (self._source(layer)[-1], layer.shape[-1], *layer.kernel)
        parts = self._weighted(number, shape, int(np.prod(shape[1:])), 1)
        return self._node(
            "ConvTranspose",
            [*self._inputs(layer), *parts],
            kernel_shape=list(layer.kernel),
            strides=[layer.stride] * 2,
            output_shape=list(layer.shape[1:3]),
        )

    def _dense(self, number: int, layer: Layer) -> str:
        k = self._source(layer)[-1]
        kernel, bias = self._weighted(number, (k, layer.shape[-1]), k, 1)
        if len(layer.shape) == 2:
            return self._node("Gemm", [*self._inputs(layer), kernel, bias])
        (source,) = self._inputs(layer)
        image = _channel_axis(layer) == 1
        if image:  # the converter moves the channels last for it
            source = self._node("Transpose", [source], perm=[0, 2, 3, 1])
        product = self._node("Add", [self._node("MatMul", [source, kernel]), bias])
        return self._node("Transpose", [product], perm=[0, 3, 1, 2]) if image else product

    def _plain(self, number: int, layer: Layer) -> str:
        del number
        if layer.kind in _BINARY:
            return self._node(_BINARY[layer.kind], self._inputs(layer))
        return self._node(_UNARY[layer.kind], self._inputs(layer))

    def _matmul(self, number: int, layer: Layer) -> str:
        del number
        return self._node("MatMul", self._inputs(layer))

    def _squared_difference(self, number: int, layer: Layer) -> str:
        del number
        difference = self._node("Sub", self._inputs(layer))
        return self._node("Mul", [difference, difference])

    def _rsqrt(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Reciprocal", [self._node("Sqrt", self._inputs(layer))])

    def _with_constant(self, number: int, layer: Layer, op: str) -> str:
        values = biases(number, 1 if layer.one_scale else layer.shape[-1]) + 1
        if _channel_axis(layer) == 1 and number not in self._channels_last:
            values = values.reshape(-1, *(1,) * (len(layer.shape) - 2))
        name = f"row_{number}"
        if not self._quantized:
            return self._node(op, [*self._inputs(layer), self._constant(name, values)])
        stored = self._constant(name, np.full(values.shape, _ROW + _UNSIGNED_ZERO, np.uint8))
        row = [stored, *self._parameters(ACTIVATION)]
        constant = self._node("DequantizeLinear", row)
        return self._node(op, [*self._inputs(layer), constant])

    def _scale(self, number: int, layer: Layer) -> str:
        return self._with_constant(number, layer, "Mul")

    def _shift(self, number: int, layer: Layer) -> str:
        return self._with_constant(number, layer, "Add")

    def _relu(self, number: int, layer: Layer) -> str:
        del number
        (source,) = self._inputs(layer)
        return source if self._quantized else self._node("Relu", [source])

    def _relu6(self, number: int, layer: Layer) -> str:
        del number
        (source,) = self._inputs(layer)
        return source if self._quantized else self._clipped(source)

    def _hard_swish(self, number: int, layer: Layer) -> str:
        del number
        (source,) = self._inputs(layer)
        if self._quantized:
            return self._node("HardSwish", [source])
        moved = self._clipped(self._node("Add", [source, self._number(3.0)]))
        gate = self._node("Mul", [moved, self._number(1 / 6)])
        return self._node("Mul", [source, gate])

    def _gelu(self, number: int, layer: Layer) -> str:
        del number
        (source,) = self._inputs(layer)
        error = self._node("Erf", [self._node("Mul", [source, self._number(2**-0.5)])])
        half = self._node("Mul", [source, self._number(0.5)])
        return self._node("Mul", [half, self._node("Add", [error, self._number(1.0)])])

    def _softmax(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Softmax", self._inputs(layer), axis=_channel_axis(layer))

    def _max_pool(self, number: int, layer: Layer) -> str:
        del number
        return self._node("MaxPool", self._inputs(layer), **self._window(layer))

    def _average_pool(self, number: int, layer: Layer) -> str:
        del number
        return self._node("AveragePool", self._inputs(layer), **self._window(layer))

    def _mean(self, number: int, layer: Layer) -> str:
        del number
        if self._quantized:
            return self._node("GlobalAveragePool", self._inputs(layer))
        return self._node("ReduceMean", [*self._inputs(layer), self._integers(2, 3)], keepdims=1)

    def _global_mean(self, number: int, layer: Layer) -> str:
        del number
        return self._node("ReduceMean", [*self._inputs(layer), self._integers(2, 3)], keepdims=0)

    def _global_mean_of_integers(self, number: int, layer: Layer) -> str:
        mean = self._node("GlobalAveragePool", self._inputs(layer))
        pair = [mean, *self._parameters(self._quantizations[number])]
        return self._node("Flatten", [self._node("QuantizeLinear", pair)], axis=1)

    def _mean_channels(self, number: int, layer: Layer) -> str:
        del number
        axis = self._integers(_channel_axis(layer))
        return self._node("ReduceMean", [*self._inputs(layer), axis], keepdims=1)

    def _concat(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Concat", self._inputs(layer), axis=_channel_axis(layer))

    def _concat_of_integers(self, number: int, layer: Layer) -> str:
        del number
        sources = [self._integers_of[source] for source in layer.inputs]
        return self._node("Concat", sources, axis=_channel_axis(layer))

    def _pad(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Pad", [*self._inputs(layer), self._margin(layer)])

    def _pad_of_integers(self, number: int, layer: Layer) -> str:
        (source,) = layer.inputs
        quantization = self._quantizations[source]
        able = {"conv", "depthwise", *(["max_pool"] if quantization.rectifies else [])}
        readers = {other.kind for other in self._network.layers if number in other.inputs}
        if readers and readers <= able:
            self._margins[number] = layer.kernel[0]
            return self._integers_of[source]
        _, zero = self._parameters(quantization)
        return self._node("Pad", [self._integers_of[source], self._margin(layer), zero])

    def _margin(self, layer: Layer) -> str:
        margin = layer.kernel[0]
        return self._integers(0, 0, margin, margin, 0, 0, margin, margin)

    def _slice(self, number: int, layer: Layer) -> str:
        del number
        places = self._source(layer)[1:-1]
        begin = (0, 0, *(layer.begin for _ in places))
        end = (1, layer.shape[-1], *places)
        step = (1, 1, *(layer.stride for _ in places))
        limits = [begin, end, tuple(range(len(end))), step]
        return self._node(
            "Slice", [*self._inputs(layer), *(self._integers(*one) for one in limits)]
        )

    def _transpose(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Transpose", self._inputs(layer), perm=[0, 2, 1])

    def _reshape(self, number: int, layer: Layer) -> str:
        del number
        return self._node("Reshape", [*self._inputs(layer), self._integers(*_first(layer.shape))])

    def _resize(self, number: int, layer: Layer) -> str:
        del number
        factor = float(layer.kernel[0])
        scales = self._constant(f"scales_{factor}", np.array([1, 1, factor, factor], np.float32))
        return self._node("Resize", [*self._inputs(layer), "", scales], mode="linear")


def _first(shape: Shape) -> list[int]:
    """A shape with the channels after the batch, if it is an image; sequences stay."""
    if len(shape) == 4:
        return [shape[0], shape[-1], *shape[1:-1]]
    return list(shape)


def _channel_axis(layer: Layer) -> int:
    return 1 if len(layer.shape) == 4 else len(layer.shape) - 1
