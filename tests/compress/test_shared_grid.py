"""A codebook stays one through normalization, training and the int8 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing

pytestmark = pytest.mark.slow

CLUSTERS = 5


def image_network(seed: int) -> Any:
    """Each kind of kernel, with and without a normalization that scales channels unlike."""
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    x = keras.Input((8, 8, 2), name="x")

    def normalized(h: Any) -> Any:
        gamma = keras.initializers.RandomUniform(0.2, 3.0, seed=seed)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9, gamma_initializer=gamma)(h))

    h = normalized(layers.Conv2D(8, 3, padding="same", name="conv")(x))
    h = normalized(layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(h))
    h = layers.Conv2DTranspose(4, 2, strides=2, activation="relu", name="transposed")(h)
    h = normalized(layers.Conv1D(6, 3, name="conv1d")(layers.Reshape((48, 12))(h)))
    h = normalized(layers.Dense(8, name="hidden")(layers.Flatten()(h)))
    h = h * 0.4  # a constant without a shape, of one scale
    return keras.Model(x, layers.Dense(24, name="scores")(h))


def data(shape: tuple[int, ...], classes: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    x = random.normal(size=(64, *shape)).astype(np.float32)
    split = Split({"x": x}, random.integers(0, classes, 64).astype(np.int32))
    return Dataset(split, split, split, split, tuple(map(str, range(classes))), Preprocessing())


def chained(model: Any, samples: Dataset, epochs: int = 2, **options: Any) -> tuple[Any, Any]:
    """The model clustered, and that trained as quantized."""
    from edgekit.compress import cluster, prune, qat

    pruned = prune(model, samples, sparsity=0.5, epochs=0).model
    small = cluster(pruned, samples, clusters=CLUSTERS, epochs=1).model
    return small, qat(
        small, samples, epochs=epochs, learning_rate=0.003, codebooks="kernel", **options
    )


def check_codes(small: Any, made: Any) -> list[np.ndarray]:
    """Few integers in each kernel, zeros where they were; the kernels, in their order."""
    from edgekit.compress.kernels import find_kernels
    from edgekit.models.fakequant import integers, quantized_layers

    old = {f"{k.layer}/{k.name}": k.values for k in find_kernels(small)[0]}
    codes = []
    for kernel in find_kernels(made)[0]:
        layer = next(
            one
            for one in quantized_layers(made)
            for name in one.rules
            if getattr(one, name) is kernel.variable
        )
        before = old[f"{kernel.layer.removesuffix('_raw')}/{kernel.name}"]
        stored = integers(layer, kernel.name)
        assert not stored[before == 0].any()
        if np.unique(before[before != 0]).size <= CLUSTERS:
            assert np.unique(stored[stored != 0]).size <= CLUSTERS, kernel.layer
            # No grid is finer: shared values stay shared when they are rounded again.
            for value in np.unique(before):
                assert np.unique(stored[before == value]).size == 1
        codes.append(stored)
    return codes


@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    seed=st.integers(0, 100),
    bits=st.sampled_from([8, 4]),
    ranges=st.sampled_from(["moving", "learnt"]),
)
def test_a_clustered_kernel_has_as_few_integers(seed: int, bits: int, ranges: str) -> None:
    from edgekit.models.fakequant import quantized_layers

    small, result = chained(
        image_network(seed), data((8, 8, 2), 24, seed), weight_bits=bits, ranges=ranges
    )
    codes = check_codes(small, result.model)
    assert len(codes) == 6
    rows = result.report["layers"]
    assert all(row["values"] <= CLUSTERS for row in rows)
    normalized = {"conv", "depthwise", "conv1d", "hidden"}
    for layer in quantized_layers(result.model):
        unlike = np.std(np.asarray(layer.ratio("kernel")))
        assert (unlike > 0.1) == (layer.name in normalized), layer.name
        mantissas = np.frexp(np.asarray(layer.ratio("kernel")))[0]
        assert np.all(mantissas * 16 == np.round(mantissas * 16)), layer.name


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32, allow_subnormal=False), min_size=1))
def test_a_ratio_of_few_bits_is_the_nearest_and_close(values: list[float]) -> None:
    from edgekit.compress.shared_grid import few_bits

    ratios = np.array(values, np.float32)
    rounded = few_bits(ratios)
    assert np.all(np.abs(rounded - ratios) <= np.abs(ratios) / 16)
    assert np.array_equal(few_bits(rounded), rounded)
    mantissas = np.unique(np.abs(np.frexp(rounded)[0]))
    assert set(mantissas) <= {0, *(np.arange(8, 16) / 16)}


def test_the_file_has_these_integers_and_computes_the_same(tmp_path: Path, worker: Worker) -> None:
    from edgekit.export.exporter import ExportJob, export
    from edgekit.graph.read import read_graph
    from edgekit.graph.tflite import constant_values
    from edgekit.models.files import load_model, save_model
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw, to_real
    from edgekit.training.session import KerasSession

    samples = data((8, 8, 2), 24, 3)
    small, result = chained(image_network(3), samples)
    save_model(result.model, tmp_path / "qat.keras")
    codes = check_codes(small, load_model(tmp_path / "qat.keras"))
    output = tmp_path / "int8.tflite"
    export(
        ExportJob(tmp_path / "qat.keras", "tflite", "int8", output),
        worker=worker,
        reference_x=samples.test.x,
    )
    graph = read_graph(output)
    stored = [
        constant_values(output, index)
        for index, tensor in enumerate(graph.tensors)
        if tensor.dtype == "int8" and tensor.constant
    ]
    assert all(np.unique(values[values != 0]).size <= CLUSTERS for values in stored)
    alike = [np.sort(values.reshape(-1)) for values in stored]
    for one in codes:
        assert any(np.array_equal(np.sort(one.reshape(-1)), found) for found in alike)
    wanted = next(iter(run_raw(KerasSession(tmp_path / "qat.keras"), samples.test.x).values()))
    with open_session(output) as session:
        info = session.outputs[0]
        found = to_real(run_raw(session, samples.test.x)[info.name], info)
    assert info.quantization is not None
    apart = np.abs(found - wanted) / info.quantization.scale[0]
    assert np.mean(apart <= 1.01) >= 0.995
