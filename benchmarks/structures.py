"""Keras models as the graphs of the .tflite files that they would become, without weights.

Models are converted shape by shape to the operators that the TFLite converter would write: batch
normalization and activations fold into the convolution before them, and padding that a strided
convolution of the original TensorFlow-Slim network did itself folds into it too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.schema.names import Precision

_FUSED = {"linear", "relu", "relu6"}
_SKIPPED = {
    "InputLayer", "Dropout", "SpatialDropout2D", "Rescaling", "Normalization", "GaussianNoise",
}  # fmt: skip
_ELEMENTWISE = {
    "Add": "ADD",
    "Multiply": "MUL",
    "Subtract": "SUB",
    "Average": "ADD",
    "CustomScaleLayer": "ADD",
}
_NAMES = {"hard_silu": "HARD_SWISH"}  # where Keras has another name than TFLite
_ONNX = {  # names of TFLite's operators in ONNX files
    "ADD": "Add", "ARG_MAX": "ArgMax", "AVERAGE_POOL_2D": "AveragePool", "BATCH_MATMUL": "MatMul",
    "CONCATENATION": "Concat", "DEPTH_TO_SPACE": "DepthToSpace", "EXP": "Exp",
    "FULLY_CONNECTED": "Gemm", "GATHER": "Gather", "GELU": "Gelu", "HARD_SIGMOID": "HardSigmoid",
    "HARD_SWISH": "HardSwish", "LAYER_NORM": "LayerNormalization", "LOGISTIC": "Sigmoid",
    "MAX_POOL_2D": "MaxPool", "MEAN": "GlobalAveragePool", "MUL": "Mul", "PRELU": "PRelu",
    "REDUCE_MAX": "ReduceMax", "RELU": "Relu", "RELU6": "Clip", "RESHAPE": "Reshape",
    "RESIZE_BILINEAR": "Resize", "RESIZE_NEAREST_NEIGHBOR": "Resize", "SOFTMAX": "Softmax",
    "SPLIT": "Split", "STRIDED_SLICE": "Slice", "SUB": "Sub", "TANH": "Tanh",
    "TRANSPOSE": "Transpose",
}  # fmt: skip
_KERNEL_OUTPUT = {"Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense"}


def retyped(graph: Graph, precision: Precision) -> Graph:
    """The graph with weights and activations of another precision, but what has 16 bits anyway."""

    def dtype(tensor: Tensor) -> str:
        if tensor.dtype == "int16":
            return tensor.dtype
        if precision == "int8":
            return "int32" if tensor.constant and len(tensor.shape) == 1 else "int8"
        return "float16" if precision == "fp16" and tensor.constant else "float32"

    return replace(graph, tensors=tuple(replace(t, dtype=dtype(t)) for t in graph.tensors))


def channels_first(graph: Graph) -> Graph:
    """The graph as its ONNX file would have it: NCHW, with ONNX's names, by which runtimes fuse."""
    kernels: dict[int, tuple[int, int, int, int]] = {}
    ops = []
    for op in graph.ops:
        if op.kind in ("conv", "pointwise", "depthwise"):
            weights = next(i for i in op.inputs if len(graph.tensors[i].shape) == 4
                           and graph.tensors[i].constant)  # fmt: skip
            # OHWI to OIHW; a depthwise 1HWC to C1HW.
            kernels[weights] = (3, 0, 1, 2) if op.kind == "depthwise" else (0, 3, 1, 2)
            data = graph.tensors[op.inputs[0]].shape[-1] or 1
            per_group = graph.tensors[weights].shape[-1] or 1
            group = data if op.kind == "depthwise" else max(1, data // per_group)
            op = replace(op, name="Conv", attributes={"group": group})
        ops.append(replace(op, name=_ONNX.get(op.name, op.name)))

    def shaped(tensor: Tensor) -> Tensor:
        if len(tensor.shape) != 4 or (tensor.constant and tensor.index not in kernels):
            return tensor
        order = kernels.get(tensor.index, (0, 3, 1, 2))
        return replace(tensor, shape=tuple(tensor.shape[axis] for axis in order))

    tensors = tuple(shaped(tensor) for tensor in graph.tensors)
    return replace(graph, format="onnx", tensors=tensors, ops=tuple(ops))


class Writer:
    """A graph in the making: its tensors and operators so far."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def tensor(self, shape: tuple[int, ...], *, constant: bool = False) -> int:
        """Adds a tensor and gives its index."""
        index = len(self.tensors)
        self.tensors.append(Tensor(index, f"t{index}", shape, "float32", None, constant))
        return index

    def op(
        self,
        name: str,
        kind: OpClass,
        layer: str,
        inputs: list[int],
        shape: tuple[int, ...],
        weights: tuple[tuple[int, ...], ...] = (),
        macs: int = 0,
    ) -> int:
        """Adds an operator with weights of these shapes and gives the index of its output."""
        constants = [self.tensor(w, constant=True) for w in weights]
        output = self.tensor(shape)
        self.ops.append(
            Op(len(self.ops), name, kind, layer, (*inputs, *constants), (output,), {}, macs)
        )
        return output


def convert(model: Any) -> Graph:
    """A functional Keras model as the graph of the fp32 .tflite file that it would become."""
    writer = Writer()
    made: dict[int, int] = {}  # id of a Keras tensor to a tensor index
    kernel_made: set[int] = set()  # tensors that a fused activation or batch norm may follow
    inputs = []
    for tensor in model.inputs:
        made[id(tensor)] = writer.tensor(_shape(tensor))
        inputs.append(Port(tensor.name, made[id(tensor)]))
    for layer in _in_order(model):
        kind = type(layer).__name__
        node = layer._inbound_nodes[0]
        sources = [made[id(tensor)] for tensor in node.input_tensors]
        target = node.outputs[0]
        shape = _shape(target)
        if kind in _SKIPPED:
            made[id(target)] = sources[0] if sources else made[id(target)]
            continue
        result = _layer(writer, layer, kind, sources, shape, kernel_made)
        made[id(target)] = result
    outputs = tuple(Port(t.name, made[id(t)]) for t in model.outputs)
    size = sum(t.bytes for t in writer.tensors if t.constant)
    return Graph(
        "tflite", model.name, tuple(writer.tensors), tuple(writer.ops), tuple(inputs), outputs, size
    )


def _in_order(model: Any) -> list[Any]:
    layers = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        layers += [node.operation for node in model._nodes_by_depth[depth]]
    return layers


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(1 if size is None else int(size) for size in tensor.shape)


def _layer(
    w: Writer, layer: Any, kind: str, sources: list[int], shape: tuple[int, ...], fusable: set[int]
) -> int:
    name = layer.name
    source = tuple(size or 1 for size in w.tensors[sources[0]].shape)
    outputs = math.prod(shape)
    if kind == "ZeroPadding2D":  # TensorFlow-Slim's SAME padding does it inside the convolution
        return sources[0]
    if kind in ("Conv2D", "SeparableConv2D"):
        if kind == "SeparableConv2D":
            middle = (*shape[:3], source[-1] * layer.depth_multiplier)
            taps = math.prod(layer.kernel_size)
            inner = w.op("DEPTHWISE_CONV_2D", "depthwise", name, sources, middle,
                         ((1, *layer.kernel_size, middle[-1]), (middle[-1],)),
                         math.prod(middle) * taps)  # fmt: skip
            sources, source, size = [inner], middle, (1, 1)
        else:
            size = layer.kernel_size
        per_group = source[-1] // getattr(layer, "groups", 1)
        taps = math.prod(size) * per_group
        result = w.op("CONV_2D", "pointwise" if max(size) == 1 else "conv", name, sources, shape,
                      ((shape[-1], *size, per_group), (shape[-1],)), outputs * taps)  # fmt: skip
    elif kind == "DepthwiseConv2D":
        result = w.op("DEPTHWISE_CONV_2D", "depthwise", name, sources, shape,
                      ((1, *layer.kernel_size, shape[-1]), (shape[-1],)),
                      outputs * math.prod(layer.kernel_size))  # fmt: skip
    elif kind == "Dense":
        result = w.op("FULLY_CONNECTED", "dense", name, sources, shape,
                      ((shape[-1], source[-1]), (shape[-1],)), outputs * source[-1])  # fmt: skip
    elif kind == "BatchNormalization":
        if sources[0] in fusable:
            return sources[0]
        scaled = w.op("MUL", "elementwise", name, sources, shape, ((shape[-1],),))
        result = w.op("ADD", "elementwise", name, [scaled], shape, ((shape[-1],),))
    elif kind in _ELEMENTWISE:
        result = sources[0]
        for other in sources[1:]:
            result = w.op(_ELEMENTWISE[kind], "elementwise", name, [result, other], shape)
    elif kind in ("Activation", "ReLU", "Softmax"):
        return _activation(w, layer, kind, sources, shape, fusable)
    else:
        return _data_layer(w, kind, name, sources, shape)
    fusable.add(result)
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation not in _FUSED:
        return w.op(_operator(activation), "activation", name, [result], shape)
    return result


def _activation(
    w: Writer, layer: Any, kind: str, sources: list[int], shape: tuple[int, ...], fusable: set[int]
) -> int:
    function = kind.lower() if kind != "Activation" else layer.activation.__name__
    if function in _FUSED and sources[0] in fusable:
        return sources[0]
    if function in ("silu", "swish"):
        gate = w.op("LOGISTIC", "activation", layer.name, sources, shape)
        return w.op("MUL", "elementwise", layer.name, [sources[0], gate], shape)
    return w.op(_operator(function), "activation", layer.name, sources, shape)


def _operator(activation: str) -> str:
    return _NAMES.get(activation, activation.upper())


def _data_layer(w: Writer, kind: str, name: str, sources: list[int], shape: tuple[int, ...]) -> int:
    ops: dict[str, tuple[str, OpClass]] = {
        "MaxPooling2D": ("MAX_POOL_2D", "pool"),
        "AveragePooling2D": ("AVERAGE_POOL_2D", "pool"),
        "GlobalAveragePooling2D": ("MEAN", "reduce"),
        "GlobalMaxPooling2D": ("REDUCE_MAX", "reduce"),
        "Concatenate": ("CONCATENATION", "data"),
        "Flatten": ("RESHAPE", "data"),
        "Reshape": ("RESHAPE", "data"),
        "Cropping2D": ("STRIDED_SLICE", "data"),
        "UpSampling2D": ("RESIZE_NEAREST_NEIGHBOR", "resize"),
    }
    if kind not in ops:
        raise ValueError(f"no conversion for Keras layer {kind}")
    return w.op(*ops[kind], name, sources, shape)
