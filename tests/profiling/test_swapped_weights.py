"""A network that an accelerator cannot hold is loaded part by part."""

from __future__ import annotations

import pytest

from edgekit.profiling.estimate import estimate, streamed_bytes
from edgekit.profiling.placement import place
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.target import Target
from tests.profiling.graphs import GraphMaker, small_cnn

LINK_BYTES = 16 * 16 * 3 + 10  # input and output


def accelerator(cache: int, *, swaps: bool) -> Target:
    target = load_target("hailo-8")
    first, *rest = target.processors
    first = first.model_copy(update={"parameter_cache_bytes": cache, "swaps": swaps})
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


def test_streamed_weights_take_the_links_time() -> None:
    view = GraphView(small_cnn("int8").graph())
    loads = list(works(view))
    held = sum(work.weight_bytes for work in loads)
    seconds = []
    for cache in (held, held - 1):
        target = accelerator(cache, swaps=True)
        result = estimate(view, loads, place(view, target), target)
        assert not isinstance(result, str)
        seconds.append(result.seconds)
    link = target.processors[0].link
    assert link is not None
    assert result.crossing == pytest.approx(LINK_BYTES / (link.gb_per_s * 1e9))
    assert seconds[1] - seconds[0] == pytest.approx(held / (link.gb_per_s * 1e9), rel=1e-6)


def test_attention_stays_on_the_accelerator() -> None:
    make = GraphMaker((1, 2, 8, 4), "int8")
    make.op("BATCH_MATMUL", "matmul", (1, 2, 8, 8), macs=512)
    make.op("SOFTMAX", "activation", (1, 2, 8, 8))
    view = GraphView(make.graph())
    assert {one.where for one in place(view, load_target("hailo-8"))} == {"npu"}
