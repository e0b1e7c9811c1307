"""ST's X-CUBE-AI (ST Edge AI Core) code generator for STM32 microcontrollers."""

from __future__ import annotations

from edgekit.graph.onnx_ops import QONNX
from edgekit.profiling.rules.base import OpView, RuleSet, broken_dimensions, rule

_DQNN = "https://stedgeai-dc.st.com/assets/embedded-docs/dqnn_support.html"


@rule(fix="fix the input shape before the export")
def static_shapes(op: OpView) -> str | None:
    """Shapes are fixed, the batch of one excepted: C code is generated for one shape."""
    return broken_dimensions([*op.inputs, *op.outputs])


@rule(fix="export with --precision int8 or fp32")
def float_or_int8(op: OpView) -> str | None:
    """Weights and activations are both int8 or both float32."""
    precision = op.view.op_precision(op.op)
    return None if precision in ("int8", "fp32") else f"{op.op.name} computes in {precision}"


@rule(
    *QONNX,
    fix="export in int8 (QuantizeLinear and DequantizeLinear, or .tflite), or give the tool the "
    "QKeras model",
    source=_DQNN,
)
def quantizers(op: OpView) -> str | None:
    """ONNX files are quantized by QuantizeLinear and DequantizeLinear, in 8 bits.

    Networks of fewer bits are read from the Keras files of QKeras and Larq only.
    """
    return f"{op.op.name} of QONNX"


RULES = RuleSet(
    name="cubeai",
    title="X-CUBE-AI",
    rules=(static_shapes, float_or_int8, quantizers),
    source="https://stedgeai-dc.st.com/assets/embedded-docs/supported_ops_tflite.html",
    kinds=frozenset(
        {
            "conv",
            "pointwise",
            "depthwise",
            "dense",
            "matmul",
            "recurrent",
            "pool",
            "reduce",
            "elementwise",
            "activation",
            "normalization",
            "data",
            "resize",
            "quantize",
        }
    ),
)
