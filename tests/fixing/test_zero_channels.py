"""Channels that hold only zeros are taken out, and every output stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.dead_channels import kept_channels
from edgekit.graph.tflite import read_buffer
from edgekit.profiling.check import check_graph
from edgekit.profiling.rewrites.base import RefusedError
from edgekit.profiling.targets import load_target
from tests.fixing.cases import Net, apply, fix

_SETTINGS = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ONE_BY_ONE = "pynq-z2-hls4ml"  # it has no lanes to fill
_RELU = {"FusedActivationFunction": 1}


class Chain:
    """A network in which some filters of two convolutions are zero."""

    def __init__(self, zero: np.ndarray, *, integers: bool = True, seed: int = 0) -> None:
        self.net, self.zero, self.integers = Net(), zero, integers
        self.rng = np.random.default_rng(seed)
        self.x = self.net.given((1, 6, 6, 3), 0.05 if integers else None, 4 if integers else 0)

    def conv(self, x: int, size: int, kernel: int, *, zero: np.ndarray | None = None) -> int:
        """A convolution with ReLU; biases of zero filters are not positive."""
        shape = (size, kernel, kernel, self.net.tensors[x].shape[-1])
        weights = self.rng.normal(0, 1, shape).astype(np.float32)
        bias = self.rng.normal(0, 1, size).astype(np.float32)
        if zero is not None:
            weights[zero], bias[zero] = 0, -np.abs(bias[zero])
        given_shape = self.net.tensors[x].shape
        made = self.tensor((*given_shape[:3], size))
        options = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1,
                   "DilationWFactor": 1, **_RELU}  # fmt: skip
        constants = self.constants(weights, bias, 0)
        return self.net.op("CONV_2D", [x, *constants], made, "Conv2DOptions", **options)

    def depthwise(self, x: int, *, positive: int | None = None) -> int:
        shape = self.net.tensors[x].shape
        weights = self.rng.normal(0, 1, (1, 3, 3, shape[-1])).astype(np.float32)
        bias = -np.abs(self.rng.normal(0, 1, shape[-1])).astype(np.float32)
        if positive is not None:
            bias[positive] = 3
        options = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DepthMultiplier": 1,
                   "DilationHFactor": 1, "DilationWFactor": 1, **_RELU}  # fmt: skip
        return self.net.op(
            "DEPTHWISE_CONV_2D", [x, *self.constants(weights, bias, 3)], self.tensor(tuple(shape)),
            "DepthwiseConv2DOptions", **options,
        )  # fmt: skip

    def constants(self, weights: np.ndarray, bias: np.ndarray, axis: int) -> list[int]:
        if not self.integers:
            return [self.net.constant(weights), self.net.constant(bias)]
        scales = [0.02 + 0.01 * (i % 3) for i in range(weights.shape[axis])]
        steps = np.array(scales).reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        whole = np.clip(np.round(weights / steps), -127, 127).astype(np.int8)
        inner = [scale * 0.05 for scale in scales]
        biases = np.round(bias / np.array(inner)).astype(np.int32)
        return [self.net.constant(whole, scales, axis=axis), self.net.constant(biases, inner)]

    def tensor(self, shape: tuple[int, ...]) -> int:
        return self.net.tensor(shape, 0.05 if self.integers else None, -128 if self.integers else 0)

    def end(self, x: int) -> bytes:
        """A mean, a reshape and a dense layer behind it."""
        channels = self.net.tensors[x].shape[-1]
        axes = self.net.constant(np.array([1, 2], np.int32))
        mean = self.net.op(
            "MEAN", [x, axes], self.tensor((1, 1, 1, channels)), "ReducerOptions", KeepDims=True
        )
        form = self.net.constant(np.array([1, channels], np.int32))
        flat = self.net.op("RESHAPE", [mean, form], self.tensor((1, channels)), "ReshapeOptions")
        dense = self.rng.normal(0, 1, (4, channels)).astype(np.float32)
        bias = self.rng.normal(0, 1, 4).astype(np.float32)
        made = self.tensor((1, 4))
        return self.net.content(
            self.net.op(
                "FULLY_CONNECTED", [flat, *self.constants(dense, bias, 0)], made,
                "FullyConnectedOptions",
            )
        )  # fmt: skip


def residual(zero: np.ndarray, *, integers: bool = True, positive: int | None = None) -> bytes:
    """A convolution, a depthwise one, another convolution, and the sum of the last two."""
    chain = Chain(zero, integers=integers)
    first = chain.conv(chain.x, len(zero), 1, zero=zero)
    second = chain.depthwise(first, positive=positive)
    third = chain.conv(second, len(zero), 3, zero=zero)
    total = chain.net.op("ADD", [second, third], chain.tensor((1, 6, 6, len(zero))), "AddOptions")
    return chain.end(total)


def sizes(content: bytes) -> list[int]:
    """Channels that each operator makes."""
    graph = read_buffer(content)
    return [int(graph.tensors[op.outputs[0]].shape[-1] or 0) for op in graph.ops]


@_SETTINGS
@given(
    zero=st.lists(st.booleans(), min_size=8, max_size=12).filter(lambda z: any(z) and not all(z)),
    integers=st.booleans(),
)
def test_any_zero_filters_go_and_no_bit_changes(
    tmp_path: Path, zero: list[bool], *, integers: bool
) -> None:
    content = residual(np.array(zero), integers=integers)
    change, pair = apply("zero-channels", content, tmp_path, target=ONE_BY_ONE)
    live = zero.count(False)
    assert sizes(pair.after) == [live] * 6 + [4]
    if integers:
        assert change.promise == "bits"
        pair.assert_equal()
    else:
        assert change.promise == "rounding"
        pair.assert_near(1e-5)


def test_a_constant_that_a_bias_makes_stays(tmp_path: Path) -> None:
    zero = np.array([True, True, False, False, True, False, False, False])
    content = residual(zero, positive=1)
    _, pair = apply("zero-channels", content, tmp_path, target=ONE_BY_ONE)
    # Behind the depthwise convolution channel 1 is a constant, and so before it and in the sum.
    assert sizes(pair.after) == [6] * 6 + [4]
    pair.assert_equal()


def test_outputs_and_what_mixes_channels_keep_theirs(tmp_path: Path) -> None:
    zero = np.array([True] * 4 + [False] * 4)
    chain = Chain(zero)
    last = chain.conv(chain.x, 8, 1, zero=zero)
    with pytest.raises(RefusedError, match="no channel can go"):
        apply("zero-channels", chain.net.content(last), tmp_path)
    chain = Chain(zero)
    made = chain.conv(chain.x, 8, 1, zero=zero)
    turned = chain.net.op(
        "SOFTMAX", [made], chain.net.tensor((1, 6, 6, 8), 1 / 256, -128), "SoftmaxOptions", Beta=1.0
    )
    with pytest.raises(RefusedError, match="no channel can go"):
        apply("zero-channels", chain.net.content(turned), tmp_path)


def test_what_stays_fills_the_lanes() -> None:
    dead = np.array([True, False, True, True, False, False])
    assert list(kept_channels(dead, 1)) == [1, 4, 5]
    assert list(kept_channels(dead, 4)) == [0, 1, 4, 5]
    assert list(kept_channels(dead, 16)) == list(range(6))
    assert list(kept_channels(np.ones(3, bool), 1)) == [0]


def test_the_check_hints_and_the_fix_does_it(tmp_path: Path) -> None:
    content = residual(np.array([True, False] * 6))
    target = load_target("stm32-l4r5-tflm")
    report = check_graph(read_buffer(content), target, "m")
    hint = next(finding for finding in report.findings if finding.rule == "zero_channels")
    assert (report.verdict, hint.severity) == ("ok", "hint")
    assert "12 of 36 channels" in hint.found
    fixed = fix(content, "stm32-l4r5-tflm", tmp_path)
    assert [one.rewrite for one in fixed.report.rewrites] == ["zero-channels"]
    assert fixed.report.rewrites[0].tolerance == 0
    assert "zero_channels" not in fixed.standing
    assert sizes(fixed.after) == [8] * 6 + [4]  # four at a time: two channels of zeros stay
    fixed.assert_equal()
    assert len(fixed.after) < len(content)
    removing = load_target("stm32-l4r5-cubeai")  # its code generator leaves them out itself
    assert not check_graph(read_buffer(content), removing, "m").findings


def test_mlperf_tinys_mobilenet_is_a_third_of_its_size(shared: Path, tmp_path: Path) -> None:
    content = (shared / "models" / "mlperf_tiny_vww_int8.tflite").read_bytes()
    change, pair = apply("zero-channels", content, tmp_path, target="stm32-l4r5-tflm")
    assert "1,360 channels" in change.words
    assert len(pair.after) < 0.4 * len(content)
    pair.assert_equal()
