"""The shape of a kernel: the features that its measured time is looked up by."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.graph.types import Op, Tensor
from edgekit.profiling.view import WEIGHTED, GraphView
from edgekit.profiling.work import Work

_TRANSPOSED = ("TRANSPOSE_CONV", "ConvTranspose", "Backprop")
_LEAST = 1e-3
_TILE = 16  # float32 values in the widest vector of a CPU
# Features beyond the shape itself bend the time less: their logarithms count by this.
_FOOTPRINT_WEIGHT = 0.4


@dataclass(frozen=True)
class KernelShape:
    """One operator as tables of kernels know it.

    Attributes:
        kernel: the class for operators that multiply matrices, else the operator's name.
        features: positive numbers. Convolutions: rows of the matrix (m), its depth (k) and columns
            (n), taps of a filter, values read over values multiplied (the stride shows in it),
            groups, columns computed over wanted where tiles are
            16 wide, and MB of weights in the whole network, which decide what caches hold. Others:
            values written, values read over written, length of the last axis.
    """

    kernel: str
    features: tuple[float, ...]


def kernel_shape(view: GraphView, work: Work) -> KernelShape:
    """The shape of one operator's kernel."""
    op, gemm = work.op, work.gemm
    sources, outputs = view.activations_in(op), view.tensors(op.outputs)
    written = max(1, sum(tensor.elements for tensor in outputs))
    read = max(1, sum(tensor.elements for tensor in sources))
    if op.kind not in WEIGHTED or gemm is None:
        inner = _inner(view, outputs or sources)
        smallest = min((t.elements for t in sources), default=1)
        return KernelShape(op.name, (written, read / written, inner, max(1, smallest) / written))
    name: str = "transposed" if any(word in op.name for word in _TRANSPOSED) else op.kind
    megabytes = footprint_mb(view)
    if name in ("dense", "matmul"):
        # One row is read as fast as the memory gives its weights; more rows multiply matrices.
        name = "dense_rows" if name == "dense" and gemm.m > 1 else name
        return KernelShape(name, (gemm.m, gemm.k, gemm.n, gemm.groups, _fill(gemm.n), megabytes))
    taps = _taps(view, op)
    fresh = read / max(1.0, gemm.m * gemm.groups * gemm.k / taps)
    columns = gemm.groups if gemm.k == taps and gemm.n == 1 else gemm.n
    features = (gemm.m, gemm.k, gemm.n, gemm.groups, taps, fresh, _fill(columns), megabytes)
    return KernelShape(name, features)


def logarithms(shape: KernelShape | tuple[float, ...], *, weighted: bool) -> tuple[float, ...]:
    """Features as coordinates: natural logarithms, the footprint's counted less."""
    features = shape.features if isinstance(shape, KernelShape) else shape
    logs = [math.log(max(value, _LEAST)) for value in features]
    if weighted:
        logs[-1] *= _FOOTPRINT_WEIGHT
    return tuple(logs)


def _fill(columns: int) -> float:
    """Columns that a kernel computes over those that are wanted."""
    return math.ceil(columns / _TILE) * _TILE / columns


def footprint_mb(view: GraphView) -> float:
    """Weights of the network in MB as stored, at least a thousandth."""
    key = "kernels.footprint"
    if key not in view.found:
        view.found[key] = max(_LEAST, view.graph.weight_bytes / 1e6)
    return float(view.found[key])


def _taps(view: GraphView, op: Op) -> int:
    """Positions of a filter: the spatial axes of its weights."""
    shape = next((t.shape for t in view.weights_in(op) if len(t.shape) > 3), ())
    if not shape:
        return 1
    # OHWI in TFLite, (G)OIHW elsewhere.
    spatial = shape[1:3] if view.graph.format == "tflite" else shape[-2:]
    return max(1, math.prod(size or 1 for size in spatial))


def _inner(view: GraphView, tensors: list[Tensor]) -> int:
    """Length of the axis of channels."""
    shape = tensors[0].shape if tensors else ()
    if not shape:
        return 1
    first = view.graph.format != "tflite" and len(shape) == 4
    return shape[1 if first else -1] or 1
