"""What OpenVINO makes of an IR file's operators on a CPU.

Convolutions and dense layers take what follows them up to a quantization: factors, biases, one sum
with a tensor of floats, activations. Other chains of elementwise operators, with the quantizations
in them, become one generated kernel. Images lie in memory with their channels last, so that
transposing them only renames axes.
"""

from __future__ import annotations

from collections import Counter

from edgekit.graph.types import Op
from edgekit.profiling.fusion.functions import ELEMENTWISE, one_function, pads_convolutions
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import WEIGHTED, Links

_CONVOLUTIONS = frozenset({"conv", "pointwise", "depthwise"})
_CONVERSIONS = frozenset({"FakeQuantize", "Convert"})
_FUNCTIONS = frozenset({"Sigmoid", "Tanh", "Swish", "HSwish", "HSigmoid", "Gelu", "Exp", "Erf"})
_SUMS = frozenset({"Add"})
_IN_ORDER = frozenset({"StridedSlice", "Slice"})  # want the axes where they are named


def fused(links: Links) -> Fusion:
    """What becomes of the operators of an OpenVINO IR file."""
    walk = _Walk(links)
    for op in links.graph.ops:
        if op.index not in walk.free:
            walk.visit(op)
    return Fusion(frozenset(walk.free), names=walk.names, functions=walk.functions)


class _Walk:
    """Follows operators in order."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self.free = set(links.computed_once)
        self.names: dict[int, str] = {}  # of elementwise kernels: what they compute
        self.functions: Counter[int] = Counter()
        self._hosts: dict[int, int] = {}  # operators that take what follows, by tensor
        self._summable: set[int] = set()  # of those, that take a sum yet
        self._chains: dict[int, int] = {}  # first operators of elementwise kernels by tensor
        self._seen: set[tuple[object, ...]] = set()

    def visit(self, op: Op) -> None:
        links = self._links
        if self._again(op):
            self.free.add(op.index)
        elif op.kind in WEIGHTED:
            self._hosts |= dict.fromkeys(op.outputs, op.index)
            self._summable |= {*op.outputs} if op.kind in _CONVOLUTIONS else set()
        elif op.name in _CONVERSIONS:
            self._converts(op)
        elif op.name == "Pad" and pads_convolutions(links, op):
            self.free.add(op.index)
        elif op.name == "Transpose" and self._renames(op):
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
        if self._links.ports & {*op.inputs, *op.outputs}:
            return
        self.free.add(op.index)
        self._pass_on(op)

    def _pass_on(self, op: Op) -> None:
        """What an operator makes is what it reads, as far as fusions go."""
        if op.inputs[0] in self._hosts:
            self._hosts |= dict.fromkeys(op.outputs, self._hosts[op.inputs[0]])
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
                self.functions[host] += sum(one.name in _FUNCTIONS for one in together)
                if sources[0] in self._summable and op.name != "Round":  # that ends as integers
                    self._summable |= {*together[-1].outputs}
                return True
        summed = [s for s in alone if s in self._summable]
        if op.name in _SUMS and len(sources) > 1 and summed and self._same_shape(sources):
            self.free.add(op.index)
            self._hosts |= dict.fromkeys(op.outputs, self._hosts[summed[0]])
            return True
        first = next((self._chains[source] for source in alone if source in self._chains), None)
        if first is not None:
            self.free.add(op.index)
            self._chains |= dict.fromkeys(op.outputs, first)
            self.names[first] += f"+{op.name}"
            return True
        return False

    def _same_shape(self, tensors: list[int]) -> bool:
        return len({self._links.graph.tensors[index].shape for index in tensors}) == 1
