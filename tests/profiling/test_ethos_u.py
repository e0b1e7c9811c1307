"""The rules of the Ethos-U against what Vela really places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.base import extras
from edgekit.graph.read import read_graph
from edgekit.graph.tflite import read_buffer
from edgekit.graph.types import Graph
from edgekit.profiling.compiled import compiled_placement
from edgekit.profiling.placement import place
from edgekit.profiling.rules.ethos_u import U55, U85
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from tests.profiling.ethos_cases import cases
from tests.profiling.graphs import GraphMaker

needs_vela = pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
TARGETS = ("ethos-u55-128", "ethos-u85-256")

# The rule that each file breaks, and only there; "" for both families, else the family.
BROKEN = {
    "average 9x9 same": ("average_window", ""),
    "average 257 high": ("average_window", ""),
    "max 257 high": ("max_window", ""),
    "max stride 4 padded": ("long_strides", "u55"),
    "conv stride 4 padded": ("long_strides", "u55"),
    "conv int16 weights": ("weights_and_bias", ""),
    "depthwise stride 4": ("short_strides", "u55"),
    "transposed stride 3": ("transpose_strides", "u55"),
    "bilinear 4 half": ("resize_by_two", "u55"),
    "bilinear 3": ("resize_by_power", "u85"),
    "nearest 3": ("resize_by_two", "u55"),
    "mean over depth": ("mean_over_depth", ""),
    "mean of 4097": ("small_mean", ""),
    "mean of a batch": ("small_mean", ""),
    "argmax 128": ("arg_max_depth", "u55"),
    "argmax of height": ("arg_max_depth", "u55"),
    "softmax of 65792 rows": ("small_softmax", ""),
    "gelu int16": ("gelu_type", ""),
    "relu float": ("integer_maps", "u55"),
    "cos": ("operator", ""),
    "minimum of another scale": ("one_scale", ""),
    "gather columns": ("gather_axis", "u85"),
    "transpose of 9 axes": ("transpose_rank", ""),
}


def found(graph: Graph, target: str) -> list[list[str]]:
    placed = place(GraphView(graph), load_target(target))
    return [[finding.rule for finding in op.findings] for op in placed]


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_breaks_the_one_rule_that_it_was_made_for(name: str) -> None:
    rule, family = BROKEN[name]
    graph = read_buffer(cases()[name])
    for target in TARGETS:
        broken = rule in found(graph, target)[0]
        assert broken == (family in target), (target, found(graph, target))


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_rules_place_as_vela_does(name: str, tmp_path: Path) -> None:
    path = tmp_path / "case.tflite"
    path.write_bytes(cases()[name])
    view = GraphView(read_graph(path))
    for target in map(load_target, TARGETS):
        compiled = compiled_placement(view, target, path)
        assert compiled.result is not None, compiled.missing
        ruled = [placed.where == "npu" for placed in place(view, target)]
        assert ruled == [op.accelerated for op in compiled.result.ops], target.name


@needs_vela
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(f"mlperf_tiny_{model}_{kind}" for model in ("kws", "vww", "ic", "ad")
          for kind in ("int8", "fp32")),
        "coral_deeplabv3_mnv2_dm05_pascal_quant",
        "coral_keras_lstm_mnist_ptq",
        "coral_posenet_mobilenet_v1_075_353_481_16_quant_decoder",
        "coral_split_concat",
    ],
)  # fmt: skip
def test_rules_place_whole_networks_as_vela_does(shared: Path, name: str) -> None:
    path = shared / f"models/{name}.tflite"
    view = GraphView(read_graph(path))
    for target in map(load_target, TARGETS):
        compiled = compiled_placement(view, target, path)
        assert compiled.result is not None, compiled.missing
        ruled = [placed.where == "npu" for placed in place(view, target)]
        assert ruled == [op.accelerated for op in compiled.result.ops], target.name


@pytest.mark.parametrize(
    ("name", "dtype", "fields", "rule"),
    [
        ("RELU", "int32", {}, "no_32_bit"),
        ("RELU", "int64", {}, "no_64_bit"),
        ("RELU", "int8", {}, "quantized"),  # the made graph has no scales
    ],
)
def test_what_needs_no_file(name: str, dtype: str, fields: dict[str, Any], rule: str) -> None:
    make = GraphMaker((1, 8, 8, 4), dtype)
    make.op(name, "activation", (1, 8, 8, 4), dtype=dtype, **fields)
    assert rule in found(make.graph(), "ethos-u55-128")[0]


def test_the_families_share_most_operators() -> None:
    assert U55.takes < U85.takes
    assert U85.takes - U55.takes >= {"CAST", "DIV", "GATHER", "SELECT_V2"}
