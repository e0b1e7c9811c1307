"""Channels of zeros fill the lanes of an accelerator; results stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.tflite import read_buffer
from edgekit.profiling.rewrites import RefusedError
from tests.fixing.cases import Net, apply, fix

_SETTINGS = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
_CONV = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}


def convolution(net: Net, x: int, before: int, after: int, *, integers: bool, seed: int) -> int:
    """A 3x3 convolution with a fused ReLU; int8 scales are powers of two."""
    rng = np.random.default_rng(seed)
    shape = (after, 3, 3, before)
    if integers:
        w = net.constant(rng.integers(-40, 41, shape).astype(np.int8), [2.0**-7] * after)
        b = net.constant(rng.integers(-90, 90, after).astype(np.int32), [2.0**-11] * after)
    else:
        w = net.constant(rng.normal(size=shape).astype(np.float32))
        b = net.constant(rng.normal(size=after).astype(np.float32))
    y = net.tensor((1, 6, 6, after), 2.0**-4 if integers else None)
    return net.op("CONV_2D", [x, w, b], y, "Conv2DOptions", FusedActivationFunction=1, **_CONV)


def network(channels: tuple[int, int], *, integers: bool, end: str) -> bytes:
    """Convolution, ReLU, depthwise, convolution; then a dense layer, or nothing, or a softmax."""
    net = Net()
    scale = 2.0**-4 if integers else None
    first, second = channels
    x = net.given((1, 6, 6, 3), scale)
    y = convolution(net, x, 3, first, integers=integers, seed=1)
    y = net.op("MAX_POOL_2D", [y], net.tensor((1, 6, 6, first), scale), "Pool2DOptions",
               StrideW=1, StrideH=1, FilterWidth=2, FilterHeight=2)  # fmt: skip
    y = convolution(net, y, first, second, integers=integers, seed=2)
    if end == "map":
        return net.content(y)
    axes = net.constant(np.array([1, 2], np.int32))
    y = net.op("MEAN", [y, axes], net.tensor((1, second), scale), "ReducerOptions")
    if end == "softmax":
        out = net.tensor((1, second), 2.0**-8 if integers else None, -128 if integers else 0)
        return net.content(net.op("SOFTMAX", [y], out, "SoftmaxOptions", Beta=1.0))
    rng = np.random.default_rng(3)
    if integers:
        w = net.constant(rng.integers(-40, 41, (5, second)).astype(np.int8), 2.0**-7)
    else:
        w = net.constant(rng.normal(size=(5, second)).astype(np.float32))
    z = net.op("FULLY_CONNECTED", [y, w, -1], net.tensor((1, 5), scale), "FullyConnectedOptions")
    return net.content(z)


@_SETTINGS
@given(
    first=st.integers(1, 20),
    second=st.integers(1, 20),
    integers=st.booleans(),
    end=st.sampled_from(["map", "softmax", "dense"]),
)
def test_results_stay(tmp_path: Path, first: int, second: int, integers: bool, end: str) -> None:
    content = network((first, second), integers=integers, end=end)
    for index, channels in ((0, first), (2, second)):
        if channels % 16 == 0:
            continue
        _, pair = apply("pad-channels", content, tmp_path, index=index, multiple=16)
        graph = read_buffer(pair.after)
        assert (graph.tensors[graph.ops[index].outputs[0]].shape[-1] or 0) % 16 == 0
        if integers:
            pair.assert_equal()
        else:
            pair.assert_near(1e-5)
        cut = index == 2 and end != "dense"
        assert ("SLICE" in pair.ops) == cut


def test_the_finding_is_gone(tmp_path: Path) -> None:
    content = network((12, 10), integers=True, end="dense")
    fixed = fix(content, "rules:dpu", tmp_path)
    assert [one.rewrite for one in fixed.report.rewrites] == ["pad-channels"] * 2
    assert all(one.difference.max_steps == 0 for one in fixed.report.rewrites)
    assert "full_lanes" not in fixed.standing
    fixed.assert_equal()


class Maker:
    """Writes networks whose int8 scales are all the same power of two; maps are 6 by 6."""

    def __init__(self, *, integers: bool) -> None:
        self.net, self.integers = Net(), integers
        self.scale = 2.0**-4 if integers else None
        self.seed = 0
        self.sizes: dict[int, tuple[int, ...]] = {}

    def given(self, channels: int) -> int:
        index = self.net.given((1, 6, 6, channels), self.scale)
        self.sizes[index] = (1, 6, 6, channels)
        return index

    def made(
        self, name: str, inputs: list[int], shape: tuple[int, ...], options: str = "", **more: Any
    ) -> int:
        index = self.net.op(name, inputs, self.net.tensor(shape, self.scale), options, **more)
        self.sizes[index] = shape
        return index

    def weights(self, shape: tuple[int, ...], axis: int = 0) -> int:
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        if not self.integers:
            return self.net.constant(rng.normal(size=shape).astype(np.float32))
        values = rng.integers(-40, 41, shape).astype(np.int8)
        return self.net.constant(values, [2.0**-7] * shape[axis], axis=axis)

    def bias(self, count: int) -> int:
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        if not self.integers:
            return self.net.constant(rng.normal(size=count).astype(np.float32))
        values = rng.integers(-90, 90, count).astype(np.int32)
        return self.net.constant(values, [2.0**-11] * count)

    def values(self, shape: tuple[int, ...]) -> int:
        """A constant of an elementwise operator."""
        self.seed += 1
        rng = np.random.default_rng(self.seed)
        if not self.integers:
            return self.net.constant(rng.normal(size=shape).astype(np.float32))
        return self.net.constant(rng.integers(-40, 41, shape).astype(np.int8), 2.0**-4)

    def conv(self, x: int, channels: int, *, side: int = 1) -> int:
        before = self.sizes[x][-1]
        w, b = self.weights((channels, side, side, before)), self.bias(channels)
        shape = (*self.sizes[x][:-1], channels)
        return self.made("CONV_2D", [x, w, b], shape, "Conv2DOptions", **_CONV)

    def dense(self, x: int, width: int, units: int) -> int:
        w = self.weights((units, width))
        return self.made("FULLY_CONNECTED", [x, w, -1], (1, units), "FullyConnectedOptions")

    def depthwise(self, x: int, multiplier: int) -> int:
        shape = (*self.sizes[x][:-1], multiplier * self.sizes[x][-1])
        w, b = self.weights((1, 3, 3, shape[-1]), 3), self.bias(shape[-1])
        return self.made("DEPTHWISE_CONV_2D", [x, w, b], shape, "DepthwiseConv2DOptions",
                         DepthMultiplier=multiplier, **_CONV)  # fmt: skip

    def pair(self, name: str, x: int, y: int) -> int:
        return self.made(name, [x, y], self.sizes[x], f"{name.title()}Options")

    def concatenation(self, *parts: int) -> int:
        channels = sum(self.sizes[part][-1] for part in parts)
        return self.made("CONCATENATION", [*parts], (*self.sizes[parts[0]][:-1], channels),
                         "ConcatenationOptions", Axis=3)  # fmt: skip

    def reshape(self, x: int, shape: tuple[int, ...]) -> int:
        form = self.net.constant(np.array([-1, *shape[1:]], np.int32))
        return self.made("RESHAPE", [x, form], shape, "ReshapeOptions")

    def mean(self, x: int) -> int:
        axes = self.net.constant(np.array([1, 2], np.int32))
        shape = (1, 1, 1, self.sizes[x][-1])
        return self.made("MEAN", [x, axes], shape, "ReducerOptions", KeepDims=True)


def _residual(make: Maker, c: int) -> int:
    """As in MobileNetV2: two sums, and an operator before the second."""
    x = make.conv(make.given(3), c)
    x = make.pair("ADD", make.conv(make.depthwise(x, 1), c), x)
    y = make.made("RELU", [make.conv(x, c)], make.sizes[x])
    return make.conv(make.pair("SUB", x, y), 5)


def _constants(make: Maker, c: int) -> int:
    """A constant a channel, one for all, and a padded border."""
    x = make.conv(make.given(3), c)
    x = make.pair("MUL", x, make.values((c,)))
    x = make.pair("ADD", x, make.values((1, 1, 1, 1)))
    sides = make.net.constant(np.array([[0, 0], [1, 0], [0, 1], [0, 0]], np.int32))
    return make.conv(make.made("PAD", [x, sides], (1, 7, 7, c), "PadOptions"), 4, side=3)


def _excitation(make: Maker, c: int) -> int:
    """Channels weighted by what a bottleneck says of their means."""
    x = make.conv(make.given(3), c)
    weights = make.conv(make.conv(make.mean(x), 2), c)
    return make.conv(make.pair("MUL", x, weights), 5)


def _branches(make: Maker, c: int) -> int:
    """A concatenation; the new channels come to lie between the old ones."""
    x = make.given(3)
    return make.conv(make.concatenation(make.conv(x, c), make.conv(x, 4), make.conv(x, 3)), 5)


def _flattened(make: Maker, c: int) -> int:
    x = make.conv(make.given(3), c)
    return make.dense(make.reshape(x, (1, 36 * c)), 36 * c, 5)


def _flattened_by_the_layer(make: Maker, c: int) -> int:
    return make.dense(make.conv(make.given(3), c), 36 * c, 5)


def _multiplied(make: Maker, c: int) -> int:
    """A depthwise convolution that makes three channels of each."""
    return make.conv(make.depthwise(make.conv(make.given(3), c), 3), 5)


_WAYS = (
    _residual, _constants, _excitation, _branches, _flattened, _flattened_by_the_layer, _multiplied,
)  # fmt: skip


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("way", _WAYS, ids=lambda way: way.__name__.strip("_"))
@_SETTINGS
@given(channels=st.integers(1, 20).filter(lambda count: count % 16))
def test_new_channels_go_on_to_the_weights_that_read_them(
    tmp_path: Path, way: Callable[[Maker, int], int], integers: bool, channels: int
) -> None:
    make = Maker(integers=integers)
    content = make.net.content(way(make, channels))
    _, pair = apply("pad-channels", content, tmp_path, multiple=16)
    before, after = read_buffer(content), read_buffer(pair.after)
    assert [op.name for op in after.ops] == [op.name for op in before.ops]  # no SLICE
    assert after.tensors[after.ops[0].outputs[0]].shape[-1] == -(-channels // 16) * 16
    if integers:
        pair.assert_equal()
    else:
        pair.assert_near(1e-5)


def _sum_with_the_input(make: Maker) -> list[int]:
    x = make.given(6)
    return [make.conv(make.pair("ADD", make.conv(x, 6), x), 5)]


def _concatenation_given_away(make: Maker) -> list[int]:
    x = make.given(3)
    return [make.concatenation(make.conv(x, 6), make.conv(x, 4))]


def _sum_that_is_needed_as_it_was(make: Maker) -> list[int]:
    """To widen the other side as well would need three cuts for two layers."""
    x = make.given(3)
    first, other = make.conv(x, 6), make.conv(x, 6)
    added = make.pair("ADD", first, other)
    return [other, added, make.made("RELU", [added], make.sizes[added])]


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize(
    "way", [_sum_with_the_input, _concatenation_given_away, _sum_that_is_needed_as_it_was]
)
def test_one_cut_where_something_needs_the_old_channels(
    tmp_path: Path, way: Callable[[Maker], list[int]], integers: bool
) -> None:
    make = Maker(integers=integers)
    content = make.net.content(*way(make))
    change, pair = apply("pad-channels", content, tmp_path, multiple=16)
    assert pair.ops.count("SLICE") == 1
    assert "1 SLICE behind" in change.words
    if integers:
        pair.assert_equal()
    else:
        pair.assert_near(1e-5)


def test_a_convolution_of_groups_is_refused(tmp_path: Path) -> None:
    make = Maker(integers=False)
    x = make.given(6)
    y = make.made("CONV_2D", [x, make.weights((4, 1, 1, 3)), make.bias(4)], (1, 6, 6, 4),
                  "Conv2DOptions", **_CONV)  # fmt: skip
    with pytest.raises(RefusedError, match="groups"):
        apply("pad-channels", make.net.content(y), tmp_path, multiple=16)
