"""The format-neutral graph: operators and tensors as read from a model file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgekit.schema.names import Format
from edgekit.schema.quantization import Quantization

OpClass = Literal[
    "conv",  # convolution with a kernel larger than 1x1, grouped or transposed too
    "pointwise",  # 1x1 convolution
    "depthwise",
    "dense",  # matrix times constant weights
    "matmul",  # matrix times matrix, both computed
    "recurrent",
    "pool",
    "reduce",
    "elementwise",
    "activation",
    "normalization",
    "data",  # moves or reinterprets values: reshape, transpose, concatenation, slice, pad, gather
    "resize",
    "quantize",  # changes of scale or dtype
    "control",  # loops and branches
    "custom",
    "other",
]

_BITS = {"bool": 8, "string": 8}
_WIDTH = re.compile(r"\d+")

COMPUTING: tuple[OpClass, ...] = ("conv", "pointwise", "depthwise", "dense", "matmul")
"""The classes that multiply matrices."""


def dtype_bits(dtype: str) -> int:
    """Bits of one value of a dtype by its NumPy (or ml_dtypes) name; 32 for an unknown name."""
    width = _WIDTH.search(dtype)
    return _BITS.get(dtype) or (int(width[0]) if width else 32)


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes:
        index: its place in `Graph.tensors`.
        shape: free dimensions are None.
        dtype: NumPy name, or "int4", "bfloat16", "string".
        constant: whether the file holds its values (weights).
        zero_channels: how many of its last axis are zero whatever the input, because the filters
            that make them are; 0 where the reader does not tell.
        dead_channels: how many of these the file can do without (`edgekit.graph.dead_channels`).
    """

    index: int
    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None
    constant: bool = False
    zero_channels: int = 0
    dead_channels: int = 0

    @property
    def elements(self) -> int:
        """Number of values of one sample: free dimensions count as 1."""
        return math.prod(1 if size is None else size for size in self.shape)

    @property
    def bytes(self) -> int:
        """Size in bytes, free dimensions counted as 1."""
        return (self.elements * dtype_bits(self.dtype) + 7) // 8


@dataclass(frozen=True)
class Op:
    """One operator.

    Attributes:
        index: position in the file, in execution order.
        name: of the operator in the file's format: CONV_2D, Conv, Convolution.
        kind: the class that the cost model charges it by.
        layer: name of the layer that it came from, as far as the file tells.
        inputs: tensor indices; absent optional inputs are left out.
        outputs: tensor indices.
        attributes: of the operator, such as strides and padding; plain values.
        macs: multiply-accumulate operations of one sample.
        node: its own name in the file; "" where it has none. Several may share one.
    """

    index: int
    name: str
    kind: OpClass
    layer: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    macs: int = 0
    node: str = ""


@dataclass(frozen=True)
class Port:
    """An input or output of the graph: its signature name and its tensor."""

    name: str
    tensor: int


@dataclass(frozen=True)
class Graph:
    """A model file's main graph."""

    format: Format
    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    file_bytes: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one sample."""
        return sum(op.macs for op in self.ops)

    @property
    def parameters(self) -> int:
        """Number of constant values."""
        return sum(tensor.elements for tensor in self.tensors if tensor.constant)

    @property
    def weight_bytes(self) -> int:
        """Bytes of constant tensors."""
        return sum(tensor.bytes for tensor in self.tensors if tensor.constant)

    def op_bytes(self, op: Op) -> int:
        """Bytes that `op` reads and writes."""
        return sum(self.tensors[index].bytes for index in (*op.inputs, *op.outputs))
