"""What ONNX Runtime makes of an ONNX file's operators on a CPU, with all its optimizations.

Integer kernels take the place of an operator between dequantize and quantize operators
(optimizer/qdq_transformer in its source); one that has no such kernel computes floats, and the
conversions around it are operators like others. Convolutions of floats want blocks of channels
(optimizer/nchwc_transformer.cc): operators that know the layout keep it, before and after others
values are moved; sums, batch normalizations and activations go into a convolution.
"""

from __future__ import annotations

from edgekit.graph.types import Op, Tensor
from edgekit.profiling.fusion.channels_last import ChannelsLast
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import Links

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear"})
# They have integer kernels.
_INTEGER = frozenset({
    "Conv", "MatMul", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Sigmoid",
    "LeakyRelu", "Softmax", "Concat", "Where", "Split", "ArgMax",
})  # fmt: skip
# They only choose or move values: the conversions around them are dropped.
_MOVES = frozenset({
    "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather",
    "Expand", "Resize",
})  # fmt: skip
_DENSE = frozenset({"Gemm", "MatMul"})
_SAME_TYPES = frozenset({"Add", "Mul"})
_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid"})
# What a convolution does not do as it writes: it goes over its result again.
_STEPS = {"LeakyRelu": 1, "Clip": 1, "HardSigmoid": 2, "Sigmoid": 8, "Tanh": 8}
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_SCALES = frozenset({"Mul", "BatchNormalization"})  # become convolutions of one value
_BLOCK = 16  # channels, with AVX-512
_ALIGNED = 4  # channels that can be moved into blocks
SILU, SCALE = "QuickGelu", "Scale"


def fused(links: Links) -> Fusion:
    """What becomes of the operators of an ONNX file."""
    computed = links.computed_once | {op.index for op in links.graph.ops if not op.inputs}
    if links.explicit_quantization:
        return _Integers(links, computed).fusion()
    return _Floats(links, computed).fusion()


class _Integers:
    """Files with quantize and dequantize operators."""

    def __init__(self, links: Links, computed: frozenset[int]) -> None:
        self._links = links
        self._free = set(computed)
        self._rescaled: set[int] = set()  # integers that get another scale

    def fusion(self) -> Fusion:
        ops = [op for op in self._links.graph.ops if op.index not in self._free]
        doubled = [pair for op in ops if (pair := self._doubled(op))]
        sums = {op.index: bias for op in ops if (bias := self._bias(op)) is not None}
        self._free |= {bias.index for bias in sums.values()}
        whole = {op.index for op in ops if self._is_integer(op, sums.get(op.index, op))}
        whole |= {bias.index for index, bias in sums.items() if index in whole}
        layout = ChannelsLast(self._links, self._free, lambda op: op.index in whole)
        free = {op.index for op in ops if op.name in _CONVERSIONS and self._dropped(op, whole)}
        free |= {op.index for pair in doubled for op in pair[1:]} | layout.free
        floats = {
            op.index
            for op in ops
            if op.index not in self._free | whole
            and op.name not in _CONVERSIONS
            and self._reads_floats(op)
        }
        return Fusion(
            frozenset(self._free | free),
            floats=frozenset(floats),
            moved=layout.moved,
            steps={op.index: steps for op in ops if (steps := self._steps(op, whole))},
        )

    def _bias(self, op: Op) -> Op | None:
        """The sum that makes a dense layer of a product."""
        reader = self._only_reader(op, "Add") if op.name == "MatMul" else None
        alone = reader is not None and len(self._links.activations_in(reader)) == 1
        return reader if alone else None

    def _is_integer(self, op: Op, last: Op) -> bool:
        """Whether an integer kernel computes an operator up to `last` and the conversions."""
        links = self._links
        if op.name not in _INTEGER | _MOVES or links.ports & {*last.outputs}:
            return False
        if op.name == "Resize" and op.attributes.get("mode", "nearest") != "nearest":
            return False
        makers = [links.producers.get(t.index) for t in links.activations_in(op)]
        if not all(maker is not None and maker.name == "DequantizeLinear" for maker in makers):
            return False
        if op.name in _SAME_TYPES and len({self._stored(index).dtype for index in op.inputs}) > 1:
            return False
        readers = [one for index in last.outputs for one in links.consumers.get(index, [])]
        quantizers = sum(reader.name == "QuantizeLinear" for reader in readers)
        if op is last and op.name == "MatMul" and not quantizers:
            return True  # MatMulIntegerToFloat
        if not len(readers) == len(last.outputs) == quantizers:
            return False
        return op.name not in _MOVES or self._same_integers(makers[0], readers[0])

    def _same_integers(self, before: Op | None, after: Op) -> bool:
        """Whether integers stay what they are from a dequantization to a quantization."""
        tensors = self._links.graph.tensors
        if before is None or before.name != "DequantizeLinear":
            return False
        one, other = tensors[before.inputs[0]], tensors[after.outputs[0]]
        if self._rescaled & {one.index, other.index}:
            return False
        return one.dtype == other.dtype and one.quantization == other.quantization

    def _steps(self, op: Op, whole: set[int]) -> int:
        """A scale for each column; further dequantizations: operators on floats have their own."""
        if op.name in _DENSE:
            weights = self._stored(op.inputs[1]).quantization
            return int(op.index in whole and weights is not None and weights.per_channel)
        if op.name != "DequantizeLinear":
            return 0
        readers = [r for index in op.outputs for r in self._links.consumers.get(index, [])]
        return max(0, sum(reader.index not in whole for reader in readers) - 1)

    def _stored(self, tensor: int) -> Tensor:
        """What a tensor of floats is dequantized from, or itself."""
        maker = self._links.producers.get(tensor)
        source = maker.inputs[0] if maker is not None and maker.inputs else tensor
        return self._links.graph.tensors[source]

    def _dropped(self, op: Op, whole: set[int]) -> bool:
        if op.name == "QuantizeLinear":
            maker = self._links.producers.get(op.inputs[0])
            return maker is not None and maker.index in whole
        readers = self._links.consumers.get(op.outputs[0], [])
        return bool(readers) and all(reader.index in whole for reader in readers)

    def _doubled(self, op: Op) -> tuple[Op, ...]:
        """Two quantizations with a dequantization between that only the second reads.

        They become one, with a scale of its own.
        """
        first = self._only_reader(op, "DequantizeLinear") if op.name == "QuantizeLinear" else None
        second = self._only_reader(first, "QuantizeLinear") if first is not None else None
        if first is None or second is None:
            return ()
        one, other = (self._links.graph.tensors[each.outputs[0]] for each in (op, second))
        if one.dtype != other.dtype:
            return ()
        if one.quantization != other.quantization:
            self._rescaled |= {one.index, other.index}
        return op, first, second

    def _only_reader(self, op: Op, name: str) -> Op | None:
        readers = [one for index in op.outputs for one in self._links.consumers.get(index, [])]
        return readers[0] if len(readers) == 1 and readers[0].name == name else None

    def _reads_floats(self, op: Op) -> bool:
        return any(t.dtype == "float32" for t in self._links.activations_in(op))


class _Floats:
    """Files of floats: operators are followed in order, with the layout of what they make."""

    def __init__(self, links: Links, computed: frozenset[int]) -> None:
        self._links = links
        self._free = set(computed)
        self._names: dict[int, str] = {}
        self._moved: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._whole: set[int] = set()  # convolutions that know no blocks
        self._blocked: set[int] = set()  # tensors that are stored in blocks of channels
        self._plain_too: set[int] = set()  # and those of them that were moved back already
        self._blocked_too: set[int] = set()  # tensors that were moved into blocks
        # Tensors of convolutions and dense layers that can take a factor, a sum, an activation.
        self._scalable: set[int] = set()
        self._summable: set[int] = set()
        self._open: set[int] = set()
        self._seen: dict[tuple[str, tuple[int, ...], str], Op] = {}
        self._hosts: dict[int, Op] = {}  # the operator whose kernel makes a tensor, if not its own

    def fusion(self) -> Fusion:
        for op in self._links.graph.ops:
            if op.index not in self._free:
                self._visit(op)
        for port in self._links.graph.outputs:
            maker = self._hosts.get(port.tensor, self._links.producers.get(port.tensor))
            if maker is not None and port.tensor in self._blocked - self._plain_too:
                self._move(maker, port.tensor)
        return Fusion(
            frozenset(self._free),
            names=self._names,
            plain=frozenset(self._whole),
            moved=self._moved,
            steps=self._steps,
        )

    def _visit(self, op: Op) -> None:
        if self._is_repeated(op):
            return
        if op.name == "Conv" and len(op.inputs) > 1 and len(self._shape(op.inputs[1])) == 4:
            self._convolution(op)
        elif op.kind == "dense":
            self._plain(op)
            self._scalable |= {*op.outputs} if op.name == "MatMul" else set()
            self._open |= {*op.outputs}
        elif op.name == "Pad" and self._pads(op):
            self._absorb(op, op.inputs[0])
        elif op.name == "Transpose" and self._transposes_a_factor(op):
            self._free.add(op.index)
        elif not self._is_silu(op) and not self._follows(op):
            self._stands(op)

    def _is_repeated(self, op: Op) -> bool:
        """Whether an operator before it computes the same of the same."""
        attributes = repr(sorted(op.attributes.items(), key=str))
        first = self._seen.setdefault((op.name, op.inputs, attributes), op)
        return first is not op and self._absorb(op, first.outputs[0])

    def _follows(self, op: Op) -> bool:
        """Whether an operator goes into the one before it."""
        sources = [t.index for t in self._links.activations_in(op)]
        alone = [s for s in sources if len(self._links.consumers[s]) == 1]
        if not alone or self._links.ports & {*sources}:
            return False
        first, output = alone[0], op.outputs[0]
        if len(sources) == 1 and op.name in _ACTIVATIONS and first in self._open:
            return self._absorb(op, first, _STEPS.get(op.name, 0))
        if len(sources) == 1 and op.name in ("Add", "Mul", "BatchNormalization"):
            if first not in self._scalable or (op.name == "Mul" and first not in self._summable):
                return False
            if op.name == "Add" and first in self._summable and not self._by_channel(op):
                return False
            kept = [one for one in (self._scalable, self._summable, self._open) if first in one]
            self._absorb(op, first)
            for one in kept:
                one.add(output)
            if first not in self._summable:  # a dense layer takes one sum
                self._scalable.discard(output)
            return True
        together = op.name == "Add" and len(sources) == 2 and {*sources} <= self._blocked
        summed = [s for s in alone if s in self._summable]
        if together and summed and self._same_shape(sources):
            self._absorb(op, summed[0], 1)
            self._open.add(output)
            return True
        return False

    def _absorb(self, op: Op, source: int, steps: int = 0) -> bool:
        self._free.add(op.index)
        host = self._hosts.get(source, self._links.producers.get(source))
        if host is not None:
            self._hosts[op.outputs[0]] = host
            self._steps[host.index] = self._steps.get(host.index, 0) + steps
        if source in self._blocked:
            self._blocked |= {*op.outputs}
        return True

    def _stands(self, op: Op) -> None:
        """An operator of its own: in blocks if it knows them and its input has them."""
        sources = [t.index for t in self._links.activations_in(op)]
        whole = {*sources} <= self._blocked
        if op.name in _POOLS and sources and self._channels(sources[0]) % _BLOCK == 0:
            self._in_blocks(op, sources)
        elif op.name in _SCALES and len(sources) == 1 and self._is_row(op):
            if whole or op.name == "BatchNormalization":
                self._in_blocks(op, sources)
                self._names[op.index] = SCALE
                self._open |= {*op.outputs}
            else:
                self._plain(op)
        elif whole and (
            op.name in _ACTIVATIONS
            or (op.name in ("Add", "Mul") and len(sources) > 1 and self._same_shape(sources))
            or (op.name == "Resize" and len(sources) == 1)
            or (op.name == "Concat" and all(self._channels(s) % _BLOCK == 0 for s in sources))
        ):
            self._blocked |= {*op.outputs}
        else:
            self._plain(op)

    def _convolution(self, op: Op) -> None:
        output, inner, *_ = self._shape(op.inputs[1])
        source = op.inputs[0]
        groups = max(1, self._channels(source) // max(1, inner))
        if groups > 1 and inner == 1 and output == groups:
            known = output % _ALIGNED == 0
        elif groups > 1:
            known = inner % _BLOCK == 0 and (output // groups) % _BLOCK == 0
        else:
            known = inner < _BLOCK or inner % _ALIGNED == 0
        if not known or (groups == 1 and inner < _BLOCK):
            self._plain(op)
            self._blocked |= {*op.outputs} if known else set()
        else:
            self._in_blocks(op, [source])
        self._whole |= set() if known else {op.index}
        for one in (self._scalable, self._summable, self._open):
            one |= {*op.outputs}

    def _in_blocks(self, op: Op, sources: list[int]) -> None:
        for source in sources:
            if source not in self._blocked | self._blocked_too:
                self._blocked_too.add(source)
                self._move(op, source)
        self._blocked |= {*op.outputs}

    def _plain(self, op: Op) -> None:
        for tensor in self._links.activations_in(op):
            if tensor.index in self._blocked - self._plain_too:
                self._plain_too.add(tensor.index)
                self._move(op, tensor.index)

    def _move(self, op: Op, tensor: int) -> None:
        elements = self._links.graph.tensors[tensor].elements
        self._moved[op.index] = self._moved.get(op.index, 0) + elements

    def _is_silu(self, op: Op) -> bool:
        """Whether it begins x * sigmoid(x): one operator, which knows blocks."""
        if op.name != "Sigmoid":
            return False
        source = op.inputs[0]
        gates = self._links.consumers.get(op.outputs[0], [])
        if len(gates) != 1 or gates[0].name != "Mul" or {*gates[0].inputs} != {source, *op.outputs}:
            return False
        self._free.add(op.index)
        self._names[gates[0].index] = SILU
        self._blocked |= {*op.outputs} if source in self._blocked else set()
        return True

    def _transposes_a_factor(self, op: Op) -> bool:
        """Whether it swaps the last two axes for products, which read them either way."""
        order = tuple(op.attributes.get("perm") or ())
        readers = self._links.consumers.get(op.outputs[0], [])
        swapped = (*range(len(order) - 2), len(order) - 1, len(order) - 2)
        return bool(readers) and order == swapped and all(r.name == "MatMul" for r in readers)

    def _pads(self, op: Op) -> bool:
        readers = self._links.consumers.get(op.outputs[0], [])
        return bool(readers) and all(
            one.name in ("Conv", "MaxPool")
            or (one.name == "AveragePool" and one.attributes.get("count_include_pad"))
            for one in readers
        )

    def _is_row(self, op: Op) -> bool:
        """Whether a factor is one number a channel of images."""
        if op.name == "BatchNormalization":
            return True
        return self._channels(op.outputs[0]) % _ALIGNED == 0 and self._by_channel(op)

    def _by_channel(self, op: Op) -> bool:
        """Whether an operator's constant has one number for each channel of images."""
        shapes = [t.shape for t in self._links.weights_in(op)]
        image = len(self._shape(op.outputs[0])) == 4
        channels = self._channels(op.outputs[0])
        return image and bool(shapes) and shapes[0] in ((1, channels, 1, 1), (channels, 1, 1))

    def _same_shape(self, tensors: list[int]) -> bool:
        return len({self._shape(index) for index in tensors}) == 1

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(size or 1 for size in self._links.graph.tensors[tensor].shape)

    def _channels(self, tensor: int) -> int:
        shape = self._shape(tensor)
        return shape[1] if len(shape) == 4 else 1
