"""Export end to end: a trained CNN and the awkward models, in every format and precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError, InputError, ModelFileError, ParityError
from edgekit.export.exporter import ExportJob, derive_from_tflite, export
from edgekit.runtimes.open import open_session
from edgekit.schema.artifact import Preprocessing, Sidecar
from edgekit.schema.names import SUFFIXES
from edgekit.schema.recipe import Limits
from edgekit.verify.parity import verify_file

SUFFIX = {format_: suffix for suffix, format_ in SUFFIXES.items()}
MLPERF = ("ic", "kws", "vww", "ad")


def job(model: Path, kind: str, precision: str, folder: Path, **more: Any) -> ExportJob:
    output = folder / f"{model.stem}-{precision}{SUFFIX[kind]}"
    return ExportJob(model, kind, precision, output, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "precision", "words"),
    [
        ("tflite", "int8", "calibration samples"),
        ("onnx", "int8", "derives from"),
        ("openvino", "int16x8", "is not made in int16x8"),
        ("tflyte", "fp32", "unknown format"),
    ],
)
def test_an_impossible_job_is_refused_before_any_work(
    tmp_path: Path, kind: str, precision: str, words: str
) -> None:
    suffix = SUFFIX.get(kind, ".x")
    bad = ExportJob(tmp_path / "m.keras", kind, precision, tmp_path / f"m{suffix}")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        export(bad)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray], Any]:
    """A small residual CNN trained on handwritten digits, with test samples and labels."""
    import keras
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    h = image
    for filters in (16, 24):
        h = layers.Conv2D(filters, 3, padding="same", use_bias=False)(h)
        h = layers.ReLU()(layers.BatchNormalization()(h))
    skip = layers.Conv2D(24, 1)(h)
    h = layers.ReLU()(layers.Add()([layers.Conv2D(24, 3, padding="same")(h), skip]))
    h = layers.GlobalAveragePooling2D()(h)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(h))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[:1400], y[:1400], epochs=6, batch_size=32, verbose=0)
    folder = tmp_path_factory.mktemp("digits")
    model.save(folder / "digits.keras")
    np.savez(folder / "calibration.npz", image=x[:200])
    return folder / "digits.keras", {"image": x[1400:]}, y[1400:]


@pytest.mark.slow
def test_one_network_in_every_format(
    digits: tuple[Path, dict[str, np.ndarray], Any], worker: Worker, tmp_path: Path
) -> None:
    model, x, y = digits
    calibration = model.with_name("calibration.npz")
    sidecars: dict[tuple[str, str], Sidecar] = {}
    jobs = [
        *(("tflite", p) for p in ("fp32", "fp16", "int8-dynamic", "int8", "int16x8")),
        *(("onnx", p) for p in ("fp32", "fp16", "int8")),
        *(("openvino", p) for p in ("fp32", "fp16", "int8")),
    ]
    for kind, precision in jobs:
        derived = precision == "int8" and kind != "tflite"
        one = job(
            model,
            kind,
            precision,
            tmp_path,
            calibration=calibration,
            master=tmp_path / "digits-int8.tflite" if derived else None,
        )
        sidecar = export(
            one,
            reference_x=x,
            worker=worker,
            preprocessing=Preprocessing(scale=1 / 16),
            labels=tuple("0123456789"),
            provenance={"recipe": "digits"},
        )
        sidecars[kind, precision] = sidecar
        stored = one.output.with_name(f"{one.output.name}.json")
        assert Sidecar.model_validate_json(stored.read_text()) == sidecar
        assert sidecar.bytes == sum((tmp_path / name).stat().st_size for name in sidecar.files)
        assert (sidecar.inputs[0].name, sidecar.outputs[0].name) == ("image", "scores")
        if precision == "int8":
            assert sidecar.inputs[0].dtype == sidecar.outputs[0].dtype == "int8"
            assert sidecar.inputs[0].quantization is not None
        if derived:
            assert sidecar.parity["master"]["within_one_step"] >= 0.99
            master = sidecars["tflite", "int8"]
            assert sidecar.inputs[0].quantization == master.inputs[0].quantization
            assert sidecar.outputs[0].quantization == master.outputs[0].quantization
    for kind in SUFFIX:
        sizes = {p: sidecars[kind, p].bytes for p in ("fp32", "fp16", "int8")}
        assert sizes["fp16"] < 0.8 * sizes["fp32"]
        with open_session(tmp_path / f"digits-fp32{SUFFIX[kind]}") as reference:
            result = verify_file(tmp_path / f"digits-int8{SUFFIX[kind]}", reference, x, y)
        assert result.top1_agreement is not None and result.top1_agreement > 0.95
        assert result.metrics["accuracy"] >= result.reference_metrics["accuracy"] - 0.02
    assert sidecars["tflite", "int8"].provenance["recipe"] == "digits"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-")]


@pytest.mark.slow
def test_a_file_that_misses_its_limits_is_not_kept(
    digits: tuple[Path, dict[str, np.ndarray], Any], worker: Worker, tmp_path: Path
) -> None:
    model, x, _ = digits
    one = job(model, "tflite", "int8", tmp_path, calibration=model.with_name("calibration.npz"))
    with pytest.raises(ParityError, match="SNR") as caught:
        export(one, reference_x=x, worker=worker, limits=Limits(min_snr_db=90))
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "killed"])
def test_a_failed_conversion_leaves_nothing(
    digits: tuple[Path, dict[str, np.ndarray], Any], tmp_path: Path, damage: str
) -> None:
    model, x, _ = digits
    folder = tmp_path / "out"
    with Worker(timeout_s=0.2 if damage == "killed" else 60) as child:
        if damage == "truncated":
            broken = tmp_path / "broken.keras"
            broken.write_bytes(model.read_bytes()[:3000])
            model = broken
        kind = ModelFileError if damage == "truncated" else ConversionError
        with pytest.raises(kind):
            export(job(model, "tflite", "fp32", folder), reference_x=x, worker=child)
    assert not folder.exists()


def awkward(name: str) -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    if name == "two-in-two-out":
        image, table = keras.Input((6, 6, 1), name="image"), keras.Input((4,), name="table")
        joined = layers.Concatenate()(
            [layers.Flatten()(layers.Conv2D(3, 3)(image)), layers.Dense(5)(table)]
        )
        outputs = {
            "kind": layers.Dense(3, name="kind")(joined),
            "box": layers.Dense(4, name="box")(joined),
        }
        return keras.Model({"table": table, "image": image}, outputs)
    sequence = keras.Input((5, 3), name="sequence")
    if name == "gru":
        body = layers.Bidirectional(layers.GRU(4))(sequence)
    elif name == "lstm":
        body = layers.LSTM(4)(sequence)
    else:
        flat = layers.Normalization(mean=0.5, variance=2.0)(layers.Flatten()(sequence))
        body = layers.Dense(8, activation="gelu")(flat)
    return keras.Model(sequence, layers.Dense(4, name="out")(body))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two-in-two-out", "gru", "lstm", "gelu"])
def test_models_that_converters_get_wrong(name: str, worker: Worker, tmp_path: Path) -> None:
    """Swapped inputs, crashing loops, Erfc, captured constants: S1, S4, S5, S6."""
    model = awkward(name)
    path = tmp_path / f"{name}.keras"
    model.save(path)
    random = np.random.default_rng(0)
    x = {t.name: random.random((40, *t.shape[1:])).astype(np.float32) for t in model.inputs}
    np.savez(tmp_path / "calibration.npz", **x)
    for kind, precision in (
        ("tflite", "fp32"),
        ("tflite", "int8"),
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("openvino", "fp32"),
        ("openvino", "int8"),
    ):
        derived = precision == "int8" and kind != "tflite"
        one = job(
            path,
            kind,
            precision,
            tmp_path,
            calibration=tmp_path / "calibration.npz",
            master=tmp_path / f"{name}-int8.tflite" if derived else None,
        )
        sidecar = export(one, reference_x=x, worker=worker, limits=Limits(min_snr_db=20))
        snr = sidecar.parity["model"]["snr_db"]
        assert snr is None or snr > (100 if precision == "fp32" else 20)
        assert {info.name for info in sidecar.inputs} == set(x)
        assert {info.name for info in sidecar.outputs} == set(model.output_names)
        if derived:
            assert sidecar.parity["master"]["within_one_step"] >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", MLPERF)
def test_third_party_int8_files_derive(
    name: str, shared: Path, worker: Worker, tmp_path: Path
) -> None:
    master = shared / "models" / f"mlperf_tiny_{name}_int8.tflite"
    for kind in ("onnx", "openvino"):
        output = tmp_path / f"{name}{SUFFIX[kind]}"
        sidecar = derive_from_tflite(master, kind, output, worker=worker)  # type: ignore[arg-type]
        assert sidecar.parity["master"]["within_one_step"] >= 0.95
        assert (
            json.loads(output.with_name(f"{output.name}.json").read_text())["file"] == output.name
        )


def test_only_an_int8_file_is_a_master(shared: Path, tmp_path: Path) -> None:
    master = shared / "models" / "mlperf_tiny_kws_fp32.tflite"
    with Worker() as child, pytest.raises(InputError, match="int8 outputs"):
        derive_from_tflite(master, "onnx", tmp_path / "new" / "folder" / "k.onnx", worker=child)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_int8_dynamic_of_a_tiny_model_says_that_it_quantized_nothing(
    tmp_path: Path, worker: Worker
) -> None:
    keras = pytest.importorskip("keras")
    for units, warned in ((4, True), (200, False)):
        model = keras.Sequential([keras.Input((8,), name="x"), keras.layers.Dense(units)])
        model.save(tmp_path / "m.keras")
        job = ExportJob(
            model=tmp_path / "m.keras",
            format="tflite",
            precision="int8-dynamic",
            output=tmp_path / f"{units}.tflite",
        )
        found = export(job, worker=worker).provenance
        assert found["int8_kernels"] == ("0 of 1" if warned else "1 of 1")
        assert ("warnings" in found) is warned
