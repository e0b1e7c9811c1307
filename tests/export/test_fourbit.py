"""int4 weights: what is stored, held against arithmetic on the float weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import ConversionError
from edgekit.export.fourbit import narrow_weights
from edgekit.graph.tflite import constant_values, read_buffer
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict

INPUTS = 16


def dense(files: ModuleType, weights: np.ndarray) -> bytes:
    """A float file of one dense layer."""
    rows, columns = weights.shape
    tensors = [
        files.TensorSpec("x", (1, columns)),
        files.TensorSpec("m/dense/MatMul", weights.shape, data=weights.tobytes()),
        files.TensorSpec("m/dense/BiasAdd", (rows,), data=np.zeros(rows, np.float32).tobytes()),
        files.TensorSpec("y", (1, rows)),
    ]
    op = files.OpSpec("FULLY_CONNECTED", [0, 1, 2], [3], options_class="FullyConnectedOptions")
    content: bytes = files.build(
        files.GraphSpec(tensors, [op], [0], [3]), names={"Inputs": {"x": 0}, "Outputs": {"y": 3}}
    )
    return content


def stored(content: bytes) -> np.ndarray:
    """The weights of the only dense layer, as reals."""
    graph = read_buffer(content)
    (op,) = [op for op in graph.ops if op.name == "FULLY_CONNECTED"]
    index = op.inputs[1]
    makers = {out: one for one in graph.ops for out in one.outputs}
    if index in makers:  # weights that are widened by an operator of their own
        index = makers[index].inputs[0]
    tensor = graph.tensors[index]
    assert tensor.dtype == "int4" and tensor.quantization is not None
    assert tensor.quantization.axis == 0 and set(tensor.quantization.zero_point) == {0}
    return tensor.quantization.dequantize(constant_values(content, index))


grids = st.lists(
    st.lists(st.integers(-7, 7), min_size=INPUTS, max_size=INPUTS).filter(
        lambda row: max(map(abs, row)) == 7
    ),
    min_size=2,
    max_size=5,
)


@given(grids, st.floats(0.01, 10))
@settings(max_examples=25)
def test_weights_on_four_bit_steps_keep_their_values(
    tflite_files: ModuleType, grid: list[list[int]], scale: float
) -> None:
    steps = scale * np.arange(1, len(grid) + 1, dtype=np.float32)[:, None]
    weights = (np.array(grid, np.float32) * steps).astype(np.float32)
    again = stored(narrow_weights(dense(tflite_files, weights)))
    np.testing.assert_allclose(again, weights, rtol=1e-5, atol=1e-6)
    assert np.array_equal(again == 0, weights == 0)


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
@settings(max_examples=25)
def test_zeros_stay_zero_and_errors_stay_small(
    tflite_files: ModuleType, seed: int, sparsity: float
) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(4, INPUTS)).astype(np.float32)
    weights[random.random(weights.shape) < sparsity] = 0
    again = stored(narrow_weights(dense(tflite_files, weights)))
    assert not again[weights == 0].any()
    assert np.isfinite(again).all()
    largest = np.abs(weights).max(axis=1, keepdims=True)
    plain = np.round(weights / np.maximum(largest / 7, 1e-30)) * largest / 7
    assert np.square(again - weights).sum() <= 1.001 * np.square(plain - weights).sum() + 1e-9


def test_the_file_runs_and_is_smaller(tflite_files: ModuleType, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    content = dense(tflite_files, weights)
    path = tmp_path / "narrow.tflite"
    path.write_bytes(narrow_weights(content))
    assert path.stat().st_size < len(content) / 6
    x = np.random.default_rng(1).normal(size=(8, 256)).astype(np.float32)
    with open_session(path) as session:
        (output,) = predict(session, {"x": x}).values()
    np.testing.assert_allclose(output, x @ stored(path.read_bytes()).T, rtol=1e-4, atol=1e-4)


def test_a_model_without_such_weights_is_refused(tflite_files: ModuleType) -> None:
    tensors = [tflite_files.TensorSpec(name, (1, 4)) for name in ("x", "y")]
    op = tflite_files.OpSpec("SOFTMAX", [0], [1], options_class="SoftmaxOptions")
    content = tflite_files.build(tflite_files.GraphSpec(tensors, [op], [0], [1]))
    with pytest.raises(ConversionError, match="could be int4"):
        narrow_weights(content)


@pytest.mark.slow
def test_command_line_and_depthwise_in_eight_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.cli.main import run
    from edgekit.models.files import save_model

    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model: Any = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="image"),
            layers.Conv2D(32, 3, activation="relu", name="conv"),
            layers.DepthwiseConv2D(3, activation="relu", name="depthwise"),
            layers.Flatten(name="flatten"),
            layers.Dense(16, name="dense"),
        ]
    )
    save_model(model, tmp_path / "m.keras")
    asked = "quantize(precision='int4-weight')"
    arguments = ["compress", str(tmp_path / "m.keras"), "--pass", asked, "--quiet"]
    assert run([*arguments, "-o", str(tmp_path / "m.tflite")]) == 0, capsys.readouterr()
    content = (tmp_path / "m.tflite").read_bytes()
    graph = read_buffer(content)
    kinds = {tensor.dtype for tensor in graph.tensors if tensor.constant and len(tensor.shape) > 1}
    assert kinds == {"int4", "int8"}
    shown = capsys.readouterr().out
    assert "int4-weight is planned" in shown
