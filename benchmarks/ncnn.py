"""Networks of ncnn's benchmark from its .param files, as graphs without weights.

The text format has a line a layer: type, name, numbers of inputs and outputs, their names, and
numbered parameters (https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure). ncnn's
benchmark files state the shape of every output (-23330), so nothing need be inferred.
"""

from __future__ import annotations

import math
from pathlib import Path

from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor

_MAGIC = "7767517"
_SHAPES = "-23330"
_ALIASES = {"Split", "Noop", "Dropout"}
_OPS: dict[str, tuple[str, OpClass]] = {
    "Pooling": ("AVERAGE_POOL_2D", "pool"),
    "Reduction": ("MEAN", "reduce"),
    "ReLU": ("RELU", "activation"),
    "Swish": ("SILU", "activation"),
    "HardSwish": ("HARD_SWISH", "activation"),
    "HardSigmoid": ("HARD_SIGMOID", "activation"),
    "Sigmoid": ("LOGISTIC", "activation"),
    "Softmax": ("SOFTMAX", "activation"),
    "GELU": ("GELU", "activation"),
    "BinaryOp": ("ADD", "elementwise"),
    "Eltwise": ("ADD", "elementwise"),
    "BatchNorm": ("MUL", "normalization"),
    "LayerNorm": ("LAYER_NORM", "normalization"),
    "LRN": ("LOCAL_RESPONSE_NORMALIZATION", "normalization"),
    "Concat": ("CONCATENATION", "data"),
    "Slice": ("SPLIT", "data"),
    "Crop": ("STRIDED_SLICE", "data"),
    "Padding": ("PAD", "data"),
    "Permute": ("TRANSPOSE", "data"),
    "ShuffleChannel": ("TRANSPOSE", "data"),
    "Flatten": ("RESHAPE", "data"),
    "Reshape": ("RESHAPE", "data"),
    "Interp": ("RESIZE_BILINEAR", "resize"),
}


def read_param(path: Path) -> Graph:
    """The graph of an ncnn .param file, in fp32.

    Raises:
        ValueError: it is not one, or states no shapes.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].strip() != _MAGIC:
        raise ValueError(f"{path}: not an ncnn .param file")
    reader = _Reader()
    for line in lines[2:]:
        if line.strip():
            reader.layer(line.split())
    return reader.graph(path.stem)


class _Reader:
    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.blobs: dict[str, int] = {}  # name of a blob to its tensor
        self.read: set[int] = set()
        self.inputs: list[Port] = []

    def layer(self, words: list[str]) -> None:
        kind, name = words[0], words[1]
        ins, outs = int(words[2]), int(words[3])
        sources = [self.blobs[blob] for blob in words[4 : 4 + ins]]
        outputs = words[4 + ins : 4 + ins + outs]
        parameters = dict(word.split("=", 1) for word in words[4 + ins + outs :])
        if kind in _ALIASES:
            self.blobs.update(dict.fromkeys(outputs, sources[0]))
            return
        if _SHAPES not in parameters:
            raise ValueError(f"layer {name} states no shape")
        shapes = _shapes(parameters[_SHAPES])
        made = [
            self.tensor(blob, shape, constant=kind == "MemoryData")
            for blob, shape in zip(outputs, shapes, strict=True)
        ]
        self.blobs.update(zip(outputs, made, strict=True))
        if kind == "Input":
            self.inputs.append(Port(name, made[0]))
        elif kind != "MemoryData":
            self.op(kind, name, sources, made, parameters)

    def tensor(self, name: str, shape: tuple[int, ...], *, constant: bool = False) -> int:
        self.tensors.append(Tensor(len(self.tensors), name, shape, "float32", None, constant))
        return len(self.tensors) - 1

    def op(
        self, kind: str, layer: str, sources: list[int], outputs: list[int], p: dict[str, str]
    ) -> None:
        shape = _shape(self.tensors[outputs[0]])
        elements = math.prod(shape)
        name, group = _OPS.get(kind, (kind.upper(), "other"))
        weights: list[tuple[int, ...]] = []
        macs = 0
        if kind.startswith(("Convolution", "Deconvolution")):
            channels, size = int(p["0"]), int(p["6"])
            width = int(p["1"])
            height = int(p.get("11", width))
            groups = int(p.get("7", 1)) if kind.endswith("DepthWise") else 1
            per_group = size // (channels * width * height)
            macs = elements * size // channels
            weights = [(channels, height, width, per_group), (channels,)]
            depthwise = groups > 1 and groups == channels
            name, group = ("CONV_2D", "pointwise" if width == height == 1 else "conv")
            if depthwise:
                name, group = "DEPTHWISE_CONV_2D", "depthwise"
                weights = [(1, height, width, channels), (channels,)]
        elif kind == "InnerProduct":
            channels, size = int(p["0"]), int(p["2"])
            name, group = "FULLY_CONNECTED", "dense"
            macs = size * max(1, elements // channels)
            weights = [(channels, size // channels), (channels,)]
        elif kind == "Gemm":
            name, group = "FULLY_CONNECTED", "dense"
            inner = self.tensors[sources[0]].elements // max(1, elements // shape[-1])
            macs = elements * inner
            weights = [(shape[-1], inner)]
        elif kind == "MultiHeadAttention":
            width = int(p["0"])
            tokens = elements // width
            name, group = "MULTI_HEAD_ATTENTION", "matmul"
            macs = 4 * tokens * width * width + 2 * tokens * tokens * width
            weights = [(4 * width, width)]
        elif kind == "Pooling" and p.get("4") == "1":
            name, group = "MEAN", "reduce"
        constants = [self.tensor(f"{layer}.w", w, constant=True) for w in weights]
        self.read.update(sources)
        self.ops.append(
            Op(len(self.ops), name, group, layer, (*sources, *constants), tuple(outputs), {}, macs)
        )

    def graph(self, name: str) -> Graph:
        outputs = [i for op in self.ops for i in op.outputs if i not in self.read]
        return Graph(
            "tflite", name, tuple(self.tensors), tuple(self.ops), tuple(self.inputs),
            tuple(Port(self.tensors[i].name, i) for i in outputs),
            sum(t.bytes for t in self.tensors if t.constant),
        )  # fmt: skip


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size or 1 for size in tensor.shape)


def _shapes(text: str) -> list[tuple[int, ...]]:
    """Shapes of the outputs, channels last: each is given as rank, width, height, channels."""
    numbers = [int(word) for word in text.split(",")][1:]
    shapes = []
    for at in range(0, len(numbers), 4):
        rank, width, height, channels = numbers[at : at + 4]
        shapes.append({1: (1, width), 2: (1, height, width), 3: (1, height, width, channels)}[rank])
    return shapes
