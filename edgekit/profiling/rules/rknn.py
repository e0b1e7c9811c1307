"""Rockchip's NPU (RK3566 to RK3588) through RKNN-Toolkit2 2.1, reading ONNX.

The toolkit's list says what it converts; RKNN's compiler may still place an operator on the CPU.
"""

from __future__ import annotations

from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule, shape_text

_TAKES = """
Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv
ConvTranspose Cos DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand EyeLike Flatten
Floor Gather GatherElements Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GRU
HardSigmoid HardSwish Identity If InstanceNormalization LayerNormalization LeakyRelu Less
LessOrEqual Log LogSoftmax LpNormalization LRN LSTM MatMul Max MaxPool MaxRoiPool MaxUnpool
MeanVarianceNormalization Min Mish Mod Mul Pad Pow PRelu QuantizeLinear ReduceMax ReduceMean
ReduceMin ReduceSum Relu Reshape Resize ReverseSequence RoiAlign ScatterND Shape Sigmoid Sin Size
Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Tile Transpose Unsqueeze Where
"""


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are known when the model is converted, the batch of one excepted."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule("GRU", "LogSoftmax", "RoiAlign", "Slice", "Softmax", "Tile", fix="use a batch of one")
def batch_of_one(op: OpView) -> str | None:
    """The batch size is 1."""
    wrong = [t for t in op.maps if len(t.shape) > 1 and (t.shape[0] or 1) > 1]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Resize", fix="resize by nearest neighbour or bilinearly")
def resize_mode(op: OpView) -> str | None:
    """Resize modes are nearest and bilinear."""
    mode = op.attribute("mode", "nearest")
    return None if mode in ("nearest", "linear") else f"mode {mode}"


@rule("EyeLike", "If", fix="fold the branch before the export")
def constant_input(op: OpView) -> str | None:
    """The input is constant."""
    return "computed input" if op.activations else None


RULES = RuleSet(
    name="rknn",
    title="RKNN",
    formats=("onnx",),
    fallback="onnxruntime-cpu",
    rules=(static_shapes, batch_of_one, resize_mode, constant_input),
    source=(
        "https://github.com/airockchip/rknn-toolkit2/blob/v2.1.0/doc/"
        "RKNNToolKit2_OP_Support-v2.1.0.md"
    ),
    takes=frozenset(_TAKES.split()),
    about=__doc__ or "",
)
