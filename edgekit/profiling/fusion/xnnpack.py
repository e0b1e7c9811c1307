"""What XNNPACK makes of a .tflite file's operators on a CPU; other runtimes take them as they are.

As in src/subgraph.c of https://github.com/google/XNNPACK: `xnn_subgraph_fusion` lets convolutions,
dense layers and pools limit their own results, and convolutions pad their own input;
`xnn_subgraph_fuse_unary_quantized_into_lut` makes a table of 256 answers of what is a function of
one tensor of eight bits, value by value, in however many operators the file writes it: there
x * sigmoid(x) costs no more than a sigmoid.
"""

from __future__ import annotations

from edgekit.graph.types import Op
from edgekit.profiling.fusion.functions import pads_convolutions
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import Links

LOOKUP = "lookup"
_TABLES = frozenset({"LOGISTIC", "TANH"})  # these are looked up alone, too
_UNARY = _TABLES | {"QUANTIZE"}
_BINARY = frozenset({"MUL", "ADD", "SUB"})
_EIGHT_BITS = frozenset({"int8", "uint8"})
_LONGEST = 10
_CLAMPS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"})
_CLAMPED = _CLAMPS | {
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
}  # fmt: skip
_PADS = frozenset({"PAD", "PADV2"})


def fused(links: Links) -> Fusion:
    """What becomes of the operators of a .tflite file."""
    inside: set[int] = set()
    names: dict[int, str] = {}
    steps: dict[int, int] = {}
    for op in links.graph.ops:
        if op.index in inside:
            continue
        chain = _chain(links, op)
        if len(chain) > 1 or (chain and op.name in _TABLES):
            names[op.index] = LOOKUP
            inside.update(one.index for one in chain[1:])
            continue
        if _clamps_its_source(links, op) or _pads_a_convolution(links, op):
            inside.add(op.index)
            continue
        if op.name == "SUB":
            names[op.index] = "ADD"  # takes as long
        if op.name in _BINARY and op.attributes.get("fused_activation_function") in _CLAMPS:
            steps[op.index] = 1  # no part of these kernels: values are limited one by one after it
    return Fusion(links.computed_once, names=names, steps=steps, inside=frozenset(inside))


def _clamps_its_source(links: Links, op: Op) -> bool:
    maker = links.producers.get(op.inputs[0]) if op.inputs else None
    floats = op.name in _CLAMPS and links.graph.tensors[op.outputs[0]].dtype == "float32"
    return floats and maker is not None and maker.name in _CLAMPED and _alone(links, maker) == op


def _pads_a_convolution(links: Links, op: Op) -> bool:
    reader = _alone(links, op) if op.name in _PADS and pads_convolutions(links, op) else None
    if reader is None or reader.attributes.get("padding") != "VALID":
        return False
    (before,), (after,) = links.activations_in(op), links.tensors(op.outputs)
    return len(after.shape) == 4 and before.shape[::3] == after.shape[::3]


def _alone(links: Links, op: Op) -> Op | None:
    """What alone reads the result of an operator."""
    readers = links.consumers.get(op.outputs[0], [])
    return readers[0] if len(readers) == 1 and op.outputs[0] not in links.ports else None


def _chain(links: Links, op: Op) -> list[Op]:
    """The operator and those after it that are a function of its one input, value by value."""
    known = {tensor.index for tensor in links.activations_in(op)}
    chain: list[Op] = []
    following = op if len(known) == 1 else None
    while following is not None and len(chain) < _LONGEST and _of(links, following, known):
        chain.append(following)
        known.update(following.outputs)
        following = _alone(links, following)
    return chain


def _of(links: Links, op: Op, known: set[int]) -> bool:
    """Whether an operator is a function of what is known, value by value, in eight bits."""
    sources = links.activations_in(op)
    inputs = {tensor.index for tensor in sources}
    types = {tensor.dtype for tensor in (*sources, *links.tensors(op.outputs))}
    if not inputs <= known or len(types) > 1 or not types <= _EIGHT_BITS:
        return False
    scalars = all(tensor.elements == 1 for tensor in links.weights_in(op))
    return op.name in _UNARY or (op.name in _BINARY and scalars)
