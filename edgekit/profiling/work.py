"""What an operator asks of a processor: multiply-accumulates, bytes, and its matrix shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.graph.types import Op, OpClass, Tensor, dtype_bits
from edgekit.profiling.view import GraphView
from edgekit.schema.names import Precision

# These change a shape, not the data; runtimes do them in place.
_RESHAPES = frozenset(
    {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
)
_VECTOR = 4
_WINOGRAD_TAPS = 9
_WINOGRAD_CHANNELS = 8
_BLOCK = 32
_ROW: dict[Precision, int] = {"int8": 32, "fp16": 8}  # values; networks with short rows tell
# They take what the operator before gives tile by tile; others wait for a tile's neighbours.
_TILE_BY_TILE = frozenset({"pointwise", "elementwise", "activation"})
VALUE_BITS: dict[Precision, int] = {"int8": 8, "fp16": 16, "int16x8": 16}
"""Of a value that a network computes; else those of its type in the file."""


@dataclass(frozen=True)
class Gemm:
    """An operator as a product of (m, k) by (k, n) matrices, `groups` times.

    Attributes:
        m: rows: places of the output.
        k: values that are summed.
        n: columns: channels of the output.
        groups: of a convolution.
        taps: of a convolution's kernel, which `k` is a multiple of.
        kernel_rows: of a convolution: its taps without those beside each other in memory.
    """

    m: int
    k: int
    n: int
    groups: int = 1
    taps: int = 1
    kernel_rows: int = 1


@dataclass(frozen=True)
class Work:
    """The load of one operator on one sample.

    Attributes:
        op: the operator.
        precision: that it computes in.
        activation_bytes: read and written.
        weight_bytes: read.
        gemm: None if it is not a matrix product.
        free: whether the runtime fuses it away or computes it once.
        winograd: whether it is a 3x3 convolution with stride 1 and at least 8 input channels, which
            Winograd's algorithm computes with fewer multiplications (Lavin and Gray 2016).
        shallow: whether it is a convolution of fewer than four input channels, which fill no vector
            of four (CMSIS-NN, Lai et al. 2018, has a kernel of its own for them).
        row_bytes: `activation_bytes` where a place's channels take at least as long as a full row.
        maps: bytes of each activation that it reads or writes as a whole, in blocks of 32 channels:
            one that the next operator alone reads, tile by tile, never is there as a whole.
    """

    op: Op
    precision: Precision
    macs: int
    activation_bytes: int
    weight_bytes: int
    gemm: Gemm | None
    free: bool
    winograd: bool = False
    shallow: bool = False
    row_bytes: int = 0
    maps: tuple[int, ...] = ()

    @property
    def kind(self) -> OpClass:
        """The class that the cost model charges it by."""
        return self.op.kind

    @property
    def bytes(self) -> int:
        """All bytes that it moves."""
        return self.activation_bytes + self.weight_bytes


def works(view: GraphView) -> Iterator[Work]:
    """The work of every operator, in the file's order."""
    passing = _passing(view)
    for op in view.graph.ops:
        precision = view.op_precision(op)
        reshape = op.name in _RESHAPES
        moved = [] if reshape else [*view.activations_in(op), *view.tensors(op.outputs)]
        weights = [] if reshape else view.weights_in(op)
        sizes = [_bytes(view, tensor, precision) for tensor in moved]
        lanes = [channels(view, tensor) for tensor in moved]
        row = _ROW.get(precision, 1)
        gemm = _gemm(view, op)
        yield Work(
            op=op,
            precision=precision,
            macs=_macs(view, op),
            activation_bytes=sum(sizes),
            weight_bytes=sum(_bytes(view, tensor, precision) for tensor in weights),
            gemm=gemm,
            free=op.index in view.free,
            winograd=gemm is not None and op.kind == "conv" and _winograd(moved, gemm),
            shallow=op.kind == "conv" and _input_channels(view, op) < _VECTOR,
            row_bytes=sum(
                size * max(count, row) // count for size, count in zip(sizes, lanes, strict=True)
            ),
            maps=tuple(
                size * rounded_up(count, _BLOCK) // count
                for tensor, size, count in zip(moved, sizes, lanes, strict=True)
                if tensor.index not in passing
            ),
        )


def _passing(view: GraphView) -> set[int]:
    """Activations that one operator alone reads, tile by tile, through those fused into others."""
    made = {index: index for op in view.graph.ops for index in op.outputs}
    readers: dict[int, list[Op]] = {}
    for op in view.graph.ops:
        sources = [made.get(t.index, t.index) for t in view.activations_in(op)]
        if op.index in view.free and sources:
            made.update(dict.fromkeys(op.outputs, sources[0]))
        elif op.index not in view.free:
            for source in sources:
                readers.setdefault(source, []).append(op)
    passed = {
        source
        for source, found in readers.items()
        if len(found) == 1 and found[0].kind in _TILE_BY_TILE
    }
    return {index for index, source in made.items() if source in passed}


def rounded_up(count: int, block: int) -> int:
    """The least multiple of a block that is not less."""
    return math.ceil(count / block) * block


def channels(view: GraphView, tensor: Tensor) -> int:
    """Channels of an image, NCHW but in TFLite; else values of the last axis."""
    axis = 1 if view.graph.format != "tflite" and len(tensor.shape) == 4 else -1
    return (tensor.shape[axis] if tensor.shape else None) or 1


def _input_channels(view: GraphView, op: Op) -> int:
    """Channels of each filter of a convolution; 4-D weights are OHWI in TFLite, else OIHW."""
    shape = next((t.shape for t in view.weights_in(op) if len(t.shape) > 2), ())
    last = view.graph.format == "tflite"
    return (shape[-1 if last else 1] if shape else None) or _VECTOR


def _winograd(moved: Sequence[Tensor], gemm: Gemm) -> bool:
    source = moved[0]
    channels = source.elements // gemm.m  # if input and output are of one size
    return (
        gemm.groups == 1
        and channels >= _WINOGRAD_CHANNELS
        and source.elements == gemm.m * channels
        and gemm.k == _WINOGRAD_TAPS * channels
    )


def _macs(view: GraphView, op: Op) -> int:
    if not op.outputs:
        return op.macs
    written = view.graph.tensors[op.outputs[0]]
    return op.macs * view.elements(written) // max(1, written.elements)


def _bytes(view: GraphView, tensor: Tensor, precision: Precision) -> int:
    bits = dtype_bits(tensor.dtype)
    if "float" in tensor.dtype:  # between quantize and dequantize pairs: integers at run time
        bits = min(bits, VALUE_BITS.get(precision, 64))
    return (view.elements(tensor) * bits + 7) // 8


def _gemm(view: GraphView, op: Op) -> Gemm | None:
    if op.macs == 0 or not op.outputs:
        return None
    output = view.graph.tensors[op.outputs[0]]
    if op.kind not in ("conv", "pointwise", "depthwise", "dense", "matmul") or not output.shape:
        return None
    channels_first = view.graph.format != "tflite" and op.kind in ("conv", "pointwise", "depthwise")
    channels = output.shape[1 if channels_first and len(output.shape) > 1 else -1] or 1
    k = max(1, math.ceil(op.macs / max(1, output.elements)))
    m = max(1, view.elements(output) // channels)
    if op.kind == "depthwise":
        return Gemm(m, k, 1, groups=channels)
    groups = _groups(view, op)
    sides = kernel_sides(view, op) if op.kind == "conv" else []
    taps, kernel_rows = math.prod(sides), math.prod(sides[:-1])
    return Gemm(m, k, max(1, channels // groups), groups, taps, kernel_rows)


def kernel_sides(view: GraphView, op: Op) -> list[int]:
    """Height and width of a convolution's kernel.

    Weights are OHWI in TFLite, OIHW in ONNX, and GOIHW in OpenVINO where it has groups.
    """
    shape = next((t.shape for t in view.weights_in(op) if len(t.shape) > 2), ())
    channel_axes = 3 if op.name.startswith("Group") else 2
    sides = shape[1:-1] if view.graph.format == "tflite" else shape[channel_axes:]
    return [side or 1 for side in sides]


def _groups(view: GraphView, op: Op) -> int:
    """Groups of a convolution: an attribute in ONNX, the channels of the kernel in TFLite."""
    sources, weights = view.activations_in(op), view.weights_in(op)
    if op.name != "CONV_2D" or not (sources and weights):
        return int(op.attributes.get("group", op.attributes.get("groups", 1)) or 1)
    channels, per_group = sources[0].shape[-1:], weights[0].shape[-1:]
    if not (channels and per_group):
        return 1
    return max(1, (channels[0] or 1) // (per_group[0] or 1))
