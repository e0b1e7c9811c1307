"""Tables of kernels on top of others: what several threads take is told by what one takes.

How much faster a kernel is with two threads depends on how much it computes: little work is not
worth a second thread. That is all that networks of two threads are asked for, as what else a
machine does disturbs them more; what shapes do to a kernel those of one thread tell. They correct
what is expected of every kernel: that much work takes half the time, and little all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.profiling.fit.factors import Row
from edgekit.profiling.fit.fitted import rounded
from edgekit.profiling.kernels.factors import looked_up, rows_of
from edgekit.profiling.kernels.shapes import KernelShape, size
from edgekit.schema.kernels import KernelRows, KernelTable

# Multiplications, or values: so much work is expected to save half of what much more work saves.
_WORTH_SHARING = 1e5


def with_factors(rows: Sequence[Row], table: KernelTable) -> list[Row]:
    """Sums over kernels by size: linear costs times a table's factors and what is expected."""
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
                (_sized(shape), shapes[shape.kernel][shape] * _expected(shape) * time)
                for shape, time in row.kernels
            ],
        )
        for row in rows
    ]


def composed(under: KernelTable, over: KernelTable) -> KernelTable:
    """One table in place of two: its factors are the products of theirs and of what is expected.

    Args:
        under: by shapes.
        over: by sizes; kernels that it does not know are as fast as expected.
    """
    kernels = {kernel: _product(under, over, kernel) for kernel in under.kernels}
    return under.model_copy(update={"kernels": kernels})


def _product(under: KernelTable, over: KernelTable, kernel: str) -> KernelRows:
    low, high = under.kernels[kernel], rows_of(over, kernel)
    shapes = [KernelShape(kernel, row[:-1]) for row in low.rows]
    faster = [_expected(shape) for shape in shapes]
    spread = low.spread
    if high is not None:
        found, _ = looked_up(over, high, [_sized(shape) for shape in shapes])
        faster = [one * other for one, other in zip(faster, found, strict=True)]
        spread = math.hypot(low.spread, high.spread)
    return KernelRows(
        typical=rounded(low.typical * float(np.exp(np.mean(np.log(faster))))),
        lengths=low.lengths,
        spread=rounded(spread),
        rows=tuple(
            (*row[:-1], rounded(row[-1] * factor))
            for row, factor in zip(low.rows, faster, strict=True)
        ),
    )


def _expected(shape: KernelShape) -> float:
    """Of the time of one thread: all of it for little work, half of it for much."""
    return 0.5 + 0.5 / (1 + size(shape) / _WORTH_SHARING)


def _sized(shape: KernelShape) -> KernelShape:
    return KernelShape(shape.kernel, (size(shape),))
