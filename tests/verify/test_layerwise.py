"""Matching the tensors of files with layers, on tensors made up for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.graph.types import Graph, Op, Tensor
from edgekit.schema.quantization import Quantization
from edgekit.verify.layerwise import Layer, Match, match_layers
from edgekit.verify.recording import FileTensor, Recording

random = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return random.normal(size=(8, *shape)).astype(np.float32)


def file(tensors: dict[str, np.ndarray], outputs: dict[int, str] | None = None) -> Recording:
    made = [
        FileTensor(
            Op(index, "CONV_2D", "conv", "", (), (index,)),
            Tensor(index, name, array.shape, "float32"),
            array,
        )
        for index, (name, array) in enumerate(tensors.items())
    ]
    graph = Graph("tflite", "made up", (), (), (), (), 0)
    return Recording(Path("made-up.tflite"), graph, (), tuple(made), outputs or {})


def found(matches: list[Match]) -> dict[str, int]:
    return {match.layer.name: match.tensor.tensor.index for match in matches}


def test_a_fused_tensor_is_the_last_layers() -> None:
    conv = values(4, 4, 2)
    layers = [Layer("conv", "Conv2D", conv), Layer("relu", "ReLU", np.maximum(conv, 0), (0,))]
    noisy = np.maximum(conv, 0) + 0.01 * values(4, 4, 2)
    matches = match_layers(layers, file({"m/relu/Relu;m/conv/BiasAdd;m/conv/Conv2D": noisy}))
    assert found(matches) == {"relu": 0}
    assert matches[0].snr == pytest.approx(37, abs=3)


def test_names_hold_where_values_are_broken() -> None:
    layers = [Layer(f"conv{n}", "Conv2D", values(4, 4, 2)) for n in range(3)]
    broken = [values(4, 4, 2) for _ in range(3)]
    names = [f"model/conv{n}/Conv2D" for n in range(3)]
    matches = match_layers(layers, file(dict(zip(names, broken, strict=True))))
    assert found(matches) == {"conv0": 0, "conv1": 1, "conv2": 2}
    assert all(match.snr is not None and match.snr < 0 for match in matches)


def test_the_number_of_a_second_trace_is_no_part_of_a_name() -> None:
    layers = [Layer(name, "Dense", values(5)) for name in ("dense", "dense_1", "block/dense")]
    names = ["f/dense_1/MatMul", "f/dense_1_1/MatMul", "f/block_1/dense_1/MatMul"]
    tensors = {name: layer.values for name, layer in zip(names, layers, strict=True)}
    assert found(match_layers(layers, file(tensors))) == {
        "dense": 0,
        "dense_1": 1,
        "block/dense": 2,
    }


def test_without_names_values_decide_and_unlike_tensors_stay_unmatched() -> None:
    layers = [Layer("a", "Dense", values(6)), Layer("b", "Dense", values(6), (0,))]
    tensors = {"t0": layers[1].values * 1.01, "t1": layers[0].values, "t2": values(6)}
    assert found(match_layers(layers, file(tensors))) == {"a": 1, "b": 0}


def test_channels_first_is_turned_back() -> None:
    layer = Layer("conv", "Conv2D", values(4, 5, 3))
    matches = match_layers([layer], file({"conv/Conv": layer.values.transpose(0, 3, 1, 2)}))
    assert matches[0].snr is None
    assert np.array_equal(matches[0].values, layer.values)


def test_an_output_is_known_by_its_port() -> None:
    layers = [
        Layer("a", "Dense", values(6), output="scores"),
        Layer("b", "Dense", values(6), output="boxes"),
    ]
    broken = {"StatefulPartitionedCall:0": values(6), "StatefulPartitionedCall:1": values(6)}
    assert found(match_layers(layers, file(broken, {0: "boxes", 1: "scores"}))) == {"a": 1, "b": 0}


def test_tensors_that_a_converter_inserts_tell_nothing() -> None:
    layer = Layer("conv", "Conv2D", values(4, 4, 2))
    assert not match_layers([layer], file({"m/conv/convolution__12:0": values(4, 4, 2)}))


def test_noise_of_inputs_passes_over_layers_that_are_not_in_the_file() -> None:
    first = values(6)
    layers = [
        Layer("a", "Dense", first),
        Layer("gone", "Dropout", first.copy(), (0,)),
        Layer("b", "Dense", values(6), (1,)),
    ]
    tensors = {"a/MatMul": first * 0.9, "b/MatMul": layers[2].values}
    by_name = {match.layer.name: match for match in match_layers(layers, file(tensors))}
    assert by_name["b"].input_snr == pytest.approx(20, abs=0.1)


@given(st.integers(2, 8), st.integers(1, 60))
def test_own_noise_is_that_of_rounding(bits: int, seed: int) -> None:
    """Uniform values over the whole range: 6.02 dB a bit (Bennett 1948)."""
    array = np.random.default_rng(seed).uniform(-1, 1, (64, 100)).astype(np.float32)
    layer = Layer("a", "Dense", array)
    step = 2.0 / (2**bits - 1)
    quantization = Quantization((step,), (0,))
    tensor = FileTensor(
        Op(0, "FULLY_CONNECTED", "dense", "a", (), (0,)),
        Tensor(0, "a", array.shape, "int16", quantization),
        array,
        quantization,
    )
    graph = Graph("tflite", "", (), (), (), (), 0)
    (match,) = match_layers([layer], Recording(Path("x.tflite"), graph, (), (tensor,)))
    assert match.own_snr == pytest.approx(20 * np.log10(2**bits - 1), abs=0.5)


def test_a_step_that_tells_the_same_layer_is_not_taken_for_its_result() -> None:
    """As a normalization's product, whose sum is joined with the activation behind."""
    raw = values(4, 4, 2)
    layers = [
        Layer("norm", "BatchNormalization", raw),
        Layer("relu", "ReLU", np.maximum(raw, 0), (0,)),
    ]
    tensors = {"m/norm/mul": values(4, 4, 2), "m/relu/Relu;m/norm/add": layers[1].values}
    recording = file(tensors)
    graph = Graph(
        "tflite",
        "made up",
        tuple(one.tensor for one in recording.tensors),
        tuple(one.op for one in recording.tensors),
        (),
        (),
        0,
    )
    assert found(match_layers(layers, replace(recording, graph=graph))) == {"relu": 1}


def test_a_guess_whose_noise_vanishes_behind_it_is_another_step() -> None:
    exact = values(50)
    layers = [
        Layer("conv", "Conv2D", exact),
        Layer("norm", "BatchNormalization", exact * 2 + 0.3, (0,)),
    ]
    tensors = {"t0": exact * 0.75, "t1": layers[1].values}
    assert found(match_layers(layers, file(tensors))) == {"norm": 1}
