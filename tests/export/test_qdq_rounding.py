"""Where TFLite's kernels round twice, ONNX Runtime does: gemmlowp's integers are the reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.export.base import ExportJob
from edgekit.export.exporter import export
from edgekit.graph.read import read_graph
from edgekit.profiling.view import GraphView
from tests.export.test_qdq_kernels import Quantized, onnx, ort, refined, run, samples

SHAPE = (1, 8, 32, 32)
GRID = (0.05, 7)


def rescaled(values: Any, factor: float) -> Any:
    """MultiplyByQuantizedMultiplier: a factor from 0.5 to 1, and a power of two, both rounded."""
    significand, power = math.frexp(factor)
    product = values.astype(object) * round(significand * 2**31)
    half = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.vectorize(lambda sum_: abs(sum_) // 2**31 * (1 if sum_ >= 0 else -1))(product + half)
    whole = (np.abs(high) + (1 << -power >> 1)) >> -power
    return np.sign(high) * whole


def saturated(values: Any, zero: int) -> Any:
    return np.clip(values + zero, -128, 127).astype(np.int8)


@pytest.mark.parametrize("step", [0.1, 0.75, 2.0])
def test_a_product_of_activations_is_rounded_before_its_last_rounding(step: float) -> None:
    drawn = Quantized(GRID, SHAPE)
    other = drawn.node("Transpose", [drawn.rounded(drawn.x, GRID)], perm=[0, 1, 3, 2])
    model, record = drawn.model(drawn.node("MatMul", [drawn.x, other]), (step, -3), SHAPE)
    made = refined(model, record)
    x = samples(0, SHAPE)
    codes = x.astype(np.int64) - GRID[1]
    sums = codes @ codes.transpose(0, 1, 3, 2)
    wanted = saturated(rescaled(sums, GRID[0] ** 2 / step), -3)
    assert np.any(run(model, x) != wanted)
    for optimize in (False, True):
        np.testing.assert_array_equal(run(made, x, optimize=optimize), wanted)


def test_onnxruntime_multiplies_integers_as_the_cost_model_has_it(tmp_path: Path) -> None:
    drawn = Quantized(GRID, SHAPE)
    turned = drawn.node("Transpose", [drawn.x], perm=[0, 1, 3, 2])
    other = drawn.rounded(turned, (0.03, 1))
    made = refined(*drawn.model(drawn.node("MatMul", [drawn.x, other]), (0.75, -3), SHAPE))
    path = tmp_path / "product.onnx"
    onnx.save(made, path)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ran = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    view = GraphView(read_graph(path))
    live = [op for op in view.graph.ops if op.index not in view.free]
    assert "MatMulIntegerToFloat" in ran
    assert ran.count("DequantizeLinear") == sum(op.name == "DequantizeLinear" for op in live)
    (product,) = (op for op in live if op.name == "MatMul")
    assert product.index not in view.fusion.floats


@pytest.mark.parametrize("fine", [0.013, 0.0311])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_squared_difference_rounds_its_finer_operand(fine: float, *, swapped: bool) -> None:
    drawn = Quantized(GRID, SHAPE)
    operands = [drawn.x, drawn.rounded(drawn.x, (fine, 40))]
    difference = drawn.node("Sub", operands[::-1] if swapped else operands)
    model, record = drawn.model(drawn.node("Mul", [difference] * 2), (0.07, -128), SHAPE)
    made = refined(model, record)
    x = samples(0, SHAPE)
    codes = x.astype(np.int64) - GRID[1]
    finer = np.clip(np.rint(codes * (GRID[0] / fine)) + 40, -128, 127).astype(np.int64) - 40
    apart = 64 * codes - rescaled(128 * finer, fine / (2 * GRID[0])).astype(np.int64)
    wanted = saturated(rescaled(apart**2, (GRID[0] / 64) ** 2 / 0.07), -128)
    assert np.any(run(model, x) != wanted)
    for optimize in (False, True):
        np.testing.assert_array_equal(run(made, x, optimize=optimize), wanted)


@pytest.mark.slow
def test_an_int8_transformer_is_the_same_network_in_onnx(worker: Worker, tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    sequence = keras.Input((16, 24), name="sequence")
    mixed = layers.Add()([sequence, layers.MultiHeadAttention(2, 12)(sequence, sequence)])
    hidden = layers.Dense(48, activation="gelu")(layers.LayerNormalization()(mixed))
    pooled = layers.GlobalAveragePooling1D()(layers.Dense(24)(hidden))
    path, data = tmp_path / "attention.keras", tmp_path / "calibration.npz"
    keras.Model(sequence, layers.Dense(3, name="out")(pooled)).save(path)
    x = {"sequence": np.random.default_rng(0).random((200, 16, 24)).astype(np.float32)}
    np.savez(data, **x)
    master = tmp_path / "attention-int8.tflite"
    job = ExportJob(path, "tflite", "int8", master, calibration=data)
    export(job, reference_x=x, worker=worker)
    output = tmp_path / "attention-int8.onnx"
    job = ExportJob(path, "onnx", "int8", output, calibration=data, master=master)
    sidecar = export(job, reference_x=x, worker=worker)
    assert sidecar.parity["master"]["within_one_step"] >= 0.99
