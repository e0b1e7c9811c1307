"""A dataflow design made by hls4ml: each layer is hardware of its own, weights on the chip.

By hls4ml's documentation (1.x) and its maintainers' answers. The list is of the ONNX operators
that its front ends read, or that its Keras layers become, as remembered. Whether all layers fit is
a matter of the FPGA's size and of bit widths, which a rule about one layer cannot say. That
any array in registers has at most 4096 values is a maintainer's answer (issue 1157): the products
of a layer are one, and in io_parallel so are the values of a map.
"""

from __future__ import annotations

import math

from edgekit.profiling.rules.base import (
    OpView,
    RuleSet,
    broken_dimensions,
    ceil_div,
    rule,
    shape_text,
)

_TAKES = """
Add AveragePool BatchNormalization BipolarQuant Clip Concat Constant Conv Div Dropout Einsum Elu
Flatten Gather Gemm GlobalAveragePool GlobalMaxPool GRU HardSigmoid Identity LayerNormalization
LeakyRelu LSTM MatMul Max MaxPool Min Mul Neg Pad PRelu Quant QuantizeLinear DequantizeLinear
ReduceMean Relu Reshape Resize RNN Selu Sigmoid Softmax Softplus Softsign Split Squeeze Sub Sum Tanh
ThresholdedRelu Transpose Unsqueeze Upsample
"""
_MOST_UNROLLED = 4096
_STATUS = "https://fastmachinelearning.org/hls4ml/intro/status.html"
_ISSUE = "https://github.com/fastmachinelearning/hls4ml/issues/1013"
_IO = "https://github.com/fastmachinelearning/hls4ml/issues/1157"


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the hardware is made, the batch excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule("Conv", "AveragePool", "MaxPool", fix="use the 1D or 2D layer", source=_STATUS)
def one_or_two_dimensions(op: OpView) -> str | None:
    """Convolutions and pools are 1D or 2D."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) not in (3, 4)]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Conv", "Gemm", fix="bake the weights into the model", source=_STATUS)
def constant_weights(op: OpView) -> str | None:
    """Weights are constant: they become hardware."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("Resize", "Upsample", fix="resize by nearest neighbour", source=_STATUS)
def nearest(op: OpView) -> str | None:
    """Resizing is by nearest neighbour."""
    mode = op.attribute("mode", "nearest")
    return None if mode in ("nearest", b"nearest") else f"mode {mode}"


@rule(
    fix="set the layer's ReuseFactor and Strategy: Resource, or prune",
    severity="slow",
    source=_ISSUE,
)
def unrolled_multiplications(op: OpView) -> str | None:
    """At most 4096 multiplications of a layer are done in parallel: so far Vivado HLS unrolls.

    Larger layers need a reuse factor, and take as many cycles for each value.
    """
    if op.op.kind not in ("conv", "pointwise", "dense") or not op.constants:
        return None
    weights = max(math.prod(size or 1 for size in tensor.shape) for tensor in op.constants)
    reuse = ceil_div(weights, _MOST_UNROLLED)
    return f"{weights} multiplications: reuse factor of at least {reuse}" if reuse > 1 else None


@rule(fix="use io_type io_stream", severity="slow", source=_IO)
def parallel_maps(op: OpView) -> str | None:
    """io_parallel is for feature maps of at most 4096 values: larger ones are streamed."""
    wide = [tensor for tensor in op.outputs if tensor.elements > _MOST_UNROLLED]
    return f"{wide[0].name} has {wide[0].elements} values" if wide else None


RULES = RuleSet(
    name="hls4ml",
    title="hls4ml",
    formats=("onnx",),
    rules=(
        static_shapes, one_or_two_dimensions, constant_weights, nearest, unrolled_multiplications,
        parallel_maps,
    ),
    source=_STATUS,
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)  # fmt: skip
