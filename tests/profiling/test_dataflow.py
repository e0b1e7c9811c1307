"""Layers that compute at once, and networks that such a processor loads part by part."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.graph.types import Graph
from edgekit.profiling.dataflow import chip_shares, occupancy
from edgekit.profiling.estimate import Estimate, crossing_bytes, estimate, streamed_bytes
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.target import Processor, Target
from tests.profiling.graphs import GraphMaker, small_cnn

HAILO = load_target("hailo-8")
PORTS = 16 * 16 * 3 + 10


def accelerator(cache: int, **pipeline: Any) -> Target:
    first, *rest = HAILO.processors
    assert first.pipeline is not None
    update = {
        "parameter_cache_bytes": cache,
        "pipeline": first.pipeline.model_copy(
            update={"operator_bytes": 0, "streamed_share": 1.0, **pipeline}
        ),
    }
    return HAILO.model_copy(update={"processors": (first.model_copy(update=update), *rest)})


def placed_on(target: Target, graph: Graph) -> tuple[GraphView, list[Work], list[OpPlacement]]:
    view = GraphView(graph)
    placed = list(place(view, target))
    assert {one.where for one in placed} == {"npu"}
    return view, list(works(view)), placed


def estimated(target: Target, graph: Graph) -> Estimate:
    view, loads, placed = placed_on(target, graph)
    found = estimate(view, loads, placed, target)
    assert isinstance(found, Estimate)
    return found


def cycles_of(processor: Processor, graph: Graph) -> dict[int, float]:
    view, loads, placed = placed_on(HAILO, graph)
    return occupancy(loads, placed, processor).cycles(view.graph)


@pytest.mark.parametrize(("each", "beyond"), [(0, 0), (0, 1), (100, 0), (100, 1)])
def test_what_the_chip_cannot_hold_is_streamed_whole(each: int, beyond: int) -> None:
    graph = small_cnn("int8").graph()
    _, loads, _ = placed_on(HAILO, graph)
    held = sum(work.weight_bytes for work in loads)
    count = sum(not work.free for work in loads)
    target = accelerator(held + each * count - beyond, operator_bytes=each)
    view, loads, placed = placed_on(target, graph)
    npu = target.processors[0]
    assert occupancy(loads, placed, npu).switched is bool(beyond)
    assert streamed_bytes(view, occupancy(loads, placed, npu)) == beyond * held
    assert npu.pipeline is not None
    half = npu.pipeline.model_copy(update={"streamed_share": 0.5})
    npu = npu.model_copy(update={"pipeline": half})
    assert streamed_bytes(view, occupancy(loads, placed, npu)) == beyond * held / 2


def test_a_network_loaded_part_by_part_pays_by_layer_and_link() -> None:
    graph = small_cnn("int8").graph()
    target = accelerator(100)
    npu = target.processors[0]
    _, loads, placed = placed_on(target, graph)
    link, costs = npu.link, npu.costs["int8"].ns
    assert link is not None
    found = estimated(target, graph)
    held = sum(work.weight_bytes for work in loads)
    occupied = occupancy(loads, placed, npu)
    waiting = occupied.waiting_bytes(graph)
    assert sum(time.stream for time in found.ops) == pytest.approx(held / link.gb_per_s * 1e-9)
    assert crossing_bytes(graph, occupied) == PORTS + 2 * waiting
    assert found.crossing == pytest.approx((PORTS + 2 * waiting) / link.gb_per_s * 1e-9)
    cycles = sum(occupied.cycles(graph).values())
    live = sum(not work.free for work in loads)
    fitted = cycles * costs["pipeline_cycle"] + live * costs["switched_op"]
    assert found.seconds - found.crossing == pytest.approx(
        fitted * 1e-9 + held / link.gb_per_s * 1e-9
    )


def test_what_waits_is_what_later_layers_read_where_a_context_is_full() -> None:
    """Weights of 216, 72, 128 and 160 bytes fill it; maps of 2048, 2048 and 4096 bytes follow."""
    graph = small_cnn("int8").graph()
    target = accelerator(100)
    _, loads, placed = placed_on(target, graph)
    expected = (216 * 2048 + 72 * 2048 + 128 * 4096 + 160 * 10) / 100
    assert occupancy(loads, placed, target.processors[0]).waiting_bytes(graph) == round(expected)
    whole = occupancy(loads, placed, accelerator(1 << 20).processors[0])
    assert whole.waiting_bytes(graph) == 0
    assert crossing_bytes(graph, whole) == 0, "images pass while it computes"


def test_layers_are_as_fast_as_each_other_where_nothing_else_holds_them_up() -> None:
    target = accelerator(1 << 30, layers=10**6, macs=100, values=10**9, port_values=10**9)
    cycles = cycles_of(target.processors[0], small_cnn("int8").graph())
    lanes = {0: 256 * 9 * 16 * 16, 1: 64 * 18_432, 2: 256 * 16 * 16, 4: 16 * 16}
    assert cycles[0] == pytest.approx(lanes[0] / 100)
    assert sum(cycles.values()) == pytest.approx(sum(lanes.values()) / 100, rel=1e-3)


@pytest.mark.parametrize(
    ("limits", "cycles"),
    [
        ({"values": 2, "port_values": 10**9}, 16 * 16 * 16 / 2),
        ({"values": 10**9, "port_values": 4}, 16 * 16 * 3 / 4),
        ({"values": 16, "port_values": 3}, 256 * 2 ** (1 / 3)),
    ],
)
def test_images_come_no_faster_than_a_layer_writes_or_a_port_passes(
    limits: dict[str, float], cycles: float
) -> None:
    npu = accelerator(1 << 30, macs=10**9, **limits).processors[0]
    found = cycles_of(npu, small_cnn("int8").graph())
    assert sum(found.values()) == pytest.approx(cycles)


def test_a_layer_has_a_controller_and_memory_for_its_weights() -> None:
    """Work of 10 in a tenth of the chip takes as long as 90 in the rest; 30 of 90 are not idle."""
    assert chip_shares({0: 10, 1: 90}, {0: 0.1, 1: 0.1}) == pytest.approx({0: 0.1, 1: 0.9})
    assert chip_shares({0: 10, 1: 90}, {0: 0.4, 1: 0.1}) == pytest.approx({0: 0.4, 1: 0.6})
    assert chip_shares({0: 1, 1: 1}, {0: 3.0, 1: 1.0}) == pytest.approx({0: 0.75, 1: 0.25})


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0.001, 0.5)), min_size=1, max_size=20))
def test_shares_are_the_whole_chip_and_no_layer_could_be_faster(
    layers: list[tuple[int, float]],
) -> None:
    lanes = {index: macs for index, (macs, _) in enumerate(layers)}
    least = {index: share for index, (_, share) in enumerate(layers)}
    crowded = max(1.0, sum(least.values()))
    shares = chip_shares(lanes, least)
    assert sum(shares.values()) == pytest.approx(1)
    slowest = max(lanes[index] / shares[index] for index in lanes)
    for index, share in shares.items():
        at_least = share == pytest.approx(least[index] / crowded)
        assert at_least or lanes[index] / share == pytest.approx(slowest)


def test_attention_stays_on_the_accelerator_and_is_loaded_part_by_part() -> None:
    make = GraphMaker((1, 2, 8, 4), "int8")
    make.op("BATCH_MATMUL", "matmul", (1, 2, 8, 8), macs=512)
    make.op("SOFTMAX", "activation", (1, 2, 8, 8))
    target = accelerator(1 << 20)
    _, loads, placed = placed_on(target, make.graph())
    assert occupancy(loads, placed, target.processors[0]).switched
    assert not occupancy(loads, placed, target.processors[1]).switched
