"""What a runtime computes of a file's operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fusion:
    """What becomes of operators, by their index.

    Attributes:
        free: those that cost nothing of their own at run time: fused into others, or computed once.
        names: the runtime's kernel where it computes other operators too.
        floats: those that compute, or write, floats in a file of integers.
        shifted: those with weights that read integers with a zero point, where that costs more.
        plain: convolutions that do not compute in the layout that the runtime has for them.
        steps: what an operator's kernel computes of each value beside its own; a transcendental
            function counts as eight simple steps, and a kernel that runs twice as one more.
        moved: values that change their layout before or after an operator, for its sake.
        left_out: how many times fewer values of a tensor are computed than it has, by tensor.
        inside: those that a CPU's runtime, of which there are tables of kernels, computes in
            another's kernel; they cost what they cost on processors of which there is no table.
    """

    free: frozenset[int]
    names: Mapping[int, str] = field(default_factory=dict)
    floats: frozenset[int] = frozenset()
    shifted: frozenset[int] = frozenset()
    plain: frozenset[int] = frozenset()
    moved: Mapping[int, int] = field(default_factory=dict)
    steps: Mapping[int, int] = field(default_factory=dict)
    left_out: Mapping[int, int] = field(default_factory=dict)
    inside: frozenset[int] = frozenset()
