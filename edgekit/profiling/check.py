"""`edgekit check`: does every operator, dtype, shape and memory need fit a target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.base.progress import Progress, silent
from edgekit.graph.dead_channels import removable_channels
from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.graph.zero_channels import without_zero_channels
from edgekit.profiling.compiled import (
    compiled_alone,
    compiled_flash,
    compiled_memory,
    compiled_placement,
    compiled_ram,
)
from edgekit.profiling.compilers import Compiled
from edgekit.profiling.free_sizes import free_sizes
from edgekit.profiling.memory.fits import Held, held
from edgekit.profiling.memory.need import memory_need, runtime_of
from edgekit.profiling.partition_report import cache_figures, partition_findings
from edgekit.profiling.placement import OpPlacement
from edgekit.profiling.view import GraphView
from edgekit.schema.figure import Figure
from edgekit.schema.results import CheckReport, Finding, OpCheck
from edgekit.schema.target import Target

_SMALLER = {
    "ram": "use a smaller input, fewer channels, or int8",
    "flash": "prune channels or quantize",
}


def check_file(path: Path, target: Target, *, progress: Progress = silent) -> CheckReport:
    """Checks a model file against a target.

    Args:
        path: the file.
        target: the hardware and its runtime.
        progress: told if the target's compiler is asked.

    Raises:
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    graph = read_graph(path)
    if compiled_alone(target, graph.format):
        progress(f"compiling for {target.name}")
    return check_graph(graph, target, path.name, path=path)


def check_graph(
    graph: Graph, target: Target, artifact: str, *, path: Path | None = None
) -> CheckReport:
    """Checks a graph against a target; `path` is its file, for a target with a compiler.

    The verdict is `unsupported` if the format is not taken or an operator runs nowhere, else
    `does_not_fit` if a memory is too small, else `fallback` if operators run on a lesser
    processor than the first, else `ok`.
    """
    target = target.running(graph.format)
    if graph.format not in target.runtime.formats:
        return CheckReport(
            artifact=artifact,
            target=target.name,
            verdict="unsupported",
            findings=(_wrong_format(graph, target),),
        )
    view = GraphView(graph)
    compiled = compiled_placement(view, target, path)
    placed = compiled.ops
    memory, faults = _memory(graph, target, compiled.result)
    if compiled.failed:
        faults.append(_not_compiled(compiled.missing))
    return CheckReport(
        artifact=artifact,
        target=target.name,
        verdict="unsupported" if compiled.failed else _verdict(placed, faults, target),
        ops=tuple(
            OpCheck(
                index=op.index,
                op=op.name,
                layer=op.layer,
                where=where.where or "nowhere",
                findings=where.findings,
            )
            for op, where in zip(graph.ops, placed, strict=True)
        ),
        findings=(
            *faults,
            *partition_findings(view, target, placed, compiled.result),
            *_hints(graph, target),
        ),
        memory=cache_figures(view, target, placed) | memory,
    )


def runs(report: CheckReport) -> bool:
    """Whether the model runs on the target, be it on a lesser processor."""
    return report.verdict in ("ok", "fallback")


def _verdict(placed: Sequence[OpPlacement], faults: Sequence[Finding], target: Target) -> str:
    if any(place.where is None for place in placed):
        return "unsupported"
    if faults:
        return "does_not_fit"
    first = target.processors[0].name
    return "ok" if all(place.where == first for place in placed) else "fallback"


def _wrong_format(graph: Graph, target: Target) -> Finding:
    takes = ", ".join(target.runtime.formats)
    return Finding(
        rule="format",
        found=graph.format,
        allowed=f"{target.runtime.name} takes {takes}",
        severity="unsupported",
        fix=f"export with --format {target.runtime.formats[0]}",
    )


def _memory(
    graph: Graph, target: Target, compiled: Compiled | None
) -> tuple[dict[str, Figure], list[Finding]]:
    """Bytes that the model needs and that the target has, and where they are too few."""
    need = memory_need(graph, runtime_of(target))
    ram, parts = need.ram, need.parts
    flash = compiled_flash(need.flash, compiled, graph.file_bytes)
    if (free := free_sizes(graph)) is not None:
        ram, parts = Figure.missing(free), {}
    if compiled is not None:
        ram = compiled_ram(compiled) or ram
    figures = parts | {
        "ram_needed": ram,
        "model": Figure(
            value=graph.file_bytes, unit="bytes", origin="measured", method="size of the file"
        ),
    }
    if compiled is not None:
        figures |= compiled_memory(compiled)
    faults = []
    for one in held(ram, flash, target.memory):
        figures[f"{one.memory}_needed"] = one.needed
        figures[f"{one.memory}_available"] = _given(one.available, target)
        if one.too_small:
            faults.append(_does_not_fit(one))
    return figures, faults


def _hints(graph: Graph, target: Target) -> Iterator[Finding]:
    """Sizes that the file leaves open, and what it holds for nothing on this target."""
    if (free := free_sizes(graph)) is not None:
        yield Finding(
            rule="free_sizes",
            found=free,
            allowed="inputs of known sizes, the batch excepted",
            severity="hint",
            fix="build the model with a fixed input shape",
        )
    if target.zeros.channels == "removed":
        return
    spared = removable_channels(graph, target.channel_multiple)
    if not spared:
        return
    makers = [op for op in graph.ops if op.outputs and op.outputs[0] in spared and op.macs]
    whole = sum(graph.tensors[op.outputs[0]].shape[-1] or 0 for op in makers)
    gone = sum(spared[op.outputs[0]] for op in makers)
    less = sum(op.macs for op in without_zero_channels(graph).ops)
    share = 1 - less / max(sum(op.macs for op in graph.ops), 1)
    yield Finding(
        rule="zero_channels",
        found=f"{gone:,} of {whole:,} channels hold only zeros, whatever the input: up to "
        f"{share:.0%} of the multiply-accumulates",
        allowed="channels that tell something",
        severity="hint",
        fix="check --fix takes them out of a .tflite file: it computes the same",
    )


def _not_compiled(message: str) -> Finding:
    return Finding(
        rule="compiler",
        found=message,
        allowed="the target's compiler compiles the file",
        severity="unsupported",
        fix="compile the file with the compiler itself: its messages tell more",
    )


def _given(value: int, target: Target) -> Figure:
    return Figure(value=value, unit="bytes", method=f"specification of {target.name}")


def _does_not_fit(memory: Held) -> Finding:
    return Finding(
        rule=memory.memory,
        found=f"{int(memory.needed.value or 0):,} bytes needed",
        allowed=f"{memory.available:,} bytes available",
        severity="does_not_fit",
        fix=_SMALLER[memory.memory],
    )
