"""Means over height and width become average pools, whole or in two steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fixing.cases import Net, fix


def mean(
    height: int,
    width: int,
    *,
    scales: tuple[float, float] | None = None,
    axes: tuple[int, ...] = (1, 2),
    keep: bool = False,
) -> bytes:
    net = Net()
    before, after = scales or (None, None)
    x = net.given((1, height, width, 4), before, 3 if before else 0)
    shape = {(1, 2): (1, 1, 1, 4) if keep else (1, 4), (1,): (1, width, 4)}[axes]
    y = net.op(
        "MEAN", [x, net.constant(np.array(axes, np.int32))],
        net.tensor(shape, after, -7 if after else 0), "ReducerOptions", KeepDims=keep,
    )  # fmt: skip
    return net.content(y)


@pytest.mark.parametrize("keep", [False, True])
def test_a_float_mean_is_an_average_pool(tmp_path: Path, keep: bool) -> None:
    fixed = fix(mean(6, 5, keep=keep), "rules:tflm-cmsis-nn", tmp_path)
    assert "optimized_operator" in [entry.finding.rule for entry in fixed.report.findings]
    # CMSIS-NN has no float kernel of the pool either: the new finding is another, and it stays.
    assert not fixed.report.rewrites
    assert "int8_or_int16_kernel" in fixed.why("optimized_operator")


@pytest.mark.parametrize("scales", [(0.05, 0.05), (0.05, 0.02)])
def test_an_int8_mean_is_an_average_pool(tmp_path: Path, scales: tuple[float, float]) -> None:
    content = mean(6, 5, scales=scales)
    fixed = fix(content, "rules:tflm-cmsis-nn", tmp_path, inexact=True)
    assert fixed.ops == ["AVERAGE_POOL_2D", "RESHAPE", "QUANTIZE"]
    assert fixed.report.after.verdict == "ok"
    assert not fixed.standing
    assert (fixed.report.rewrites[0].difference.max_steps or 0) <= 2
    assert not fix(content, "rules:tflm-cmsis-nn", tmp_path).report.rewrites


def test_a_large_mean_is_split(tmp_path: Path) -> None:
    content = mean(256, 128, scales=(0.05, 0.01))
    fixed = fix(content, "coral-usb", tmp_path, inexact=True, tolerance=0.05)
    assert fixed.ops == ["AVERAGE_POOL_2D", "MEAN"]
    assert not fixed.standing
    assert fixed.report.after.verdict == "ok"
    assert fixed.most_steps() <= 4  # half a step of the parts is 2.5 of the result


def test_a_mean_of_a_prime_height_stays(tmp_path: Path) -> None:
    fixed = fix(mean(16411, 1, scales=(0.05, 0.01)), "ethos-u55-128", tmp_path, inexact=True)
    assert not fixed.report.rewrites
    assert "no divisors" in fixed.why("small_mean")


def test_another_mean_is_refused(tmp_path: Path) -> None:
    fixed = fix(
        mean(6, 5, scales=(0.05, 0.05), axes=(1,)), "rules:tflm-cmsis-nn", tmp_path, inexact=True
    )
    assert not fixed.report.rewrites
    assert "not over height and width" in fixed.why("optimized_operator")
