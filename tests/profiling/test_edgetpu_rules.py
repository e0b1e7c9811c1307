"""What the Edge TPU compiler maps and what it leaves to the CPU, on small .tflite files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.graph.tflite import read_buffer
from edgekit.profiling.check import check_graph
from edgekit.profiling.targets import load_target
from edgekit.schema.results import CheckReport
from tests.fixing.cases import Net
from tests.profiling.graphs import GraphMaker

CORAL = load_target("coral-usb")
Build = Callable[[Net], int]
Shape = tuple[int, ...]


def checked(build: Build) -> CheckReport:
    net = Net()
    return check_graph(read_buffer(net.content(build(net))), CORAL, "built")


def rules(report: CheckReport) -> list[str]:
    return [finding.rule for op in report.ops for finding in op.findings]


def simple(
    name: str, before: Shape, after: Shape, options: str = "", dtype: str | None = None,
    constants: tuple[Any, ...] = (), **more: Any,
) -> Build:  # fmt: skip
    """One operator of one computed input, and constants of int32."""
    scale = None if dtype == "float32" else 0.05
    real = None if dtype == "float32" else dtype

    def build(net: Net) -> int:
        x = net.given(before, scale, dtype=real)
        given = [net.constant(np.array(value, np.int32)) for value in constants]
        return net.op(name, [x, *given], net.tensor(after, scale, dtype=real), options, **more)

    return build


def weighted(
    name: str, before: Shape, kernel: Shape, after: Shape, options: str,
    scales: int = 1, **more: Any,
) -> Build:  # fmt: skip
    """A convolution or dense layer."""

    def build(net: Net) -> int:
        x = net.given(before, 0.05)
        axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
        steps = [0.01] * scales
        w = net.constant(np.ones(kernel, np.int8), steps, 0, axis)
        b = net.constant(np.zeros(kernel[axis], np.int32), [0.0005] * scales)
        return net.op(name, [x, w, b], net.tensor(after, 0.1), options, **more)

    return build


def concatenation(constants: int, computed: int) -> Build:
    def build(net: Net) -> int:
        inputs = [net.given((1, 4, 4, 2), 0.05) for _ in range(computed)]
        inputs += [net.constant(np.zeros((1, 4, 4, 2), np.int8), 0.05) for _ in range(constants)]
        made = net.tensor((1, 4, 4, 2 * len(inputs)), 0.05)
        return net.op("CONCATENATION", inputs, made, "ConcatenationOptions", Axis=3)

    return build


def transposed(computed: bool) -> Build:
    def build(net: Net) -> int:
        shape = (
            net.given((4,), dtype="int32")
            if computed
            else net.constant(np.array([1, 8, 8, 2], np.int32))
        )
        w = net.constant(np.ones((2, 3, 3, 4), np.int8), 0.01)
        x = net.given((1, 4, 4, 4), 0.05)
        made = net.tensor((1, 8, 8, 2), 0.1)
        return net.op("TRANSPOSE_CONV", [shape, w, x], made, "TransposeConvOptions",
                      StrideW=2, StrideH=2)  # fmt: skip

    return build


def prelu(slopes: Shape) -> Build:
    def build(net: Net) -> int:
        x = net.given((1, 4, 4, 8), 0.05)
        a = net.constant(np.ones(slopes, np.int8), 0.01)
        return net.op("PRELU", [x, a], net.tensor((1, 4, 4, 8), 0.05))

    return build


_CONV = {"StrideW": 1, "StrideH": 1}
_EVEN = _CONV | {"DilationWFactor": 2, "DilationHFactor": 2}
_POOL = {"StrideW": 1, "StrideH": 1, "FilterWidth": 2, "FilterHeight": 2, "Padding": 1}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(simple("SOFTMAX", (1, 16000), (1, 16000), "SoftmaxOptions"), id="softmax"),
        pytest.param(simple("L2_NORMALIZATION", (1, 9), (1, 9), "L2NormOptions"), id="l2"),
        pytest.param(simple("MEAN", (1, 7, 7, 6), (1, 6), "ReducerOptions", constants=([1, 2],)),
                     id="mean over the map"),
        pytest.param(simple("MEAN", (1, 7, 7, 8), (1, 7, 7, 1), "ReducerOptions",
                            constants=([3],)), id="mean over channels"),
        pytest.param(simple("RELU", (1, 9), (1, 9), dtype="uint8"), id="uint8"),
        pytest.param(simple("PAD", (1, 4, 4, 2), (1, 6, 6, 2),
                            constants=([[0, 0], [1, 1], [1, 1], [0, 0]],)), id="pad"),
        pytest.param(concatenation(0, 9), id="many computed"),
        pytest.param(concatenation(1, 1), id="padding with zeros"),
        pytest.param(transposed(computed=False), id="transposed convolution"),
        pytest.param(prelu((1, 1, 8)), id="prelu"),
        pytest.param(weighted("CONV_2D", (1, 8, 8, 4), (6, 3, 3, 4), (1, 8, 8, 6),
                              "Conv2DOptions", scales=6, **_EVEN), id="a scale a channel"),
        pytest.param(weighted("FULLY_CONNECTED", (1, 8), (4, 8), (1, 4),
                              "FullyConnectedOptions"), id="dense"),
        pytest.param(simple("SQUEEZE", (1, 1, 9), (9,), "SqueezeOptions"), id="leading ones"),
        pytest.param(simple("RESIZE_BILINEAR", (1, 8, 8, 2), (1, 16, 16, 2),
                            "ResizeBilinearOptions", constants=([16, 16],)), id="resize"),
    ],
)  # fmt: skip
def test_is_mapped(build: Build) -> None:
    report = checked(build)
    assert rules(report) == []
    assert [op.where for op in report.ops] == ["edgetpu"]


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (simple("SOFTMAX", (1, 16001), (1, 16001), "SoftmaxOptions"), "small_softmax"),
        (simple("SOFTMAX", (1, 2, 8), (1, 2, 8), "SoftmaxOptions"), "small_softmax"),
        (simple("RELU", (1, 9), (1, 9), dtype="float32"), "eight_bit"),
        (simple("RELU", (1, 9), (1, 9), dtype="int16"), "eight_bit"),
        (simple("RELU", (2, 4, 4, 8), (2, 4, 4, 8)), "three_dimensions"),
        (simple("RELU", (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)), "three_dimensions"),
        (simple("AVERAGE_POOL_2D", (1, 4, 4, 2), (1, 3, 3, 2), "Pool2DOptions",
                FusedActivationFunction=1, **_POOL), "no_fused_activation"),
        (simple("MEAN", (1, 7, 7, 6), (1, 7, 7, 1), "ReducerOptions", constants=([3],)),
         "mean_channels"),
        (simple("SUM", (4, 3, 2), (3, 2), "ReducerOptions", constants=([0],)), "reduction_axes"),
        (simple("REDUCE_MAX", (4, 3, 2), (3, 2), "ReducerOptions", constants=([0],)),
         "reduction_axes"),
        (simple("PAD", (1, 4, 2), (3, 4, 2), constants=([[1, 1], [0, 0], [0, 0]],)),
         "batch_untouched"),
        (simple("SQUEEZE", (5, 1, 9), (5, 9), "SqueezeOptions"), "leading_squeeze"),
        (simple("STRIDED_SLICE", (1, 5, 6), (1, 1, 5, 6), "StridedSliceOptions",
                constants=([0, 0, 0], [1, 5, 6], [1, 1, 1]), NewAxisMask=1), "plain_slice"),
        (simple("ELU", (1, 9), (1, 9)), "operator"),
        (simple("LEAKY_RELU", (1, 9), (1, 9), "LeakyReluOptions"), "operator"),
        (simple("DEPTH_TO_SPACE", (1, 4, 4, 8), (1, 8, 8, 2), "DepthToSpaceOptions"), "operator"),
        (concatenation(1, 2), "constant_concatenation"),
        (transposed(computed=True), "constant_weights"),
        (prelu((4, 4, 8)), "prelu_slopes"),
        (weighted("DEPTHWISE_CONV_2D", (1, 8, 8, 4), (1, 3, 3, 4), (1, 8, 8, 4),
                  "DepthwiseConv2DOptions", DepthMultiplier=1, **(_EVEN | {"DilationWFactor": 1})),
         "equal_dilation"),
        (weighted("FULLY_CONNECTED", (1, 8), (4, 8), (1, 4), "FullyConnectedOptions", scales=4),
         "dense_one_scale"),
        (weighted("FULLY_CONNECTED", (3, 8), (4, 8), (3, 4), "FullyConnectedOptions"),
         "dense_one_dimension"),
    ],
)  # fmt: skip
def test_stays_on_the_cpu(build: Build, rule: str) -> None:
    report = checked(build)
    assert rules(report) == [rule]
    assert [op.where for op in report.ops] == ["cpu"]
    finding = report.ops[0].findings[0]
    assert finding.found and finding.allowed and finding.fix
    assert (finding.severity, finding.op, finding.index) == ("fallback", report.ops[0].op, 0)


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("QUANTIZE", 2, True),
        ("QUANTIZE", 3, False),
        ("FULLY_CONNECTED", 9, True),
        ("FULLY_CONNECTED", 12, False),
        ("CONV_2D", 5, True),
        ("CONV_2D", 6, False),
        ("TRANSPOSE_CONV", 4, False),
    ],
)
def test_versions_of_operators_are_those_of_its_time(name: str, version: int, taken: bool) -> None:
    make = GraphMaker((1, 8))
    make.op(name, "dense", (1, 8), version=version)
    assert rules(check_graph(make.graph(), CORAL, "made")) == ([] if taken else ["known_version"])


def test_all_behind_an_unsupported_activation_stays_on_the_cpu() -> None:
    """But not what lies on a branch beside it."""

    def build(net: Net) -> int:
        shape = (1, 4, 4, 8)
        x = net.given(shape, 0.05)
        first = net.op("RELU", [x], net.tensor(shape, 0.05))
        swish = net.op("HARD_SWISH", [first], net.tensor(shape, 0.05))
        beside = net.op("TANH", [first], net.tensor(shape, 1 / 128))
        behind = net.op("RELU", [swish], net.tensor(shape, 0.05))
        return net.op("ADD", [behind, beside], net.tensor(shape, 0.1), "AddOptions")

    report = checked(build)
    assert [op.where for op in report.ops] == ["edgetpu", "cpu", "edgetpu", "cpu", "cpu"]
    assert rules(report) == ["operator", "partition", "partition"]
    assert [finding.rule for finding in report.findings] == ["subgraph"]
