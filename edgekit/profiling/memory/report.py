"""`edgekit memory`: what is alive at each operator, where it lies, and whether an order helps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.base.errors import InputError
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.compiled import (
    compiled_flash,
    compiled_memory,
    compiled_placement,
    compiled_ram,
)
from edgekit.profiling.compilers import Compiled
from edgekit.profiling.free_sizes import free_sizes
from edgekit.profiling.memory.arena import live_bytes
from edgekit.profiling.memory.need import Runtime, memory_need, runtime_of, scratch_of
from edgekit.profiling.memory.offline import offline_offsets
from edgekit.profiling.memory.order import best_order
from edgekit.profiling.view import GraphView
from edgekit.schema.memory import MemoryBlock, MemoryReport, MemoryStep
from edgekit.schema.target import Target

_KEPT = ("runtime_code",)  # what a compiler changes nothing of


def memory_file(path: Path, target: Target) -> MemoryReport:
    """Plans a model file's memory on a target.

    Where the target's compiler is installed, RAM is what it lays out; the plan over time stays that
    of the file that it was given.

    Raises:
        InputError: the target does not take the format.
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    graph = read_graph(path)
    target = target.running(graph.format)
    if graph.format not in target.runtime.formats:
        takes = ", ".join(target.runtime.formats)
        raise InputError(
            f"{target.runtime.name} takes {takes}, not {graph.format}",
            where=str(path),
            hint=f"export with --format {target.runtime.formats[0]}",
        )
    report = memory_graph(graph, target, path.name)
    if target.compiler is None:
        return report
    compiled = compiled_placement(GraphView(graph), target, path)
    if compiled.result is None:
        note = f"planned as for the CPU, not compiled: {compiled.missing}"
        if offline_offsets(graph):
            note = "the arena is as the file's compiler laid it out"
        return report.model_copy(update={"notes": (note,)})
    return _as_compiled(report, compiled.result, graph.file_bytes)


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
    free = free_sizes(graph)
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
        notes=() if free is None else (f"{free}; planned as if they were 1",),
    )


def memory_plans(graph: Graph, targets: Sequence[Target], artifact: str) -> list[MemoryReport]:
    """A graph's plan on each target that takes it, once for runtimes that plan alike.

    Targets whose compiler lays the memory out have no plan of ours.
    """
    first: dict[Runtime, Target] = {}
    for target in targets:
        if graph.format in target.runtime.formats and target.compiler is None:
            first.setdefault(runtime_of(target), target)
    return [memory_graph(graph, target, artifact) for target in first.values()]


def _as_compiled(report: MemoryReport, result: Compiled, source_bytes: int) -> MemoryReport:
    """The report with the memory that the compiler lays out.

    Args:
        report: of the source file.
        result: the compiler's.
        source_bytes: size of the source file.
    """
    if result.left_to_cpu == len(result.ops):
        note = f"{result.compiler} left every operator to the CPU: planned as for that"
        return report.model_copy(update={"notes": (note,)})
    ram = compiled_ram(result)
    if ram is None:
        return report
    parts = {name: part for name, part in compiled_memory(result).items() if "flash" not in name}
    kept = [name for name in _KEPT if name in report.parts]
    return report.model_copy(
        update={
            "ram": ram,
            "flash": compiled_flash(report.flash, result, source_bytes),
            "parts": parts | {name: report.parts[name] for name in kept},
            "notes": (
                f"RAM is what {result.compiler} lays out; arena, peak and order are of the file "
                "before it, operator by operator",
            ),
        }
    )
