"""Channels of zeros fill the lanes of an accelerator; results stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.tflite import read_buffer
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
