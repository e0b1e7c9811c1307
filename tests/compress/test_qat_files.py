"""The int8 files that models trained as quantized become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset
from tests.compress.exported_files import exported, steps_apart
from tests.compress.qat_nets import NETS

pytestmark = pytest.mark.slow


def simulated(model: Path, x: dict[str, np.ndarray]) -> np.ndarray:
    """The only output of a model in Keras."""
    from edgekit.runtimes.session import run_raw
    from edgekit.training.session import KerasSession

    return next(iter(run_raw(KerasSession(model), x).values()))


@pytest.mark.parametrize(
    ("name", "ranges"), [*((name, "moving") for name in NETS), ("residual", "learnt")]
)
def test_the_int8_file_computes_what_was_trained(
    name: str,
    ranges: str,
    qat_nets: Callable[[str], Any],
    dataset: Dataset,
    tmp_path: Path,
    worker: Worker,
) -> None:
    from edgekit.compress import qat
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values
    from edgekit.models.fakequant import fake_quant_layers, integers, quantized_layers, range_of
    from edgekit.models.files import load_model

    before = qat_nets(name)
    result = qat(before, dataset, epochs=2, ranges=ranges, learning_rate=0.002, batch_size=32)
    file = exported(result.model, dataset, tmp_path, worker)
    apart = steps_apart(file, simulated(tmp_path / "model.keras", dataset.test.x), dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.995
    assert apart.max() <= 2.01

    graph = read_graph(file)
    assert not [t.name for t in graph.tensors if t.dtype == "float32"]
    scales = {np.float32(t.quantization.scale[0]) for t in graph.tensors if t.quantization}
    model = load_model(tmp_path / "model.keras")
    for layer in fake_quant_layers(model):
        low, high = range_of(layer)
        assert np.float32((high - low) / 255) in scales, layer.name
    stored = [
        constant_values(file, index)
        for index, tensor in enumerate(graph.tensors)
        if tensor.dtype == "int8" and tensor.constant
    ]
    for layer in quantized_layers(model):
        wanted = np.sort(integers(layer).reshape(-1))
        assert any(np.array_equal(wanted, np.sort(values.reshape(-1))) for values in stored), (
            layer.name
        )


def test_ranges_that_the_model_brings_need_no_calibration(
    qat_nets: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.base.errors import InputError
    from edgekit.compress import qat
    from edgekit.models.files import save_model
    from edgekit.pipeline.export_files import export_files
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw

    made = qat(qat_nets("residual"), dataset, epochs=0).model
    calibrated = exported(made, dataset, tmp_path, worker)
    (tmp_path / "alone").mkdir()
    with open_session(calibrated) as session:
        wanted = run_raw(session, dataset.test.x)
    export_files(
        tmp_path / "model.keras",
        formats=["tflite", "onnx"],
        precisions=["int8"],
        output=tmp_path / "alone",
    )
    for suffix in (".tflite", ".onnx"):
        with open_session(tmp_path / "alone" / f"model-int8{suffix}") as session:
            found = run_raw(session, dataset.test.x)
        for one, other in zip(wanted.values(), found.values(), strict=True):
            assert np.abs(one.astype(int) - other.astype(int)).max() <= (suffix == ".onnx")
    save_model(qat_nets("residual"), tmp_path / "float.keras")
    with pytest.raises(InputError, match="needs calibration samples"):
        export_files(tmp_path / "float.keras", formats=["onnx"], precisions=["int8"])


def test_biases_are_whole_numbers_of_the_steps_of_the_file(
    qat_nets: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress import qat
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values

    model = qat(qat_nets("depthwise"), dataset, epochs=1, learning_rate=0.002).model
    file = exported(model, dataset, tmp_path, worker)
    stored = []
    for index, tensor in enumerate(read_graph(file).tensors):
        if tensor.dtype == "int32" and tensor.constant and tensor.quantization is not None:
            scale = np.asarray(tensor.quantization.scale)
            stored.append(np.sort(constant_values(file, index).reshape(-1) * scale))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            wanted = np.sort(np.asarray(layer.bias))
            assert any(
                values.shape == wanted.shape and np.allclose(values, wanted, rtol=1e-5, atol=1e-7)
                for values in stored
            ), layer.name
