"""What compilers for accelerators make of a file's operators, as far as they are alike."""

from __future__ import annotations

from edgekit.graph.types import Op
from edgekit.profiling.fusion.functions import ELEMENTWISE, over_many, pads_convolutions
from edgekit.profiling.fusion.types import Fusion
from edgekit.profiling.links import WEIGHTED, Links

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Convert", "Cast"})


def fused(links: Links) -> Fusion:
    """What becomes of the operators of a file whose quantization and activations are apart.

    Conversions between integers and floats cost nothing, nor what alone reads the result of a
    convolution or a dense layer and computes each value from one, nor a padding before
    convolutions.
    """
    free = set(links.computed_once)
    hosts: set[int] = set()  # operators that others are fused into, and the fused themselves
    for op in links.graph.ops:
        if op.index in free:
            continue
        if op.name in _CONVERSIONS and not links.ports & {*op.inputs, *op.outputs}:
            free.add(op.index)
            hosts.add(op.index)
        elif op.kind in WEIGHTED:
            hosts.add(op.index)
        elif op.name == "Pad" and pads_convolutions(links, op):
            free.add(op.index)
        elif _follows(links, op, hosts):
            free.add(op.index)
            hosts.add(op.index)
    return Fusion(frozenset(free))


def _follows(links: Links, op: Op, hosts: set[int]) -> bool:
    sources = links.activations_in(op)
    if op.kind not in ELEMENTWISE or over_many(op) or len(sources) != 1:
        return False
    maker = links.producers.get(sources[0].index)
    alone = len(links.consumers.get(sources[0].index, [])) == 1
    return alone and maker is not None and maker.index in hosts
