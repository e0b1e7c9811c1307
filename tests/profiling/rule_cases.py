"""Small graphs that rules are held against."""

from __future__ import annotations

from typing import Any

from edgekit.graph.types import Tensor
from edgekit.profiling.rules import RULE_SETS, OpView
from edgekit.profiling.view import GraphView
from edgekit.schema.quantization import Quantization
from edgekit.schema.results import Finding
from tests.profiling.graphs import GraphMaker


def broken(make: GraphMaker, name: str, index: int = -1) -> dict[str, Finding]:
    """What a rule set finds about one operator, by rule."""
    graph = make.graph()
    found = RULE_SETS.get(name).findings(OpView(GraphView(graph), graph.ops[index]))
    return {finding.rule: finding for finding in found}


def convolution(
    kernel: tuple[int, int] = (3, 3), channels: tuple[int, int] = (16, 16), dtype: str = "int8",
    name: str = "CONV_2D", **attributes: Any,
) -> GraphMaker:  # fmt: skip
    make = GraphMaker((1, 8, 8, channels[0]), dtype)
    shape = (channels[1], *kernel, channels[0])
    if name == "DEPTHWISE_CONV_2D":
        shape = (1, *kernel, channels[1])
    kind: Any = "depthwise" if name == "DEPTHWISE_CONV_2D" else "conv"
    make.op(name, kind, (1, 8, 8, channels[1]), weights=(shape,), dtype=dtype, **attributes)
    return make


def quantized(make: GraphMaker, index: int, scale: float, zero_point: int = 0) -> GraphMaker:
    tensor = make.tensors[index]
    make.tensors[index] = Tensor(
        index, tensor.name, tensor.shape, tensor.dtype, Quantization((scale,), (zero_point,)),
        tensor.constant,
    )  # fmt: skip
    return make
