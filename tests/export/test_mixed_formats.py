"""A network of mixed precision in every format, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.errors import InputError
from edgekit.export.exporter import ExportJob, export
from edgekit.pipeline.export_files import export_files
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict
from edgekit.schema.plan import QuantizationPlan, save_plan

FORMATS = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
# The last layer has the largest error in int8: steps of 1/256 for small probabilities.
LAYERS: dict[str, Any] = {"shared": "fp32", "dw_bn": "int16x8", "scores": "int16x8"}


def test_no_plan_is_a_clear_error(tmp_path: Path) -> None:
    job = ExportJob(
        tmp_path / "m.keras",
        "tflite",
        "mixed",
        tmp_path / "m.tflite",
        calibration=tmp_path / "x.npz",
    )
    with pytest.raises(InputError, match="no plan says") as caught:
        export(job)
    assert "mixed_precision" in (caught.value.hint or "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .keras file with depthwise, normalization, a residual and a layer that is called twice."""
    keras = pytest.importorskip("keras")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    h = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    skip = layers.Conv2D(8, 1, name="pw")(h)
    h = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(h)
    h = layers.ReLU(6.0, name="dw_relu")(layers.BatchNormalization(name="dw_bn")(h))
    shared = layers.Conv2D(8, 1, activation="relu", name="shared")
    h = layers.Add(name="add")([shared(h), skip])
    h = layers.Conv2D(8, 3, strides=2, name="down")(shared(h))
    h = layers.GlobalAveragePooling2D(name="gap")(h)
    model = keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(h))
    random = np.random.default_rng(0)
    norm = model.get_layer("dw_bn")
    norm.set_weights([random.uniform(0.5, 1.5, 8).astype(np.float32) for _ in range(4)])
    scores = model.get_layer("scores")
    scores.bias.assign([3.0, 0.0, 0.0, 0.0, 0.0])  # so that a step does not change the class
    place = tmp_path_factory.mktemp("mixed")
    model.save(place / "net.keras")
    x = random.random((160, 12, 12, 3)).astype(np.float32)
    y = model.predict(x, verbose=0)
    np.savez(place / "x.npz", image=x)
    np.savez(place / "labelled.npz", image=x, y=y.argmax(axis=1))
    np.save(place / "y.npy", y)
    save_plan(QuantizationPlan(precision="mixed", layers=LAYERS), place / "net.keras")
    report = export_files(
        place / "net.keras",
        formats=list(FORMATS),
        precisions=["mixed", "int8"],
        data=place / "x.npz",
    )
    assert len(report.artifacts) == 6
    return place


def sidecar(folder: Path, name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return stored


def outputs(file: Path, folder: Path) -> np.ndarray:
    with open_session(file) as session:
        (values,) = predict(session, dict(np.load(folder / "x.npz"))).values()
    return values


def snr(folder: Path, name: str) -> float:
    reference = np.load(folder / "y.npy")
    error = outputs(folder / name, folder) - reference
    return float(10 * np.log10(np.square(reference).sum() / np.square(error).sum()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_the_sidecar_tells_the_precision_of_each_layer(folder: Path, kind: str) -> None:
    told = sidecar(folder, f"net-mixed{FORMATS[kind]}")
    assert told["precision"] == "mixed"
    layers = told["provenance"]["layers"]
    assert layers == {
        "stem": "int8",
        "pw": "int8",
        "dw": "int16x8",
        "dw_bn": "int16x8",
        "dw_relu": "int16x8",
        "shared": "fp32",
        "add": "int8",
        "down": "int8",
        "gap": "int8",
        "scores": "int16x8",
    }
    assert (told["inputs"][0]["dtype"], told["outputs"][0]["dtype"]) == ("int8", "int16")
    if kind != "tflite":
        assert told["parity"]["master"]["snr_db"] is None or (
            told["parity"]["master"]["snr_db"] > 40
        )
        wide = [name for name, precision in layers.items() if precision == "int16x8"]
        assert told["provenance"]["computed_in"] == dict.fromkeys(wide, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS.values())
def test_outputs_are_nearer_to_keras_than_those_of_int8(folder: Path, suffix: str) -> None:
    assert snr(folder, f"net-mixed{suffix}") > snr(folder, f"net-int8{suffix}") + 5


@pytest.mark.slow
def test_onnx_runtime_leaves_float_layers_float(folder: Path, tmp_path: Path) -> None:
    """Between integers it would round their weights to 8 bits with one scale, unasked."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(folder / "net-mixed.onnx"), options)
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    kernels = [onnx.numpy_helper.to_array(i) for i in graph.initializer if len(i.dims) == 4]
    assert any(values.dtype == np.float32 for values in kernels)
    assert sum(values.dtype == np.int8 for values in kernels) == 4  # stem, pw, dw, down


@pytest.mark.slow
def test_files_derive_from_the_mixed_file_alone(folder: Path, tmp_path: Path) -> None:
    report = export_files(
        folder / "net-mixed.tflite",
        formats=["onnx"],
        precisions=["fp32"],
        data=folder / "x.npz",
        output=tmp_path / "again.onnx",
    )
    assert report.artifacts[0].precision == "mixed"
    assert report.artifacts[0].provenance["layers"]["shared"] == "fp32"
    again = outputs(tmp_path / "again.onnx", folder)
    np.testing.assert_array_equal(again, outputs(folder / "net-mixed.onnx", folder))
    with pytest.raises(InputError, match="opset 21"):
        export_files(
            folder / "net-mixed.tflite", formats=["onnx"], precisions=[], output=tmp_path, opset=17
        )


@pytest.mark.slow
def test_compress_plans_and_exports_in_one_go(folder: Path, tmp_path: Path) -> None:
    from edgekit.pipeline.compress_file import compress_file

    report = compress_file(
        folder / "net.keras",
        ["mixed_precision(size_ratio=0.6)"],
        tmp_path / "made.onnx",
        data=folder / "labelled.npz",
    )
    assert report.artifact is not None and report.plan is not None
    assert report.artifact.precision == report.plan.precision
    told = report.artifact.provenance["layers"]
    assert all(told[name] == precision for name, precision in report.plan.layers.items())
