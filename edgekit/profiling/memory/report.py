"""`edgekit memory`: what is alive at each operator, where it lies, and whether an order helps."""

from __future__ import annotations

from pathlib import Path

from edgekit.base.errors import InputError
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import live_bytes
from edgekit.profiling.memory.need import memory_need, runtime_of, scratch_of
from edgekit.profiling.memory.order import best_order
from edgekit.schema.memory import MemoryBlock, MemoryReport, MemoryStep
from edgekit.schema.target import Target


def memory_file(path: Path, target: Target) -> MemoryReport:
    """Plans a model file's memory on a target.

    Raises:
        InputError: the target does not take the format.
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    graph = read_graph(path)
    if graph.format not in target.runtime.formats:
        takes = ", ".join(target.runtime.formats)
        raise InputError(
            f"{target.runtime.name} takes {takes}, not {graph.format}",
            where=str(path),
            hint=f"export with --format {target.runtime.formats[0]}",
        )
    return memory_graph(graph, target, path.name)


def memory_graph(graph: Graph, target: Target, artifact: str) -> MemoryReport:
    """Plans a graph's memory on a target; see `memory_file`."""
    runtime = runtime_of(target)
    need = memory_need(graph, runtime)
    # Blocks of the planner's own multiple would not add up to the peak: tensors count as they are.
    sizes = [
        block.bytes if block.tensor is None else graph.tensors[block.tensor].bytes
        for block in need.plan.blocks
    ]
    spans = zip(need.plan.blocks, sizes, strict=True)
    blocks = tuple(
        MemoryBlock(
            tensor=None if block.tensor is None else graph.tensors[block.tensor].name,
            bytes=size,
            first=block.first,
            last=block.last,
            offset=block.offset,
        )
        for block, size in spans
    )
    live = live_bytes(((b.bytes, b.first, b.last) for b in blocks), len(graph.ops))
    steps = tuple(
        MemoryStep(index=op.index, op=op.name, layer=op.layer, live_bytes=live[op.index])
        for op in graph.ops
    )
    best = best_order(graph, planner=runtime.planner, scratch=scratch_of(graph, runtime))
    lower = best.peak_bytes < need.plan.peak_bytes
    return MemoryReport(
        artifact=artifact,
        target=target.name,
        arena_bytes=need.plan.arena_bytes,
        peak_bytes=need.plan.peak_bytes,
        peak=max(steps, key=lambda step: step.live_bytes, default=None),
        ram=need.ram,
        flash=need.flash,
        parts=need.parts,
        steps=steps,
        blocks=blocks,
        order=best.ops if lower else (),
        order_peak_bytes=best.peak_bytes,
        order_arena_bytes=best.arena_bytes,
        order_exact=best.exact,
    )
