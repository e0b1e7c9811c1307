"""Multiplications and additions by constants fold into the layer behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import RefusedError
from edgekit.runtimes.litert import LiteRTSession
from edgekit.runtimes.session import run_raw
from tests.fixing.cases import Net, apply, fix
from tests.fixing.test_scales import OPTIONS

_SETTINGS = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
_MICRO = "rules:tflm-cmsis-nn"
_KINDS = ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]


def scaled(
    kind: str,
    name: str,
    constant: np.ndarray,
    *,
    integers: bool = False,
    per_channel: bool = True,
    bias: bool = True,
    padding: int = 1,
    fused: int = 0,
    twice: bool = False,
) -> bytes:
    """A constant, then a layer with three (depthwise: six) outputs; VALID padding is 1."""
    net = Net()
    rng = np.random.default_rng(7)
    shape = (1, 3) if kind == "FULLY_CONNECTED" else (1, 5, 5, 3)
    x = net.given(shape, 0.02 if integers else None, -7 if integers else 0)
    step = float(np.abs(constant).max()) / 127
    c = net.constant(
        np.round(constant / step).astype(np.int8) if integers else constant.astype(np.float32),
        step if integers else None,
    )
    reach = 0.02 * float(np.abs(constant).max()) if name == "MUL" else 0.02 + step
    y = net.op(
        name, [x, c], net.tensor(shape, reach if integers else None, 3 if integers else 0),
        OPTIONS[name], FusedActivationFunction=fused,
    )  # fmt: skip
    forms = {
        "CONV_2D": (4, 3, 3, 3), "DEPTHWISE_CONV_2D": (1, 3, 3, 6), "FULLY_CONNECTED": (4, 3)
    }  # fmt: skip
    outputs = 6 if kind == "DEPTHWISE_CONV_2D" else 4
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    scales = list(rng.uniform(0.005, 0.02, outputs)) if per_channel else [0.01]
    if integers:
        w = net.constant(rng.integers(-127, 128, forms[kind]).astype(np.int8), scales, 0, axis)
        inner = [reach * scale for scale in scales]
        b = net.constant(rng.integers(-500, 500, outputs).astype(np.int32), inner)
    else:
        w = net.constant(rng.normal(size=forms[kind]).astype(np.float32))
        b = net.constant(rng.normal(size=outputs).astype(np.float32))
    place = () if kind == "FULLY_CONNECTED" else ((5, 5) if padding == 0 else (3, 3))
    out = net.tensor((1, *place, outputs), 0.2 if integers else None)
    if kind == "FULLY_CONNECTED":
        z = net.op(kind, [y, w, b if bias else -1], out, "FullyConnectedOptions")
    else:
        more = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
        more |= {"DepthMultiplier": 2} if kind == "DEPTHWISE_CONV_2D" else {}
        options = "DepthwiseConv2DOptions" if kind == "DEPTHWISE_CONV_2D" else "Conv2DOptions"
        z = net.op(kind, [y, w, b], out, options, Padding=padding, **more)
    return net.content(z, *([y] if twice else []))


def reference(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Random integers, and what the net gives of them when nothing between is rounded."""
    edit = TFLiteEditor(content)
    first, layer = edit.ops
    x = np.random.default_rng(5).integers(-128, 128, (16, *edit.shape(edit.inputs[0])[1:]))
    real = _real(edit, edit.inputs[0], x)
    constant = _real(edit, first.inputs[1])
    value = real * constant if edit.name(first) == "MUL" else real + constant
    weights, bias = (_real(edit, index) for index in layer.inputs[1:])
    kind = edit.name(layer)
    if kind == "FULLY_CONNECTED":
        made = value @ weights.T
    else:
        windows = np.lib.stride_tricks.sliding_window_view(value, (3, 3), axis=(1, 2))
        form, plan = weights, "nyxchw,ohwc->nyxo"
        if kind == "DEPTHWISE_CONV_2D":  # output 2 c and 2 c + 1 are of channel c
            form, plan = weights.reshape(3, 3, 3, 2), "nyxchw,hwcm->nyxcm"
        made = np.einsum(plan, windows, form).reshape(*windows.shape[:3], -1)
    result = layer.outputs[0]
    scale = edit.quantization(result)
    assert scale is not None
    steps = (made + bias) / scale.scale[0] + scale.zero_point[0]
    return x.astype(np.int8), np.clip(np.round(steps), -128, 127)


def _real(edit: TFLiteEditor, index: int, values: np.ndarray | None = None) -> np.ndarray:
    stored = edit.values(index) if values is None else values
    scale = edit.quantization(index)
    assert stored is not None and scale is not None
    return scale.dequantize(stored).astype(np.float64)


def run_on(content: bytes, x: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "run.tflite"
    path.write_bytes(content)
    with LiteRTSession(path) as session:
        return next(iter(run_raw(session, {session.inputs[0].name: x}).values()))


_VALUES = st.lists(
    st.floats(-3, 3, width=32).filter(lambda v: abs(v) > 0.05), min_size=3, max_size=3
)


@_SETTINGS
@given(kind=st.sampled_from(_KINDS), name=st.sampled_from(sorted(OPTIONS)), values=_VALUES,
       bias=st.booleans())  # fmt: skip
def test_floats_are_equal_up_to_rounding(
    tmp_path: Path, kind: str, name: str, values: list[float], bias: bool
) -> None:
    content = scaled(kind, name, np.array(values), bias=bias or kind != "FULLY_CONNECTED")
    fixed = fix(content, _MICRO, tmp_path)
    assert fixed.ops == [kind]
    assert [one.rewrite for one in fixed.report.rewrites] == ["fold-scale-onward"]
    assert fixed.report.rewrites[0].promise == "rounding"
    fixed.assert_near(5e-6)


@_SETTINGS
@given(kind=st.sampled_from(_KINDS), name=st.sampled_from(["ADD", "MUL"]), values=_VALUES,
       same=st.booleans(), per_channel=st.booleans())  # fmt: skip
def test_integers_are_near(
    tmp_path: Path, kind: str, name: str, values: list[float], same: bool, per_channel: bool
) -> None:
    constant = np.array(values[:1] if same else values)
    content = scaled(kind, name, constant, integers=True, per_channel=per_channel)
    change, pair = apply("fold-scale-onward", content, tmp_path)
    assert change.promise == "approximate"
    assert pair.ops == [kind]
    given_input, wanted = reference(content)
    steps = {
        which: np.abs(run_on(made, given_input, tmp_path).astype(float) - wanted).max()
        for which, made in (("before", pair.before), ("after", pair.after))
    }
    most = 1 if same else 3  # several factors are quantized into the weights anew
    assert steps["after"] <= max(most, steps["before"])


def test_the_first_layer_takes_the_scale_of_the_input(tmp_path: Path) -> None:
    """x / 127.5 - 1 before a convolution, which nothing before it could take."""
    content = scaled("CONV_2D", "MUL", np.array([1 / 127.5] * 3))
    fixed = fix(content, _MICRO, tmp_path)
    assert fixed.ops == ["CONV_2D"]
    assert not any(rule == "no_broadcast" for rule in fixed.standing)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "ADD", "padding": 0}, "pads with zeros"),
        ({"name": "MUL", "fused": 1}, "an activation"),
        ({"name": "MUL", "twice": True}, "used elsewhere"),
    ],
)
def test_what_does_not_fold_is_refused(
    tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    content = scaled("CONV_2D", constant=np.array([1.0, 2, 3]), **arguments)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=words):
        apply("fold-scale-onward", content, tmp_path)


def test_padding_with_zeros_takes_a_factor(tmp_path: Path) -> None:
    content = scaled("CONV_2D", "MUL", np.array([1.0, 2, 3]), padding=0)
    _, pair = apply("fold-scale-onward", content, tmp_path)
    pair.assert_near(5e-6)
