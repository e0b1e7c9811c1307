"""Parameter sets: which terms of the cost model share a fitted cost.

A target names a family of sets in its `fit`. Of a family with several sets, the fit takes the one
that predicts best when each model is left out in turn, so few measurements get few parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.schema.target import Term

Parameter = Term | Literal["link"]
"""A term of the kernels' costs, or bytes over the processor's link."""


@dataclass(frozen=True)
class ParameterSet:
    """Groups of terms; the terms of a group share one cost.

    Attributes:
        groups: terms by group.
        robust: whether the fit has the least absolute instead of the least squared relative error,
            for measurements with outliers that no set explains.
    """

    groups: tuple[tuple[Parameter, ...], ...]
    robust: bool = False

    @property
    def size(self) -> int:
        """How many costs are free."""
        return len(self.groups)


_MATRIX: tuple[Parameter, ...] = ("mac.pointwise", "mac.dense")
_DEPTHWISE: tuple[Parameter, ...] = ("mac.depthwise", "mac.depthwise_large")
_ALL_MACS: tuple[Parameter, ...] = ("mac.conv", *_MATRIX, *_DEPTHWISE)
_PLAIN: tuple[tuple[Parameter, ...], ...] = (
    ("mac.conv",), _MATRIX, _DEPTHWISE, ("activation_byte",), ("weight_byte",), ("op",),
    ("inference",),
)  # fmt: skip
_PATCH: tuple[tuple[Parameter, ...], ...] = (*_PLAIN, ("patch",))

PARAMETERS: Mapping[str, tuple[ParameterSet, ...]] = {
    "cpu": (ParameterSet(_PATCH),),
    # Four MLPerf Tiny networks: more costs would fit them, and nothing else.
    "mcu": (ParameterSet((_ALL_MACS, ("weight_byte",))),),
    "two-rows": (ParameterSet((("mac.conv", *_MATRIX), _DEPTHWISE)),),
    "edgetpu": (
        ParameterSet((_ALL_MACS, ("activation_byte",), ("link",), ("inference",)), robust=True),
    ),
}
