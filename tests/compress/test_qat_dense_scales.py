"""Dense layers trained in one scale, for targets that take no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset
from edgekit.profiling.targets import load_target
from tests.compress.exported_files import exported, steps_apart
from tests.compress.test_qat_files import simulated
from tests.compress.test_qat_structures import structured
from tests.compress.test_shared_grid import CLUSTERS, chained, data, image_network

pytestmark = pytest.mark.slow

_CORAL = (load_target("coral-usb"),)


@pytest.mark.parametrize("ranges", ["moving", "learnt"])
def test_the_file_computes_what_was_trained_in_one_scale(
    ranges: str,
    qat_nets: Callable[[str], Any],
    dataset: Dataset,
    tmp_path: Path,
    worker: Worker,
) -> None:
    from edgekit.compress import qat

    result = qat(qat_nets("mlp"), dataset, epochs=2, learning_rate=0.002, batch_size=32,
                 ranges=ranges, targets=_CORAL)  # fmt: skip
    assert result.report["dense_scales"] == {"each": "layer", "for": ["coral-usb"]}
    assert_as_trained(result.model, dataset, tmp_path, worker)


@pytest.mark.parametrize("name", ["sequences", "backwards"])
def test_what_becomes_dense_layers_has_one_scale_too(
    name: str, dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress import qat

    made = qat(structured(name), dataset, epochs=0, targets=_CORAL).model
    assert_as_trained(made, dataset, tmp_path, worker)


def test_a_dense_layer_of_one_codebook_has_few_integers(tmp_path: Path, worker: Worker) -> None:
    from edgekit.models.fakequant import integers, quantized_layers

    samples = data((8, 8, 2), 24, 3)
    made = chained(image_network(3), samples, targets=_CORAL)[1].model
    assert_as_trained(made, samples, tmp_path, worker)
    (codes,) = [integers(one) for one in quantized_layers(made) if one.name == "scores_raw"]
    assert np.unique(codes[codes != 0]).size <= CLUSTERS


def assert_as_trained(made: Any, dataset: Dataset, folder: Path, worker: Worker) -> None:
    """The file's outputs, scales and integers are those of the model, read from its own file."""
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values
    from edgekit.models.fakequant import integers, quantized_layers
    from edgekit.models.files import load_model

    file = exported(made, dataset, folder, worker)
    graph = read_graph(file)
    assert not [tensor.name for tensor in graph.tensors if tensor.dtype == "float32"]
    dense = [graph.tensors[op.inputs[1]] for op in graph.ops if op.name == "FULLY_CONNECTED"]
    assert dense
    assert all(one.quantization and len(one.quantization.scale) == 1 for one in dense)
    x = dataset.test.x
    apart = steps_apart(file, simulated(folder / "model.keras", x), x)
    assert np.mean(apart <= 1.01) >= 0.995
    stored = [
        np.sort(constant_values(file, index).reshape(-1))
        for index, tensor in enumerate(graph.tensors)
        if tensor.dtype == "int8" and tensor.constant
    ]
    for layer in quantized_layers(load_model(folder / "model.keras")):
        for name in layer.rules:
            runs = layer.runs(name)
            ends = np.cumsum(runs)[:-1] if len(getattr(layer, name).shape) == 2 else ()
            for part in np.split(integers(layer, name), ends, axis=-1):
                wanted = np.sort(part.reshape(-1))
                assert any(np.array_equal(wanted, values) for values in stored), layer.name
