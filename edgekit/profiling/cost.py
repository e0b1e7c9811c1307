"""The time of an operator on a processor.

An operator takes the larger of its kernel time and of the time that its bytes need on the memory
bus (roofline: Williams, Waterman and Patterson 2009), plus a dispatch. Kernel time is a sum of
non-negative terms fitted to measurements, or the cycles of a systolic array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgekit.profiling.work import Work
from edgekit.schema.target import KernelCosts, MacClass, MemorySpec, Processor, SystolicArray

_PS = 1e-12
_US = 1e-6
_GIGA = 1e9


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


def kernel_terms(work: Work) -> dict[str, float]:
    """Quantities that kernel costs multiply: name of the parameter to amount.

    The fit of a target sums them over a model, so that fitting and predicting use one definition.
    """
    if work.free:
        return {}
    terms = {
        "activation_byte": float(work.activation_bytes),
        "weight_byte": float(work.weight_bytes),
        "op": 1.0,
    }
    if work.macs:
        terms[f"mac.{work.kind}"] = float(work.macs)
    return terms


def op_time(
    work: Work,
    processor: Processor,
    costs: KernelCosts,
    memory: MemorySpec,
    *,
    streamed_share: float = 0.0,
) -> OpTime:
    """Time of one operator on one processor.

    Args:
        work: the operator's load.
        processor: where it runs.
        costs: of the precision that it is charged by.
        memory: of the target.
        streamed_share: share of the weights that do not fit the processor's parameter cache.
    """
    if work.free:
        return OpTime(0.0, 0.0, 0.0)
    moved = (
        work.activation_bytes * costs.ps_per_activation_byte
        + work.weight_bytes * costs.ps_per_weight_byte
    ) * _PS
    extrapolated = None
    if processor.array and work.gemm:
        arithmetic = systolic_cycles(work, processor.array) / (processor.array.clock_mhz * 1e6)
    else:
        rate, extrapolated = _ps_per_mac(work, costs.ps_per_mac)
        arithmetic = work.macs * rate * _PS
    if extrapolated is None and costs.seen and work.kind not in costs.seen:
        extrapolated = f"no {work.kind} operator among the measurements"
    in_cache = work.bytes <= memory.cache_bytes
    stream = 0.0
    if processor.link and streamed_share:
        stream = streamed_share * work.weight_bytes / (processor.link.gb_per_s * _GIGA)
    return OpTime(
        kernel=arithmetic + moved,
        memory=0.0 if in_cache else work.bytes / (memory.bandwidth_gb_s * _GIGA),
        dispatch=costs.us_per_op * _US,
        stream=stream,
        extrapolated=extrapolated,
    )


def _ps_per_mac(work: Work, rates: Mapping[MacClass, float]) -> tuple[float, str | None]:
    if not work.macs:
        return 0.0, None
    for kind, rate in rates.items():
        if kind == work.kind:
            return rate, None
    # The slowest known class is the safe guess for one that nobody measured.
    return max(rates.values(), default=0.0), f"no measured rate for {work.kind}: slowest class used"


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
