"""How ruy, TensorFlow Lite's matrix library, shares a product among threads.

It cuts the result into tiles, a power of two of them, that threads take one after the other
(MakeBlockMap and TrMul, https://github.com/google/ruy). Sizes of tiles weigh threads against the
cache of a core against the cost of beginning a tile. With twelve threads and sixteen tiles eight
threads wait while four compute the rest; results beyond a matrix are computed and thrown away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from edgekit.profiling.work import Gemm, rounded_up
from edgekit.schema.fitting import Cores

# Results of one run of a kernel, along both sides: of floats, and of integers with Arm's dot
# product. Older cores' kernels have 4 x 4, which changes hardly anything.
_KERNEL = 8
_KERNEL_LOG2 = 3
_LARGEST_LOG2 = _KERNEL_LOG2 + 6
_SERIAL_LOG2 = 15  # multiply-accumulates of a product for each thread, at least
_FEWEST_RUNS_LOG2 = 3  # of a kernel in a tile
# Scores of a tile's size, in ruy's own units.
_BY_TILES_LOG2 = (-16, -8, 0, 8, 16)  # tiles a thread
_BY_EXCESS_LOG2 = (64, 56, 48, 32, 16, 0)  # bytes that a tile reads, over a quarter of the cache
_WORST = -64
_BY_RUN_LOG2, _MOST_RUNS = 8, 64


@dataclass(frozen=True)
class Tiles:
    """How a product is cut.

    Attributes:
        count: of tiles; to begin one takes time, most with many cores that all count them.
        macs: multiply-accumulates, with those that threads could do while they wait.
        last: multiply-accumulates of one tile. Threads take tiles as they are ready for them, so
            where some cores are slower, the rest waits for as much as one of them takes for it.
    """

    count: int
    macs: int
    last: int


def tiles_of(gemm: Gemm, cores: Cores, value_bytes: int) -> Tiles:
    """The tiles of a product; one with a vector has none, and one thread computes all of it.

    Args:
        gemm: the product.
        cores: that compute it.
        value_bytes: of a value that is multiplied.
    """
    if gemm.m == 1:
        macs = gemm.groups * gemm.k * gemm.n
        return Tiles(0, macs, macs)
    rows, columns = (rounded_up(side, _KERNEL) for side in (gemm.n, gemm.m))
    threads = min(cores.threads, _useful_threads(gemm))
    narrow, wide = sorted((rows, columns))
    count = 1 << tiles_log2(narrow, wide, gemm.k, threads, cores.cache_bytes // value_bytes)
    rounds = math.ceil(count / threads)
    macs = gemm.groups * gemm.k * rows * columns
    return Tiles(gemm.groups * count, macs * rounds * cores.threads // count, macs // count)


def _useful_threads(gemm: Gemm) -> int:
    sides = (_ceil_log2(side) for side in (gemm.m, gemm.k, gemm.n))
    return 1 << max(0, sum(sides) - _SERIAL_LOG2)


@cache
def tiles_log2(narrow: int, wide: int, depth: int, threads: int, cache_values: int) -> int:
    """Logarithm of the number of tiles of a result.

    Args:
        narrow: the shorter side of the result, a multiple of the kernel's.
        wide: the other side.
        depth: values that are summed.
        threads: that compute it.
        cache_values: that the data cache of one core holds.
    """
    runs = max(0, _FEWEST_RUNS_LOG2 + _KERNEL_LOG2 - _ceil_log2(narrow))
    along = min(_floor_log2(wide // narrow), max(0, _floor_log2(wide) - _KERNEL_LOG2 - runs))

    def score(edge: int) -> int:
        rows, columns = (min(1 << edge, side) for side in (narrow, wide))
        whole = _floor_log2(max(1, (narrow >> edge) * (wide >> edge)))
        spare = whole - _ceil_log2(threads)
        shared = 0
        if threads > 1:
            shared = _BY_TILES_LOG2[min(spare, 4)] if spare >= 0 else _WORST
        excess = max(0, _ceil_log2((rows + columns) * depth) - _floor_log2(cache_values) + 2)
        local = _BY_EXCESS_LOG2[excess] if excess < len(_BY_EXCESS_LOG2) else _WORST
        if narrow <= _KERNEL:  # each value is read once
            local = 0
        in_kernels = _floor_log2(rows * columns) - 2 * _KERNEL_LOG2
        return shared + local + min(_BY_RUN_LOG2 * in_kernels, _MOST_RUNS)

    size = _floor_log2(narrow)
    edges = range(_KERNEL_LOG2, min(size, _LARGEST_LOG2) + 1)
    best = max(edges, key=lambda edge: (score(edge), edge))
    return 2 * (size - best) + along


def _floor_log2(value: int) -> int:
    return value.bit_length() - 1


def _ceil_log2(value: int) -> int:
    return (value - 1).bit_length()
