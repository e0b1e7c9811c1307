"""The shape of a kernel: the features that its measured time is looked up by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.graph.types import Op, Tensor
from edgekit.profiling.links import WEIGHTED
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import VALUE_BITS, Work, channels, kernel_sides, rounded_up

_TRANSPOSED = ("TRANSPOSE_CONV", "ConvTranspose", "Backprop")
UNSIGNED = ".uint8"
FLOATS = ".float"
PLAIN = ".plain"
# Of the features: one more when they, their meaning or the names of kernels change. Tables of
# another version are refused.
FEATURE_VERSION = 7
_TOUCHED = "touched"
_LEAST_TOUCHED, _MOST_TOUCHED = 0.5, 32.0  # MB
_LEAST = 1e-3
_FEWEST = 11  # features: of kernels that multiply no matrices
_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"})
_LONG_RUN = 4096  # values: what begins a row is nothing beside them
_TILE = 16  # float32 values in the widest vector of a CPU
_MEGA = 1e6
_BITS = 32  # of a value that is no integer


@dataclass(frozen=True)
class KernelShape:
    """One operator as tables of kernels know it.

    Attributes:
        kernel: the class for operators that multiply matrices, else the operator's name; with
            `UNSIGNED` behind it in .tflite files of uint8, which have kernels of their own, and
            with `FLOATS` if it computes floats in a file of integers, and with `PLAIN` if it is a
            convolution in another layout than the runtime's best.
        features: positive numbers. Convolutions: rows of the matrix (m), its depth (k) and columns
            (n), groups, taps of a filter, values read over values multiplied (the stride shows in
            it), columns computed over wanted where tiles are 16 wide, 2 if tiles of 32 leave none
            idle more, and the largest divisor of 16 in the columns and in the channels. Others:
            values written, values read over written, length of the last axis and the largest
            divisor of 16 in it, values of the smallest input over written (pieces that are copied,
            of an operator that moves values), 1 or multiplications over written, and how many
            values in a row an operation value by value computes before an operand is repeated.
            Last, in both: 1 and values that change their layout for its sake over those written,
            1 and the steps that the kernel computes of each value beside its own, 2 if it reads
            integers with a zero point, and the MB that an inference touches, which say what caches
            still hold of its weights, inputs and code.
    """

    kernel: str
    features: tuple[float, ...]


def kernel_shape(view: GraphView, work: Work) -> KernelShape:
    """The shape of one operator's kernel."""
    op, gemm = work.op, work.gemm
    sources, outputs = view.activations_in(op), view.tensors(op.outputs)
    written = max(1, sum(map(view.elements, outputs)))
    read = max(1, sum(map(view.elements, sources)))
    moving = op.kind == "data"
    suffix = UNSIGNED if _unsigned(view, sources) and not moving else ""
    suffix += FLOATS if op.index in view.fusion.floats else ""
    suffix += PLAIN if op.index in view.fusion.plain else ""
    around = (
        1 + view.fusion.moved.get(op.index, 0) / written,
        1 + view.fusion.steps.get(op.index, 0),
        1 + (op.index in view.fusion.shifted),
        _touched(view),
    )
    if op.kind not in WEIGHTED or gemm is None:
        inner = next((channels(view, tensor) for tensor in outputs or sources), 1)
        part = _pieces(view, sources, outputs) if moving else _smallest(view, sources)
        deep = max(1.0, work.macs / written)
        features: tuple[float, ...] = (written, read / written, inner, math.gcd(inner, _TILE))
        features += (part / written, deep, _run(view, op), *around)
        return KernelShape(view.fusion.names.get(op.index, op.name) + suffix, features)
    name: str = "transposed" if any(word in op.name for word in _TRANSPOSED) else op.kind
    if name in ("dense", "matmul"):
        # One row is read as fast as the memory gives its weights; more rows multiply matrices.
        # One tile is not divided among threads, and never begins a second one.
        if name == "dense":
            one_tile = gemm.n <= _TILE * _tiles_together(gemm.n)
            name = "dense_rows" if gemm.m > 1 else "dense_tile" if one_tile else "dense"
        features = (gemm.m, gemm.k, gemm.n, gemm.groups, *_tiles(gemm.k, gemm.n), *around)
        return KernelShape(name + suffix, features)
    sides = kernel_sides(view, op)
    taps = math.prod(sides) if len(sides) > 1 else 1
    fresh = read / max(1.0, gemm.m * gemm.groups * gemm.k / taps)
    columns = gemm.groups if gemm.k == taps and gemm.n == 1 else gemm.n
    tiles = _tiles(gemm.k // taps, columns)
    features = (gemm.m, gemm.k, gemm.n, gemm.groups, taps, fresh, *tiles, *around)
    return KernelShape(name + suffix, features)


def size(shape: KernelShape) -> float:
    """What a kernel computes: multiplications of matrices, or values read, written, multiplied."""
    if len(shape.features) > _FEWEST:
        return math.prod(shape.features[:4])
    written, read, _, _, _, deep, *_ = shape.features
    return written * (1 + read) * deep


def costs_nothing(view: GraphView, work: Work) -> bool:
    """Whether no kernel computes an operator, or another's does."""
    return work.free or work.op.index in view.fusion.inside


def logarithms(shape: KernelShape | tuple[float, ...]) -> tuple[float, ...]:
    """Features as coordinates: natural logarithms."""
    features = shape.features if isinstance(shape, KernelShape) else shape
    return tuple(math.log(max(value, _LEAST)) for value in features)


def _unsigned(view: GraphView, sources: list[Tensor]) -> bool:
    return view.graph.format == "tflite" and bool(sources) and sources[0].dtype == "uint8"


def _smallest(view: GraphView, sources: list[Tensor]) -> int:
    return max(1, min(map(view.elements, sources), default=1))


def _pieces(view: GraphView, sources: list[Tensor], outputs: list[Tensor]) -> int:
    """How often values are copied that stay beside each other: a row of each tensor at a time."""
    rows = (
        sum(view.elements(one) // channels(view, one) for one in tensors)
        for tensors in (sources, outputs)
    )
    return max(1, *rows)


def _tiles(depth: int, columns: int) -> tuple[float, ...]:
    """How columns fill tiles, and what columns and what is summed are multiples of."""
    even = math.gcd(columns, _TILE), math.gcd(max(1, depth), _TILE)
    return rounded_up(columns, _TILE) / columns, _tiles_together(columns), *even


def _tiles_together(columns: int) -> int:
    """2 if kernels of twice the width leave no more columns idle: XNNPACK's are faster."""
    even = math.ceil(columns / _TILE) % 2 == 0
    return 2 if even and columns >= 2 * _TILE else 1


def _touched(view: GraphView) -> float:
    """MB of weights and of what operators write, in one inference.

    What is used again only after as much as a cache holds is fetched from behind it. Less than the
    cache of a core and more than any of them keeps are all alike.
    """
    if _TOUCHED not in view.found:
        running = (op for op in view.graph.ops if op.index not in view.free)
        written = sum(view.elements(one) for op in running for one in view.tensors(op.outputs))
        size = view.graph.weight_bytes + VALUE_BITS.get(view.precision, _BITS) / 8 * written
        view.found[_TOUCHED] = min(max(size / _MEGA, _LEAST_TOUCHED), _MOST_TOUCHED)
    touched: float = view.found[_TOUCHED]
    return touched


def _run(view: GraphView, op: Op) -> int:
    """How many values one loop over the last axes computes, before an operand is repeated.

    `_LONG_RUN` at most, and for whatever else than an operation value by value: images with the
    channels last and a factor for each of three channels are computed by threes.
    """
    if op.kind != "elementwise" or not op.outputs:
        return _LONG_RUN
    written = _sizes(view.tensors(op.outputs)[0])
    operands = [_sizes(tensor) for tensor in view.tensors(op.inputs)]
    if not all(_fills(operand, written) for operand in operands):
        return _LONG_RUN
    if _by_ranks(view, op) and any(_value_by_value(operand, written) for operand in operands):
        return 1
    operands = [(1,) * (len(written) - len(operand)) + operand for operand in operands]
    length, before = 1, None
    for axis in reversed(_axes_in_memory(view, len(written))):
        repeated = [operand[axis] == 1 for operand in operands]
        if written[axis] == 1:
            continue
        if before not in (None, repeated):
            return min(length, _LONG_RUN)
        before = repeated
        length *= written[axis]
    return _LONG_RUN


def _by_ranks(view: GraphView, op: Op) -> bool:
    """Whether ONNX Runtime broadcasts floats; of integers, no measured network tells how fast."""
    return view.graph.format == "onnx" and view.precision == "fp32" and op.name in _BROADCAST


def _value_by_value(operand: tuple[int, ...], written: tuple[int, ...]) -> bool:
    """Whether ONNX Runtime goes over what it writes value by value.

    Its loops run over the first axis from the last on that is not of one; but of the axes that an
    operand does not have it takes the last one as it is (Broadcaster in element_wise_ops.h).
    """
    own = written[-max(1, len(operand)) :]
    return len(operand) < len(written) and math.prod(own) == 1 < math.prod(written)


def _axes_in_memory(view: GraphView, count: int) -> Sequence[int]:
    """Axes in the order of memory: OpenVINO keeps images with the channels last."""
    return (0, 2, 3, 1) if view.graph.format == "openvino" and count == 4 else range(count)


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    return tuple(size or 1 for size in tensor.shape)


def _fills(operand: tuple[int, ...], written: tuple[int, ...]) -> bool:
    """Whether an operand has the shape of what is written, or is repeated along whole axes."""
    pairs = zip(reversed(operand), reversed(written), strict=False)
    return len(operand) <= len(written) and all(one in (1, other) for one, other in pairs)
