"""Scratch of CMSIS-NN; expected values are worked out by hand from its C functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.graph.tflite import read_tflite
from edgekit.graph.types import Graph, Op, Port, Tensor
from edgekit.profiling.memory.arena import plan
from edgekit.profiling.memory.cmsis import Core, kernel_sums
from edgekit.profiling.memory.scratch import tflm_scratch
from edgekit.profiling.memory.shapes import window
from edgekit.profiling.memory.tail import Build, tail_bytes
from edgekit.schema.target import MicroKernels

KERNELS: dict[Core, MicroKernels] = {
    "plain": "cmsis-nn",
    "dsp": "cmsis-nn-dsp",
    "mve": "cmsis-nn-mve",
}


def layer(
    name: str,
    source: tuple[int, ...],
    weights: tuple[int, ...],
    output: tuple[int, ...],
    dtype: str = "int8",
    **attributes: Any,
) -> Graph:
    shapes = {0: source, 1: weights, 2: output}
    inputs = (1, 1, 0) if name == "TRANSPOSE_CONV" else (0, 1)
    return Graph(
        format="tflite",
        name="g",
        tensors=tuple(
            Tensor(i, f"t{i}", shape, "int8" if i == 1 else dtype, constant=i == 1)
            for i, shape in shapes.items()
        ),
        ops=(Op(0, name, "conv", "", inputs, (2,), attributes),),
        inputs=(Port("x", 0),),
        outputs=(Port("y", 2),),
        file_bytes=0,
    )


def sizes(graph: Graph, core: Core) -> list[int]:
    return [size for _, size in tflm_scratch(graph, KERNELS[core])]


SAME: dict[str, Any] = {"padding": "SAME", "stride_w": 1, "stride_h": 1}


@pytest.mark.parametrize(
    ("core", "expected"),
    # 3*3*3 = 27 values: two patches of 16 bits of 28, or four of 32 bytes.
    [("plain", 112), ("dsp", 112), ("mve", 128)],
)
def test_convolution(core: Core, expected: int) -> None:
    graph = layer("CONV_2D", (1, 96, 96, 3), (8, 3, 3, 3), (1, 96, 96, 8), **SAME)
    assert sizes(graph, core) == [expected]


@pytest.mark.parametrize("core", ["plain", "dsp", "mve"])
def test_pointwise_needs_nothing(core: Core) -> None:
    graph = layer("CONV_2D", (1, 48, 48, 8), (16, 1, 1, 8), (1, 48, 48, 16), **SAME)
    assert sizes(graph, core) == []


@pytest.mark.parametrize(
    ("core", "expected"),
    # Height 1, 40 wide, 4 channels, kernel 5 with 2 of padding on both sides:
    # 2 * 20 * 2 bytes; on MVE max(5*4 + 2*4, 4*4 + 2*4).
    [("plain", 80), ("dsp", 80), ("mve", 28)],
)
def test_convolution_of_a_row(core: Core, expected: int) -> None:
    graph = layer("CONV_2D", (1, 1, 40, 4), (8, 1, 5, 4), (1, 1, 40, 8), **SAME)
    assert sizes(graph, core) == [expected]


@pytest.mark.parametrize(
    ("kernel", "core", "expected"),
    [(3, "plain", []), (3, "dsp", []), (3, "mve", [4 * 124 * 9]), (5, "plain", []),
     (5, "dsp", [16 * 25 * 2]), (5, "mve", [4 * 124 * 25])],
)  # fmt: skip
def test_depthwise(kernel: int, core: Core, expected: list[int]) -> None:
    shape = (1, 24, 24, 16)
    graph = layer("DEPTHWISE_CONV_2D", shape, (1, kernel, kernel, 16), shape, **SAME)
    assert sizes(graph, core) == expected


@pytest.mark.parametrize(
    ("name", "core", "expected"),
    [("CONV_2D", "plain", []), ("CONV_2D", "dsp", [2 * 9 * 16 * 2]), ("CONV_2D", "mve", []),
     ("DEPTHWISE_CONV_2D", "dsp", [16 * 9 * 2]), ("DEPTHWISE_CONV_2D", "mve", [8 * 144 + 8])],
)  # fmt: skip
def test_sixteen_bit_activations(name: str, core: Core, expected: list[int]) -> None:
    shape, first = (1, 24, 24, 16), 16 if name == "CONV_2D" else 1
    assert sizes(layer(name, shape, (first, 3, 3, 16), shape, "int16", **SAME), core) == expected


@pytest.mark.parametrize(("core", "expected"), [("plain", []), ("dsp", [256]), ("mve", [])])
def test_average_pool(core: Core, expected: list[int]) -> None:
    graph = layer("AVERAGE_POOL_2D", (1, 25, 5, 64), (1,), (1, 1, 1, 64), **SAME)
    assert sizes(graph, core) == expected


def test_transpose_convolution() -> None:
    steps: dict[str, Any] = {"padding": "SAME", "stride_w": 2, "stride_h": 2}
    wide = layer("TRANSPOSE_CONV", (1, 8, 8, 32), (4, 3, 3, 32), (1, 16, 16, 4), **steps)
    assert sizes(wide, "dsp") == [4 * 288, 288 * 4]  # 4 bytes a value of the patch
    assert sizes(wide, "mve") == [4 * 288, 288 * 4]
    narrow = layer("TRANSPOSE_CONV", (1, 8, 8, 8), (4, 3, 3, 8), (1, 16, 16, 4), **steps)
    assert sizes(narrow, "dsp") == [(7 * 2 + 3) * 4 * 3 * 4]


def test_sums_of_weights_stay_on_mve() -> None:
    graph = layer("FULLY_CONNECTED", (1, 64), (12, 64), (1, 12))
    assert [kernel_sums(graph, graph.ops[0], core) for core in KERNELS] == [0, 0, 48]
    without, with_sums = (tail_bytes(graph, Build(kernels=KERNELS[c])) for c in ("dsp", "mve"))
    assert with_sums - without == 48


def test_padding_before_the_first_row() -> None:
    graph = layer("CONV_2D", (1, 49, 10, 1), (64, 10, 4, 1), (1, 25, 5, 64),
                  padding="SAME", stride_h=2, stride_w=2)  # fmt: skip
    assert window(graph, graph.ops[0]).padding == (
        4,
        1,
    )  # MLPerf Tiny's first layer: 9 and 2 in all


def test_mlperf_tiny_heads(shared: Path) -> None:
    """The scratch of small kernels fits into the arena's gaps, or lies above them."""
    for name in ("kws", "vww", "ic", "ad"):
        graph = read_tflite(shared / f"models/mlperf_tiny_{name}_int8.tflite")
        bare = plan(graph, planner="tflm").arena_bytes
        for kernels in KERNELS.values():
            scratch = tflm_scratch(graph, kernels)
            head = plan(graph, planner="tflm", scratch=scratch).arena_bytes
            largest = max((size for _, size in scratch), default=0)
            assert bare <= head <= bare + largest + 16
