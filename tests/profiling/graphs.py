"""Small graphs made by hand."""

from __future__ import annotations

from typing import Any

from edgekit.graph.types import Graph, Op, OpClass, Port, Tensor
from edgekit.schema.names import Format


class GraphMaker:
    """Adds operators one after the other; the last tensor is the output."""

    def __init__(
        self, shape: tuple[int | None, ...], dtype: str = "int8", *, file_format: Format = "tflite"
    ) -> None:
        self.format: Format = file_format
        self.tensors = [Tensor(0, "x", shape, dtype)]
        self.ops: list[Op] = []

    def tensor(self, shape: tuple[int | None, ...], dtype: str, *, constant: bool = False) -> int:
        index = len(self.tensors)
        self.tensors.append(Tensor(index, f"t{index}", shape, dtype, None, constant))
        return index

    def op(
        self,
        name: str,
        kind: OpClass,
        shape: tuple[int | None, ...],
        *,
        weights: tuple[tuple[int, ...], ...] = (),
        dtype: str = "int8",
        weight_dtype: str | None = None,
        source: int | None = None,
        macs: int = 0,
        **attributes: Any,
    ) -> int:
        last = len(self.tensors) - 1 if not self.ops else self.ops[-1].outputs[0]
        stored = weight_dtype or dtype
        constants = [self.tensor(w, stored, constant=True) for w in weights]
        output = self.tensor(shape, dtype)
        inputs = (last if source is None else source, *constants)
        op = Op(
            len(self.ops), name, kind, f"layer{len(self.ops)}", inputs, (output,), attributes, macs
        )
        self.ops.append(op)
        return output

    def graph(self) -> Graph:
        weights = sum(tensor.bytes for tensor in self.tensors if tensor.constant)
        output = Port("y", self.ops[-1].outputs[0])
        return Graph(
            self.format, "made", tuple(self.tensors), tuple(self.ops), (Port("x", 0),), (output,),
            weights + 1000,
        )  # fmt: skip


def small_cnn(dtype: str = "int8") -> GraphMaker:
    """A convolution, a depthwise and a pointwise one, a mean, a dense layer and a softmax."""
    make = GraphMaker((1, 16, 16, 3), dtype)
    make.op("CONV_2D", "conv", (1, 16, 16, 8), weights=((8, 3, 3, 3),), dtype=dtype, macs=55_296)
    make.op("DEPTHWISE_CONV_2D", "depthwise", (1, 16, 16, 8), weights=((1, 3, 3, 8),), dtype=dtype,
            macs=18_432)  # fmt: skip
    make.op("CONV_2D", "pointwise", (1, 16, 16, 16), weights=((16, 1, 1, 8),), dtype=dtype,
            macs=32_768)  # fmt: skip
    make.op("MEAN", "reduce", (1, 16), dtype=dtype)
    make.op("FULLY_CONNECTED", "dense", (1, 10), weights=((10, 16),), dtype=dtype, macs=160)
    make.op("SOFTMAX", "activation", (1, 10), dtype=dtype)
    return make
