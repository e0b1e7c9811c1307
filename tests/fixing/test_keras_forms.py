"""Forms of Keras models that a target lacks, in layers that it takes, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.schema.fixing import FixReport
from tests.fixing.test_keras import fixed

pytestmark = pytest.mark.slow
SHAPE = (8, 8, 3)


def network(middle: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    """A model with something between a convolution and a dense layer, all weights random."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input(shape, name="x")
    if len(shape) == 3:
        y = keras.layers.Conv2D(12, 3, padding="same", name="first")(x)
    else:
        y = keras.layers.Conv1D(12, 3, padding="same", name="first")(x)
    y = middle(y)
    if len(y.shape) > 2:
        y = keras.layers.Flatten(name="flat")(y)
    model = keras.Model(x, keras.layers.Dense(2, name="head")(y))
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(-0.1, 0.2, w.shape) for w in model.get_weights()])
    return model


def rewrites(report: FixReport) -> list[str]:
    return [one.rewrite for one in report.rewrites]


def most_apart(one: Any, other: Any, shape: tuple[int, ...] = SHAPE) -> float:
    """The largest difference on other samples than the fix was held to, over the range."""
    x = np.random.default_rng(7).normal(size=(8, *shape)).astype(np.float32)
    first, second = np.asarray(one(x)), np.asarray(other(x))
    return float(np.abs(first - second).max() / np.abs(second).max())


@pytest.mark.parametrize(
    ("shape", "target", "verdict"),
    [(SHAPE, "ethos-u55-128", "ok"), ((16, 3), "coral-usb", "fallback")],
)
def test_layer_normalization_is_taken_apart(
    tmp_path: Path, worker: Worker, shape: tuple[int, ...], target: str, verdict: str
) -> None:
    import keras

    model = network(keras.layers.LayerNormalization(epsilon=1e-3, name="norm"), shape)
    report, after = fixed(model, tmp_path, worker, target)
    assert rewrites(report) == ["layer-norm-apart"]
    assert report.rewrites[0].promise == "rounding"
    assert (report.before.verdict, report.after.verdict) == ("fallback", verdict)
    assert most_apart(after, model, shape) < 1e-5
    assert not [one for one in after.layers if isinstance(one, keras.layers.LayerNormalization)]
    assert after.get_layer("norm_mean").weights
    assert not after.get_layer("norm_mean").trainable_weights  # a mean stays a mean


def test_layer_normalization_is_an_l2_normalization(tmp_path: Path, worker: Worker) -> None:
    import keras

    model = network(keras.layers.LayerNormalization(epsilon=1e-3, name="norm"))
    report, after = fixed(model, tmp_path, worker, "coral-usb", allow_inexact=True)
    assert rewrites(report) == ["layer-norm"]
    assert report.rewrites[0].promise == "approximate"
    assert "L2_NORMALIZATION" in [op.op for op in report.after.ops]
    assert report.after.verdict == "ok"
    assert 1e-7 < most_apart(after, model) < 0.02


def test_a_root_stands_where_no_form_is_without_it(tmp_path: Path, worker: Worker) -> None:
    import keras

    model = network(keras.layers.LayerNormalization(name="norm", center=False, scale=False))
    report, after = fixed(model, tmp_path, worker, "kv260-dpu-b4096", allow_inexact=True)
    assert "layer-norm-apart" in rewrites(report)
    left = [op.op for op in report.after.ops if op.where != "dpu"]
    assert left == ["RSQRT"]
    why = [
        entry.why for entry in report.findings if not entry.fixed and entry.finding.op == "RSQRT"
    ]
    assert why
    assert "batch normalization" in str(why[0])
    assert most_apart(after, model) < 1e-5


def test_a_large_mean_is_split(tmp_path: Path, worker: Worker) -> None:
    import keras

    mean = keras.layers.GlobalAveragePooling2D(name="mean")
    model = network(mean, (160, 160, 1))
    report, after = fixed(model, tmp_path, worker, "coral-usb")
    assert rewrites(report) == ["split-mean"]
    assert report.after.verdict == "ok"
    assert most_apart(after, model, (160, 160, 1)) < 1e-5


def test_activations_of_layers_and_of_operations(tmp_path: Path, worker: Worker) -> None:
    import keras

    def middle(y: Any) -> Any:
        y = keras.layers.Activation("gelu", name="activation")(y)
        return keras.layers.LeakyReLU(0.2, name="leaky")(keras.ops.gelu(y))

    model = network(middle)
    report, after = fixed(model, tmp_path, worker, "coral-usb", allow_inexact=True, tolerance=0.05)
    assert sorted(rewrites(report)) == ["gelu", "leaky-relu"]
    assert report.after.verdict == "ok"
    assert most_apart(after, model) < 0.05
    slope = after.get_layer("leaky").get_weights()[0]
    assert slope.shape == (1, 1, 12)
    np.testing.assert_allclose(slope, 0.2)


def test_channels_are_padded_through_sums_and_branches(tmp_path: Path, worker: Worker) -> None:
    import keras

    def middle(y: Any) -> Any:
        z = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
        z = keras.layers.BatchNormalization(name="norm")(z)
        branch = keras.layers.Conv2D(5, 1, name="branch")(y)
        return keras.layers.Concatenate()([keras.layers.Add()([y, z]), branch])

    model = network(middle)
    report, after = fixed(model, tmp_path, worker, "kv260-dpu-b4096")
    assert rewrites(report) == ["pad-channels"] * 2
    assert not [f for op in report.after.ops for f in op.findings if f.rule == "full_lanes"]
    assert after.get_layer("first").filters == after.get_layer("branch").filters == 16
    assert not np.asarray(after.get_layer("first").kernel)[..., 12:].any()
    assert most_apart(after, model) < 1e-5


def test_upsampling_is_a_resize_in_steps(tmp_path: Path, worker: Worker) -> None:
    import keras

    model = network(keras.layers.UpSampling2D(16, name="up"), (2, 2, 3))
    report, after = fixed(model, tmp_path, worker, "coral-usb")
    assert rewrites(report) == ["resize-nearest"]
    assert report.rewrites[0].promise == "bits"
    resizes = [op.op for op in report.after.ops if op.op.startswith("RESIZE")]
    assert resizes == ["RESIZE_NEAREST_NEIGHBOR"] * 2
    assert most_apart(after, model, (2, 2, 3)) == 0


def test_bilinear_upsampling_goes_in_steps_of_two(tmp_path: Path, worker: Worker) -> None:
    import keras

    up = keras.layers.UpSampling2D(4, interpolation="bilinear", name="up")
    model = network(up, (4, 4, 3))
    report, _ = fixed(model, tmp_path, worker, "ethos-u55-128", allow_inexact=True, tolerance=1e-4)
    assert not report.rewrites
    refused = " ".join(entry.why or "" for entry in report.findings)
    assert "resize-doubling" in refused
    assert "resize-mode" in refused
    report, after = fixed(
        model, tmp_path, worker, "ethos-u55-128", allow_inexact=True, tolerance=0.1
    )
    assert rewrites(report) == ["resize-doubling"]
    assert report.after.verdict == "ok"
    assert 0 < most_apart(after, model, (4, 4, 3)) < 0.2


def test_a_dense_layer_over_places_is_a_convolution(tmp_path: Path, worker: Worker) -> None:
    import keras

    model = network(keras.layers.Dense(6, activation="relu", name="wide"), (16, 3))
    report, after = fixed(model, tmp_path, worker, "coral-usb")
    assert rewrites(report) == ["dense-convolution"]
    assert report.after.verdict == "ok"
    assert most_apart(after, model, (16, 3)) < 1e-5
