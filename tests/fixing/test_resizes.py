"""Resizes in other modes and steps, where these are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.pipeline.fixing import fix_file
from edgekit.profiling.rewrites.base import RefusedError
from edgekit.profiling.targets import load_target
from tests.fixing.cases import Net, apply, fix

_OPTIONS = {
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
}
_MODES = [(False, False), (True, False), (False, True)]


def resize(
    name: str, before: int, after: int, mode: tuple[bool, bool], *, integers: bool = True
) -> bytes:
    net = Net()
    scale = 0.05 if integers else None
    x = net.given((1, before, before, 2), scale)
    size = net.constant(np.array([after, after], np.int32))
    out = net.tensor((1, after, after, 2), scale)
    return net.content(
        net.op(name, [x, size], out, _OPTIONS[name], AlignCorners=mode[0], HalfPixelCenters=mode[1])
    )


def test_nearest_with_aligned_corners_is_plain(tmp_path: Path) -> None:
    content = resize("RESIZE_NEAREST_NEIGHBOR", 8, 16, (True, False))
    fixed = fix(content, "ethos-u55-128", tmp_path)
    assert [one.rewrite for one in fixed.report.rewrites] == ["resize-mode"]
    assert fixed.report.after.verdict == "ok"
    fixed.assert_equal()


def test_large_steps_are_split(tmp_path: Path) -> None:
    content = resize("RESIZE_NEAREST_NEIGHBOR", 4, 64, (False, False))
    fixed = fix(content, "ethos-u55-128", tmp_path)
    assert [one.rewrite for one in fixed.report.rewrites] == ["resize-steps"]
    assert fixed.ops == ["RESIZE_NEAREST_NEIGHBOR"] * 2
    assert fixed.report.after.verdict == "ok"
    fixed.assert_equal()


@pytest.mark.parametrize("integers", [True, False])
@pytest.mark.parametrize("mode", _MODES)
def test_one_value_spreads_over_a_map_in_steps(
    tmp_path: Path, mode: tuple[bool, bool], integers: bool
) -> None:
    """DeepLab's pooled branch, 1x1 to 33x33, which the Edge TPU compiler leaves to the CPU."""
    content = resize("RESIZE_BILINEAR", 1, 33, mode, integers=integers)
    if not integers:
        change, pair = apply("resize-steps", content, tmp_path)
        assert change.promise == "rounding"
        pair.assert_near(1e-6)
        return
    fixed = fix(content, "coral-usb", tmp_path)
    assert fixed.ops == ["RESIZE_BILINEAR"] * 2
    assert fixed.report.rewrites[0].promise == "bits"
    assert fixed.report.after.verdict == "ok"
    fixed.assert_equal()


@pytest.mark.slow
def test_deeplab_is_mapped_up_to_its_largest_resize(shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / "coral_deeplabv3_mnv2_dm05_pascal_quant.tflite"
    report = fix_file(path, load_target("coral-usb"), None, samples=1)
    before, after = ([op.where for op in one.ops] for one in (report.before, report.after))
    assert (before.count("cpu"), after.count("cpu")) == (8, 2)
    assert {one.difference.max_steps for one in report.rewrites} == {0}


@pytest.mark.parametrize("name", ["resize-mode", "resize-steps"])
def test_what_is_not_the_same_is_refused(tmp_path: Path, name: str) -> None:
    content = resize("RESIZE_BILINEAR", 4, 64, (False, True))
    with pytest.raises(RefusedError, match="same"):
        apply(name, content, tmp_path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rewrite=st.sampled_from(["resize-mode", "resize-steps"]),
    name=st.sampled_from(sorted(_OPTIONS)),
    before=st.integers(1, 6),
    after=st.integers(1, 96) | st.sampled_from([16, 32, 48, 64, 96]),
    mode=st.sampled_from(_MODES),
)
def test_what_is_taken_is_the_same(
    tmp_path: Path, rewrite: str, name: str, before: int, after: int, mode: tuple[bool, bool]
) -> None:
    content = resize(name, before, after, mode, integers=False)
    try:
        _, pair = apply(rewrite, content, tmp_path)
    except RefusedError:
        return
    assert pair.before != pair.after
    pair.assert_near(1e-5)
