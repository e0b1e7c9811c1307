"""Files of one operator, each at a limit of Vela's or beyond it."""

from __future__ import annotations

from tests.profiling.tflite_files import Slot, one_op

_SAME, _VALID = 0, 1
_MAP = (1, 16, 16, 8)


def _pool(
    name: str, window: tuple[int, int], padding: int, shape: tuple[int, ...], stride: int = 1
) -> bytes:
    height, width = window
    result = shape
    if padding == _VALID:
        result = (1, (shape[1] - height) // stride + 1, (shape[2] - width) // stride + 1, shape[3])
    elif stride > 1:
        result = (1, -(-shape[1] // stride), -(-shape[2] // stride), shape[3])
    return one_op(
        name, [Slot(shape), Slot(result)], [0], [1], "Pool2DOptions", padding=padding,
        strideW=stride, strideH=stride, filterHeight=height, filterWidth=width,
    )  # fmt: skip


def _conv(stride: int, padding: int, weights: str = "int8", kernel: int = 3) -> bytes:
    size = -(-16 // stride) if padding == _SAME else (16 - kernel) // stride + 1
    slots = [Slot(_MAP), Slot((4, kernel, kernel, 8), weights, True), Slot((4,), "int32", True),
             Slot((1, size, size, 4))]  # fmt: skip
    return one_op(
        "CONV_2D", slots, [0, 1, 2], [3], "Conv2DOptions", padding=padding, strideW=stride,
        strideH=stride, dilationWFactor=1, dilationHFactor=1,
    )  # fmt: skip


def _depthwise(stride: int) -> bytes:
    size = -(-16 // stride)
    slots = [Slot(_MAP), Slot((1, 3, 3, 8), "int8", True), Slot((8,), "int32", True),
             Slot((1, size, size, 8))]  # fmt: skip
    return one_op(
        "DEPTHWISE_CONV_2D", slots, [0, 1, 2], [3], "DepthwiseConv2DOptions", padding=_SAME,
        strideW=stride, strideH=stride, depthMultiplier=1, dilationWFactor=1, dilationHFactor=1,
    )  # fmt: skip


def _transposed(stride: int) -> bytes:
    size = 8 * stride
    slots = [Slot((4,), "int32", [1, size, size, 4]), Slot((4, 3, 3, 8), "int8", True),
             Slot((1, 8, 8, 8)), Slot((1, size, size, 4))]  # fmt: skip
    return one_op(
        "TRANSPOSE_CONV", slots, [0, 1, 2], [3], "TransposeConvOptions", padding=_SAME,
        strideW=stride, strideH=stride,
    )  # fmt: skip


def _resize(name: str, factor: int, *, half: bool = False) -> bytes:
    size = 8 * factor
    slots = [Slot((1, 8, 8, 4)), Slot((2,), "int32", [size, size]), Slot((1, size, size, 4))]
    options = "ResizeBilinearOptions" if "BILINEAR" in name else "ResizeNearestNeighborOptions"
    return one_op(name, slots, [0, 1], [2], options, halfPixelCenters=half)


def _mean(shape: tuple[int, ...], axes: list[int], result: tuple[int, ...]) -> bytes:
    slots = [Slot(shape), Slot((len(axes),), "int32", axes), Slot(result)]
    return one_op("MEAN", slots, [0, 1], [2], "ReducerOptions", keepDims=False)


def _argmax(depth: int, axis: int = -1) -> bytes:
    shape = (1, 4, 4, depth)
    kept = tuple(size for n, size in enumerate(shape) if n != axis % 4)
    slots = [Slot(shape), Slot((1,), "int32", [axis]), Slot(kept, "int32")]
    return one_op("ARG_MAX", slots, [0, 1], [2], "ArgMaxOptions", outputType=2)


def _unary(name: str, dtype: str = "int8", shape: tuple[int, ...] = _MAP) -> bytes:
    options = "SoftmaxOptions" if name == "SOFTMAX" else None
    fields = {"beta": 1.0} if options else {}
    return one_op(name, [Slot(shape, dtype), Slot(shape, dtype)], [0], [1], options, **fields)


def _binary(name: str, zero_point: int = 0, dtype: str = "int8") -> bytes:
    slots = [Slot(_MAP, dtype), Slot(_MAP, dtype, zero_point=zero_point), Slot(_MAP, dtype)]
    return one_op(name, slots, [0, 1], [2])


def _pad() -> bytes:
    slots = [Slot(_MAP), Slot((4, 2), "int32", [0, 0, 1, 1, 1, 1, 0, 0]), Slot((1, 18, 18, 8))]
    return one_op("PAD", slots, [0, 1], [2], "PadOptions")


def _gather(axis: int) -> bytes:
    shape, result = ((8, 4), (3, 4)) if axis == 0 else ((4, 8), (4, 3))
    slots = [Slot(shape), Slot((3,), "int32", [0, 2, 1]), Slot(result)]
    return one_op("GATHER", slots, [0, 1], [2], "GatherOptions", axis=axis, batchDims=0)


def _transpose(order: list[int], shape: tuple[int, ...]) -> bytes:
    slots = [Slot(shape), Slot((len(order),), "int32", order),
             Slot(tuple(shape[n] for n in order))]  # fmt: skip
    return one_op("TRANSPOSE", slots, [0, 1], [2], "TransposeOptions")


def cases() -> dict[str, bytes]:
    """The files by what they try."""
    return {
        "average 8x8 same": _pool("AVERAGE_POOL_2D", (8, 8), _SAME, _MAP),
        "average 9x9 same": _pool("AVERAGE_POOL_2D", (9, 9), _SAME, _MAP),
        "average 9x9 valid": _pool("AVERAGE_POOL_2D", (9, 9), _VALID, _MAP),
        "average 257 high": _pool("AVERAGE_POOL_2D", (257, 1), _VALID, (1, 300, 4, 4)),
        "max 256 high": _pool("MAX_POOL_2D", (256, 1), _VALID, (1, 300, 4, 4)),
        "max 257 high": _pool("MAX_POOL_2D", (257, 1), _VALID, (1, 300, 4, 4)),
        "max stride 4 same": _pool("MAX_POOL_2D", (4, 4), _SAME, _MAP, 4),
        "max stride 4 padded": _pool("MAX_POOL_2D", (6, 6), _SAME, _MAP, 4),
        "max stride 4 valid": _pool("MAX_POOL_2D", (4, 4), _VALID, _MAP, 4),
        "conv stride 3": _conv(3, _SAME),
        "conv stride 4 same": _conv(4, _SAME),
        "conv stride 4 valid": _conv(4, _VALID),
        "conv stride 4 padded": _conv(4, _SAME, kernel=7),
        "conv int16 weights": _conv(1, _SAME, "int16"),
        "depthwise stride 3": _depthwise(3),
        "depthwise stride 4": _depthwise(4),
        "transposed stride 2": _transposed(2),
        "transposed stride 3": _transposed(3),
        "bilinear 2": _resize("RESIZE_BILINEAR", 2),
        "bilinear 3": _resize("RESIZE_BILINEAR", 3),
        "bilinear 4": _resize("RESIZE_BILINEAR", 4),
        "bilinear 4 half": _resize("RESIZE_BILINEAR", 4, half=True),
        "nearest 3": _resize("RESIZE_NEAREST_NEIGHBOR", 3),
        "nearest 4": _resize("RESIZE_NEAREST_NEIGHBOR", 4),
        "mean over height and width": _mean(_MAP, [1, 2], (1, 8)),
        "mean over depth": _mean(_MAP, [3], (1, 16, 16)),
        "mean over depth of a row": _mean((1, 1, 16, 8), [3], (1, 1, 16)),
        "mean of 4096": _mean((1, 4096, 2, 2), [1], (1, 2, 2)),
        "mean of 4097": _mean((1, 4097, 2, 2), [1], (1, 2, 2)),
        "mean of 70000": _mean((1, 70000, 1, 2), [1], (1, 1, 2)),
        "mean of a batch": _mean((2, 8, 8, 4), [1, 2], (2, 4)),
        "argmax 127": _argmax(127),
        "argmax 128": _argmax(128),
        "argmax of height": _argmax(8, 1),
        "softmax": _unary("SOFTMAX"),
        "softmax of 65536 rows": _unary("SOFTMAX", shape=(1, 256, 256, 2)),
        "softmax of 65792 rows": _unary("SOFTMAX", shape=(1, 257, 256, 2)),
        "gelu": _unary("GELU"),
        "gelu int16": _unary("GELU", "int16"),
        "log int16": _unary("LOG", "int16"),
        "relu float": _unary("RELU", "float32"),
        "cos": _unary("COS"),
        "minimum": _binary("MINIMUM"),
        "minimum of another scale": _binary("MINIMUM", 3),
        "add int16": _binary("ADD", dtype="int16"),
        "pad": _pad(),
        "gather rows": _gather(0),
        "gather columns": _gather(1),
        "transpose": _transpose([0, 3, 1, 2], _MAP),
        "transpose of 9 axes": _transpose([0, 2, 1, 3, 4, 5, 6, 7, 8], (1, 2, 3, 1, 1, 1, 1, 1, 2)),
    }
