"""Targets that leave channels out which are zero whatever the input."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.graph.types import Graph
from edgekit.profiling.fit.samples import sample
from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker


@pytest.fixture(scope="module")
def removing() -> Target:
    return load_target("stm32-l4r5-cubeai")


def graph(zero_channels: int) -> Graph:
    make = GraphMaker((1, 16, 16, 32))
    make.op("CONV_2D", "pointwise", (1, 16, 16, 64), weights=((64, 1, 1, 32),),
            macs=16 * 16 * 32 * 64)  # fmt: skip
    make.op("CONV_2D", "pointwise", (1, 16, 16, 32), weights=((32, 1, 1, 64),),
            macs=16 * 16 * 32 * 64)  # fmt: skip
    whole = make.graph()
    zero = whole.ops[0].outputs[0]
    tensors = [
        replace(t, zero_channels=zero_channels) if t.index == zero else t for t in whole.tensors
    ]
    return replace(whole, tensors=tuple(tensors))


def test_half_the_channels_are_half_the_work(removing: Target) -> None:
    whole, half = (profile_graph(graph(count), removing, "m") for count in (0, 32))
    assert whole.latency_ms.value is not None
    assert half.latency_ms.value is not None
    assert half.latency_ms.value == pytest.approx(whole.latency_ms.value / 2, rel=0.2)
    assert half.latency_ms.value < whole.latency_ms.value
    assert sum(layer.macs or 0 for layer in half.layers) == 16 * 16 * 32 * 64
    assert any("50% of the multiply-accumulates" in line for line in half.warnings)
    assert not any("multiply-accumulates are of" in line for line in whole.warnings)


def test_other_targets_compute_them(removing: Target) -> None:
    kept = removing.zeros.model_copy(update={"channels": "computed"})
    computing = removing.model_copy(update={"zeros": kept})
    whole, half = (profile_graph(graph(count), computing, "m") for count in (0, 32))
    assert half.latency_ms == whole.latency_ms


def test_fits_see_what_is_computed(removing: Target) -> None:
    made = sample(graph(48), removing, model="m", family="f", latency_s=1.0)
    assert made.view.graph.macs == 2 * 16 * 16 * 32 * 16
    assert [load.gemm.n if load.gemm else 0 for load in made.loads] == [16, 32]
