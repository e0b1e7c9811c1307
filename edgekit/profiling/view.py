"""A graph with what profiling and checks ask of it: producers, consumers, precisions, fusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from edgekit.graph.types import Graph, Op, Tensor
from edgekit.graph.zero_channels import without_zero_channels
from edgekit.schema.names import Precision
from edgekit.schema.target import Target

WEIGHTED = frozenset({"conv", "pointwise", "depthwise", "dense", "matmul", "recurrent"})
_CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise"})
_FOLLOWERS = frozenset({"activation", "elementwise", "normalization"})
_QUANTIZERS = frozenset({"QuantizeLinear", "FakeQuantize"})
_CONVERSIONS = frozenset({"DequantizeLinear", "Convert", "Cast", "CAST", "DEQUANTIZE"})
_SIGMOIDS = frozenset({"Sigmoid", "LOGISTIC"})
_MOST_PARTS = 8  # of a function that is written as several operators
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


def in_halves(target: Target) -> bool:
    """Whether the target computes files of floats in 16 bits."""
    return target.precisions.get("fp32") == "fp16"


def _in_halves(graph: Graph) -> Graph:
    if not any(tensor.dtype == "float32" for tensor in graph.tensors):
        return graph
    half = tuple(replace(t, dtype="float16") if t.dtype == "float32" else t for t in graph.tensors)
    return replace(graph, tensors=half)


class GraphView:
    """Derived facts of one graph, each found once.

    Args:
        graph: as read from a file.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[Hashable, Any] = {}  # what others derive from it, by a key of theirs
        self._precisions: dict[int, Precision] = {}

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
        return any(op.name in _QUANTIZERS for op in self.graph.ops)

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
    def free(self) -> frozenset[int]:
        """Operators that cost nothing of their own at run time.

        Those on constants are computed once, before the first run. In ONNX and OpenVINO files the
        runtime fuses quantize and dequantize pairs, and an activation, a bias, a scale or a
        normalization whose only other inputs are constant, into the operator before them; so does
        x * sigmoid(x), SiLU in two operators, in OpenVINO what else is a function of x, and a
        padding into the convolutions after it. TFLite files come fused.
        """
        free = {op.index for op in self.graph.ops if set(op.outputs) <= self.constants}
        if self.graph.format == "tflite":
            return frozenset(free)
        ports = {port.tensor for port in (*self.graph.inputs, *self.graph.outputs)}
        hosts: set[int] = set()  # operators that others are fused into, and the fused themselves
        for op in self.graph.ops:
            if op.index in free:
                continue
            if op.name in _QUANTIZERS | _CONVERSIONS and not ports & {*op.inputs, *op.outputs}:
                free.add(op.index)
                hosts.add(op.index)
                continue
            if op.kind in WEIGHTED:
                hosts.add(op.index)
                continue
            if op.name == "Pad" and self._pads_convolutions(op):
                free.add(op.index)
                continue
            sources = self.activations_in(op)
            if op.kind not in _FOLLOWERS or len(sources) != 1:
                continue
            maker = self.producers.get(sources[0].index)
            readers = self.consumers.get(sources[0].index, [])
            together = [op] if len(readers) == 1 else self._together(op, sources[0].index, readers)
            if maker is not None and maker.index in hosts and together:
                free.update(one.index for one in together)
                hosts.update(one.index for one in together)
        return frozenset(free)

    def _pads_convolutions(self, op: Op) -> bool:
        readers = self.consumers.get(op.outputs[0], [])
        return bool(readers) and all(reader.kind in _CONVOLUTIONS for reader in readers)

    def _together(self, op: Op, source: int, readers: list[Op]) -> list[Op]:
        """What reads `source` with others and is computed with it in one; else nothing."""
        if self.graph.format == "openvino":
            return self._one_function(source, readers)
        gates = self.consumers.get(op.outputs[0], [])
        product = op.name in _SIGMOIDS and len(gates) == 1 and gates[0].kind == "elementwise"
        return [op, gates[0]] if product and all(r in (op, gates[0]) for r in readers) else []

    def _one_function(self, source: int, readers: list[Op]) -> list[Op]:
        """Operators that compute one function of each value of a tensor, such as GELU in parts."""
        found: list[Op] = []
        inside, waiting = {source}, list(readers)
        while waiting and len(found) < _MOST_PARTS:
            ready = (o for o in waiting if {t.index for t in self.activations_in(o)} <= inside)
            op = next(ready, None)
            if op is None or op.kind not in _FOLLOWERS:
                return []
            found.append(op)
            inside.update(op.outputs)
            waiting = [one for one in waiting if one is not op]
            if not waiting:
                return found if len(found) > 1 else []
            readers = self.consumers.get(op.outputs[0], [])
            waiting += [one for one in readers if one not in waiting]
        return []
