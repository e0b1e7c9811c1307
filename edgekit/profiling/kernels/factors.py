"""Factors on the linear costs of a network's operators, from a table of measured kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.profiling.kernels.interpolation import interpolate
from edgekit.profiling.kernels.shapes import (
    UNSIGNED,
    KernelShape,
    costs_nothing,
    kernel_shape,
    logarithms,
)
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work
from edgekit.schema.kernels import KernelRows, KernelTable

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
        if costs_nothing(view, work):
            found[index] = Factor(0.0)
            continue
        shapes[index] = kernel_shape(view, work)
        groups[id(table), shapes[index].kernel].append(index)
    for (_, kernel), members in groups.items():
        table = tables[members[0]]
        known = rows_of(table, kernel) if table else None
        features = len(shapes[members[0]].features)
        if table is None or known is None or known.features != features:
            for index in members:
                found[index] = Factor(1.0, f"no measured kernel of {kernel}")
            continue
        values, far = looked_up(table, known, [shapes[index] for index in members])
        for index, value, odd in zip(members, values, far, strict=True):
            reason = f"no measured {kernel} kernel is near its shape" if odd else None
            found[index] = Factor(value, reason)
    return found


def looked_up(
    table: KernelTable, known: KernelRows, shapes: Sequence[KernelShape]
) -> tuple[list[float], list[bool]]:
    """Factors of shapes of one kernel, and whether no row is near.

    Args:
        table: whose offset counts.
        known: its rows of the kernel.
        shapes: with as many features.
    """
    means, deviations = interpolate(
        np.array([logarithms(row[:-1]) for row in known.rows]),
        np.log([row[-1] / known.typical for row in known.rows]),
        np.array([logarithms(shape) for shape in shapes]),
        lengths=known.lengths,
        offset=table.offset,
        spread=known.spread,
    )
    values = [known.typical * float(np.exp(mean)) for mean in means]
    return values, [bool(one > _FAR * known.spread) for one in deviations]


def rows_of(table: KernelTable, kernel: str) -> KernelRows | None:
    """Rows of a kernel, or of the nearest that was measured.

    That is the signed one for an unsigned, and the first operator's for several in one kernel.
    """
    names = (kernel, kernel.removesuffix(UNSIGNED), kernel.partition("+")[0])
    return next((table.kernels[name] for name in names if name in table.kernels), None)
