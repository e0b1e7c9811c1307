"""Keras's grouped convolutions, which TensorFlow compiles by XLA, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.base.child import Worker
from edgekit.export.base import ExportJob
from edgekit.export.exporter import export
from edgekit.schema.names import Format


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite", "openvino"])
@pytest.mark.parametrize("groups", [2, 8])
def test_a_grouped_convolution_is_exported(
    tmp_path: Path, worker: Worker, kind: Format, groups: int
) -> None:
    keras = pytest.importorskip("keras")
    image = keras.Input((10, 10, 8), name="image")
    x = keras.layers.Conv2D(16, 3, groups=groups, padding="same", activation="relu")(image)
    model = keras.Model(image, keras.layers.Conv2D(4, 1)(x))
    path = tmp_path / "m.keras"
    model.save(path)
    suffix = {"onnx": ".onnx", "tflite": ".tflite", "openvino": ".xml"}[kind]
    sidecar = export(ExportJob(path, kind, "fp32", tmp_path / f"m{suffix}"), worker=worker)
    snr = sidecar.parity["model"]["snr_db"]
    assert snr is None or snr > 60  # none: the outputs are equal
