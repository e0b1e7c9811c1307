"""Depthwise layers as OpenVINO reads them from a .tflite file, in its CPU plugin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

ov = pytest.importorskip("openvino")
CHANNELS, SCALE, OUT_SCALE = 16, 0.05, 0.2


def depthwise(*, per_channel: bool, multiplier: int = 1) -> Any:
    """A quantized depthwise layer, its kernel in TFLite's layout until after its scales."""
    from openvino import opset13 as ops

    def quantized(value: Any, scale: float) -> Any:
        low, high = (np.full((1, 1, 1, 1), scale * end, np.float32) for end in (-128, 127))
        return ops.fake_quantize(value, low, high, low, high, 256)

    random = np.random.default_rng(0)
    results = CHANNELS * multiplier
    codes = random.integers(-127, 128, (1, 3, 3, results)).astype(np.int8)
    scales = random.uniform(0.001, 0.01, (1, 1, 1, results if per_channel else 1))
    kernel = ops.multiply(
        ops.convert(ops.constant(codes), "f32"), ops.constant(scales.astype(np.float32))
    )
    kernel = ops.reshape(kernel, [3, 3, CHANNELS, multiplier], special_zero=False)
    kernel = ops.transpose(ops.unsqueeze(kernel, [3]), [2, 4, 3, 0, 1])
    x = ops.parameter([1, CHANNELS, 8, 8], np.float32, name="x")
    layer = ops.group_convolution(quantized(x, SCALE), kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    return ov.Model([quantized(layer, OUT_SCALE)], [x], "depthwise")


def run(model: Any, x: Any) -> tuple[Any, list[str]]:
    """The output, and the precisions that the plugin computes the model's layers in."""
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    executed = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    layers = [info for info in executed if "Convolution" in info["layerType"].astype(str)]
    return compiled(x)[0], [info["runtimePrecision"].astype(str) for info in layers]


@pytest.mark.parametrize("per_channel", [True, False])
def test_depthwise_layers_run_in_int8_with_the_same_outputs(per_channel: bool) -> None:
    from edgekit.export.grouped import lay_out_grouped_kernels

    model = depthwise(per_channel=per_channel)
    x = np.random.default_rng(1).uniform(-6, 6, (1, CHANNELS, 8, 8)).astype(np.float32)
    before, precisions = run(model, x)
    assert not per_channel or precisions == ["f32"]
    assert lay_out_grouped_kernels(model) == 1
    assert lay_out_grouped_kernels(model) == 0
    after, precisions = run(model, x)
    assert precisions[0] in ("i8", "u8")
    assert np.mean(np.abs(after - before) > OUT_SCALE / 2) < 1e-3


def test_channel_multipliers_keep_a_scale_a_channel() -> None:
    from edgekit.export.grouped import lay_out_grouped_kernels

    model = depthwise(per_channel=True, multiplier=2)
    x = np.random.default_rng(1).uniform(-6, 6, (1, CHANNELS, 8, 8)).astype(np.float32)
    before, _ = run(model, x)
    assert lay_out_grouped_kernels(model) == 1
    after, _ = run(model, x)
    assert np.mean(np.abs(after - before) > OUT_SCALE / 2) < 1e-3
