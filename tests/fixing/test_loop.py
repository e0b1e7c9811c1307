"""Whatever a rewrite claims, its result is looked at: rules, runtime and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.base.registry import Registry
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.pipeline.fixing import fix_model
from edgekit.pipeline.fixing_tflite import TFLiteBench
from edgekit.profiling.rewrites import Change, Rewrite, Site
from edgekit.profiling.rewrites.base import operator, rewrite
from edgekit.profiling.targets import load_target
from tests.fixing.cases import Fixed, Net, fix, target_with


@rewrite("operator", ops="HARD_SWISH")
def wrong(site: Site[TFLiteEditor]) -> Change:
    """Says that RELU is the same."""
    op = operator(site)
    site.model.replace(op, [site.model.make("RELU", op.inputs, op.outputs)])
    return Change("RELU for HARD_SWISH", "bits")


@rewrite("operator", ops="HARD_SWISH")
def unsupported(site: Site[TFLiteEditor]) -> Change:
    """Puts an operator in its place that the target does not take either."""
    op = operator(site)
    site.model.replace(op, [site.model.make("ELU", op.inputs, op.outputs)])
    return Change("ELU for HARD_SWISH", "approximate")


@rewrite("operator", ops="HARD_SWISH")
def elsewhere(site: Site[TFLiteEditor]) -> Change:
    """Breaks another rule: a softmax of many rows."""
    op = operator(site)
    site.model.replace(
        op, [site.model.make("SOFTMAX", op.inputs, op.outputs, "SoftmaxOptions", beta=1.0)]
    )
    return Change("SOFTMAX for HARD_SWISH", "approximate")


@rewrite("operator", ops="HARD_SWISH")
def broken(site: Site[TFLiteEditor]) -> Change:
    """Makes a file that does not run."""
    op = operator(site)
    shape = site.model.add_constant(np.array([1, 7], np.int32), "shape")
    site.model.replace(op, [site.model.make("RESHAPE", [op.inputs[0], shape], op.outputs)])
    return Change("RESHAPE for HARD_SWISH", "bits")


def content() -> bytes:
    net = Net()
    x = net.given((1, 4, 4, 8), 0.05, 3)
    return net.content(net.op("HARD_SWISH", [x], net.tensor((1, 4, 4, 8), 0.05, 3)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong", "results differ"),
        ("unsupported", "the finding stands: ELU"),
        ("elsewhere", "it breaks small_softmax of SOFTMAX"),
        ("broken", "does not run"),
    ],
)
def test_a_rewrite_that_does_not_hold_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    target = load_target("coral-usb")
    path = tmp_path / "model.tflite"
    path.write_bytes(content())
    registry: Registry[Rewrite] = Registry(
        "rewrite", {name: f"tests.fixing.test_loop:{name}"}, group="none"
    )
    with Worker() as worker:
        bench = TFLiteBench(path, target, None, 8, 0, tmp_path, worker)
        bench.rewrites = registry
        report, state = fix_model(bench, target, allow_inexact=True)
    fixed = Fixed(content(), state, tmp_path, report)
    assert not report.rewrites
    assert fixed.after == fixed.before
    assert reason in fixed.why("operator")


@pytest.mark.slow
def test_a_real_file_is_bit_equal(shared: Path, tmp_path: Path) -> None:
    path = shared / "models" / "mlperf_tiny_vww_int8.tflite"
    target = target_with("dpu")
    with Worker() as worker:
        bench = TFLiteBench(path, target, None, 4, 0, tmp_path, worker)
        report, _ = fix_model(bench, target)
    assert [one.rewrite for one in report.rewrites] == ["pad-channels"]
    assert report.rewrites[0].difference.max_steps == 0
    fixed = [entry.finding.rule for entry in report.findings if entry.fixed]
    assert set(fixed) == {"full_lanes"}


@pytest.mark.parametrize("weight", [0, 1])
def test_outputs_that_are_always_the_same_prove_nothing(tmp_path: Path, weight: int) -> None:
    net = Net()
    y = net.op("HARD_SWISH", [net.given((1, 8), 0.05, 3)], net.tensor((1, 8), 0.04, -100))
    factor = net.constant(np.full((1, 8), weight, np.int8), 1.0)
    content = net.content(net.op("MUL", [y, factor], net.tensor((1, 8), 0.04, -100), "MulOptions"))
    fixed = fix(content, "coral-usb", tmp_path, inexact=True)
    if weight:
        assert [one.rewrite for one in fixed.report.rewrites] == ["hard-swish"]
        assert fixed.report.rewrites[0].difference.varied
    else:
        assert not fixed.report.rewrites
        assert "the same on all samples, which proves nothing: give --data" in fixed.why("operator")
