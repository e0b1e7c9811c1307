"""A free batch becomes 1, and what the file computes from shapes becomes constant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.graph.tflite import read_buffer
from tests.fixing.cases import Net, fix


def asks_for_its_batch(*, free: tuple[bool, bool] = (True, False)) -> bytes:
    """SHAPE, STRIDED_SLICE and PACK tell a RESHAPE the batch, as converters write it."""
    net = Net()
    x = net.given((1, 4, 6), 0.05, 3, free=free[0])
    if free[1]:
        net.tensors[x].signature = [-1, -1, 6]
    y = net.op("RELU", [x], net.tensor((1, 4, 6), 0.05, 3, free=True))
    shape = net.op("SHAPE", [y], net.tensor((3,), dtype="int32"), "ShapeOptions", OutType=2)
    ends = [net.constant(np.array([value], np.int32)) for value in (0, 1, 1)]
    batch = net.op(
        "STRIDED_SLICE", [shape, *ends], net.tensor((), dtype="int32"), "StridedSliceOptions",
        ShrinkAxisMask=1,
    )  # fmt: skip
    flat = net.constant(np.array(6 if free[1] else 24, np.int32))
    packed = net.op(
        "PACK", [batch, flat], net.tensor((2,), dtype="int32"), "PackOptions", ValuesCount=2
    )
    z = net.tensor((1, 1), 0.05, 3)
    net.tensors[z].signature = [-1, -1]
    return net.content(net.op("RESHAPE", [y, packed], z))


def test_a_free_batch_is_fixed(tmp_path: Path) -> None:
    fixed = fix(asks_for_its_batch(), "coral-usb", tmp_path)
    assert fixed.ops == ["RELU", "RESHAPE"]
    assert fixed.report.before.verdict != "ok"
    assert fixed.report.after.verdict == "ok"
    assert [one.rewrite for one in fixed.report.rewrites] == ["fix-batch"]
    assert fixed.report.rewrites[0].difference.max_abs == 0
    graph = read_buffer(fixed.after)
    assert all(None not in tensor.shape for tensor in graph.tensors)
    assert graph.tensors[graph.outputs[0].tensor].shape == (1, 24)
    fixed.assert_equal()


def test_a_free_length_is_not_chosen(tmp_path: Path) -> None:
    fixed = fix(asks_for_its_batch(free=(True, True)), "coral-usb", tmp_path)
    assert not fixed.report.rewrites
    assert "free size beside its batch" in fixed.why("static_shapes")


def test_what_is_filled_keeps_its_scale(tmp_path: Path) -> None:
    """The first state of a recurrent layer, of as many rows as there are samples."""
    net = Net()
    x = net.given((1, 6), 0.05, 3, free=True)
    shape = net.op("SHAPE", [x], net.tensor((2,), dtype="int32"), "ShapeOptions", OutType=2)
    zero = net.constant(np.array(3, np.int8), 0.05, 3)
    state = net.op("FILL", [shape, zero], net.tensor((1, 6), 0.05, 3, free=True))
    out = net.op("ADD", [x, state], net.tensor((1, 6), 0.1, -4, free=True), "AddOptions")
    fixed = fix(net.content(out), "coral-usb", tmp_path)
    assert fixed.ops == ["ADD"]
    assert fixed.report.after.verdict == "ok"
    fixed.assert_equal()


@pytest.mark.parametrize("free", [True, False])
def test_what_has_nothing_to_do_with_it_is_not_told(tmp_path: Path, free: bool) -> None:
    net = Net()
    x = net.given((1, 6), 0.05, 3, free=free)
    out = net.op("ABS", [x], net.tensor((1, 6), 0.05, 3, free=free))
    assert fix(net.content(out), "coral-usb", tmp_path).why("operator") == "no rewrite is known"
