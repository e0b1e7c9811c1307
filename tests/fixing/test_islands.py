"""Float islands in int8 files go, and what would change numbers is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fixing.cases import Net, files, fix


def island(
    name: str, scale: float, zero: int, *, shape: tuple[int, ...] = (1, 4, 4, 8),
    before: str = "RELU",
) -> Net:  # fmt: skip
    """int8 RELU, DEQUANTIZE, one float operator, QUANTIZE, int8 RELU."""
    net = Net()
    x = net.op(before, [net.given((1, 4, 4, 8), 0.05, 3)], net.tensor((1, 4, 4, 8), 0.05, 3))
    real = net.op("DEQUANTIZE", [x], net.tensor((1, 4, 4, 8)))
    inputs = [real]
    if name == "RESHAPE":
        inputs.append(net.constant(np.array(shape, np.int32)))
    made = net.op(name, inputs, net.tensor(shape))
    back = net.op("QUANTIZE", [made], net.tensor(shape, scale, zero))
    net.op("RELU", [back], net.tensor(shape, scale, zero))
    return net


def test_a_moving_operator_is_bit_equal_in_int8(tmp_path: Path) -> None:
    net = island("RESHAPE", 0.05, 3, shape=(1, 128))
    fixed = fix(net.content(len(net.tensors) - 1), "coral-usb", tmp_path)
    assert fixed.ops == ["RELU", "RESHAPE", "RELU"]
    assert fixed.report.before.verdict == "fallback"
    assert fixed.report.after.verdict == "ok"
    assert all(entry.rewrite == "strip-islands" for entry in fixed.report.findings)
    assert fixed.report.rewrites[0].difference.max_steps == 0
    fixed.assert_equal()


def test_a_moving_operator_that_changes_the_scale_is_refused(tmp_path: Path) -> None:
    net = island("RESHAPE", 0.07, 3, shape=(1, 128))
    fixed = fix(net.content(len(net.tensors) - 1), "coral-usb", tmp_path, inexact=True)
    assert not fixed.report.rewrites
    assert fixed.after == fixed.before
    assert "different scales" in fixed.why("operator")


def test_a_computing_operator_needs_leave(tmp_path: Path) -> None:
    net = island("LOGISTIC", 1 / 256, -128)
    content = net.content(len(net.tensors) - 1)
    refused = fix(content, "coral-usb", tmp_path)
    assert not refused.report.rewrites
    assert "--allow-inexact" in refused.why("eight_bit")
    fixed = fix(content, "coral-usb", tmp_path, inexact=True)
    assert fixed.ops == ["RELU", "LOGISTIC", "RELU"]
    assert fixed.report.after.verdict == "ok"
    assert (fixed.report.rewrites[0].difference.max_steps or 0) <= 1
    fixed.assert_near(1 / 128)


def test_a_fixed_scale_is_kept_to(tmp_path: Path) -> None:
    net = island("LOGISTIC", 1 / 128, -128)  # int8 LOGISTIC has the scale 1/256
    fixed = fix(net.content(len(net.tensors) - 1), "coral-usb", tmp_path, inexact=True)
    assert not fixed.report.rewrites
    assert "another" in fixed.why("eight_bit")


@pytest.mark.parametrize(("scale", "ops"), [(0.05, ["RELU", "RELU"]), (0.06, None)])
def test_a_pair_that_changes_nothing_goes(
    tmp_path: Path, scale: float, ops: list[str] | None
) -> None:
    net = Net()
    x = net.op("RELU", [net.given((1, 16), 0.05, 3)], net.tensor((1, 16), 0.05, 3))
    real = net.op("DEQUANTIZE", [x], net.tensor((1, 16)))
    back = net.op("QUANTIZE", [real], net.tensor((1, 16), scale, 3))
    out = net.op("RELU", [back], net.tensor((1, 16), scale, 3))
    fixed = fix(net.content(out), "coral-usb", tmp_path)
    if ops is None:
        assert not fixed.report.rewrites
        requantized = fix(net.content(out), "coral-usb", tmp_path, inexact=True)
        assert requantized.ops == ["RELU", "QUANTIZE", "RELU"]
        assert (requantized.report.rewrites[0].difference.max_steps or 0) <= 1
    else:
        assert fixed.ops == ops
        fixed.assert_equal()


def test_the_inputs_of_a_float_interface_are_left(tmp_path: Path) -> None:
    net = Net()
    x = net.op("QUANTIZE", [net.given((1, 16))], net.tensor((1, 16), 0.05, 3))
    y = net.op("RELU", [x], net.tensor((1, 16), 0.05, 3))
    out = net.op("DEQUANTIZE", [y], net.tensor((1, 16)))
    fixed = fix(net.content(out), "coral-usb", tmp_path, inexact=True)
    assert not fixed.report.rewrites
    assert "input of the model" in fixed.why("eight_bit")
    assert "output of the model" in fixed.why("operator")


@pytest.mark.parametrize(("scale", "exact"), [(0.05, True), (0.011, False)])
def test_a_negation_is_a_product(tmp_path: Path, scale: float, exact: bool) -> None:
    net = island("NEG", scale, -4, before="RELU_N1_TO_1")
    content = net.content(len(net.tensors) - 1)
    if not exact:
        assert "--allow-inexact" in fix(content, "coral-usb", tmp_path).why("operator")
    fixed = fix(content, "coral-usb", tmp_path, inexact=not exact)
    assert fixed.ops == ["RELU_N1_TO_1", "MUL", "RELU"]
    assert fixed.report.after.verdict == "ok"
    assert fixed.most_steps() <= (0 if exact else 1)


@pytest.mark.parametrize("scale", [0.05, 0.06])
def test_a_float_split_is_one_in_integers_where_scales_are_equal(
    tmp_path: Path, scale: float
) -> None:
    net = Net()
    x = net.op("RELU", [net.given((1, 16), 0.05, 3)], net.tensor((1, 16), 0.05, 3))
    real = net.op("DEQUANTIZE", [x], net.tensor((1, 16)))
    axis = net.constant(np.array(1, np.int32))
    halves = [net.tensor((1, 8)) for _ in range(2)]  # the second is not read by anything
    net.ops.append(files.OpSpec("SPLIT", [axis, real], halves, {"NumSplits": 2}, "SplitOptions"))
    back = net.op("QUANTIZE", [halves[0]], net.tensor((1, 8), scale, 3))
    out = net.op("RELU", [back], net.tensor((1, 8), scale, 3))
    fixed = fix(net.content(out), "coral-usb", tmp_path)
    if scale == 0.05:
        assert fixed.ops == ["RELU", "SPLIT", "RELU"]
        assert fixed.report.after.verdict == "ok"
        fixed.assert_equal()
    else:
        assert not fixed.report.rewrites
        assert "different scales" in fixed.why("operator")
