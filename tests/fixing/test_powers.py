"""Powers by constants are multiplications and roots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.profiling.rewrites.base import RefusedError
from tests.fixing.cases import Net, apply, fix


def powered(exponent: float) -> bytes:
    net = Net()
    x = net.given((1, 4, 6))
    positive = net.op("SQUARE", [x], net.tensor((1, 4, 6)), "SquareOptions")
    c = net.constant(np.float32(exponent))
    return net.content(net.op("POW", [positive, c], net.tensor((1, 4, 6)), "PowOptions"))


@pytest.mark.parametrize(
    ("exponent", "ops"),
    [(2, ["MUL"]), (3, ["MUL"] * 2), (4, ["MUL"] * 3), (0.5, ["SQRT"])],
)
def test_a_microcontroller_takes_it(tmp_path: Path, exponent: float, ops: list[str]) -> None:
    """TensorFlow Lite for Microcontrollers has no POW."""
    fixed = fix(powered(exponent), "rules:tflm", tmp_path)
    assert fixed.report.before.verdict == "unsupported"
    assert fixed.report.after.verdict == "ok"
    assert fixed.ops == ["SQUARE", *ops]
    fixed.assert_near(1e-5)


def test_one_over_a_root_is_rsqrt(tmp_path: Path) -> None:
    _, pair = apply("power", powered(-0.5), tmp_path, index=1)
    assert pair.ops == ["SQUARE", "RSQRT"]
    pair.assert_near(1e-5)


def test_what_differs_at_zero_is_refused(tmp_path: Path) -> None:
    """LiteRT's RSQRT of zero is not the power's infinity; the samples have zeros among them."""
    fixed = fix(powered(-0.5), "rules:tflm", tmp_path)
    assert not fixed.report.rewrites
    assert "results differ" in fixed.why("operator")


def test_a_square_is_a_product(tmp_path: Path) -> None:
    _, pair = apply("power", powered(2), tmp_path)
    assert pair.ops == ["MUL", "POW"]
    pair.assert_near(1e-6)


def test_other_powers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"power of 1\.5"):
        apply("power", powered(1.5), tmp_path, index=1)
