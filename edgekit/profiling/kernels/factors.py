"""Factors on the linear costs of a network's operators, from a table of measured kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.profiling.kernels.interpolation import interpolate
from edgekit.profiling.kernels.shapes import KernelShape, kernel_shape, logarithms
from edgekit.profiling.view import WEIGHTED, GraphView
from edgekit.profiling.work import Work
from edgekit.schema.kernels import KernelTable

# Of the spread: beyond it the table says next to nothing about a shape.
_FAR = 0.9


@dataclass(frozen=True)
class Factor:
    """How many times longer than its linear cost an operator takes.

    Attributes:
        value: the factor.
        extrapolated: why it is less certain, or None.
    """

    value: float = 1.0
    extrapolated: str | None = None


def factors(
    view: GraphView, loads: Sequence[Work], tables: Sequence[KernelTable | None]
) -> list[Factor]:
    """The factor of each operator.

    Args:
        view: the graph.
        loads: work of its operators.
        tables: that each is looked up in; None: it has the linear cost.
    """
    found = [Factor()] * len(loads)
    if not any(tables):
        return found
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    shapes: dict[int, KernelShape] = {}
    for index, (work, table) in enumerate(zip(loads, tables, strict=True)):
        if table is None or work.free:
            continue
        shapes[index] = kernel_shape(view, work)
        groups[id(table), shapes[index].kernel].append(index)
    for (_, kernel), members in groups.items():
        table = tables[members[0]]
        known = table.kernels.get(kernel) if table else None
        features = len(shapes[members[0]].features)
        if table is None or known is None or len(known.rows[0]) - 1 != features:
            for index in members:
                found[index] = Factor(extrapolated=f"no measured kernel of {kernel}")
            continue
        weighted = has_footprint(kernel)
        means, deviations = interpolate(
            np.array([logarithms(row[:-1], weighted=weighted) for row in known.rows]),
            np.log([row[-1] for row in known.rows]),
            np.array([logarithms(shapes[index], weighted=weighted) for index in members]),
            length=known.length,
            offset=table.offset,
            spread=known.spread,
        )
        for index, mean, deviation in zip(members, means, deviations, strict=True):
            far = deviation > _FAR * known.spread
            reason = f"no measured {kernel} kernel is near its shape" if far else None
            found[index] = Factor(float(np.exp(mean)), reason)
    return found


def has_footprint(kernel: str) -> bool:
    """Whether the last feature of a kernel is the network's weights."""
    return kernel in WEIGHTED or kernel in ("transposed", "dense_rows")
