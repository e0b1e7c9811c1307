"""A dense layer is a 1x1 convolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.graph.tflite import read_buffer
from edgekit.profiling.rewrites.base import RefusedError
from tests.fixing.cases import Net, apply, fix

_SETTINGS = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def dense(
    shape: tuple[int, ...],
    *,
    integers: bool,
    scales: int = 1,
    bias: bool = True,
    fused: int = 0,
    keep: bool = True,
    free: bool = False,
) -> bytes:
    net = Net()
    rng = np.random.default_rng(2)
    x = net.given(shape, 0.02 if integers else None, -5 if integers else 0, free=free)
    depth, outputs = shape[-1], 7
    if integers:
        steps = list(rng.uniform(0.003, 0.02, outputs)) if scales > 1 else [0.01]
        w = net.constant(rng.integers(-127, 128, (outputs, depth)).astype(np.int8), steps)
        inner = [0.02 * step for step in steps]
        b = net.constant(rng.integers(-900, 900, outputs).astype(np.int32), inner)
    else:
        w = net.constant(rng.normal(size=(outputs, depth)).astype(np.float32))
        b = net.constant(rng.normal(size=outputs).astype(np.float32))
    rows = (*shape[:-1], outputs) if keep else (int(np.prod(shape[:-1])), outputs)
    made = net.tensor(rows, 0.2 if integers else None, 3 if integers else 0, free=free)
    return net.content(
        net.op(
            "FULLY_CONNECTED", [x, w, b if bias else -1], made, "FullyConnectedOptions",
            KeepNumDims=keep, FusedActivationFunction=fused,
        )
    )  # fmt: skip


@_SETTINGS
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(lambda sizes: (1, *sizes)),
    integers=st.booleans(),
    scales=st.sampled_from([1, 7]),
    bias=st.booleans(),
    fused=st.sampled_from([0, 1, 3]),
    keep=st.booleans(),
)
def test_a_convolution_gives_the_same(
    tmp_path: Path,
    shape: tuple[int, ...],
    integers: bool,
    scales: int,
    bias: bool,
    fused: int,
    keep: bool,
) -> None:
    content = dense(shape, integers=integers, scales=scales, bias=bias, fused=fused, keep=keep)
    change, pair = apply("dense-convolution", content, tmp_path)
    assert "CONV_2D" in pair.ops and "FULLY_CONNECTED" not in pair.ops
    if integers:
        assert change.promise == "bits"
        pair.assert_equal()
    else:
        pair.assert_near(1e-5)


@pytest.mark.parametrize(
    ("shape", "scales", "rule"),
    [((1, 12), 7, "dense_one_scale"), ((1, 5, 12), 1, "dense_one_dimension")],
)
@pytest.mark.parametrize("free", [False, True])
def test_the_edge_tpu_takes_it(
    tmp_path: Path, shape: tuple[int, ...], scales: int, rule: str, free: bool
) -> None:
    content = dense(shape, integers=True, scales=scales, free=free)
    fixed = fix(content, "coral-usb", tmp_path)
    before = [finding.rule for op in fixed.report.before.ops for finding in op.findings]
    assert before == [rule]
    assert fixed.report.after.verdict == "ok"
    assert fixed.ops == ["RESHAPE", "CONV_2D", "RESHAPE"]
    fixed.assert_equal()


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    net = Net()
    x, w = net.given((1, 4)), net.given((3, 4))
    made = net.op("FULLY_CONNECTED", [x, w, -1], net.tensor((1, 3)), "FullyConnectedOptions")
    with pytest.raises(RefusedError, match="computed"):
        apply("dense-convolution", net.content(made), tmp_path)


def test_the_convolution_is_of_the_same_layer(tmp_path: Path) -> None:
    net = Net()
    x = net.given((1, 4), 0.05)
    w = net.constant(np.ones((3, 4), np.int8), [0.01, 0.02, 0.03])
    net.tensors[w].name = "functional/head_1/MatMul"
    out = net.tensor((1, 3), 0.05)
    net.tensors[out].name = "StatefulPartitionedCall:0"  # as of every output of the model
    content = net.content(net.op("FULLY_CONNECTED", [x, w, -1], out, "FullyConnectedOptions"))
    fixed = fix(content, "coral-usb", tmp_path)
    (made,) = [op for op in read_buffer(fixed.after).ops if op.name == "CONV_2D"]
    assert made.layer == "head_1"
