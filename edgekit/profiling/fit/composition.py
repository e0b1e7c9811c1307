"""Tables of kernels on top of others: what several threads take is told by what one takes.

A few networks of two threads tell how much faster each kernel is with two; what shapes do to it,
many networks of one thread tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.profiling.fit.factors import MOST_ROWS, Row, far_apart
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.kernels.factors import looked_up, rows_of
from edgekit.profiling.kernels.shapes import KernelShape, logarithms
from edgekit.schema.kernels import KernelRows, KernelTable


def with_factors(rows: Sequence[Row], table: KernelTable) -> list[Row]:
    """Sums over kernels whose linear costs are multiplied by a table's factors."""
    shapes: dict[str, dict[KernelShape, float]] = {}
    for row in rows:
        for shape, _ in row.kernels:
            shapes.setdefault(shape.kernel, {})[shape] = 1.0
    for kernel, known in shapes.items():
        own = rows_of(table, kernel)
        if own is not None and own.features == len(next(iter(known)).features):
            values, _ = looked_up(table, own, list(known))
            shapes[kernel] = dict(zip(known, values, strict=True))
    return [
        replace(
            row,
            kernels=[(shape, shapes[shape.kernel][shape] * time) for shape, time in row.kernels],
        )
        for row in rows
    ]


def composed(under: KernelTable, over: KernelTable) -> KernelTable:
    """One table in place of two: its factors are the products of theirs."""
    names = under.kernels.keys() | over.kernels.keys()
    kernels = {name: _product(under, over, name) for name in sorted(names)}
    return under.model_copy(update={"kernels": kernels})


def _product(under: KernelTable, over: KernelTable, kernel: str) -> KernelRows:
    low, high = rows_of(under, kernel), over.kernels.get(kernel)
    if high is None:
        return under.kernels[kernel]
    if low is None or low.features != high.features:
        return high
    features = list(dict.fromkeys(row[:-1] for row in (*high.rows, *low.rows)))
    points = np.array([logarithms(one) for one in features]) / np.array(low.lengths)
    shapes = [KernelShape(kernel, features[index]) for index in far_apart(points, MOST_ROWS)]
    values = (looked_up(*one, shapes)[0] for one in ((under, low), (over, high)))
    factors = [first * second for first, second in zip(*values, strict=True)]
    return KernelRows(
        typical=rounded(low.typical * high.typical),
        lengths=low.lengths,
        spread=rounded(math.hypot(low.spread, high.spread)),
        rows=tuple(
            (*shape.features, rounded(factor))
            for shape, factor in zip(shapes, factors, strict=True)
        ),
    )
