"""A residual block in OpenVINO, against the same arithmetic in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import run_raw

ov = pytest.importorskip("openvino")
SCALE, SKIP_SCALE, OUT_SCALE = 0.11, 0.04, 0.09
SKIP = (50 * np.eye(16, dtype=np.int8))[:, :, None, None]


def residual_block(weights: np.ndarray) -> object:
    """Two 1x1 layers of one input, quantized and added: the fusion that drops a rounding."""
    from openvino import opset13 as ops

    def quantized(value: object, scale: float, first: int) -> object:
        low, high = (np.full((1, 1, 1, 1), scale * end, np.float32) for end in (first, first + 255))
        return ops.fake_quantize(value, low, high, low, high, 256)

    def conv(value: object, integers: np.ndarray) -> object:
        kernel = ops.multiply(
            ops.convert(ops.constant(integers), "f32"),
            ops.constant(np.full((integers.shape[0], 1, 1, 1), 0.02, np.float32)),
        )
        return ops.convolution(value, kernel, [1, 1], [0, 0], [0, 0], [1, 1])

    x = ops.parameter([1, 16, 8, 8], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    inner = quantized(x, SKIP_SCALE, 0)
    skip = quantized(ops.relu(conv(inner, SKIP)), SKIP_SCALE, 0)
    total = ops.add(quantized(conv(inner, weights), SCALE, -128), skip)
    y = conv(quantized(ops.relu(total), OUT_SCALE, 0), np.eye(16, dtype=np.int8)[:, :, None, None])
    y.output(0).get_tensor().set_names({"y"})
    return ov.Model([y], [x], "block")


def wanted(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    def grid(value: np.ndarray, scale: float, first: int) -> np.ndarray:
        return np.clip(np.rint(value / scale), first, first + 255) * scale

    inner = grid(x.astype(np.float64), SKIP_SCALE, 0)
    layer, skip = (
        np.einsum("nchw,oc->nohw", inner, integers[:, :, 0, 0] * 0.02)
        for integers in (weights, SKIP)
    )
    return grid(grid(layer, SCALE, -128) + grid(skip, SKIP_SCALE, 0), OUT_SCALE, 0) * 0.02


def test_the_inner_rounding_is_kept(tmp_path: Path) -> None:
    from edgekit.export.rounding import round_before_add

    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (16, 16, 1, 1)).astype(np.int8)
    x = random.uniform(0, 5, (40, 16, 8, 8)).astype(np.float32)
    model = residual_block(weights)
    assert round_before_add(model) == 2
    assert round_before_add(model) == 0
    path = tmp_path / "block.xml"
    ov.save_model(model, path, compress_to_fp16=False)
    with open_session(path) as session:
        found = run_raw(session, {"x": x})["y"]
    steps = np.abs(found - wanted(x, weights)) / (OUT_SCALE * 0.02)
    assert np.mean(steps > 0.5) < 1e-3  # without the repair: a tenth
