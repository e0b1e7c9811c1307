"""Other forms of one operator give the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.profiling.rewrites import RefusedError
from tests.fixing.cases import Fixed, Net, apply, files, fix


@pytest.mark.parametrize("scale", [None, 0.05])
def test_a_squeeze_is_a_reshape(tmp_path: Path, scale: float | None) -> None:
    net = Net()
    x = net.given((4, 1, 6), scale)
    content = net.content(net.op("SQUEEZE", [x], net.tensor((4, 6), scale), "SqueezeOptions"))
    if scale is None:
        _, pair = apply("reshape", content, tmp_path)
    else:
        pair = fix(content, "coral-usb", tmp_path)
        assert pair.report.after.verdict == "ok"
    assert pair.ops == ["RESHAPE"]
    pair.assert_equal()


@pytest.mark.parametrize("order", [(1, 0, 2), (1, 2, 0), (0, 2, 1)])
def test_a_transposition_of_axes_of_one_is_a_reshape(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    net = Net()
    x = net.given((1, 5, 6), 0.05)
    shape = tuple((1, 5, 6)[axis] for axis in order)
    axes = net.constant(np.array(order, np.int32))
    content = net.content(net.op("TRANSPOSE", [x, axes], net.tensor(shape, 0.05)))
    if order == (0, 2, 1):
        with pytest.raises(RefusedError, match="order of values"):
            apply("reshape", content, tmp_path)
        return
    fixed = fix(content, "coral-usb", tmp_path)
    assert fixed.report.before.verdict == "fallback"
    assert fixed.report.after.verdict == "ok"
    assert fixed.ops == ["RESHAPE"]
    fixed.assert_equal()


@pytest.mark.parametrize(("number", "name"), [(1, "RELU"), (3, "RELU6")])
@pytest.mark.parametrize("scale", [None, 0.05])
def test_a_fused_activation_stands_alone(
    tmp_path: Path, number: int, name: str, scale: float | None
) -> None:
    net = Net()
    x = net.given((1, 4, 4, 6), scale, 3 if scale else 0)
    y = net.tensor((1, 3, 3, 6), scale, 3 if scale else 0)
    more: dict[str, Any] = {"StrideW": 1, "StrideH": 1, "FilterWidth": 2, "FilterHeight": 2}
    more |= {"Padding": 1, "FusedActivationFunction": number}
    content = net.content(net.op("MAX_POOL_2D", [x], y, "Pool2DOptions", **more))
    if scale is None:
        _, pair = apply("activation-apart", content, tmp_path)
    else:
        pair = fix(content, "coral-usb", tmp_path)
        assert pair.report.before.verdict == "fallback"
        assert pair.report.after.verdict == "ok"
    assert pair.ops == ["MAX_POOL_2D", name]
    pair.assert_equal()


def test_single_indices_are_slices(tmp_path: Path) -> None:
    net = Net()
    x = net.given((1, 5, 6))
    bounds = [net.constant(np.array(v, np.int32)) for v in ([0, -1, 1], [0, 0, 5], [1, 1, 1])]
    y = net.op("STRIDED_SLICE", [x, *bounds], net.tensor((1, 4)), "StridedSliceOptions",
               BeginMask=1, EndMask=1, ShrinkAxisMask=2)  # fmt: skip
    fixed = fix(net.content(y), "rules:litert-xnnpack", tmp_path)
    assert fixed.ops == ["STRIDED_SLICE", "RESHAPE"]
    assert not fixed.standing
    fixed.assert_equal()


@pytest.mark.parametrize("scale", [None, 0.05])
def test_many_are_concatenated_in_steps(tmp_path: Path, scale: float | None) -> None:
    net = Net()
    inputs = [net.given((1, 2 + n), scale) for n in range(9)]
    out = net.tensor((1, sum(2 + n for n in range(9))), scale)
    content = net.content(net.op("CONCATENATION", inputs, out, "ConcatenationOptions", Axis=1))
    fixed: Fixed = fix(content, "rules:litert-xnnpack", tmp_path)
    assert fixed.ops == ["CONCATENATION"] * 3
    assert not fixed.standing
    fixed.assert_equal()


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("scale", [None, 0.05])
def test_what_is_unpacked_is_sliced(tmp_path: Path, axis: int, scale: float | None) -> None:
    net = Net()
    x = net.given((3, 4, 5), scale)
    shape = (4, 5) if axis == 0 else (3, 5)
    count = 3 if axis == 0 else 4
    parts = [net.tensor(shape, scale) for _ in range(count)]
    options = {"Num": count, "Axis": axis}
    net.ops.append(files.OpSpec("UNPACK", [x], parts, options, "UnpackOptions"))
    out = net.tensor((*shape[:1], 5 * count), scale)
    content = net.content(net.op("CONCATENATION", parts, out, "ConcatenationOptions", Axis=1))
    if scale is None:
        _, fixed = apply("unpack", content, tmp_path)
    else:
        fixed = fix(content, "coral-usb", tmp_path)
        assert fixed.report.after.verdict == "ok"
    assert fixed.ops == ["SLICE", "RESHAPE"] * count + ["CONCATENATION"]
    fixed.assert_equal()
