"""LiteRT on a CPU with its XNNPACK delegate, which the Python and desktop builds bring.

The list is the delegate's own ("Limitations and supported operators"), with what LiteRT 2.3 takes
beyond it and the limits on scales that its page does not name: both were tried operator by
operator, dtype by dtype, on that release. What XNNPACK does not take runs on LiteRT's built-in
kernels and splits the delegate's partition, so that findings here are `slow`, never `blocks`. The
steps of a STRIDED_SLICE, which must be one, are values and not looked at.
"""

from __future__ import annotations

from edgekit.profiling.rules import litert_cpu
from edgekit.profiling.rules.base import OpView, RuleSet, first_of, rule, shape_text

_FLOAT_ONLY = """
ABS AVERAGE_POOL_2D CEIL COS DIV EXP FLOOR GELU HARD_SWISH LOG MAXIMUM MINIMUM NEG PRELU RELU RELU6
RELU_N1_TO_1 ROUND RSQRT SIN SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE
"""
_SIGNED = ("BATCH_MATMUL", "ELU")
_EIGHT_BIT = """
ADD CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE FULLY_CONNECTED LEAKY_RELU LOGISTIC
MAX_POOL_2D MEAN MUL PAD REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT
STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV
"""
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_MOST_CONCATENATED = 5
_MOST_SPLIT = 4
_RATIOS = {"ADD": (2.0**-10, 2.0**8), "SUB": (2.0**-10, 2.0**8), "MUL": (2.0**-16, 2.0**8)}
_LEAST_RATIO, _MOST_RATIO = 2.0**-8, 2.0**7
_LEAST_SLOPE = -127.99609375
_KEEP_FLOAT = "keep the operator's layer in float, or replace it (MEAN for a global average pool)"


@rule(*_FLOAT_ONLY.split(), fix=_KEEP_FLOAT)
def float_only(op: OpView) -> str | None:
    """Inputs and outputs are 32-bit floating point: there is no quantized kernel."""
    return first_of(op.maps, ("float32",))


@rule(*_SIGNED, fix="quantize to int8 rather than to uint8 or int16")
def float_or_signed(op: OpView) -> str | None:
    """Inputs and outputs are float32 or int8."""
    return first_of(op.maps, ("float32", "int8"))


@rule(*_EIGHT_BIT.split(), fix="quantize to int8 rather than to int16")
def float_or_eight_bit(op: OpView) -> str | None:
    """Inputs and outputs are float32, int8 or uint8."""
    return first_of(op.maps, ("float32", "int8", "uint8"))


@rule(fix="use relu, relu6 or no activation, or make the activation its own layer")
def fused_activation(op: OpView) -> str | None:
    """Fused activations are NONE, RELU, RELU_N1_TO_1 and RELU6; TANH and SIGN_BIT are not taken."""
    function = op.attribute("fused_activation_function", "NONE")
    return None if function in _ACTIVATIONS else f"fused {function}"


@rule(*_WEIGHTED, fix="bake the weights into the model")
def static_weights(op: OpView) -> str | None:
    """Filter and bias are static: constants of the file."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("CONV_2D", "DEPTHWISE_CONV_2D", fix="give the layer a bias (use_bias=True)")
def bias(op: OpView) -> str | None:
    """Bias is mandatory."""
    return "no bias" if len(op.inputs) < 3 else None


@rule("DEPTHWISE_CONV_2D", fix="export with --precision int8 or fp32")
def no_hybrid_depthwise(op: OpView) -> str | None:
    """Float activations have float weights: no dynamic range, unlike CONV_2D's and dense ones."""
    floats = any(tensor.dtype == "float32" for tensor in op.activations)
    stored = op.view.weights_in(op.op)[:1]
    found = first_of(stored, ("float32", "float16"))
    return found if floats else None


@rule("FULLY_CONNECTED", fix="quantize weights symmetrically")
def symmetric_weights(op: OpView) -> str | None:
    """The weights of an int8 FULLY_CONNECTED have a zero point of 0."""
    for tensor in op.constants[:1]:
        parameters = tensor.quantization
        if tensor.dtype == "int8" and parameters and any(parameters.zero_point):
            return f"zero point {parameters.zero_point[0]}"
    return None


@rule("AVERAGE_POOL_2D", "MAX_POOL_2D", fix="use a strided slice, or a larger window")
def pooling_window(op: OpView) -> str | None:
    """1x1 pooling with a stride is not taken."""
    window = op.attribute("filter_height", 1) * op.attribute("filter_width", 1)
    stride = op.attribute("stride_h", 1) * op.attribute("stride_w", 1)
    return f"1x1 with strides {stride}" if window == 1 and stride > 1 else None


@rule("CONCATENATION", fix="concatenate in steps")
def few_inputs(op: OpView) -> str | None:
    """Two to five tensors are concatenated (four, says the page; LiteRT 2.3 takes five)."""
    count = len(op.inputs)
    return None if 2 <= count <= _MOST_CONCATENATED else f"{count} inputs"


@rule("SPLIT", fix="split in steps")
def few_outputs(op: OpView) -> str | None:
    """Only split into two, three, or four outputs is taken."""
    count = len(op.outputs)
    return None if 2 <= count <= _MOST_SPLIT else f"{count} outputs"


@rule("SOFTMAX", fix="multiply by beta in a layer before it")
def plain_softmax(op: OpView) -> str | None:
    """Only beta = 1.0 is taken."""
    beta = op.attribute("beta", 1.0)
    return None if beta == 1.0 else f"beta {beta:g}"


@rule("PRELU", fix="bake the slopes into the model")
def static_slopes(op: OpView) -> str | None:
    """The slope is static."""
    return "slopes are computed" if len(op.activations) > 1 else None


@rule("STRIDED_SLICE", fix="slice without ellipsis, new axes and single indices; reshape after it")
def plain_slice(op: OpView) -> str | None:
    """The ellipsis mask, new axis mask, and shrink axis mask are 0."""
    masks = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    return ", ".join(name for name in masks if op.attribute(name, 0)) or None


@rule("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", fix="leave the layer out: it moves nothing")
def block_size(op: OpView) -> str | None:
    """The block size is greater than 1."""
    size = op.attribute("block_size", 2)
    return None if size > 1 else f"block size {size}"


@rule("RESIZE_BILINEAR", fix="resize images with a batch axis")
def resize_rank(op: OpView) -> str | None:
    """Input and output are 4D tensors."""
    wrong = [tensor for tensor in op.maps if len(tensor.shape) != 4]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("QUANTIZE", fix="quantize to int8, with one scale a tensor")
def quantize_types(op: OpView) -> str | None:
    """Quantization goes from float32 or the same dtype to int8 or uint8, with one scale."""
    for result in op.outputs:
        parameters = result.quantization
        if result.dtype not in ("int8", "uint8") or (parameters and parameters.per_channel):
            return f"to {result.dtype}"
        for source in op.inputs:
            if source.dtype not in ("float32", result.dtype):
                return f"from {source.dtype} to {result.dtype}"
    return None


@rule("DEQUANTIZE", fix="quantize to int8, with one scale a tensor")
def dequantize_types(op: OpView) -> str | None:
    """Dequantization goes from int8 or uint8, with one scale, to float32."""
    per_channel = any(t.quantization and t.quantization.per_channel for t in op.inputs)
    if per_channel:
        return "one scale a channel"
    return first_of(op.inputs, ("int8", "uint8")) or first_of(op.outputs, ("float32",))


@rule("QUANTIZE", fix="calibrate both tensors on the same data, so that their scales are near")
def quantize_ratio(op: OpView) -> str | None:
    """The ratio of input scale to output scale is in the [2**-8, 2**7] range."""
    ratio = _ratio(op)
    return None if ratio is None or _LEAST_RATIO <= ratio <= _MOST_RATIO else f"ratio {ratio:.3g}"


@rule("LEAKY_RELU", fix="use a slope of at least 1/256, or ReLU")
def leaky_ratio(op: OpView) -> str | None:
    """The ratio of input scale to output scale, of 8-bit tensors, is within [1/256, 128].

    Its product with the negative slope is within [-127.99609375, -1/256] or [1/256, 128].
    """
    ratio = _ratio(op)
    if ratio is None:
        return None
    if not _LEAST_RATIO <= ratio <= _MOST_RATIO:
        return f"ratio {ratio:.3g}"
    slope = ratio * float(op.attribute("alpha", 0.0))
    taken = _LEAST_RATIO <= slope <= _MOST_RATIO or _LEAST_SLOPE <= slope <= -_LEAST_RATIO
    return None if taken else f"slope times ratio {slope:.3g}"


@rule("ADD", "SUB", "MUL", fix="rescale the branch whose values are far larger or smaller")
def scale_ratio(op: OpView) -> str | None:
    """The ratio of each 8-bit input's scale to the output's is within [2**-10, 2**8).

    For MUL the ratio of both inputs' product is within [2**-16, 2**8). So LiteRT 2.3 behaves.
    """
    scales = [t.quantization.scale[0] for t in op.inputs if t.quantization]
    results = [t.quantization.scale[0] for t in op.outputs if t.quantization]
    if len(scales) != 2 or not results or results[0] <= 0:
        return None
    if op.op.name == "MUL":
        scales = [scales[0] * scales[1]]
    least, most = _RATIOS[op.op.name]
    wrong = [s / results[0] for s in scales if not least <= s / results[0] < most]
    return f"ratio {wrong[0]:.3g}" if wrong else None


def _ratio(op: OpView) -> float | None:
    """Input scale over output scale, of 8-bit tensors."""
    if not op.inputs or not op.outputs:
        return None
    source, result = op.inputs[0].quantization, op.outputs[0].quantization
    if source is None or result is None or op.inputs[0].dtype == "float32":
        return None
    return source.scale[0] / result.scale[0] if result.scale[0] > 0 else None


_SOURCE = (
    "https://github.com/google-ai-edge/LiteRT/blob/main/tflite/delegates/xnnpack/README.md"
    "#limitations-and-supported-operators"
)

XNNPACK = RuleSet(
    name="xnnpack",
    title="LiteRT's XNNPACK delegate",
    formats=("tflite",),
    rules=(
        float_only, float_or_signed, float_or_eight_bit, fused_activation, static_weights, bias,
        no_hybrid_depthwise, symmetric_weights, pooling_window, few_inputs, few_outputs,
        plain_softmax, static_slopes, plain_slice, block_size, resize_rank, quantize_types,
        dequantize_types, quantize_ratio, leaky_ratio, scale_ratio,
    ),
    source=_SOURCE,
    takes=frozenset((*(_FLOAT_ONLY + _EIGHT_BIT).split(), *_SIGNED, "QUANTIZE", "DEQUANTIZE")),
)  # fmt: skip

RULES = RuleSet(
    name="litert-xnnpack",
    title="LiteRT's CPU kernels with XNNPACK",
    formats=("tflite",),
    rules=litert_cpu.RULES.rules,
    source=litert_cpu.RULES.source,
    fast=XNNPACK,
    about=__doc__ or "",
)
