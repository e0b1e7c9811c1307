from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import Planner, plan
from edgekit.profiling.memory.order import best_order, reordered
from tests.profiling.test_memory import graphs, make_graph


def topological(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Every order in which the operators can run."""
    makers = {tensor: op.index for op in graph.ops for tensor in op.outputs}
    needs = [{makers[t] for t in op.inputs if t in makers} for op in graph.ops]

    def extend(done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(done) == len(needs):
            yield done
        for op, need in enumerate(needs):
            if op not in done and need <= set(done):
                yield from extend((*done, op))

    return extend(())


def test_the_wide_branch_runs_alone() -> None:
    """Two branches that widen and narrow: one after the other, not side by side."""
    ops = [("A", [0], [1]), ("A", [0], [2]), ("B", [1], [3]), ("B", [2], [4]), ("C", [3, 4], [5])]
    graph = make_graph([10, 1000, 900, 10, 10, 10], ops, [0], [5])
    assert plan(graph, planner="tflm", alignment=1).peak_bytes == 1910
    found = best_order(graph, planner="tflm")
    assert found.peak_bytes == 1020
    assert found.exact
    assert found.ops in ((0, 2, 1, 3, 4), (1, 3, 0, 2, 4))


def test_a_chain_has_one_order() -> None:
    graph = make_graph([64] * 4, [("A", [0], [1]), ("B", [1], [2]), ("C", [2], [3])], [0], [3])
    found = best_order(graph)
    assert found.ops == (0, 1, 2)
    assert found.exact
    assert found.arena_bytes == plan(graph).arena_bytes


def test_scratch_moves_with_its_operator() -> None:
    ops = [("A", [0], [1]), ("A", [0], [2]), ("B", [2], [4]), ("B", [1], [3]), ("C", [3, 4], [5])]
    graph = make_graph([10, 500, 50, 10, 10, 10], ops, [0], [5])
    # The scratch of operator 2 must not meet tensor 1: its branch goes first, or last.
    found = best_order(graph, planner="tflm", scratch=[(2, 1000)])
    assert found.peak_bytes == 1070
    assert found.ops in ((1, 2, 0, 3, 4), (0, 3, 1, 2, 4))


def test_operators_on_one_variable_stay_in_order() -> None:
    ops = [("LSTM", [0, 1], [2]), ("LSTM", [0, 1], [3]), ("ADD_N", [2, 3], [4])]
    graph = make_graph([8, 8, 8, 800, 8], ops, [0], [4])
    assert best_order(graph).ops == (0, 1, 2)


def test_no_operators() -> None:
    assert best_order(make_graph([5], [], [0], [0])).ops == ()


@settings(max_examples=150, deadline=None)
@given(graph=graphs(most=6), planner=st.sampled_from(["tflite", "tflm"]), data=st.data())
def test_no_order_has_a_lower_peak(graph: Graph, planner: Planner, data: st.DataObject) -> None:
    """Against every order there is, each planned anew."""
    last = len(graph.ops) - 1
    one = st.tuples(st.integers(0, last), st.integers(1, 400))
    scratch = data.draw(st.lists(one, max_size=2))

    def peak(order: tuple[int, ...]) -> int:
        moved = [(order.index(op), size) for op, size in scratch]
        return plan(reordered(graph, order), planner=planner, scratch=moved).peak_bytes

    orders = list(topological(graph))
    found = best_order(graph, planner=planner, scratch=scratch)
    assert found.exact
    assert found.ops in orders
    assert found.peak_bytes == min(map(peak, orders)) == peak(found.ops)


@settings(max_examples=100, deadline=None)
@given(graph=graphs(most=16), planner=st.sampled_from(["tflite", "tflm"]))
def test_a_narrow_search_is_never_worse_than_the_file(graph: Graph, planner: Planner) -> None:
    found = best_order(graph, planner=planner, width=2)
    makers = {tensor: op.index for op in graph.ops for tensor in op.outputs}
    place = {op: position for position, op in enumerate(found.ops)}
    assert sorted(found.ops) == list(range(len(graph.ops)))
    assert all(
        place[makers[t]] < place[op.index] for op in graph.ops for t in op.inputs if t in makers
    )
    assert found.peak_bytes <= plan(graph, planner=planner).peak_bytes
