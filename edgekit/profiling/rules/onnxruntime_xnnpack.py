"""ONNX Runtime on phones with its XNNPACK execution provider, by the provider's page (1.14 on).

What the provider does not take runs on ONNX Runtime's own CPU kernels.
"""

from __future__ import annotations

from edgekit.profiling.rules import onnxruntime_cpu
from edgekit.profiling.rules.base import OpView, RuleSet, rule, shape_text

_PLANAR = (
    "AveragePool", "Conv", "ConvTranspose", "MaxPool", "QLinearAveragePool", "QLinearConv",
    "QLinearConvTranspose",
)  # fmt: skip
_WEIGHTED = ("Conv", "ConvTranspose", "QLinearConv")
_IMAGE_RANK = 4


@rule(*_PLANAR, fix="add an axis of one and use the 2D layer")
def two_dimensional(op: OpView) -> str | None:
    """Only 2D convolutions and pools are supported."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) != _IMAGE_RANK]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule(*_WEIGHTED, fix="bake the weights into the model")
def constant_weights(op: OpView) -> str | None:
    """Weights and bias are constant."""
    return "weights are computed" if len(op.activations) > 1 else None


@rule("Gemm", "MatMul", fix="flatten to two dimensions before the layer")
def matrices(op: OpView) -> str | None:
    """Only matrices of two dimensions are multiplied."""
    wrong = [t for t in op.maps if t.shape and len(t.shape) != 2]
    return f"{wrong[0].name} has shape {shape_text(wrong[0])}" if wrong else None


@rule("Softmax", fix="take the softmax along the last axis")
def last_axis(op: OpView) -> str | None:
    """Softmax is along the last dimension (from opset 13 on)."""
    axis = op.attribute("axis", -1)
    rank = len(op.outputs[0].shape)
    return None if axis in (-1, rank - 1) else f"axis {axis} of {rank}"


@rule("Resize", fix="resize bilinearly")
def bilinear(op: OpView) -> str | None:
    """Resizing is bilinear."""
    mode = op.attribute("mode", "nearest")
    return None if mode in ("linear", b"linear") else f"mode {mode}"


XNNPACK = RuleSet(
    name="onnxruntime-xnnpack-provider",
    title="the XNNPACK execution provider",
    formats=("onnx",),
    rules=(two_dimensional, constant_weights, matrices, last_axis, bilinear),
    source="https://onnxruntime.ai/docs/execution-providers/Xnnpack-ExecutionProvider.html",
    takes=frozenset((*_PLANAR, "Softmax", "QLinearSoftmax", "Resize", "Gemm", "MatMul")),
)

RULES = RuleSet(
    name="onnxruntime-xnnpack",
    title="ONNX Runtime's CPU kernels with XNNPACK",
    formats=("onnx",),
    rules=onnxruntime_cpu.RULES.rules,
    source=onnxruntime_cpu.RULES.source,
    fast=XNNPACK,
    about=__doc__ or "",
)
