"""Each cause named where it is, and not where it is absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.passes import parse_pass, prepare_passes
from edgekit.graph.types import Graph, Op, OpClass, Tensor
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.debugging import Proposal
from edgekit.schema.quantization import Quantization
from edgekit.schema.recipe import ExportSpec, PassSpec
from edgekit.verify.causes import (
    CALIBRATION_PROPOSAL,
    RULES,
    UNFOLDABLE_PROPOSAL,
    calibration_unlike_data,
    find_causes,
)
from edgekit.verify.layerwise import Layer, Match, match_layers
from edgekit.verify.recording import FileTensor, Recording
from edgekit.verify.speed import SPEED_PROPOSAL, slower_on_target, slower_than_float


def quantization(low: float, high: float) -> Quantization:
    """Of int8, with zero exact, as TFLite's converter chooses it."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return Quantization((scale,), (int(np.clip(round(-128 - low / scale), -128, 127)),))


def made(
    layer: Layer, *, limits: tuple[float, float] | None = None, kind: OpClass = "conv"
) -> tuple[Recording, list[Match]]:
    """A file whose one tensor is the layer's values, quantized to int8 over their range."""
    limits = limits or (float(layer.values.min()), float(layer.values.max()))
    parameters = quantization(*limits)
    array = parameters.dequantize(parameters.quantize(layer.values, "int8"))
    tensor = Tensor(0, layer.name, array.shape, "int8", parameters)
    op = Op(0, "MUL" if kind == "elementwise" else "CONV_2D", kind, layer.name, (), (0,))
    graph = Graph("tflite", "", (tensor,), (op,), (), (), 0)
    recording = Recording(Path("x.tflite"), graph, (), (FileTensor(op, tensor, array, parameters),))
    return recording, match_layers([layer], recording)


def named(layer: Layer, **options: Any) -> list[str]:
    recording, matches = made(layer, **options)
    assert len(matches) == 1
    return [cause.name for cause in find_causes(recording, matches, {})]


def normal(*sizes: float) -> np.ndarray:
    """Channels with these standard deviations."""
    random = np.random.default_rng(0)
    return (random.normal(size=(64, 6, len(sizes))) * np.array(sizes)).astype(np.float32)


def test_boxes_and_scores_joined() -> None:
    joined = Layer("both", "Concatenate", normal(*[50] * 4, *[0.5] * 3), widths=(4, 3))
    assert named(joined) == ["shared_scale"]
    alike = replace(joined, values=normal(*[0.7] * 4, *[0.5] * 3))
    assert named(alike) == []


def test_boxes_and_scores_in_one_output() -> None:
    output = Layer("head", "Dense", normal(*[50] * 4, *[0.5] * 4), output="head")
    assert named(output) == ["shared_scale"]
    assert named(replace(output, values=normal(*[1.0] * 8))) == []
    gradual = normal(*np.geomspace(50, 0.5, 16))  # no two kinds
    assert named(replace(output, values=gradual)) == []


def test_unlikely_classes_are_of_no_other_kind() -> None:
    scores = np.full((40, 10), 2e-3, np.float32)
    scores[:20, 0] = scores[20:, 1] = 1 - 9 * 2e-3
    inside = Layer("softmax", "Softmax", scores)
    assert named(inside) == []
    assert named(replace(inside, output="softmax")) == []
    assert named(replace(inside, values=4 * scores)) == ["outlier_channel"]


def test_outlier_channel() -> None:
    layer = Layer("conv", "Conv2D", normal(*[1] * 7, 60))
    recording, matches = made(layer)
    (cause,) = find_causes(recording, matches, {})
    assert (cause.name, cause.layer) == ("outlier_channel", "conv")
    assert cause.found.startswith("channel 7 of 8 reaches")
    assert "equalize" in (cause.proposal.recipe or "")
    assert named(replace(layer, values=normal(*[1] * 8))) == []
    assert named(replace(layer, values=normal(*[1] * 4, *[60] * 4))) == []  # not a few


@given(st.lists(st.floats(0.5, 2), min_size=4, max_size=12))
def test_channels_of_like_range_are_no_outliers(sizes: list[float]) -> None:
    assert "outlier_channel" not in named(Layer("conv", "Conv2D", normal(*sizes)))


def test_saturation() -> None:
    layer = Layer("relu", "ReLU", np.abs(normal(1, 1)))
    assert named(layer, limits=(0, 1)) == ["saturating_activation"]
    assert named(layer) == []
    assert named(layer, limits=(0, float(layer.values.max()) * 0.995)) == []


def test_softmax_at_its_fixed_scale_does_not_saturate() -> None:
    scores = np.zeros((20, 4), np.float32)
    scores[:, 1] = 1
    assert named(Layer("softmax", "Softmax", scores), limits=(0, 255 / 256)) == []


def test_calibration_of_another_kind_explains_saturation() -> None:
    samples = {"x": np.random.default_rng(0).random((64, 8)).astype(np.float32)}
    layer = Layer("relu", "ReLU", np.abs(normal(1, 1)))
    recording, matches = made(layer, limits=(0, 1))

    def causes(low: float, high: float, dtype: str = "int8") -> list[str]:
        parameters = quantization(low, high)
        info = TensorInfo(name="x", shape=(1, 8), dtype=dtype, quantization=parameters)
        changed = replace(recording, inputs=(info,))
        return [cause.name for cause in find_causes(changed, matches, samples)]

    assert causes(0, 0.5) == ["calibration_unlike_data"]
    assert causes(0, 255) == ["calibration_unlike_data"]
    assert causes(0, 1) == ["saturating_activation"]


def test_batch_norm_of_its_own() -> None:
    norm = Layer("bn", "BatchNormalization", normal(1, 1))
    assert named(norm, kind="elementwise") == ["batch_norm_not_folded"]
    assert named(norm, kind="conv") == []
    assert named(replace(norm, kind="Add"), kind="elementwise") == []
    recording, matches = made(norm, kind="elementwise")
    (cause,) = find_causes(recording, matches, {})
    assert cause.proposal.passes[0] == "fold"
    recording, matches = made(replace(norm, unfoldable="it follows an add"), kind="elementwise")
    (cause,) = find_causes(recording, matches, {})
    assert "it follows an add" in cause.found
    assert "fold" not in cause.proposal.passes


def test_the_activation_that_a_norm_is_joined_with_tells_of_it() -> None:
    raw = normal(1, 1)
    norm = Layer("bn", "BatchNormalization", raw)
    relu = Layer("relu", "ReLU", np.maximum(raw, 0), inputs=(0,))
    recording, _ = made(relu, kind="elementwise")
    (cause,) = find_causes(recording, match_layers([norm, relu], recording), {})
    assert (cause.name, cause.layer) == ("batch_norm_not_folded", "bn")


def test_the_bias_of_a_convolution_is_no_normalization() -> None:
    norm = Layer("bn", "BatchNormalization", normal(1, 1))
    recording, _ = made(norm, kind="elementwise")
    (tensor,) = recording.graph.tensors
    conv = Op(0, "Convolution", "conv", "bn", (), (1,))
    bias = replace(recording.graph.ops[0], index=1, name="Add", inputs=(1,))
    graph = replace(
        recording.graph, ops=(conv, bias), tensors=(tensor, replace(tensor, index=1, name="raw"))
    )
    changed = replace(recording, graph=graph, tensors=(replace(recording.tensors[0], op=bias),))
    assert find_causes(changed, match_layers([norm], changed), {}) == []


def test_ranges_that_cut_off_a_little_for_finer_steps_are_no_fault() -> None:
    values = normal(1, 1, 1, 1).clip(-3, 3)
    values[0, 0] = 3.6
    clipped = Layer("conv", "Conv2D", values)
    assert named(clipped, limits=(-3.55, 3.55)) == []
    assert named(clipped, limits=(-1.5, 1.5)) == ["saturating_activation"]


def test_exact_files_have_no_causes() -> None:
    layer = Layer("conv", "Conv2D", normal(1, 1, 1, 60))
    op = Op(0, "CONV_2D", "conv", "conv", (), (0,))
    exact = Tensor(0, "conv", layer.values.shape, "float32")
    graph = Graph("tflite", "", (exact,), (op,), (), (), 0)
    tensor = FileTensor(op, exact, layer.values)
    recording = Recording(Path("x.tflite"), graph, (), (tensor,))
    assert find_causes(recording, match_layers([layer], recording), {}) == []


@pytest.mark.parametrize(
    "proposal", [*RULES.values(), CALIBRATION_PROPOSAL, SPEED_PROPOSAL, UNFOLDABLE_PROPOSAL]
)
def test_proposals_are_passes_and_recipes_that_exist(proposal: Proposal) -> None:
    prepare_passes([parse_pass(text) for text in proposal.passes])
    document = yaml.safe_load(proposal.recipe or "{}")
    specs = [PassSpec.model_validate(one) for one in document.pop("compress", [])]
    prepare_passes(specs)
    for one in document.pop("export", []):
        ExportSpec.model_validate(one)
    assert document == {}


@pytest.mark.parametrize(
    "rule", [*RULES, calibration_unlike_data, slower_than_float, slower_on_target]
)
def test_every_cause_is_explained(rule: Any) -> None:
    assert len((rule.__doc__ or "").split()) > 10
