"""What a Keras model consists of, layer by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras


def describe(model: keras.Model) -> list[dict[str, Any]]:
    """The layers of a functional model in their order.

    Returns:
        One plain dict a layer: "layer", "class", "output_shape" (None is the batch), "parameters",
        and "macs", the multiply-accumulate operations for one sample in convolutions, dense and
        recurrent layers and attention.
    """
    return [_row(operation) for operation in model.operations]


def _row(operation: Any) -> dict[str, Any]:
    output = operation.output
    shapes = [list(tensor.shape) for tensor in (output if isinstance(output, list) else [output])]
    return {
        "layer": operation.name,
        "class": type(operation).__name__,
        "output_shape": shapes[0] if len(shapes) == 1 else shapes,
        "parameters": operation.count_params() if hasattr(operation, "count_params") else 0,
        "macs": macs(operation),
    }


def macs(layer: Any) -> int:
    """Multiply-accumulate operations of one layer for one sample; 0 where there are none."""
    layers = require("keras", purpose="to inspect Keras models").layers
    if isinstance(layer, (layers.Bidirectional, layers.TimeDistributed)):
        return _wrapped(layer, layers)
    if isinstance(layer, (layers.LSTM, layers.GRU, layers.SimpleRNN)):
        steps = layer.input.shape[1] or 1
        return int(steps) * _recurrent(layer.cell)
    if isinstance(layer, layers.MultiHeadAttention):
        return _attention(layer)
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        places = _places(layer.output.shape, layer)
        return places * (_size(layer.depthwise_kernel) + _size(layer.pointwise_kernel))
    if isinstance(layer, (layers.Conv2DTranspose, layers.Conv1DTranspose, layers.Conv3DTranspose)):
        return _places(layer.input.shape, layer) * _size(layer.kernel)
    if isinstance(layer, (layers.Dense, layers.EinsumDense)):
        return _dense(layer)
    kernel = getattr(layer, "kernel", None)
    if kernel is not None and hasattr(layer, "kernel_size"):
        return _places(layer.output.shape, layer) * _size(kernel)
    return 0


def _size(variable: Any) -> int:
    return math.prod(variable.shape)


def _places(shape: tuple[int | None, ...], layer: Any) -> int:
    """How often a kernel is applied: the product of the spatial axes; free axes count once."""
    first = layer.data_format == "channels_first"
    return math.prod(size or 1 for size in (shape[2:] if first else shape[1:-1]))


def _dense(layer: Any) -> int:
    # Each weight is used once for each place that its output axes do not cover.
    outputs: int = math.prod(size or 1 for size in layer.output.shape[1:])
    units = int(layer.kernel.shape[-1])
    if hasattr(layer, "equation"):
        return _einsum(layer)
    return outputs // units * _size(layer.kernel)


def _einsum(layer: Any) -> int:
    """Every combination of the letters of the equation is one multiplication."""
    left, _, result = layer.equation.replace("...", "").partition("->")
    inputs, kernel = left.split(",")
    sizes: dict[str, int] = dict(zip(kernel, layer.kernel.shape, strict=True))
    for letters, shape in ((inputs, layer.input.shape), (result, layer.output.shape)):
        for letter, size in zip(reversed(letters), reversed(shape), strict=False):
            sizes.setdefault(letter, size or 1)
    return math.prod(sizes.values())


def _recurrent(cell: Any) -> int:
    return _size(cell.kernel) + _size(cell.recurrent_kernel)


def _wrapped(layer: Any, layers: Any) -> int:
    steps = int(layer.input.shape[1] or 1)
    if isinstance(layer, layers.Bidirectional):
        directions = (layer.forward_layer, layer.backward_layer)
        return steps * sum(_recurrent(one.cell) for one in directions)
    kernel = getattr(layer.layer, "kernel", None)
    return steps * _size(kernel) if isinstance(layer.layer, layers.Dense) else 0


def _attention(layer: Any) -> int:
    """Projections of query, key, value and output, then scores and weighted sum."""
    tensors = layer.input if isinstance(layer.input, (list, tuple)) else [layer.input]
    queries, keys = (int(tensor.shape[1] or 1) for tensor in (tensors[0], tensors[-1]))
    kernels = {
        weight.path.split("/")[-2]: _size(weight)
        for weight in layer.weights
        if weight.name == "kernel"
    }
    projected = queries * sum(kernels.get(name, 0) for name in ("query", "attention_output"))
    projected += keys * sum(kernels.get(name, 0) for name in ("key", "value"))
    width = int(layer.num_heads) * int(layer.key_dim + (layer.value_dim or layer.key_dim))
    return projected + queries * keys * width
