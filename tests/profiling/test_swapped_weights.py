"""A network that an accelerator cannot hold is loaded part by part."""

from __future__ import annotations

import pytest

from edgekit.profiling.estimate import estimate, inference_terms, streamed_bytes, switches
from edgekit.profiling.placement import place
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker, small_cnn

LINK_BYTES = 10  # the output: the next input comes while this one is computed


def accelerator(cache: int, *, swaps: bool, each: int = 0) -> Target:
    target = load_target("hailo-8")
    first, *rest = target.processors
    update = {"parameter_cache_bytes": cache, "swaps": swaps, "operator_bytes": each}
    first = first.model_copy(update=update)
    return target.model_copy(update={"processors": (first, *rest)})


@pytest.mark.parametrize(
    ("beyond", "swaps", "streamed"),
    [(0, True, 0.0), (0, False, 0.0), (1, True, 1.0), (1, False, 0.0), (100, False, 0.2)],
)
def test_all_weights_are_streamed_or_those_beyond_the_cache(
    beyond: int, swaps: bool, streamed: float
) -> None:
    view = GraphView(small_cnn("int8").graph())
    loads = list(works(view))
    held = sum(work.weight_bytes for work in loads)
    target = accelerator(held - beyond, swaps=swaps)
    placed = place(view, target)
    assert {one.where for one in placed} == {"npu"}
    found = streamed_bytes(view, loads, placed, target.processors[0])
    assert found == (held if swaps and beyond else beyond)
    assert found / held == pytest.approx(streamed, abs=0.03)


def test_operators_take_of_the_memory_too() -> None:
    view = GraphView(small_cnn("int8").graph())
    loads = list(works(view))
    held = sum(work.weight_bytes for work in loads)
    count = sum(not work.free for work in loads)
    for cache, parts in ((held + 100 * count, False), (held + 100 * count - 1, True)):
        target = accelerator(cache, swaps=True, each=100)
        placed = place(view, target)
        assert switches(loads, placed, target.processors[0]) is parts
        assert streamed_bytes(view, loads, placed, target.processors[0]) == parts * held


def test_a_network_loaded_part_by_part_takes_time_by_layer_and_link() -> None:
    view = GraphView(small_cnn("int8").graph())
    loads = list(works(view))
    held = sum(work.weight_bytes for work in loads)
    results = []
    for cache in (held, held - 1):
        target = accelerator(cache, swaps=True)
        result = estimate(view, loads, place(view, target), target)
        assert not isinstance(result, str)
        results.append(result)
    whole, parts = results
    link = target.processors[0].link
    assert link is not None
    assert whole.crossing == parts.crossing
    assert whole.crossing == pytest.approx(LINK_BYTES / (link.gb_per_s * 1e9))
    streamed = sum(time.stream for time in parts.ops)
    assert streamed == pytest.approx(held / (link.gb_per_s * 1e9), rel=1e-6)
    ns = target.processors[0].costs["int8"].ns
    live = [work for work in loads if not work.free]
    moved = sum(work.activation_bytes for work in live)
    by_layer = ns["switched_op"] * len(live) + ns["switched_byte"] * moved
    assert parts.seconds - whole.seconds == pytest.approx(streamed + by_layer * 1e-9, rel=1e-6)


def test_attention_stays_on_the_accelerator() -> None:
    make = GraphMaker((1, 2, 8, 4), "int8")
    make.op("BATCH_MATMUL", "matmul", (1, 2, 8, 8), macs=512)
    make.op("SOFTMAX", "activation", (1, 2, 8, 8))
    view = GraphView(make.graph())
    assert {one.where for one in place(view, load_target("hailo-8"))} == {"npu"}


def test_attention_is_loaded_part_by_part() -> None:
    make = GraphMaker((1, 2, 8, 4), "int8")
    make.op("BATCH_MATMUL", "matmul", (1, 2, 8, 8), macs=512)
    view = GraphView(make.graph())
    loads = list(works(view))
    target = accelerator(1 << 20, swaps=True)
    assert switches(loads, place(view, target), target.processors[0])
    whole = accelerator(1 << 20, swaps=False)
    assert not switches(loads, place(view, whole), whole.processors[0])


def test_layers_of_a_pipeline_wait_for_the_one_that_writes_most() -> None:
    """The pointwise convolution of `small_cnn` writes 16 channels of 16 x 16 places."""
    graph = small_cnn("int8").graph()
    assert inference_terms(graph)["widest_value"] == 16 * 16 * 16
    view = GraphView(graph)
    target = load_target("hailo-8")
    result = estimate(view, list(works(view)), place(view, target), target)
    assert not isinstance(result, str)
    cost = target.processors[0].costs["int8"].ns["widest_value"]
    assert result.fixed == pytest.approx(16 * 16 * 16 * cost * 1e-9)
