"""The integers of a quantized Keras model are those of its int8 file in LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing

SAMPLES = 192


def residual(layers: Any, x: Any) -> Any:
    """Sums with and without a ReLU, shortcuts, strides, depthwise and transposed convolutions."""

    def block(h: Any, filters: int, strides: int) -> Any:
        a = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(h)
        a = layers.ReLU()(layers.BatchNormalization()(a))
        a = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(a))
        other = h if strides == 1 else layers.Conv2D(filters, 1, strides=2)(h)
        return layers.Add()([a, other])

    h = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    h = layers.ReLU()(block(h, 16, 1))
    h = block(h, 24, 2)
    h = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(h)
    h = layers.Conv2DTranspose(12, 2, strides=2)(h)
    h = layers.MaxPooling2D(2)(h)
    return layers.GlobalAveragePooling2D()(h)


def attention(layers: Any, x: Any) -> Any:
    """Products of matrices, layer normalization, and roots."""
    h = layers.Conv2D(24, 4, strides=4)(x)
    h = layers.Reshape((16, 24))(h)
    for _ in range(2):
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 12)(n, n)])
        n = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(24)(n)])
    return layers.GlobalAveragePooling1D()(h)


def recurrent(layers: Any, x: Any) -> Any:
    """Every kind of cell, in one direction and in both."""
    h = layers.Reshape((8, 64))(x)
    h = layers.Dense(12)(h)
    h = layers.GRU(10, return_sequences=True)(h)
    h = layers.GRU(10, return_sequences=True, reset_after=False)(h)
    h = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(h)
    return layers.SimpleRNN(10, activation="relu")(h)


def samples() -> Dataset:
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 16, 16, 2)).astype(np.float32)
    split = Split({"x": x}, random.integers(0, 5, SAMPLES).astype(np.int32))
    return Dataset(split, split, split, split, tuple("abcde"), Preprocessing())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "equal"), [(residual, 0.999), (attention, 0.98), (recurrent, 0.98)]
)
def test_the_file_gives_the_same_integers(
    body: Any, equal: float, tmp_path: Path, worker: Worker
) -> None:
    import keras

    from edgekit.compress import qat
    from edgekit.export.exporter import ExportJob, export
    from edgekit.models.files import save_model
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw, to_real
    from edgekit.training.evaluate import record_outputs

    keras.utils.set_random_seed(0)
    data, x = samples(), keras.Input((16, 16, 2), name="x")
    logits = keras.layers.Dense(5)(body(keras.layers, x)) * 4.0  # far apart
    model = keras.Model(x, keras.layers.Softmax()(logits))
    made = qat(model, data, epochs=2, learning_rate=0.01).model
    save_model(made, tmp_path / "qat.keras")
    output = tmp_path / "int8.tflite"
    export(
        ExportJob(tmp_path / "qat.keras", "tflite", "int8", output),
        worker=worker,
        reference_x=data.test.x,
    )
    with open_session(output) as session:
        info = session.outputs[0]
        found = to_real(run_raw(session, data.test.x)[info.name], info)
    (wanted,) = record_outputs(made, data.test.x).values()
    assert info.quantization is not None
    apart = np.abs(found - wanted) / info.quantization.scale[0]
    assert np.mean(apart < 0.5) >= equal
    assert np.mean(apart < 1.5) >= 0.995
    # It is fake quantization still: nearly the same in float.
    plain = np.asarray(made(data.test.x["x"], training=False))
    assert np.mean(np.abs(plain - wanted)) < 0.02


@given(st.integers(-(2**23), 2**23), st.floats(1e-6, 0.99))
def test_rounding_twice_is_that_of_gemmlowp(number: int, scale: float) -> None:
    from edgekit.models.requantize import rounded_twice

    mantissa, exponent = np.frexp(scale)
    product = number * round(mantissa * 2**31)
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    high = abs(nudged) // 2**31 * (1 if nudged >= 0 else -1)
    mask = (1 << -int(exponent)) - 1
    above = (high & mask) > (mask >> 1) + (high < 0)
    wanted = (high >> -int(exponent)) + above
    assert int(rounded_twice(np.float32(number), scale)) == wanted
