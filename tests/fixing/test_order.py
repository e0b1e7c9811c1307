"""Another order of execution, where the arena does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.graph.tflite import read_buffer
from edgekit.pipeline.fixing import fix_model
from edgekit.pipeline.fixing_tflite import TFLiteBench
from edgekit.profiling.memory.need import memory_need, runtime_of
from tests.fixing.cases import Fixed, Net, target_with


def branches() -> bytes:
    """Two wide branches, both widened before either is narrowed."""
    net = Net()
    rng = np.random.default_rng(0)
    x = net.given((1, 8))

    def dense(source: int, before: int, after: int) -> int:
        weights = net.constant(rng.normal(size=(after, before)).astype(np.float32))
        return net.op(
            "FULLY_CONNECTED",
            [source, weights, -1],
            net.tensor((1, after)),
            "FullyConnectedOptions",
        )

    wide = [dense(x, 8, 1024) for _ in range(3)]
    small = [dense(one, 1024, 4) for one in wide]
    total = net.op("ADD", small[:2], net.tensor((1, 4)), "AddOptions")
    return net.content(net.op("ADD", [total, small[2]], net.tensor((1, 4)), "AddOptions"))


def fixed_in(content: bytes, folder: Path, spare: int) -> Fixed:
    """Fixes it for a target whose memory is `spare` bytes larger than it needs now."""
    target = target_with("litert-cpu")
    need = int(memory_need(read_buffer(content), runtime_of(target)).ram.value or 0)
    memory = target.memory.model_copy(update={"ram_bytes": need + spare, "arena_bytes": None})
    target = target.model_copy(update={"memory": memory})
    path = folder / "model.tflite"
    path.write_bytes(content)
    report, state = fix_model(TFLiteBench(path, target, None, 8, 0, folder), target)
    return Fixed(content, state, folder, report)


def test_an_order_that_fits_is_written(tmp_path: Path) -> None:
    fixed = fixed_in(branches(), tmp_path, -4000)
    assert fixed.report.before.verdict == "does_not_fit"
    assert fixed.report.after.verdict == "ok"
    assert [one.rewrite for one in fixed.report.rewrites] == ["reorder"]
    assert fixed.before != fixed.after
    assert sorted(fixed.ops) == sorted(op.name for op in read_buffer(fixed.before).ops)
    fixed.assert_equal()


def test_an_order_that_does_not_suffice_is_refused(tmp_path: Path) -> None:
    fixed = fixed_in(branches(), tmp_path, -12000)
    assert not fixed.report.rewrites
    assert "the finding stands" in fixed.why("ram")


def test_what_fits_is_left(tmp_path: Path) -> None:
    fixed = fixed_in(branches(), tmp_path, 0)
    assert fixed.after == fixed.before
