"""The time of an operator on a processor.

An operator takes the larger of its kernel time and of the time that its bytes need on the memory
bus (roofline: Williams, Waterman and Patterson 2009), plus a dispatch. Kernel time is a sum of
non-negative terms fitted to measurements, or the cycles of a systolic array.

Terms of a convolution of an m x k by a k x n matrix: its m k n multiply-accumulates; for a kernel
larger than 1x1 the m k values that it lays out as a matrix first (im2col) and the m n that it
writes, which weigh most where k or n is small, as in a network's first layer; bytes moved.

TensorFlow Lite's im2col (ExtractPatchIntoBufferColumn, kernels/internal/optimized/im2col_utils.h)
copies a patch row by row of the kernel, each in one memcpy. To begin a copy takes time too, as much
as some values: rows of a first layer are short, those of a ResNet's larger convolutions long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.graph.types import OpClass
from edgekit.profiling.fusion.functions import over_many
from edgekit.profiling.tiles import Tiles, tiles_of
from edgekit.profiling.work import VALUE_BITS, Gemm, Work, rounded_up
from edgekit.schema.fitting import Cores
from edgekit.schema.target import KernelCosts, MemorySpec, Processor, SystolicArray, Term

_NS = 1e-9
_US = 1e-6
_GIGA = 1e9
_SMALL_KERNEL = 9  # taps
_LANES = 64
_ONE_CORE = Cores()
_FLOAT_BITS = 32
_COPY_VALUES = 4  # take as long as to begin a copy: chosen, boards that ran ResNets tell
_ALIKE: dict[Term, Term] = {  # where the special kernel has no rate of its own
    "mac.winograd": "mac.conv",
    "mac.conv_shallow": "mac.conv",
    "mac.depthwise_large": "mac.depthwise",
}
# These take values from one lane of a vector to another: another order or start.
_REORDERING = frozenset({"TRANSPOSE", "SLICE", "STRIDED_SLICE", "SPLIT", "SPLIT_V"})
# In place of a class's own rate.
_OF_ALL: frozenset[Term] = frozenset({"lane_mac", "tile_mac", "pipeline_cycle"})
_TILED: frozenset[OpClass] = frozenset({"conv", "pointwise", "dense"})
_OUTPUTS: dict[OpClass, Term] = {
    "conv": "conv_output",
    "pointwise": "pointwise_output",
    "depthwise": "depthwise_output",
    "dense": "dense_output",
}


@dataclass(frozen=True)
class OpTime:
    """The parts of an operator's time, in seconds.

    Attributes:
        kernel: arithmetic and data movement of the kernel itself.
        memory: least time that its bytes need on the bus.
        dispatch: fixed cost of starting it.
        stream: weights fetched over the link because the processor cannot keep them.
        extrapolated: why the figure is less certain, or None.
    """

    kernel: float
    memory: float
    dispatch: float
    stream: float = 0.0
    extrapolated: str | None = None

    @property
    def seconds(self) -> float:
        """All of it."""
        return max(self.kernel, self.memory) + self.dispatch + self.stream


def kernel_terms(
    work: Work,
    *,
    switched: bool = False,
    cycles: float = 0.0,
    resident_bytes: int | None = None,
    cores: Cores | None = None,
) -> dict[Term, float]:
    """The amounts that kernel costs multiply, by the name of the term.

    The fit of a target sums them over a model, so that fitting and predicting use one definition.

    Args:
        work: the operator's load.
        switched: whether its network is loaded part by part.
        cycles: of a pipeline, from image to image, that the operator stands for.
        resident_bytes: the largest activation that the processor keeps on the chip; None: unknown.
        cores: that share a product; None: one.
    """
    if work.free:
        return {}
    terms: dict[Term, float] = {
        "activation_byte": float(work.activation_bytes),
        "weight_byte": float(work.weight_bytes),
        "op": 1.0,
    }
    if work.macs:
        terms[mac_term(work)] = float(work.macs)
    if work.gemm and work.kind in _OUTPUTS:
        terms[_OUTPUTS[work.kind]] = float(work.gemm.m * work.gemm.n * work.gemm.groups)
    if work.gemm and work.kind == "conv":
        terms["patch"] = float(_patch_values(work.gemm))
        terms["patch_row"] = float(work.gemm.m * work.gemm.groups * work.gemm.kernel_rows)
    if work.macs:
        terms["lane_mac"] = float(_lane_macs(work))
    if work.macs and work.kind in _TILED:
        tiles = _tiles(work, cores or _ONE_CORE)
        terms["tile_mac"] = float(tiles.macs)
        terms["tile"] = float(tiles.count)
        if cores and cores.uneven:
            terms["last_tile_mac"] = float(tiles.last)
    if switched:
        terms["switched_op"] = 1.0
        if work.kind == "normalization":
            terms["switched_norm"] = 1.0
    if cycles:
        terms["pipeline_cycle"] = cycles
    if work.kind in ("elementwise", "data"):
        terms["vector_byte"] = float(work.activation_bytes)
    if work.kind in ("pool", "reduce", "activation"):
        terms["unfused_byte"] = float(work.activation_bytes)
    if work.op.name.upper() in _REORDERING:
        terms["reorder_byte"] = float(work.row_bytes)
    if over_many(work.op):
        terms["statistic_op"] = 1.0
    if resident_bytes is not None:
        leaving = sum(size for size in work.maps if size > resident_bytes)
        terms["offchip_byte"] = float(work.weight_bytes + leaving)
    return terms


def _patch_values(gemm: Gemm) -> int:
    """Values that im2col copies, and as many as take the time that its copies take to begin."""
    return gemm.m * gemm.groups * (gemm.k + _COPY_VALUES * gemm.kernel_rows)


def _lane_macs(work: Work) -> int:
    """Multiply-accumulates with those of idle lanes, where an array takes 64 inputs and outputs.

    A depthwise convolution fills one side of the array only: a channel has no others to sum over.
    """
    gemm = work.gemm
    if gemm is None:
        return work.macs
    if work.kind == "depthwise":
        return rounded_up(gemm.groups, _LANES) * gemm.k * gemm.m
    inputs, outputs = rounded_up(gemm.k, _LANES), rounded_up(gemm.n, _LANES)
    return inputs * outputs * gemm.m * gemm.groups


def _tiles(work: Work, cores: Cores) -> Tiles:
    if work.gemm is None:
        return Tiles(0, work.macs, work.macs)
    return tiles_of(work.gemm, cores, VALUE_BITS.get(work.precision, _FLOAT_BITS) // 8)


def mac_term(work: Work) -> Term:
    """The term that an operator's multiply-accumulates belong to."""
    match work.kind:
        case "conv" if work.winograd:
            return "mac.winograd"
        case "conv" if work.shallow:
            return "mac.conv_shallow"
        case "depthwise" if work.gemm and work.gemm.k > _SMALL_KERNEL:
            return "mac.depthwise_large"
        case "pointwise" | "depthwise" | "dense" | "matmul" | "recurrent":
            return f"mac.{work.kind}"  # type: ignore[return-value]  # each is a term
        case _:
            return "mac.conv"


def op_time(
    work: Work,
    processor: Processor,
    costs: KernelCosts,
    memory: MemorySpec,
    *,
    streamed_share: float = 0.0,
    factor: float = 1.0,
    switched: bool = False,
    cycles: float = 0.0,
) -> OpTime:
    """Time of one operator on one processor.

    Args:
        work: the operator's load.
        processor: where it runs.
        costs: of the precision that it is charged by.
        memory: of the target.
        streamed_share: share of the weights that do not fit the processor's parameter cache.
        factor: of a table of kernels, on what the costs say; waiting for the memory is in it.
        switched: whether its network is loaded part by part.
        cycles: of a pipeline, from image to image, that it stands for.
    """
    if work.free:
        return OpTime(0.0, 0.0, 0.0)
    terms = kernel_terms(
        work,
        switched=switched,
        cycles=cycles,
        resident_bytes=processor.resident_bytes,
        cores=costs.cores,
    )
    extrapolated = None
    arithmetic = 0.0
    own = mac_term(work)
    if processor.array and work.gemm:
        arithmetic = systolic_cycles(work, processor.array) / (processor.array.clock_mhz * 1e6)
    elif work.macs and not _OF_ALL & costs.ns.keys() & terms.keys():
        rate, extrapolated = _ns_per_mac(own, costs)
        arithmetic = work.macs * rate * _NS
    if extrapolated is None and costs.seen and work.kind not in costs.seen:
        extrapolated = f"no {work.kind} operator among the measurements"
    moved = sum(
        amount * costs.ns.get(term, 0.0)
        for term, amount in terms.items()
        if term not in (own, "op")
    )
    # A processor that keeps weights behind a link keeps activations there, too.
    apart = processor.link is not None and bool(processor.parameter_cache_bytes)
    no_wait = apart or costs.kernels is not None or work.bytes <= memory.cache_bytes
    stream = 0.0
    if processor.link and streamed_share:
        stream = streamed_share * work.weight_bytes / (processor.link.gb_per_s * _GIGA)
    return OpTime(
        kernel=factor * (arithmetic + moved * _NS),
        memory=0.0 if no_wait else work.bytes / (memory.bandwidth_gb_s * _GIGA),
        dispatch=factor * costs.ns.get("op", 0.0) * _NS,
        stream=stream,
        extrapolated=extrapolated,
    )


def _ns_per_mac(term: Term, costs: KernelCosts) -> tuple[float, str | None]:
    for known in (term, _ALIKE.get(term)):
        if known in costs.ns:
            return costs.ns[known], None
    # The slowest known class is the safe guess for one that nobody measured.
    rates = [
        rate for name, rate in costs.ns.items() if name.startswith("mac.") or name == "tile_mac"
    ]
    name = term.removeprefix("mac.")
    return max(rates, default=0.0), f"no measured rate for {name}: slowest class used"


def systolic_cycles(work: Work, array: SystolicArray) -> int:
    """Cycles of a stall-free weight-stationary systolic array.

    For each tile of `rows` by `columns` weights: load them, stream m rows of activations, drain:
    ceil(k/R) ceil(n/C) (2R + C + m - 2) - 1 (SCALE-Sim, Samajdar et al. 2018). Groups of a
    convolution run one after the other; a depthwise convolution uses one column at a time.

    Raises:
        ValueError: the operator is not a matrix product.
    """
    gemm = work.gemm
    if gemm is None:
        raise ValueError(f"{work.op.name} is not a matrix product")
    tiles = math.ceil(gemm.k / array.rows) * math.ceil(gemm.n / array.columns)
    fill = 2 * array.rows + array.columns + gemm.m - 2
    return gemm.groups * (tiles * fill - 1)


def crossing_seconds(bytes_moved: int, processor: Processor) -> float:
    """Time for tensors to cross the link of a processor once; 0 without a link."""
    if processor.link is None or bytes_moved == 0:
        return 0.0
    return bytes_moved / (processor.link.gb_per_s * _GIGA) + processor.link.us_per_transfer * _US
