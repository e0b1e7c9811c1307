"""Chosen ranges in an OpenVINO model: which change, and on which grid they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

ov = pytest.importorskip("openvino")


def quantized(low: float, high: float, *, concatenated: bool = False) -> Any:
    """One FakeQuantize of 256 levels, by itself or before a Concat."""
    from openvino import opset13 as ops

    x = ops.parameter([1, 100], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    ends = [np.full((1, 1), end, np.float32) for end in (low, high)]
    y = ops.fake_quantize(x, *ends, *ends, 256)
    y = ops.concat([y, y], 1) if concatenated else ops.relu(y)
    return ov.Model([y], [x], "one")


def ranges(model: Any) -> list[float]:
    (node,) = [n for n in model.get_ops() if n.get_type_name() == "FakeQuantize"]
    return [float(np.asarray(node.input_value(i).get_node().data).item()) for i in range(1, 5)]


def samples(least: float) -> list[dict[str, Any]]:
    """4000 values from `least` to 4, and one of 30."""
    made = np.random.default_rng(0).uniform(least, 4, (40, 1, 100)).astype(np.float32)
    made[0, 0, 0] = 30
    return [{"x": row} for row in made]


@pytest.mark.parametrize(
    ("low", "high", "least"), [(-30 * 128 / 127, 30, -2), (0, 30, 0), (-2, 30, -2)]
)
def test_an_outlier_is_left_out_and_the_kind_of_grid_stays(
    low: float, high: float, least: float
) -> None:
    from edgekit.export.openvino_ranges import choose_ranges

    model = quantized(low, high)
    assert choose_ranges(model, samples(least), "percentile", 99.9) == 1
    new_low, new_high, *outputs = ranges(model)
    assert outputs == [new_low, new_high]
    assert new_high == pytest.approx(4, rel=0.05)
    wanted = {0: 0.0, -2: -2.0}.get(low, -new_high * 128 / 127)  # type: ignore[call-overload]
    assert new_low == pytest.approx(wanted, abs=0.05)
    step = (new_high - new_low) / 255
    assert new_low / step == pytest.approx(round(new_low / step), abs=1e-3)  # zero is on the grid


def test_concatenated_values_keep_their_one_range() -> None:
    from edgekit.export.openvino_ranges import choose_ranges

    model = quantized(-2, 30, concatenated=True)
    assert choose_ranges(model, samples(-2), "mse", 99.99) == 0
    assert ranges(model) == [-2, 30, -2, 30]
