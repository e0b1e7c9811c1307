"""Keras models are rewritten as such, and compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.graph.tflite import read_buffer
from edgekit.pipeline.fixing import fix_model
from edgekit.pipeline.fixing_keras import KerasBench, as_int8
from edgekit.profiling.targets import load_target
from edgekit.schema.fixing import FixReport
from edgekit.schema.target import Target
from tests.fixing.cases import target_with
from tests.fixing.test_scales import float_net

pytestmark = pytest.mark.slow


def fixed(
    model: Any, folder: Path, worker: Worker, target: str | Target, **more: Any
) -> tuple[FixReport, Any]:
    """The report and the model after it."""
    from edgekit.models.files import save_model

    path = folder / "model.keras"
    save_model(model, path)
    aim = load_target(target) if isinstance(target, str) else target
    return fix_model(KerasBench(path, aim, None, 4, 0, folder, worker), aim, **more)


def test_a_loop_is_unrolled_with_the_same_weights(tmp_path: Path, worker: Worker) -> None:
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((5, 3), name="x")
    y = keras.layers.GRU(4, name="gru")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="head")(y))
    report, after = fixed(model, tmp_path, worker, "ethos-u55-128")
    assert (report.before.verdict, report.after.verdict) == ("fallback", "ok")
    assert [one.rewrite for one in report.rewrites] == ["unroll"]
    assert "WHILE" in [op.op for op in report.before.ops]
    assert "WHILE" not in [op.op for op in report.after.ops]
    assert after.get_layer("gru").unroll
    samples = np.random.default_rng(0).normal(size=(8, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(after(samples), model(samples), atol=1e-6)
    assert report.rewrites[0].difference.relative < 1e-5


def test_a_loop_is_unrolled_where_the_file_needs_another_rewrite(
    tmp_path: Path, worker: Worker
) -> None:
    import keras

    x = keras.Input((5, 3), name="x")
    y = keras.layers.LSTM(4, name="lstm")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="head")(y))
    report, after = fixed(model, tmp_path, worker, "coral-usb")
    assert [one.rewrite for one in report.rewrites] == ["unroll"]
    assert after.get_layer("lstm").unroll
    (unpacked,) = [one for one in report.findings if one.finding.op == "UNPACK"]
    assert unpacked.rewrite is None
    assert unpacked.why == "unpack does it, by --fix of the exported .tflite"


def test_activations_are_replaced_with_leave(tmp_path: Path, worker: Worker) -> None:
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(8, activation="gelu", name="wide")(x)
    y = keras.layers.Dense(8, activation="hard_silu", name="more")(y)
    model = keras.Model(x, keras.layers.Dense(2, name="head")(y))
    report, after = fixed(model, tmp_path, worker, "coral-usb", allow_inexact=True, tolerance=0.05)
    assert [one.rewrite for one in report.rewrites] == ["gelu", "hard-swish"]
    assert [one.promise for one in report.rewrites] == ["approximate", "rounding"]
    assert report.before.verdict == "fallback"
    assert report.after.verdict == "ok"
    samples = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    np.testing.assert_allclose(after(samples), model(samples), atol=0.1)
    assert np.abs(after(samples) - model(samples)).max() > 1e-6  # it is not the same function


def test_a_normalization_is_folded_onward(tmp_path: Path, worker: Worker) -> None:
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = keras.Input((6,), name="x")
    y = keras.layers.Dense(8, activation="relu", name="wide")(x)
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Model(x, keras.layers.Dense(2, name="head")(norm(y)))
    norm.set_weights([rng.uniform(0.5, 2, 8) for _ in range(4)])
    report, after = fixed(model, tmp_path, worker, target_with("tflm-cmsis-nn"))
    assert [one.rewrite for one in report.rewrites] == ["fold-scale"]
    assert [op.op for op in report.before.ops] == [
        "FULLY_CONNECTED",
        "MUL",
        "ADD",
        "FULLY_CONNECTED",
    ]
    assert [op.op for op in report.after.ops] == ["FULLY_CONNECTED"] * 2
    samples = rng.normal(size=(8, 6)).astype(np.float32)
    np.testing.assert_allclose(after(samples), model(samples), atol=1e-4)


def test_float_graphs_are_looked_at_as_int8() -> None:
    content = float_net("CONV_2D", "MUL", np.ones(4), bias=True)
    graph = as_int8(read_buffer(content))
    conv = graph.ops[0]
    assert [graph.tensors[index].dtype for index in conv.inputs] == ["int8", "int8", "int32"]
    assert {tensor.dtype for tensor in graph.tensors} == {"int8", "int32"}
