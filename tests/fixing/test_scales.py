"""Multiplications and additions by constants fold into the layer before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixing.cases import Net, fix

_MICRO = "rules:tflm-cmsis-nn"
_SETTINGS = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"
}  # fmt: skip


def float_net(
    kind: str, name: str, constant: np.ndarray, *, bias: bool, fused: int = 0, before: int = 0
) -> bytes:
    net = Net()
    rng = np.random.default_rng(3)
    if kind == "FULLY_CONNECTED":
        x, out = net.given((1, 6), free=True), (1, 4)
        weights = rng.normal(size=(4, 6))
        options, more = "FullyConnectedOptions", {}
    else:
        depthwise = kind == "DEPTHWISE_CONV_2D"
        x, out = net.given((1, 5, 5, 4 if depthwise else 3), free=True), (1, 5, 5, 4)
        weights = rng.normal(size=(1, 3, 3, 4) if depthwise else (4, 3, 3, 3))
        options = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        more = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
        more |= {"DepthMultiplier": 1} if depthwise else {}
    inputs = [x, net.constant(weights.astype(np.float32))]
    inputs.append(net.constant(rng.normal(size=4).astype(np.float32)) if bias else -1)
    y = net.op(
        kind, inputs, net.tensor(out, free=True), options, FusedActivationFunction=before, **more
    )
    z = net.op(
        name, [y, net.constant(constant.astype(np.float32))], net.tensor(out, free=True),
        OPTIONS[name], FusedActivationFunction=fused,
    )  # fmt: skip
    return net.content(z)


@_SETTINGS
@given(
    kind=st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]),
    name=st.sampled_from(sorted(OPTIONS)),
    values=st.lists(
        st.floats(-8, 8, width=32).filter(lambda v: abs(v) > 1e-2), min_size=4, max_size=4
    ),
    bias=st.booleans(),
    fused=st.sampled_from([0, 1, 3]),
)
def test_floats_are_equal_up_to_rounding(
    tmp_path: Path, kind: str, name: str, values: list[float], bias: bool, fused: int
) -> None:
    bias = bias or kind != "FULLY_CONNECTED"
    fixed = fix(float_net(kind, name, np.array(values), bias=bias, fused=fused), _MICRO, tmp_path)
    assert fixed.ops == [kind]
    assert fixed.report.rewrites[0].rewrite == "fold-scale"
    assert fixed.report.rewrites[0].promise == "rounding"
    fixed.assert_near(3e-6)


def test_what_does_not_fold_is_refused(tmp_path: Path) -> None:
    constant = np.array([1.0, 2, 3, 4])
    fixed = fix(float_net("CONV_2D", "MUL", constant, bias=True, before=1), _MICRO, tmp_path)
    assert not fixed.report.rewrites
    assert "an activation comes before" in fixed.why("no_broadcast")
    wide = np.arange(20.0).reshape(1, 1, 5, 4)
    fixed = fix(float_net("CONV_2D", "MUL", wide, bias=True), _MICRO, tmp_path)
    assert not fixed.report.rewrites
    assert "one value a channel" in fixed.why("no_broadcast")


def int8_net(factors: list[float], kind: str, *, per_channel: bool) -> bytes:
    net = Net()
    rng = np.random.default_rng(1)
    factor = max(map(abs, factors))
    x = net.given((1, 4, 4, 3), 0.02, -5)
    scales = [0.01, 0.012, 0.02, 0.015] if per_channel else [0.01]
    weights = rng.integers(-127, 128, (4, 1, 1, 3)).astype(np.int8)
    w = net.constant(weights, scales)
    b = net.constant(
        rng.integers(-500, 500, 4).astype(np.int32), [0.02 * scale for scale in scales]
    )
    y = net.op(
        "CONV_2D", [x, w, b], net.tensor((1, 4, 4, 4), 0.2), "Conv2DOptions",
        StrideW=1, StrideH=1, DilationWFactor=1, DilationHFactor=1,
    )  # fmt: skip
    integers = np.round(np.array(factors) / (factor / 127)).astype(np.int8)
    c = net.constant(integers, factor / 127)
    out = net.tensor((1, 4, 4, 4), 0.2 * (factor if kind == "MUL" else 1.5))
    return net.content(net.op(kind, [y, c], out, OPTIONS[kind]))


@_SETTINGS
@given(
    factors=st.lists(st.floats(0.2, 4).map(lambda v: round(v, 3)), min_size=4, max_size=4),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4),
    kind=st.sampled_from(["ADD", "MUL"]),
    per_channel=st.booleans(),
)
def test_integers_are_equal_within_two_steps(
    tmp_path: Path, factors: list[float], signs: list[int], kind: str, per_channel: bool
) -> None:
    content = int8_net(
        [f * s for f, s in zip(factors, signs, strict=True)], kind, per_channel=per_channel
    )
    refused = fix(content, _MICRO, tmp_path)
    assert "--allow-inexact" in refused.why("no_broadcast")
    fixed = fix(content, _MICRO, tmp_path, inexact=True, tolerance=0.1)
    assert fixed.ops == ["CONV_2D"], fixed.why("no_broadcast")
    assert fixed.most_steps() <= 2


def test_a_tolerance_is_held(tmp_path: Path) -> None:
    content = int8_net([0.5, 2.0, 1.0, 1.5], "MUL", per_channel=True)
    fixed = fix(content, _MICRO, tmp_path, inexact=True, tolerance=1e-9)
    assert not fixed.report.rewrites
    assert "of their range, over" in fixed.why("no_broadcast")
    assert fixed.after == fixed.before


@pytest.mark.parametrize("name", ["DIV", "SUB"])
def test_a_constant_before_is_refused(tmp_path: Path, name: str) -> None:
    net = Net()
    x = net.given((1, 6))
    w = net.constant(np.ones((4, 6), np.float32))
    y = net.op("FULLY_CONNECTED", [x, w, -1], net.tensor((1, 4)), "FullyConnectedOptions")
    c = net.constant(np.ones(4, np.float32))
    out = net.op(name, [c, y], net.tensor((1, 4)), OPTIONS[name])
    fixed = fix(net.content(out), "rules:edgetpu", tmp_path)
    assert "fold-scale" not in [one.rewrite for one in fixed.report.rewrites]
