"""Strides that OpenVINO moves towards the input.

Where all that read a tensor take every second value only, no others are computed: the strides of
convolutions move up through convolutions of one tap and operators value by value
(`StridesOptimization` in src/common/transformations of https://github.com/openvinotoolkit/openvino).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgekit.graph.types import Op
from edgekit.profiling.fusion.functions import ELEMENTWISE
from edgekit.profiling.links import Links

_Strides = tuple[int, ...]


def left_out(links: Links) -> Mapping[int, int]:
    """How many times fewer values of a tensor are computed than it has, where it is fewer."""
    asked: dict[int, list[_Strides]] = {}
    found = {}
    for op in reversed(links.graph.ops):
        if len(op.outputs) != 1:
            continue
        (written,) = links.tensors(op.outputs)
        sources = {tensor.index: tensor for tensor in links.activations_in(op)}
        passes_on = op.kind in ELEMENTWISE and all(
            source.shape == written.shape for source in sources.values()
        )
        convolves = op.name == "Convolution"
        if not convolves and not passes_on:
            continue
        readers = links.consumers.get(written.index, [])
        strides = _agreed(asked.get(written.index, []), len(readers))
        if written.index in links.ports:
            strides = ()
        if math.prod(strides) > 1:
            found[written.index] = math.prod(strides)
        if op.kind == "pointwise" or passes_on:
            through = _times(op, strides) if convolves else strides
            for index in sources:
                asked.setdefault(index, []).append(through)
    return found


def _agreed(asked: list[_Strides], readers: int) -> _Strides:
    """What all readers ask for; nothing where one reads all, or another part."""
    return asked[0] if len(asked) == readers and len(set(asked)) == 1 else ()


def _times(op: Op, strides: _Strides) -> _Strides:
    own = tuple(int(one) for one in op.attributes.get("strides", ()))
    return tuple(map(math.prod, zip(own, strides, strict=True))) if strides else own
