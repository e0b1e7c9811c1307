"""A graph with what profiling and checks ask of it: producers, consumers, precisions, fusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from edgekit.graph.types import Graph, Op, Tensor
from edgekit.graph.zero_channels import without_zero_channels
from edgekit.profiling.fusion import compiled, onnxruntime, openvino, xnnpack
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import WEIGHTED, Links
from edgekit.schema.names import Format, Precision
from edgekit.schema.target import Target

_FUSIONS: Mapping[Format, Callable[[Links], Fusion]] = {
    "onnx": onnxruntime.fused,
    "openvino": openvino.fused,
}
_BY_DTYPE: dict[str, Precision] = {
    "float32": "fp32",
    "float64": "fp32",
    "float16": "fp16",
    "bfloat16": "fp16",
    "int8": "int8",
    "uint8": "int8",
    "int16": "int16x8",
}


def computed(graph: Graph, target: Target) -> Graph:
    """What the target computes of a graph.

    Without its zero channels if it removes those; with halves in place of floats where it computes
    in those whatever the file has.
    """
    if target.zeros.channels == "removed":
        graph = without_zero_channels(graph)
    return _in_halves(graph) if in_halves(target) else graph


def compiles(target: Target) -> bool:
    """Whether files are compiled for an accelerator, not run as a CPU's runtime fuses them."""
    return any(processor.kind != "cpu" for processor in target.processors)


def in_halves(target: Target) -> bool:
    """Whether the target computes files of floats in 16 bits."""
    return target.precisions.get("fp32") == "fp16"


def _in_halves(graph: Graph) -> Graph:
    if not any(tensor.dtype == "float32" for tensor in graph.tensors):
        return graph
    half = tuple(replace(t, dtype="float16") if t.dtype == "float32" else t for t in graph.tensors)
    return replace(graph, tensors=half)


class GraphView(Links):
    """Derived facts of one graph, each found once.

    Args:
        graph: as read from a file.
        for_accelerator: whether a compiler fuses its operators, not the runtime of its format.
    """

    def __init__(self, graph: Graph, *, for_accelerator: bool = False) -> None:
        super().__init__(graph)
        self._for_accelerator = for_accelerator
        self.found: dict[Hashable, Any] = {}  # what others derive from it, by a key of theirs
        self._precisions: dict[int, Precision] = {}

    def op_precision(self, op: Op) -> Precision:
        """The precision that an operator computes in.

        Files with explicit quantization are int8 throughout: runtimes fuse the quantize and
        dequantize pairs into integer kernels.
        """
        if op.index not in self._precisions:
            self._precisions[op.index] = self._op_precision(op)
        return self._precisions[op.index]

    def _op_precision(self, op: Op) -> Precision:
        if self.explicit_quantization:
            return "int8"
        data = [*self.activations_in(op), *self.tensors(op.outputs)]
        activation: Precision = next(
            (_BY_DTYPE[t.dtype] for t in data if t.dtype in _BY_DTYPE), "fp32"
        )
        if activation != "fp32" or op.kind not in WEIGHTED:
            return activation
        stored = {tensor.dtype for tensor in self.weights_in(op)}
        if stored & {"int4", "uint4", "int2"}:
            return "int4-weight"
        if stored & {"int8", "uint8"}:
            return "int8-dynamic"
        return "fp16" if stored & {"float16", "bfloat16"} else "fp32"

    @cached_property
    def precision(self) -> Precision:
        """The one word for the file: that of its operators with weights; `mixed` if they differ."""
        live = [op for op in self.graph.ops if op.index not in self.free]
        heavy = [op for op in live if op.kind in WEIGHTED and self.weights_in(op)]
        found = Counter(self.op_precision(op) for op in heavy or live)
        if not found:
            return "fp32"
        return next(iter(found)) if len(found) == 1 else "mixed"

    @cached_property
    def fusion(self) -> Fusion:
        """What a runtime or compiler makes of the file's operators."""
        fused = _FUSIONS.get(self.graph.format)
        if fused is not None:
            return compiled.fused(self) if self._for_accelerator else fused(self)
        return xnnpack.fused(self)

    def elements(self, tensor: Tensor) -> int:
        """Values of a tensor that the runtime computes."""
        return tensor.elements // self.fusion.left_out.get(tensor.index, 1)

    @cached_property
    def free(self) -> frozenset[int]:
        """Operators that cost nothing of their own at run time."""
        return self.fusion.free
