"""Tables of kernels on top of others: what several threads take is told by what one takes.

How much faster a kernel is with two threads depends on how much it computes: little work is not
worth a second thread. That is all that networks of two threads are asked for, as what else a
machine does disturbs them more; what shapes do to a kernel those of one thread tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgekit.profiling.fit.factors import Row
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.kernels.factors import looked_up, rows_of
from edgekit.profiling.kernels.shapes import KernelShape, size
from edgekit.schema.kernels import KernelRows, KernelTable


def with_factors(rows: Sequence[Row], table: KernelTable) -> list[Row]:
    """Sums over kernels by size, whose linear costs are multiplied by a table's factors."""
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
            kernels=[
                (_sized(shape), shapes[shape.kernel][shape] * time) for shape, time in row.kernels
            ],
        )
        for row in rows
    ]


def composed(under: KernelTable, over: KernelTable) -> KernelTable:
    """One table in place of two: its factors are the products of theirs.

    Args:
        under: by shapes.
        over: by sizes; kernels that it does not know are as fast as under it.
    """
    kernels = {kernel: _product(under, over, kernel) for kernel in under.kernels}
    return under.model_copy(update={"kernels": kernels})


def _product(under: KernelTable, over: KernelTable, kernel: str) -> KernelRows:
    low, high = under.kernels[kernel], rows_of(over, kernel)
    if high is None:
        return low
    shapes = [KernelShape(kernel, row[:-1]) for row in low.rows]
    faster, _ = looked_up(over, high, [_sized(shape) for shape in shapes])
    return KernelRows(
        typical=rounded(low.typical * high.typical),
        lengths=low.lengths,
        spread=rounded(math.hypot(low.spread, high.spread)),
        rows=tuple(
            (*row[:-1], rounded(row[-1] * factor))
            for row, factor in zip(low.rows, faster, strict=True)
        ),
    )


def _sized(shape: KernelShape) -> KernelShape:
    return KernelShape(shape.kernel, (size(shape),))
