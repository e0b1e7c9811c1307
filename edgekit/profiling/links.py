"""A graph's wiring: who makes and reads each tensor, and what is known before the first run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from edgekit.graph.types import Graph, Op, Tensor

QUANTIZERS = frozenset({"QuantizeLinear", "FakeQuantize"})
"""Operators of ONNX and OpenVINO that make integers of floats."""
WEIGHTED = frozenset({"conv", "pointwise", "depthwise", "dense", "matmul", "recurrent"})


class Links:
    """Derived facts of one graph's wiring, each found once.

    Args:
        graph: as read from a file.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def tensors(self, indices: tuple[int, ...]) -> list[Tensor]:
        """The tensors at `indices`."""
        return [self.graph.tensors[index] for index in indices]

    @cached_property
    def producers(self) -> Mapping[int, Op]:
        """The operator that makes a tensor."""
        return {index: op for op in self.graph.ops for index in op.outputs}

    @cached_property
    def consumers(self) -> Mapping[int, list[Op]]:
        """The operators that read a tensor."""
        found: dict[int, list[Op]] = {}
        for op in self.graph.ops:
            for index in set(op.inputs):
                found.setdefault(index, []).append(op)
        return found

    @cached_property
    def constants(self) -> frozenset[int]:
        """Tensors whose values are known before the first run: weights and what is made of them."""
        known = {tensor.index for tensor in self.graph.tensors if tensor.constant}
        for op in self.graph.ops:
            if op.inputs and all(index in known for index in op.inputs):
                known.update(op.outputs)
        return frozenset(known)

    @cached_property
    def computed_once(self) -> frozenset[int]:
        """Operators on constants: they run once, before the first run."""
        return frozenset(op.index for op in self.graph.ops if set(op.outputs) <= self.constants)

    def activations_in(self, op: Op) -> list[Tensor]:
        """Inputs that change from run to run."""
        return [t for t in self.tensors(op.inputs) if t.index not in self.constants]

    def weights_in(self, op: Op) -> list[Tensor]:
        """Constant inputs, in the dtype that the file stores them in."""
        return [self._stored(t) for t in self.tensors(op.inputs) if t.index in self.constants]

    def _stored(self, tensor: Tensor) -> Tensor:
        # Weights may pass through a dequantize, a cast or a reshape before they are used.
        for _ in range(len(self.graph.ops)):
            maker = self.producers.get(tensor.index)
            if maker is None or not maker.inputs:
                break
            tensor = self.graph.tensors[maker.inputs[0]]
        return tensor

    @cached_property
    def explicit_quantization(self) -> bool:
        """Whether the file states its quantization as operators (ONNX QDQ, OpenVINO)."""
        return any(op.name in QUANTIZERS for op in self.graph.ops)

    @cached_property
    def ports(self) -> frozenset[int]:
        """Tensors that go in and out."""
        return frozenset(port.tensor for port in (*self.graph.inputs, *self.graph.outputs))
