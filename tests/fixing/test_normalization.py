"""Layer normalization in several forms, and means over the channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.profiling.rewrites.base import RefusedError
from tests.fixing.cases import Net, apply, fix, run

_SETTINGS = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
_FORMS = ("keras", "plain", "divided")


class Norm:
    """Layer normalization of a map, written in one of the forms that converters make of it."""

    def __init__(self, shape: tuple[int, ...], *, integers: bool, epsilon: float = 1e-6) -> None:
        self.net, self.shape, self.integers, self.epsilon = Net(), shape, integers, epsilon
        self.x = self.net.given(shape, 0.03 if integers else None)
        self.axes = self.net.constant(np.array([-1], np.int32))

    def content(self, form: str, gain: np.ndarray, offset: np.ndarray | None) -> bytes:
        x, net = self.x, self.net
        mean = self.mean(x, 0.03)
        gap = self.two("SUB", x, mean, 0.05) if form != "keras" else x
        if form == "keras":
            square = net.op("SQUARED_DIFFERENCE", [x, mean], self.tensor(0.2, -128))
        else:
            square = self.two("MUL", gap, gap, 0.2, -128)
        variance = self.mean(square, 0.05, -128)
        shifted = self.two("ADD", variance, self.constant(np.array([self.epsilon])), 0.05, -128)
        if form == "divided":
            root = net.op("SQRT", [shifted], self.row(0.02, -128))
            made = self.two("DIV", gap, root, 0.03)
        else:
            root = net.op("RSQRT", [shifted], self.row(0.02, -128))
        if form == "keras":  # x * (r * g) + (b - m * (r * g))
            root = self.two("MUL", root, self.constant(gain), 0.02, -128)
            one = self.two("MUL", x, root, 0.03)
            other = self.two("MUL", mean, root, 0.03)
            if offset is None:
                return net.content(self.two("SUB", one, other, 0.03))
            other = self.two("SUB", self.constant(offset), other, 0.03)
            return net.content(self.two("ADD", one, other, 0.03))
        if form == "plain":
            made = self.two("MUL", gap, root, 0.03)
        made = self.two("MUL", made, self.constant(gain), 0.03)
        if offset is not None:
            made = self.two("ADD", made, self.constant(offset), 0.03)
        return net.content(made)

    def tensor(self, scale: float, zero: int = 0, shape: tuple[int, ...] | None = None) -> int:
        return self.net.tensor(shape or self.shape, scale if self.integers else None, zero)

    def row(self, scale: float, zero: int = 0) -> int:
        return self.tensor(scale, zero, (*self.shape[:-1], 1))

    def mean(self, source: int, scale: float, zero: int = 0) -> int:
        return self.net.op(
            "MEAN", [source, self.axes], self.row(scale, zero), "ReducerOptions", KeepDims=True
        )

    def two(self, name: str, one: int, other: int, scale: float, zero: int = 0) -> int:
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}
        shapes = [tuple(self.net.tensors[index].shape) for index in (one, other)]
        shape = np.broadcast_shapes(*shapes)
        made = self.tensor(scale, zero, shape)
        return self.net.op(name, [one, other], made, options.get(name, "DivOptions"))

    def constant(self, values: np.ndarray) -> int:
        array = np.atleast_1d(values).astype(np.float32)
        if not self.integers:
            return self.net.constant(array)
        scale = float(np.abs(array).max()) / 127
        return self.net.constant(np.round(array / scale).astype(np.int8), scale)


@_SETTINGS
@given(
    form=st.sampled_from(_FORMS),
    shape=st.sampled_from([(1, 4, 5, 8), (1, 7, 16), (1, 12)]),
    biased=st.booleans(),
    equal=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_form_is_an_l2_normalization(
    tmp_path: Path, form: str, shape: tuple[int, ...], biased: bool, equal: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gain = np.full(shape[-1], 1.5) if equal else rng.uniform(0.3, 2, shape[-1])
    offset = rng.normal(size=shape[-1]) if biased else None
    content = Norm(shape, integers=False).content(form, gain, offset)
    index = {"keras": 1, "plain": 5, "divided": 4}[form]
    change, pair = apply("layer-norm", content, tmp_path, index=index)
    assert change.promise == "approximate"
    assert pair.ops == ["MEAN", "SUB", "L2_NORMALIZATION", "MUL", *(["ADD"] if biased else [])]
    pair.assert_near(1e-4)


@pytest.mark.parametrize("form", ["keras", "plain"])
@pytest.mark.parametrize("biased", [False, True])
def test_in_int8_the_edge_tpu_takes_it(tmp_path: Path, form: str, biased: bool) -> None:
    rng = np.random.default_rng(0)
    offset = rng.normal(0, 0.3, size=16) if biased else None
    content = Norm((1, 4, 4, 16), integers=True).content(form, rng.uniform(0.5, 1, 16), offset)
    kept = fix(content, "coral-usb", tmp_path)
    assert "--allow-inexact" in kept.why("operator")
    fixed = fix(content, "coral-usb", tmp_path, inexact=True, tolerance=0.05)
    assert "layer-norm" in [one.rewrite for one in fixed.report.rewrites], fixed.why("operator")
    assert fixed.report.after.verdict == "ok"
    assert fixed.report.rewrites[-1].difference.relative <= 0.05


def test_other_normalizations_are_refused(tmp_path: Path) -> None:
    """A root of a variance over height and width, and one that scales something else than x - m."""
    norm = Norm((1, 4, 4, 8), integers=False)
    norm.axes = norm.net.constant(np.array([1], np.int32))
    norm.row = lambda scale, zero=0: norm.tensor(scale, zero, (1, 1, 4, 8))  # type: ignore[method-assign]
    content = norm.content("plain", np.ones(8), None)
    with pytest.raises(RefusedError, match="not part of a layer normalization"):
        apply("layer-norm", content, tmp_path, index=5)
    norm = Norm((1, 4, 8), integers=False)
    mean = norm.mean(norm.x, 1)
    square = norm.net.op("SQUARED_DIFFERENCE", [norm.x, mean], norm.tensor(1))
    root = norm.net.op("RSQRT", [norm.mean(square, 1)], norm.row(1))
    content = norm.net.content(norm.two("MUL", norm.x, root, 1))  # without the mean taken away
    with pytest.raises(RefusedError, match="not part of a layer normalization"):
        apply("layer-norm", content, tmp_path, index=3)


def channel_mean(
    shape: tuple[int, ...], *, integers: bool, keep: bool = True, free: bool = False
) -> bytes:
    net = Net()
    x = net.given(shape, 0.03 if integers else None, 5 if integers else 0, free=free)
    axes = net.constant(np.array([len(shape) - 1], np.int32))
    out = (*shape[:-1], 1) if keep else shape[:-1]
    made = net.tensor(out, 0.02 if integers else None, -3 if integers else 0, free=free)
    return net.content(net.op("MEAN", [x, axes], made, "ReducerOptions", KeepDims=keep))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("shape", [(1, 6, 5, 8), (1, 3, 2, 5, 8)])
def test_a_mean_of_one_row_is_the_same(tmp_path: Path, shape: tuple[int, ...], keep: bool) -> None:
    content = channel_mean(shape, integers=True, keep=keep)
    if len(shape) == 4:
        fixed = fix(content, "ethos-u55-128", tmp_path)
        assert [one.rewrite for one in fixed.report.rewrites] == ["flat-mean"]
        assert fixed.report.after.verdict == "ok"
        fixed.assert_equal()
    _, pair = apply("flat-mean", content, tmp_path)
    assert pair.ops == ["RESHAPE", "MEAN", "RESHAPE"]
    pair.assert_equal()


@_SETTINGS
@given(
    shape=st.lists(st.integers(2, 7), min_size=1, max_size=4).map(lambda sizes: (1, *sizes)),
    integers=st.booleans(),
    keep=st.booleans(),
    free=st.booleans(),
)
def test_a_mean_is_a_convolution(
    tmp_path: Path, shape: tuple[int, ...], integers: bool, keep: bool, free: bool
) -> None:
    content = channel_mean(shape, integers=integers, keep=keep, free=free)
    change, pair = apply("mean-convolution", content, tmp_path)
    assert "CONV_2D" in pair.ops
    if not integers:
        assert change.promise == "rounding"
        pair.assert_near(1e-5)
        return
    assert pair.most_steps() <= 1


def test_a_mean_over_other_channels_than_fours_is_mapped(tmp_path: Path) -> None:
    fixed = fix(channel_mean((1, 4, 4, 6), integers=True), "coral-usb", tmp_path, inexact=True)
    assert [one.rewrite for one in fixed.report.rewrites] == ["mean-convolution"]
    assert fixed.report.after.verdict == "ok"


@pytest.mark.parametrize("name", ["flat-mean", "mean-convolution"])
def test_a_mean_over_the_map_is_refused(tmp_path: Path, name: str) -> None:
    net = Net()
    x = net.given((1, 4, 4, 6))
    axes = net.constant(np.array([1, 2], np.int32))
    made = net.op("MEAN", [x, axes], net.tensor((1, 6)), "ReducerOptions")
    with pytest.raises(RefusedError, match="not over the channels"):
        apply(name, net.content(made), tmp_path)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("form", ["keras", "plain"])
def test_a_dpu_keeps_the_root_alone(tmp_path: Path, form: str, *, integers: bool) -> None:
    norm = Norm((1, 4, 4, 16), integers=integers)
    content = norm.content(form, np.full((1, 1, 1, 16), 1.5), np.full((1, 1, 1, 16), 0.25))
    fixed = fix(content, "kv260-dpu-b4096", tmp_path, inexact=True, tolerance=0.05)
    if not integers:  # the DPU takes no float, whatever its form
        assert not fixed.report.rewrites
        return
    stands = [op for op in fixed.report.after.ops if op.where != "dpu"]
    assert [op.op for op in stands] == ["RSQRT"]
    assert "fine-tuning" in fixed.why("element_wise")
    assert {"mean-convolution"} <= {one.rewrite for one in fixed.report.rewrites}
    assert not {"MEAN", "SUB", "NEG", "SQUARED_DIFFERENCE"} & set(fixed.ops)
    fixed.assert_near(0.05)


@_SETTINGS
@given(
    dtype=st.sampled_from(["float32", "int8"]),
    zero=st.integers(-128, 127),
    other=st.integers(-128, 127),
    constant=st.booleans(),
)
def test_a_difference_is_a_sum_with_the_negative(
    tmp_path: Path, dtype: str, zero: int, other: int, *, constant: bool
) -> None:
    net = Net()
    integers = dtype == "int8"
    shape = (1, 3, 4, 8)
    x = net.given(shape, 0.04 if integers else None, zero if integers else 0)
    if not constant:
        y = net.given(shape, 0.03 if integers else None, other if integers else 0)
    elif integers:
        y = net.constant(np.arange(-128, -120, dtype=np.int8).reshape(1, 1, 1, 8), 0.03, other)
    else:
        y = net.constant(np.linspace(-3, 3, 8, dtype=np.float32).reshape(1, 1, 1, 8))
    made = net.op("SUB", [x, y], net.tensor(shape, 0.08 if integers else None), "SubOptions")
    change, pair = apply("negation", net.content(made), tmp_path)
    assert "SUB" not in pair.ops
    assert len(pair.ops) == (1 if constant else 2)
    if integers:
        assert pair.most_steps() <= 1
    else:
        assert change.promise == "bits"
        pair.assert_equal()


@pytest.mark.parametrize(("scale", "zero"), [(None, 0), (0.05, 3), (0.05, -128)])
def test_a_negation_is_a_depthwise_convolution(
    tmp_path: Path, scale: float | None, zero: int
) -> None:
    net = Net()
    x = net.given((1, 3, 4, 8), scale, zero)
    made = net.op("NEG", [x], net.tensor((1, 3, 4, 8), scale, -1 - zero), "NegOptions")
    _, pair = apply("negation", net.content(made), tmp_path)
    assert pair.ops == ["DEPTHWISE_CONV_2D"]
    if scale is None:
        pair.assert_equal()
        return
    # LiteRT negates float32 only, so that the int8 kernel is held to arithmetic.
    found = next(iter(run(pair.after, tmp_path, 5).values()))
    given_values = np.random.default_rng(5).integers(-128, 128, (16, 3, 4, 8)).astype(np.int8)
    np.testing.assert_array_equal(found, ~given_values)
