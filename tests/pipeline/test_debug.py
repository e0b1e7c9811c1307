"""`edgekit debug` on int8 files of tiny Keras models, each made to fail in one way."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.main import run
from edgekit.pipeline.debug import debug_files
from edgekit.schema.debugging import DebugReport, FileDebug

pytestmark = pytest.mark.slow

IMAGE = (8, 8, 3)


def images(count: int = 48) -> np.ndarray:
    return np.random.default_rng(0).random((count, *IMAGE)).astype(np.float32)


def body(keras: Any, *, norm_last: bool = False) -> tuple[Any, Any]:
    layers = keras.layers
    inputs = keras.Input(IMAGE, name="image")
    x = layers.Conv2D(8, 3, use_bias=False, name="conv1")(inputs)
    x = layers.BatchNormalization(name="norm1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(8, 3, name="conv2", activation="relu" if norm_last else None)(x)
    x = layers.BatchNormalization(name="norm2")(x)
    if not norm_last:
        x = layers.ReLU(name="relu2")(x)
    return inputs, layers.GlobalAveragePooling2D(name="pool")(x)


def healthy(keras: Any) -> Any:
    inputs, x = body(keras)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x))


def norm_after_relu(keras: Any) -> Any:
    inputs, x = body(keras, norm_last=True)
    return keras.Model(inputs, keras.layers.Dense(4, name="head")(x))


def norm_after_concat(keras: Any) -> Any:
    """Before a ReLU: in no direction can it be folded."""
    layers = keras.layers
    inputs = keras.Input(IMAGE, name="image")
    both = [layers.Conv2D(6, 3, activation="relu", name=name)(inputs) for name in ("a", "b")]
    x = layers.BatchNormalization(name="norm")(layers.Concatenate(name="joined")(both))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(layers.ReLU(name="relu")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    norm = model.get_layer("norm")
    random = np.random.default_rng(0)
    norm.set_weights([random.uniform(0.5, 2, 12) for _ in norm.get_weights()])
    return model


def transformer(keras: Any) -> Any:
    from edgekit.models.families.vit import vit

    return vit(IMAGE, 4, "image", width=16, depth=1)


def boxes_and_scores(keras: Any) -> Any:
    inputs, x = body(keras)
    boxes = keras.layers.Dense(4, name="boxes")(x)
    scores = keras.layers.Dense(3, activation="softmax", name="scores")(x)
    model = keras.Model(inputs, keras.layers.Concatenate(name="joined")([boxes, scores]))
    layer = model.get_layer("boxes")
    layer.set_weights([1000 * layer.get_weights()[0], layer.get_weights()[1]])
    return model


def outlier(keras: Any) -> Any:
    model = healthy(keras)
    norm = model.get_layer("norm1")
    gamma, *rest = norm.get_weights()
    gamma[3] *= 60
    norm.set_weights([gamma, *rest])
    conv = model.get_layer("conv2")
    kernel, bias = conv.get_weights()
    kernel[:, :, 3] /= 60
    conv.set_weights([kernel, bias])
    return model


def dark() -> np.ndarray:
    return images() * 0.2


def spots() -> np.ndarray:
    """They cover the range of the input, and light little inside."""
    values = images() * 0.1
    values[:, 0, 0] = 1
    return values


def tflite(saved: Path, calibration: np.ndarray, path: Path) -> Path:
    """Converted without edgekit's gate, which keeps such files from being made."""
    from edgekit.export.tflite import convert

    samples = path.with_suffix(".npz")
    np.savez(samples, image=calibration)
    precision = "fp32" if path.stem.endswith("fp32") else "int8"
    convert(
        saved_model=str(saved),
        output=str(path),
        precision=precision,
        calibration=str(samples),
        calibration_samples=None,
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Any], Any]], Path]:
    """For each network, once: model.keras, model.saved and the data."""
    from edgekit.export.savedmodel import write
    from edgekit.models.files import save_model

    keras = pytest.importorskip("keras")

    @cache
    def make(build: Callable[[Any], Any]) -> Path:
        path = tmp_path_factory.mktemp(build.__name__)
        keras.utils.set_random_seed(0)
        model = build(keras)
        save_model(model, path / "model.keras")
        write(model, path / "model.saved", batch=1)
        np.savez(path / "x.npz", image=images())
        return path

    return make


@pytest.fixture(scope="module")
def int8_file(folder: Callable[..., Path]) -> Callable[..., Path]:
    """The int8 file of a network beside it, for each calibration once."""

    @cache
    def make(build: Callable[[Any], Any], calibration: Callable[[], np.ndarray] = images) -> Path:
        place = folder(build)
        return tflite(
            place / "model.saved", calibration(), place / f"{calibration.__name__}-int8.tflite"
        )

    return make


@pytest.fixture
def debug(int8_file: Callable[..., Path]) -> Callable[..., DebugReport]:
    def call(*made: Any, **options: Any) -> DebugReport:
        path = int8_file(*made)
        model, data = path.with_name("model.keras"), path.with_name("x.npz")
        return debug_files(model, [path], data, speed=False, **options)

    return call


def causes(file: FileDebug) -> list[tuple[str, str | None]]:
    return [(cause.name, cause.layer) for cause in file.causes]


def test_a_healthy_file_has_no_cause(debug: Callable[..., DebugReport]) -> None:
    (file,) = debug(healthy).files
    assert causes(file) == []
    names = {layer.layer for layer in file.layers}
    assert names == {"relu1", "relu2", "pool", "head"}
    assert set(file.unmatched) == {"conv1", "norm1", "conv2", "norm2"}  # joined with the ReLUs
    assert all(layer.snr_db is not None and layer.snr_db > 25 for layer in file.layers)


def test_boxes_and_scores(debug: Callable[..., DebugReport]) -> None:
    (file,) = debug(boxes_and_scores).files
    assert causes(file) == [("shared_scale", "joined")]
    assert "channels 4 to 6" in file.causes[0].found


def test_norm_after_its_activation(debug: Callable[..., DebugReport]) -> None:
    (file,) = debug(norm_after_relu).files
    assert causes(file) == [("batch_norm_not_folded", "norm2")]


def test_norm_that_no_pass_folds_is_named_with_the_reason(
    debug: Callable[..., DebugReport],
) -> None:
    (file,) = debug(norm_after_concat).files
    (cause,) = file.causes
    assert (cause.name, cause.layer) == ("batch_norm_not_folded", "norm")
    assert "'joined' (Concatenate)" in cause.found and "'relu' (ReLU) behind it" in cause.found
    assert not any("fold" in one for one in cause.proposal.passes)


def test_folding_is_proposed_where_it_can_be_done_and_helps(
    debug: Callable[..., DebugReport],
) -> None:
    report = debug(norm_after_relu, try_proposals=True)
    (trial,) = report.trials
    assert trial.passes[0] == "fold" and trial.causes == ("batch_norm_not_folded",)
    assert trial.failure is None and trial.snr_db is not None
    assert trial.snr_db_before is not None and trial.snr_db > trial.snr_db_before - 1


def test_what_makes_an_integer_transformer_slow_is_named(
    int8_file: Callable[..., Path],
) -> None:
    from edgekit.graph.read import read_graph
    from edgekit.runtimes.delegation import unoptimized_operators
    from edgekit.verify.speed import surely_slower

    slow = int8_file(transformer)
    fast = tflite(slow.with_name("model.saved"), images(), slow.with_name("fp32.tflite"))
    left = unoptimized_operators(slow)
    assert left is not None and unoptimized_operators(fast) == ()
    names = {read_graph(slow).ops[index].name for index in left}
    assert {"SQUARED_DIFFERENCE", "RSQRT"} <= names
    model, data = slow.with_name("model.keras"), slow.with_name("x.npz")
    report = debug_files(model, [fast, slow], data)
    float_file, file = report.files
    assert float_file.latency_ms is not None and file.latency_ms is not None
    assert float_file.causes == ()
    found = [cause for cause in file.causes if cause.name == "slower_than_float"]
    assert bool(found) == surely_slower(file.latency_ms, float_file.latency_ms)
    if found:
        assert "NEG" in found[0].found and "SQUARED_DIFFERENCE" in found[0].found


def test_calibration_with_darker_images(debug: Callable[..., DebugReport]) -> None:
    (file,) = debug(healthy, dark).files
    assert [name for name, _ in causes(file)] == ["calibration_unlike_data"]


def test_calibration_that_misses_what_the_network_sees(debug: Callable[..., DebugReport]) -> None:
    (file,) = debug(healthy, spots).files
    assert "saturating_activation" in dict(causes(file))
    assert "calibration_unlike_data" not in dict(causes(file))


def test_outlier_is_named_and_the_proposal_repairs_it(debug: Callable[..., DebugReport]) -> None:
    report = debug(outlier, try_proposals=True)
    (file,) = report.files
    assert ("outlier_channel", "relu1") in causes(file)
    (trial,) = [one for one in report.trials if one.passes[0] == "equalize"]
    assert trial.failure is None and trial.precision == "int8"
    assert trial.snr_db is not None and trial.snr_db_before is not None
    assert trial.snr_db > trial.snr_db_before + 6


def test_command_line(int8_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    file = int8_file(norm_after_relu)
    path, model, data = (str(file.with_name(n)) for n in (file.name, "model.keras", "x.npz"))
    assert run(["debug", model, path, "--data", data, "--quiet", "--json"]) == 0
    report = DebugReport.model_validate(json.loads(capsys.readouterr().out))
    assert causes(report.files[0]) == [("batch_norm_not_folded", "norm2")]
    assert run(["debug", model, path, "--data", data, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "batch norm not folded in norm2" in shown and "relu1" in shown
    layers = ["--reference", model, "--data", data, "--quiet", "--layers", "--json"]
    assert run(["verify", path, *layers]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["layers"][0]["layer"] == "relu1"
    assert result["layers"][0]["snr_db"] > 25
    assert run(["verify", path, "--reference", path, "--layers", "--json"]) == 2
    assert "only a Keras model has layers" in capsys.readouterr().out


def test_derived_formats_tell_the_same_layers(tmp_path: Path) -> None:
    from edgekit.models.files import save_model
    from edgekit.pipeline.export_files import export_files

    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model, data = tmp_path / "model.keras", tmp_path / "x.npz"
    save_model(healthy(keras), model)
    np.savez(data, image=images())
    formats = ("tflite", "onnx", "openvino")
    export_files(model, formats=formats, precisions=["int8"], data=data)
    files = [tmp_path / f"model-int8.{suffix}" for suffix in ("tflite", "onnx", "xml")]
    report = debug_files(model, files, data, speed=False)
    for file in report.files:
        assert causes(file) == []
        known = {layer.layer: layer for layer in file.layers}
        assert known.keys() >= {"relu1", "relu2", "pool", "head"}, file.artifact
        for name in ("relu1", "relu2", "pool", "head"):
            snr = known[name].snr_db
            assert snr is not None and snr > 25
            assert "int8" in known[name].dtype
            assert known[name].representable is not None


def test_real_files_that_are_healthy_are_not_accused(shared: Path, tmp_path: Path) -> None:
    """MLPerf Tiny's ResNet-8, float and int8, as its makers converted it.

    The inputs are made: patches of colour with noise, over the bytes that the file takes. That is
    near enough to photographs to stay within its calibration. For the autoencoder nothing such is
    known: on made spectra its int8 file does saturate.
    """
    random = np.random.default_rng(0)
    patches = np.kron(random.uniform(0, 230, (64, 4, 4, 3)), np.ones((1, 8, 8, 1)))
    x = np.clip(patches + random.normal(0, 6, patches.shape), 0, 255).astype(np.float32)
    np.savez(tmp_path / "x.npz", input_1=x)
    stem = shared / "models/mlperf_tiny_ic"
    files = [stem.with_name(f"{stem.name}_{precision}.tflite") for precision in ("fp32", "int8")]
    report = debug_files(stem.with_suffix(".h5"), files, tmp_path / "x.npz", speed=False)
    exact, rounded = report.files
    assert causes(exact) == causes(rounded) == []
    for file, least in ((exact, 100), (rounded, 12)):
        found = {layer.layer: layer.snr_db for layer in file.layers}
        assert found.keys() >= {*(f"activation_{n}" for n in range(1, 7)), "flatten", "dense"}
        assert all(snr is None or snr > least for snr in found.values())
