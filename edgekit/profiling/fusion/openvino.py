"""What OpenVINO makes of an IR file's operators on a CPU.

Convolutions and dense layers take what follows them up to a quantization: factors, biases, one sum,
activations; convolutions take what rounds their results before the sum, too. Factors of each
channel of float results are in the weights before anything runs. Other chains of
elementwise operators become one kernel, with the quantizations behind them. Images lie in memory
with their channels last, so that transposing them only renames axes. Integers without a zero point
that a model is given are read by dense layers as they are; others, and for what else there is, are
converted first. This is what its graph optimizer does without snippets, as
`edgekit.runtimes.openvino.compile_options` has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgekit.graph.types import Op
from edgekit.profiling.fusion.functions import ELEMENTWISE, one_function, pads_convolutions
from edgekit.profiling.fusion.strides import left_out
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import WEIGHTED, Links

_CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise"})
_CONVERSIONS = frozenset({"FakeQuantize", "Convert"})
_FUNCTIONS = frozenset({"Sigmoid", "Tanh", "Swish", "Gelu", "Exp", "Erf"})
_HARD_FUNCTIONS = frozenset({"HSwish", "HSigmoid"})  # in straight lines: no exponential
_FUNCTION_STEPS, _HARD_STEPS, _SUM_STEPS = 8, 3, 2
_SUMS = frozenset({"Add"})
_LINEAR = _SUMS | {"Subtract", "Multiply", "Divide"}
_FREE_STEPS = _SUMS | {"Relu", "Clamp"}  # of one tensor: a convolution has them anyway
_MOST_READERS = 2  # of what a sum overwrites
_POSITIVE = frozenset({"Relu", "Clamp", "Sigmoid", "HSigmoid", "Softmax"})
_KEEP_SIGNS = frozenset({"FakeQuantize", "MaxPool", "AvgPool", "ReduceMean", "Concat", "Reshape",
                         "Transpose", "Interpolate", "Pad", "Convert"})  # fmt: skip
_IN_ORDER = frozenset({"StridedSlice", "Slice"})  # want the axes where they are named


def fused(links: Links) -> Fusion:
    """What becomes of the operators of an OpenVINO IR file."""
    walk = _Walk(links)
    for op in links.graph.ops:
        if op.index not in walk.free:
            walk.visit(op)
    floats = walk.writing_floats() if links.explicit_quantization else frozenset()
    shifted = _shifted(links) if links.explicit_quantization else frozenset()
    return Fusion(
        frozenset(walk.free),
        names=walk.names,
        steps=walk.steps,
        floats=floats,
        shifted=shifted,
        left_out=left_out(links),
    )


def _shifted(links: Links) -> frozenset[int]:
    """Operators with weights that read values below zero, so integers with a zero point."""
    positive: set[int] = set()
    found = set()
    for op in links.graph.ops:
        sources = {tensor.index for tensor in links.activations_in(op)}
        below = bool(sources - positive)
        if op.name in _POSITIVE or (op.name in _KEEP_SIGNS and sources and not below):
            positive.update(op.outputs)
        if op.kind in WEIGHTED and below:
            found.add(op.index)
    return frozenset(found)


class _Walk:
    """Follows operators in order."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self.free = set(links.computed_once)
        self.names: dict[int, str] = {}  # of elementwise kernels: what they compute
        self.steps: Counter[int] = Counter()
        self._hosts: dict[int, int] = {}  # operators that take what follows, by tensor
        self._summable: set[int] = set()  # of those, that take a sum yet
        self._linear: set[int] = set()  # of those, whose factors and biases are in the weights
        self._chains: dict[int, int] = {}  # first operators of elementwise kernels by tensor
        self._quantized: set[int] = set()  # of those, that a quantization made
        self._seen: set[tuple[object, ...]] = set()
        self._outside = set(links.ports)  # and what only names their axes in another order

    def visit(self, op: Op) -> None:
        links = self._links
        if self._again(op):
            self.free.add(op.index)
        elif op.kind in WEIGHTED:
            self._hosts |= dict.fromkeys(op.outputs, op.index)
            self._summable |= {*op.outputs} if op.kind in _CONVOLUTIONS else set()
            self._linear |= set() if links.explicit_quantization else {*op.outputs}
        elif op.name in _CONVERSIONS:
            self._converts(op)
        elif op.name == "Pad" and pads_convolutions(links, op):
            self.free.add(op.index)
        elif (op.name == "Transpose" and self._renames(op)) or self._keeps_shape(op):
            self.free.add(op.index)
            self._pass_on(op)
        elif op.kind in ELEMENTWISE and op.name != "Softmax" and not self._joins(op):
            self._chains |= dict.fromkeys(op.outputs, op.index)
            self.names[op.index] = op.name

    def _again(self, op: Op) -> bool:
        """Whether another operator computes the very same."""
        key = (op.name, op.inputs, repr(sorted(op.attributes.items())))
        again = key in self._seen
        self._seen.add(key)
        return again

    def _converts(self, op: Op) -> None:
        at_port = self._outside & {*op.inputs, *op.outputs}
        if at_port and op.inputs[0] not in self._hosts and not self._read_by_dense(op):
            return
        self.free.add(op.index)
        self._quantized |= {*op.outputs}
        self._pass_on(op)

    def _read_by_dense(self, op: Op) -> bool:
        """Whether only dense layers read an operator's integers, and these have no zero point."""
        tensors = self._links.graph.tensors
        quantization = tensors[op.outputs[0]].quantization
        if quantization is not None and (
            any(quantization.zero_point) or tensors[op.outputs[0]].dtype != "int8"
        ):
            return False
        readers = [one for index in op.outputs for one in self._links.consumers.get(index, [])]
        return bool(readers) and all(
            one.kind == "dense"
            or ((one.name in _CONVERSIONS or self._keeps_shape(one)) and self._read_by_dense(one))
            for one in readers
        )

    def _keeps_shape(self, op: Op) -> bool:
        """Whether an operator gives its input the shape that it has."""
        tensors = self._links.graph.tensors
        return op.name == "Reshape" and tensors[op.inputs[0]].shape == tensors[op.outputs[0]].shape

    def _pass_on(self, op: Op) -> None:
        """What an operator makes is what it reads, as far as fusions go."""
        if op.inputs[0] in self._hosts:
            self._hosts |= dict.fromkeys(op.outputs, self._hosts[op.inputs[0]])
        if op.inputs[0] in self._quantized:
            self._quantized |= {*op.outputs}
        if op.inputs[0] in self._outside:
            self._outside |= {*op.outputs}
        if op.inputs[0] in self._chains:
            self._chains |= dict.fromkeys(op.outputs, self._chains[op.inputs[0]])

    def _renames(self, op: Op) -> bool:
        """Whether a transposition only says in which order the axes of an image are named."""
        readers = self._links.consumers.get(op.outputs[0], [])
        maker = self._links.producers.get(op.inputs[0])
        near = [*readers, *([maker] if maker is not None else [])]
        image = len(self._links.graph.tensors[op.outputs[0]].shape) == 4
        return image and not any(one.name in _IN_ORDER for one in near)

    def _joins(self, op: Op) -> bool:
        """Whether an elementwise operator becomes part of a kernel before it."""
        links = self._links
        sources = [tensor.index for tensor in links.activations_in(op)]
        alone = [s for s in sources if len(links.consumers.get(s, [])) == 1]
        if len(sources) == 1 and sources[0] in self._hosts:
            readers = links.consumers.get(sources[0], [])
            together = [op] if alone else one_function(links, sources[0], readers)
            if together:
                self.free |= {one.index for one in together}
                host = self._hosts[sources[0]]
                self._hosts |= dict.fromkeys(together[-1].outputs, host)
                if op.name in _LINEAR and alone and sources[0] in self._linear:
                    self._linear |= {*op.outputs}
                else:
                    self.steps[host] += self._steps(together)
                if sources[0] in self._summable:
                    self._summable |= {*together[-1].outputs}
                return True
        summed = [s for s in alone if s in self._summable]
        if op.name in _SUMS and len(sources) > 1 and summed and self._overwritable(sources):
            self.free.add(op.index)
            host = self._hosts[summed[0]]
            self._hosts |= dict.fromkeys(op.outputs, host)
            self.steps[host] += _SUM_STEPS
            return True
        single = len(sources) == 1
        chained = [s for s in alone if s in self._chains and (single or s not in self._quantized)]
        if chained:
            first = self._chains[chained[0]]
            self.free.add(op.index)
            self._chains |= dict.fromkeys(op.outputs, first)
            self.names[first] += f"+{op.name}"
            return True
        return False

    def _steps(self, taken: Sequence[Op]) -> int:
        """What a kernel computes more with an operator, or a function in several, that it takes."""
        names = {op.name for op in taken}
        if names & _FUNCTIONS:
            return _FUNCTION_STEPS
        if len(taken) > 1 or names & _HARD_FUNCTIONS:
            return _HARD_STEPS
        return len(names - _FREE_STEPS)

    def writing_floats(self) -> frozenset[int]:
        """Operators that others are fused into and whose results are no integers."""
        running = (op for op in self._links.graph.ops if op.index not in self.free)
        read = self._links.ports.union(*(op.inputs for op in running))
        return frozenset(self._hosts[one] for one in read - self._quantized if one in self._hosts)

    def _overwritable(self, tensors: list[int]) -> bool:
        """Whether a sum can be left where one of its terms is."""
        shapes = {self._links.graph.tensors[index].shape for index in tensors}
        readers = max(len(self._links.consumers.get(index, [])) for index in tensors)
        return len(shapes) == 1 and readers <= _MOST_READERS
