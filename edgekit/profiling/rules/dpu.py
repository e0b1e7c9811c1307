"""A DPU on an FPGA: AMD's DPUCZDX8G in the B4096 configuration (Zynq UltraScale+, Kria).

channel_parallel is 16 and bank_depth 2048, by table 1 of UG1414 3.5 (2023). Smaller configurations
(B512 to B3136) have fewer lanes and the same rules. The compiler moves what breaks a rule to the
CPU. Restrictions of pooling, transposed and fully connected layers in that table are not checked.
Scales are powers of two by the same guide ("Quantizing with Float Scale"). Sums and products are
PG338's Elementwise-Sum and Elementwise-Multiply; that of reductions only the mean over a map is
taken, and resizing by whole numbers, is as remembered from the compiler.

Depthwise convolutions run beside pooling on the ALU engine, channel group by channel group, at
half of the pixels at a time (PG338, "DepthwiseConv (ALU)"): in PG338's table of features they have
limits of kernel, stride and channels, and the limit of the weight banks is one of convolutions
alone. AMD's own EfficientNet-EdgeTPU, with 5x5 depthwise convolutions of up to 1,856 channels, was
measured at speeds that no CPU reaches with them.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import (
    Geometry,
    OpView,
    RuleSet,
    broken_dimensions,
    ceil_div,
    geometry,
    power_of_two,
    rule,
    shape_text,
)

_CHANNEL_PARALLEL = 16
_BANK_DEPTH = 2048
_MOST_CHANNELS = 256 * _CHANNEL_PARALLEL
_MOST_KERNEL, _MOST_STRIDE, _MOST_DEPTHWISE_KERNEL = 16, 8, 256
_FEATURES = "https://docs.amd.com/r/3.4-English/pg338-dpu/Features"
_PRODUCT_GUIDE = "https://docs.amd.com/r/en-US/pg338-dpu/Architecture-of-the-DPUCZDX8G"
_ELTWISE = frozenset({"ADD", "ADD_N", "MUL", "Add", "Mul", "Multiply", "Sum"})
_MEANS = frozenset({"MEAN", "ReduceMean"})
_FUSED = ("NONE", "RELU", "RELU6")
_ACTIVATIONS = frozenset(
    {"RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH", "Relu", "ReLU", "LeakyRelu", "Clip", "Clamp",
     "HardSwish", "HSwish", "HardSigmoid", "HSigmoid"}
)  # fmt: skip


@rule(fix="export with --precision int8")
def int8_only(op: OpView) -> str | None:
    """Operators compute in int8: weights and activations are 8-bit integers."""
    precision = op.view.op_precision(op.op)
    return None if precision == "int8" else f"{op.op.name} computes in {precision}"


@rule(
    fix="quantize with Vitis AI's quantizer, or with power-of-two scales",
    severity="requantized",
    source="https://docs.amd.com/r/en-US/ug1414-vitis-ai/Quantizing-with-Float-Scale",
)
def power_of_two_scales(op: OpView) -> str | None:
    """Scales are powers of two and zero points 0: the DPU rescales by shifts."""
    for tensor in [*op.inputs, *op.outputs]:
        parameters = tensor.quantization
        if parameters is None or tensor.dtype == "int32":
            continue
        if any(parameters.zero_point):
            return f"{tensor.name} has zero point {next(z for z in parameters.zero_point if z)}"
        wrong = [scale for scale in parameters.scale if not power_of_two(scale)]
        if wrong:
            return f"{tensor.name} has scale {wrong[0]:.6g}"
    return None


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the network is compiled, the batch excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="use kernels of at most 16x16, or several smaller ones")
def kernel_size(op: OpView) -> str | None:
    """Kernels of convolutions are w, h: [1, 16]; of depthwise ones [1, 256]."""
    found = _convolution(op)
    if found is None:
        return None
    most = _MOST_DEPTHWISE_KERNEL if op.op.kind == "depthwise" else _MOST_KERNEL
    return f"{found.kernel[0]}x{found.kernel[1]}" if max(found.kernel) > most else None


@rule(fix="use strides of at most 8")
def strides(op: OpView) -> str | None:
    """Strides of convolutions are w, h: [1, 8]."""
    found = _convolution(op)
    if found is None or op.op.kind == "depthwise" or max(found.stride) <= _MOST_STRIDE:
        return None
    return f"{found.stride[0]}x{found.stride[1]}"


@rule(fix="use a smaller dilation or fewer channels")
def dilated_channels(op: OpView) -> str | None:
    """Dilation * input_channel <= 256 * channel_parallel."""
    found = _convolution(op)
    if found is None:
        return None
    reach = max(found.dilation) * found.channels[0]
    return f"{reach}" if reach > _MOST_CHANNELS and max(found.dilation) > 1 else None


@rule(fix="use fewer input channels or a smaller kernel")
def weight_bank(op: OpView) -> str | None:
    """kernel_w * kernel_h * ceil(input_channel / channel_parallel) <= bank_depth, not depthwise."""
    found = _convolution(op)
    if found is None or op.op.kind == "depthwise":
        return None
    depth = found.kernel[0] * found.kernel[1] * ceil_div(found.channels[0], _CHANNEL_PARALLEL)
    return f"{depth} of {_BANK_DEPTH}" if depth > _BANK_DEPTH else None


@rule(fix="use fewer filters")
def output_channels(op: OpView) -> str | None:
    """output_channel <= 256 * channel_parallel."""
    found = _convolution(op)
    if found is None or found.channels[1] <= _MOST_CHANNELS:
        return None
    return f"{found.channels[1]} channels"


@rule(fix="use ReLU, ReLU6, LeakyReLU, hard-swish or hard-sigmoid")
def activations(op: OpView) -> str | None:
    """Activations are ReLU, LeakyReLU, ReLU6, Hard-Swish and Hard-Sigmoid."""
    function = op.attribute("fused_activation_function", "NONE")
    if function not in _FUSED:
        return f"fused {function}"
    return op.op.name if op.op.kind == "activation" and op.op.name not in _ACTIVATIONS else None


@rule(fix="use sums and products; fold constants into the layers beside them", source=_FEATURES)
def element_wise(op: OpView) -> str | None:
    """Element-wise operators are sums and products."""
    return op.op.name if op.op.kind == "elementwise" and op.op.name not in _ELTWISE else None


@rule(fix="average over height and width; leave other reductions to the CPU, at the end")
def reductions(op: OpView) -> str | None:
    """A reduction is a mean over height and width: a global average pool."""
    if op.op.kind != "reduce" or not op.activations or not op.outputs:
        return None
    if op.op.name not in _MEANS:
        return op.op.name
    before, after = op.activations[0].shape, op.outputs[0].shape
    axis = 3 if op.view.graph.format == "tflite" else 1  # of the channels
    kept = after[axis if len(after) == 4 else 1 :][:1]
    if len(before) == 4 and len(after) in (2, 4) and kept == before[axis : axis + 1]:
        return None
    return f"{shape_text(op.activations[0])} to {shape_text(op.outputs[0])}"


@rule(fix="resize by 2, or by another whole number")
def whole_resizes(op: OpView) -> str | None:
    """Resizing makes maps a whole number of times as large."""
    if op.op.kind != "resize" or not op.activations or not op.outputs:
        return None
    before, after = op.activations[0].shape, op.outputs[0].shape
    pairs = [(a or 1, b or 1) for a, b in zip(before, after, strict=False)]
    whole = len(before) == len(after) == 4 and all(b % a == 0 for a, b in pairs)
    return None if whole else f"{shape_text(op.activations[0])} to {shape_text(op.outputs[0])}"


@rule(fix="prune or widen to a multiple of 16 channels", severity="slow", source=_PRODUCT_GUIDE)
def full_lanes(op: OpView) -> str | None:
    """Channels are computed 16 at a time: other numbers leave lanes idle."""
    found = _convolution(op)
    if found is None or not found.channels[1] % _CHANNEL_PARALLEL:
        return None
    return f"{found.channels[1]} channels"


def _convolution(op: OpView) -> Geometry | None:
    return geometry(op) if op.op.kind in ("conv", "pointwise", "depthwise") else None


RULES = RuleSet(
    name="dpu",
    title="the DPU (DPUCZDX8G)",
    fallback="litert-cpu",
    rules=(
        int8_only, power_of_two_scales, static_shapes, kernel_size, strides, dilated_channels,
        weight_bank, output_channels, activations, element_wise, reductions, whole_resizes,
        full_lanes,
    ),
    source="https://docs.amd.com/r/en-US/ug1414-vitis-ai/Currently-Supported-Operators",
    kinds=frozenset(
        {"conv", "pointwise", "depthwise", "dense", "pool", "reduce", "elementwise", "activation",
         "data", "resize", "quantize"}
    ),
    about=__doc__ or "",
)  # fmt: skip
