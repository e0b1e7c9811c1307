"""int8 by the runtimes' own quantizers, and TFLite files with chosen ranges: what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.compress.grid import nearest, weight_steps
from edgekit.export.exporter import ExportJob, export
from edgekit.models.files import save_model
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import Limits

pytestmark = pytest.mark.slow

NATIVE = QuantizationPlan(precision="int8", engine="native")
LAYERS = {"conv": "Conv2D", "deep": "DepthwiseConv2D", "point": "Conv2D", "head": "Dense"}
SUFFIX = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """A residual network whose kernels lie on the int8 grid, and samples."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="deep")(x)
    y = layers.Conv2D(8, 1, name="point")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(2)(x))
    model = keras.Model(image, layers.Dense(5, name="head")(x))
    random = np.random.default_rng(0)
    for name, kind in LAYERS.items():
        layer = model.get_layer(name)
        layer.kernel.assign(nearest(kind, random.normal(0, 0.5, layer.kernel.shape)))
        layer.bias.assign(random.normal(0, 0.2, layer.bias.shape))
    x = random.normal(0, 1, (96, 8, 8, 1)).astype(np.float32)
    x[0, 0, 0, 0] = 30  # an outlier that min-max takes in
    folder = tmp_path_factory.mktemp("native")
    save_model(model, folder / "net.keras")
    np.savez(folder / "calibration.npz", image=x)
    test = random.normal(0, 1, (64, 8, 8, 1)).astype(np.float32)
    return folder / "net.keras", model, {"image": test}


def made(network: Any, kind: Any, plan: QuantizationPlan, folder: Path, worker: Worker) -> Any:
    path, _, x = network
    output = folder / f"net{SUFFIX[kind]}"
    calibration = path.parent / "calibration.npz"
    job = ExportJob(path, kind, "int8", output, calibration=calibration, plan=plan)
    limits = Limits(min_snr_db=15)
    return output, export(job, worker=worker, limits=limits, reference_x=x)


def snr(path: Path, network: Any) -> float:
    _, model, x = network
    wanted = np.asarray(model(x["image"]), np.float64)
    with open_session(path) as session:
        found = next(iter(predict(session, x).values()))
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - found) ** 2)))


def codes(model: Any, name: str) -> Any:
    kernel = model.get_layer(name).kernel.numpy()
    return np.sort(np.round(kernel / weight_steps(LAYERS[name], kernel)).ravel()).astype(int)


def weights_in(path: Path) -> list[Any]:
    """The int8 constants of an .onnx or .xml file, flat and sorted."""
    if path.suffix == ".onnx":
        import onnx

        found = onnx.load(path).graph.initializer
        arrays = [onnx.numpy_helper.to_array(value) for value in found]
    else:
        import openvino as ov

        nodes = ov.Core().read_model(path).get_ops()
        arrays = [node.data for node in nodes if node.get_type_name() == "Constant"]
    return [np.sort(a.ravel()).astype(int) for a in arrays if a.dtype == np.int8]


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_native_int8_needs_no_master_and_keeps_the_weights_codes(
    tmp_path: Path, worker: Worker, network: Any, kind: str
) -> None:
    if kind == "openvino":
        pytest.importorskip("nncf")
    output, sidecar = made(network, kind, NATIVE, tmp_path, worker)
    assert sidecar.provenance["engine"] == "native"
    assert "master" not in sidecar.parity
    assert {p.name for p in tmp_path.iterdir()} == {*sidecar.files, f"{output.name}.json"}
    held = weights_in(output)
    for name in LAYERS:
        wanted = codes(network[1], name)
        assert any(np.array_equal(wanted, one) for one in held), name


def test_native_needs_calibration_samples(tmp_path: Path, network: Any) -> None:
    job = ExportJob(network[0], "onnx", "int8", tmp_path / "net.onnx", plan=NATIVE)
    with pytest.raises(InputError, match="needs calibration samples"):
        export(job)


def test_a_range_without_the_outlier_computes_nearer_and_is_in_the_file(
    tmp_path: Path, worker: Worker, network: Any
) -> None:
    reached = {}
    for how in ("minmax", "percentile"):
        (tmp_path / how).mkdir()
        plan = QuantizationPlan(precision="int8", calibration=how, percentile=99.95)  # type: ignore[arg-type]
        output, sidecar = made(network, "tflite", plan, tmp_path / how, worker)
        reached[how] = snr(output, network)
    assert reached["percentile"] > reached["minmax"]
    rows = {row["tensor"]: row for row in sidecar.provenance["activations"]}
    entry = rows["serving_default_image:0"]
    assert entry["max"] == 30
    assert entry["high"] < 15
    assert 0 < entry["clipped"] < 0.01
    with open_session(output) as session:
        grid = session.inputs[0].quantization
    assert grid is not None
    assert grid.scale[0] == pytest.approx((entry["high"] - entry["low"]) / 255, rel=1e-3)
    scales = {row["tensor"]: (row["low"], row["high"]) for row in rows.values()}
    pooled = [name for name in scales if "MaxPool" in name]
    joined = [name for name, ends in scales.items() if ends == scales[pooled[0]]]
    assert len(joined) > 1  # the pool has the range of what it takes
