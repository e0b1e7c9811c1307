"""Activations that a target lacks are written in operators that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixing.cases import Net, apply, fix

_SHAPE = (1, 6, 6, 8)


def activation(name: str, *, scale: bool, options: str = "", **more: Any) -> bytes:
    net = Net()
    x = net.given(_SHAPE, 0.05 if scale else None, 3 if scale else 0, free=not scale)
    out = net.tensor(_SHAPE, 0.05 if scale else None, -10 if scale else 0, free=not scale)
    return net.content(net.op(name, [x], out, options, **more))


@pytest.mark.parametrize(
    ("name", "made", "near"),
    [
        ("HARD_SWISH", ["ADD", "MUL", "MUL"], 1e-6),
        ("GELU", ["MUL", "MUL", "ADD", "MUL", "LOGISTIC", "MUL"], 1e-5),
        ("LEAKY_RELU", ["PRELU"], 0.0),
    ],
)
def test_floats_are_equal_up_to_rounding(
    tmp_path: Path, name: str, made: list[str], near: float
) -> None:
    options = {
        "GELU": {"options": "GeluOptions", "Approximate": True},
        "LEAKY_RELU": {"options": "LeakyReluOptions", "Alpha": 0.3},
    }.get(name, {})
    content = activation(name, scale=False, **options)
    change, pair = apply(name.lower().replace("_", "-"), content, tmp_path)
    assert change.promise == ("bits" if near == 0 else "rounding")
    assert pair.ops == made
    pair.assert_near(near)


def test_the_exact_gelu_is_only_near_its_tanh_form(tmp_path: Path) -> None:
    content = activation("GELU", scale=False, options="GeluOptions", Approximate=False)
    change, pair = apply("gelu", content, tmp_path)
    assert change.promise == "approximate"
    pair.assert_near(1e-3)


@pytest.mark.parametrize(
    ("name", "made", "steps"),
    [
        ("HARD_SWISH", ["MUL", "ADD", "MUL"], 2),
        ("GELU", ["MUL", "LOGISTIC", "MUL"], 2),
        ("LEAKY_RELU", ["PRELU"], 1),
    ],
)
def test_integers_are_near(tmp_path: Path, name: str, made: list[str], steps: int) -> None:
    options = {"LEAKY_RELU": {"options": "LeakyReluOptions", "Alpha": 0.3}}.get(name, {})
    content = activation(name, scale=True, **options)
    refused = fix(content, "coral-usb", tmp_path)
    assert "--allow-inexact" in refused.why("operator")
    fixed = fix(content, "coral-usb", tmp_path, inexact=True)
    assert fixed.ops == made
    assert fixed.report.after.verdict == "ok"
    assert fixed.most_steps() <= steps


@pytest.mark.parametrize("scale", [False, True])
def test_a_squared_difference(tmp_path: Path, scale: bool) -> None:
    net = Net()
    x = net.given((1, 6, 8), 0.02 if scale else None)
    mean = net.given((1, 6, 1), 0.02 if scale else None)
    out = net.tensor((1, 6, 8), 0.05 if scale else None, -128 if scale else 0)
    content = net.content(net.op("SQUARED_DIFFERENCE", [x, mean], out))
    if scale:
        fixed = fix(content, "coral-usb", tmp_path, inexact=True)
        assert fixed.report.after.verdict == "ok"
        assert fixed.ops == ["SUB", "MUL"]
        assert fixed.most_steps() <= 5  # a step of the difference where the square is steep
    else:
        change, pair = apply("squared-difference", content, tmp_path)
        assert (change.promise, pair.ops) == ("rounding", ["SUB", "MUL"])
        pair.assert_near(1e-6)
