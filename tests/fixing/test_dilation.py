"""A convolution between blocks is a dilated one, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgekit.profiling.rewrites.base import RefusedError
from tests.fixing.cases import Net, apply, fix

Pairs = tuple[tuple[int, int], ...]
_CHANNELS, _FILTERS = 3, 5


@dataclass(frozen=True)
class Blocks:
    """A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND; one size: of a sequence."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    blocks: tuple[int, ...]
    pads: Pairs
    crops: Pairs
    same: bool = False
    depthwise: bool = False
    integers: bool = True
    free: bool = False
    strides: int = 1
    rescaled: bool = False
    watched: bool = False
    between: str = ""

    @property
    def inner(self) -> list[int]:
        """Sizes of a block's map."""
        parts = zip(self.sizes, self.pads, self.blocks, strict=True)
        return [(size + sum(pad)) // block for size, pad, block in parts]

    @property
    def after(self) -> list[int]:
        """Sizes of what the convolution makes of it."""
        lost = [0 if self.same else span - 1 for span in self.kernel]
        return [size - less for size, less in zip(self.inner, lost, strict=True)]

    @property
    def results(self) -> list[int]:
        """Sizes of the result."""
        parts = zip(self.after, self.blocks, self.crops, strict=True)
        return [size * block - sum(crop) for size, block, crop in parts]

    @property
    def crops_more(self) -> bool:
        """Whether more is cropped than was padded, the convolution's own padding included."""
        return any(
            crop[side] > pad[side] + self.same * block * ((span - 1 + side) // 2)
            for crop, pad, block, span in zip(
                self.crops, self.pads, self.blocks, self.kernel, strict=True
            )
            for side in (0, 1)
        )

    def content(self, seed: int = 0) -> bytes:
        """The file."""
        net, rng = Net(), np.random.default_rng(seed)
        filters = _CHANNELS if self.depthwise else _FILTERS
        flat = len(self.sizes) == 1
        block = int(np.prod(self.blocks))
        inner, after, results = self.inner, self.after, self.results
        x = net.given((1, *self.sizes, _CHANNELS), *self._scale(), free=self.free)
        tables = [net.constant(np.array(v, np.int32)) for v in (self.blocks, self.pads, self.crops)]
        make = self._tensors(net)
        split = make((block, *inner, _CHANNELS), rescaled=self.rescaled)
        y = net.op("SPACE_TO_BATCH_ND", [x, *tables[:2]], split)
        outputs = [y] if self.watched else []
        if flat:
            axis = net.constant(np.array(1, np.int32))
            wide = make((block, 1, *inner, _CHANNELS), rescaled=self.rescaled)
            y = net.op("EXPAND_DIMS", [y, axis], wide)
        if self.between:
            y = net.op(self.between, [y], make(tuple(net.tensors[y].shape)))
        y = self._convolution(net, rng, y, (block, *([1] if flat else []), *after, filters))
        if flat:
            shape = (block, *after, filters)
            form = net.constant(np.array([-1, *shape[1:]], np.int32))
            y = net.op("RESHAPE", [y, form], make(shape, result=True))
        last = make((1, *results, filters), result=True)
        net.op("BATCH_TO_SPACE_ND", [y, tables[0], tables[2]], last)
        return net.content(*outputs, last)

    def _scale(self) -> tuple[Any, ...]:
        return (0.05, 7) if self.integers else (None,)

    def _tensors(self, net: Net) -> Any:
        def make(shape: tuple[int, ...], *, result: bool = False, rescaled: bool = False) -> int:
            scale = (0.2, -9) if result else (0.1, 7) if rescaled else (0.05, 7)
            return net.tensor(shape, *(scale if self.integers else ()), free=self.free)

        return make

    def _convolution(self, net: Net, rng: Any, x: int, shape: tuple[int, ...]) -> int:
        kernel = (1,) * (2 - len(self.kernel)) + self.kernel
        filters = shape[-1]
        form = (1, *kernel, filters) if self.depthwise else (filters, *kernel, _CHANNELS)
        if self.integers:
            scales = rng.uniform(0.01, 0.03, filters).tolist()
            weights = net.constant(
                rng.integers(-127, 128, form).astype(np.int8), scales, axis=3 * self.depthwise
            )
            several = [0.05 * scale for scale in scales]
            bias = net.constant(rng.integers(-500, 500, filters).astype(np.int32), several)
        else:
            weights = net.constant(rng.normal(size=form).astype(np.float32))
            bias = net.constant(rng.normal(size=filters).astype(np.float32))
        name = "DEPTHWISE_CONV_2D" if self.depthwise else "CONV_2D"
        more = {"DepthMultiplier": 1} if self.depthwise else {}
        return net.op(
            name, [x, weights, bias], self._tensors(net)(shape, result=True),
            "DepthwiseConv2DOptions" if self.depthwise else "Conv2DOptions",
            Padding=0 if self.same else 1, StrideH=self.strides, StrideW=self.strides,
            DilationHFactor=1, DilationWFactor=1, FusedActivationFunction=1, **more,
        )  # fmt: skip


PLAIN = Blocks((9, 9), (3, 3), (2, 2), ((2, 3), (2, 3)), ((0, 1), (0, 1)))
ROW = Blocks((16,), (3,), (2,), ((0, 0),), ((0, 0),))


@pytest.mark.parametrize(
    ("case", "ops"),
    [
        (PLAIN, ["CONV_2D"]),
        (replace(PLAIN, depthwise=True), ["DEPTHWISE_CONV_2D"]),
        (replace(PLAIN, free=True), ["CONV_2D"]),
        (Blocks((8, 8), (3, 3), (2, 2), ((0, 0),) * 2, ((0, 0),) * 2), ["CONV_2D"]),
        (Blocks((8, 8), (3, 3), (2, 2), ((0, 0),) * 2, ((0, 0),) * 2, same=True), ["CONV_2D"]),
        (Blocks((8, 8), (3, 3), (2, 2), ((4, 0),) * 2, ((0, 0),) * 2), ["PAD", "CONV_2D"]),
        (ROW, ["RESHAPE", "CONV_2D", "RESHAPE"]),
        (replace(ROW, pads=((4, 0),)), ["RESHAPE", "PAD", "CONV_2D", "RESHAPE"]),
        (replace(ROW, same=True, free=True), ["RESHAPE", "CONV_2D", "RESHAPE"]),
    ],
)
def test_it_is_one_convolution(tmp_path: Path, case: Blocks, ops: list[str]) -> None:
    if case.free:  # whether the batch is fixed first or not
        _, pair = apply("dilation", case.content(), tmp_path)
        assert pair.ops == ops
        pair.assert_equal()
    fixed = fix(case.content(), "coral-usb", tmp_path)
    assert fixed.report.before.verdict == "fallback"
    assert fixed.report.after.verdict == "ok"
    assert fixed.ops == ops
    assert "dilation" in [one.rewrite for one in fixed.report.rewrites]
    fixed.assert_equal()


def test_floats_are_near(tmp_path: Path) -> None:
    change, pair = apply("dilation", replace(PLAIN, integers=False).content(), tmp_path)
    assert change.promise == "rounding"
    assert pair.ops == ["CONV_2D"]
    pair.assert_near(1e-6)


def test_it_is_found_from_its_end(tmp_path: Path) -> None:
    change, pair = apply("dilation", ROW.content(), tmp_path, index=4)
    assert change.promise == "bits"
    assert pair.ops == ["RESHAPE", "CONV_2D", "RESHAPE"]
    pair.assert_equal()


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (replace(PLAIN, crops=((3, 0), (0, 1))), "more is cropped"),
        (Blocks((8, 8), (1, 1), (2, 2), ((0, 0),) * 2, ((0, 0),) * 2, strides=2), "strides"),
        (replace(PLAIN, rescaled=True), "scale changes"),
        (replace(PLAIN, watched=True), "others read"),
        (replace(PLAIN, between="RELU"), "RELU is between"),
    ],
)
def test_what_is_not_one_stays(tmp_path: Path, case: Blocks, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        apply("dilation", case.content(), tmp_path)


_pair = st.tuples(st.integers(0, 5), st.integers(0, 5))


@st.composite
def blocks(draw: st.DrawFn) -> Blocks:
    """Blocks of any size, with any padding and cropping."""
    count = draw(st.integers(1, 2))
    sizes, kernel, factors, pads, crops = [], [], [], [], []
    for _ in range(count):
        factor, span = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        before, after = draw(_pair)
        least = max(1, factor * span - before - after)
        size = draw(st.integers(least, least + 8))
        after += -(size + before + after) % factor
        sizes.append(size)
        kernel.append(span)
        factors.append(factor)
        pads.append((before, after))
        most = draw(st.sampled_from([0, 2, 5]))
        crops.append(tuple(draw(st.integers(0, most)) for _ in range(2)))
    return Blocks(
        tuple(sizes), tuple(kernel), tuple(factors), tuple(pads), tuple(crops),
        same=draw(st.booleans()), depthwise=draw(st.booleans()), free=draw(st.booleans()),
    )  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=blocks(), seed=st.integers(0, 2**16))
def test_any_blocks_give_the_same_integers_or_are_refused(
    tmp_path: Path, case: Blocks, seed: int
) -> None:
    assume(min(*case.inner, *case.after, *case.results) > 0)
    content = case.content(seed)
    if case.crops_more:
        with pytest.raises(RefusedError, match="more is cropped"):
            apply("dilation", content, tmp_path)
        return
    change, pair = apply("dilation", content, tmp_path)
    assert change.promise == "bits"
    assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & set(pair.ops)
    pair.assert_equal()
