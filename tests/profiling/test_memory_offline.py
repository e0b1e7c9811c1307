"""Files whose memory a compiler has laid out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.base import extras
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.compilers.vela import compile_file
from edgekit.profiling.memory.arena import Block, plan
from edgekit.profiling.memory.offline import outermost
from edgekit.profiling.memory.order import best_order
from edgekit.profiling.memory.report import memory_file
from edgekit.profiling.memory.tail import tail_bytes
from edgekit.profiling.targets import load_target
from tests.profiling.test_memory import make_graph

ETHOS = load_target("ethos-u55-128")


@pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
@pytest.mark.parametrize("model", ["ic", "kws"])
def test_the_arena_of_a_compiled_file_is_the_compilers(
    shared: Path, tmp_path: Path, model: str
) -> None:
    source = shared / f"models/mlperf_tiny_{model}_int8.tflite"
    assert ETHOS.compiler is not None
    result = compile_file(source, read_graph(source), ETHOS.compiler.options)
    path = tmp_path / "compiled.tflite"
    path.write_bytes(result.model)
    report = memory_file(path, ETHOS)
    assert report.arena_bytes == report.peak_bytes == result.memory["sram"]
    assert (report.parts["arena_tail"].value or 0) < 1000  # structs: the scratch is in the arena
    assert report.notes == ("the arena is as the file's compiler laid it out",)
    assert report.order == ()


def laid_out(offsets: tuple[int, ...]) -> Graph:
    """An accelerator's operator with its scratch (2), and a sum beside it."""
    ops = [("ethos-u", [2, 0], [1]), ("ADD", [1, 3], [4])]
    graph = make_graph([100, 50, 400, 50, 50], ops, [0], [4], constants=(3,))
    return replace(graph, metadata={"offline_offsets": offsets})


def test_what_lies_within_the_scratch_counts_once() -> None:
    found = plan(laid_out((0, 300, 0, -1, -1)), planner="tflm")
    # The output of the first operator outlives the scratch; the runtime places the last one.
    assert [(b.tensor, b.offset) for b in found.blocks] == [(2, 0), (4, 0), (1, 300)]
    assert found.arena_bytes == 400
    apart = plan(laid_out((400, 500, 0, -1, -1)), planner="tflm")
    assert (apart.arena_bytes, apart.peak_bytes) == (550, 550)


def test_scratch_without_a_place_is_a_variable() -> None:
    own = laid_out((-1,) * 5)
    assert tail_bytes(own) - tail_bytes(laid_out((0, 300, 0, -1, -1))) == 400


def test_a_compiled_file_keeps_its_order() -> None:
    graph = laid_out((0, 300, 0, -1, -1))
    order = best_order(graph, planner="tflm")
    assert (order.ops, order.arena_bytes) == ((0, 1), 400)


def test_of_equal_blocks_one_stays() -> None:
    blocks = [Block(0, 10, 0, 1), Block(1, 10, 0, 1), Block(2, 5, 0, 2), Block(3, 5, 1, 1, 5)]
    assert [block.tensor for block in outermost(blocks)] == [0, 2]
