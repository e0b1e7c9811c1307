"""Targets whose accelerator has a compiler: what it answers takes the place of rules and estimates.

Where the compiler is not installed or fails, the rules alone say what runs where, and the figures
say why they are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.base.errors import EdgekitError, InputError, MissingDependencyError
from edgekit.graph.types import Op
from edgekit.profiling.compilers import COMPILERS, Compiled, CompiledOp
from edgekit.profiling.operators import by_reason, layer_profile
from edgekit.profiling.placement import OpPlacement, counted, place
from edgekit.profiling.rules.base import finding
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.figure import Figure
from edgekit.schema.names import Format
from edgekit.schema.results import Finding, LayerProfile, Profile, Severity
from edgekit.schema.target import Target


@dataclass(frozen=True)
class CompiledPlacement:
    """Where the operators run.

    Attributes:
        ops: one entry an operator.
        result: the compiler's, or None.
        missing: why there is no result.
        failed: whether the compiler ran and could not compile the file.
    """

    ops: tuple[OpPlacement, ...]
    result: Compiled | None = None
    missing: str = ""
    failed: bool = False


def compiled_alone(target: Target, kind: Format) -> bool:
    """Whether a target's figures for a format are its compiler's alone, which takes seconds."""
    costs = target.processors[0].costs
    return kind in target.runtime.formats and target.compiler is not None and not costs


def compiled_placement(view: GraphView, target: Target, path: Path | None) -> CompiledPlacement:
    """Compiles a file for a target and reads where its operators run.

    Args:
        view: the graph as read from the file.
        target: with a compiler.
        path: the file; None if there is only a graph.

    Raises:
        TargetError: the target's compiler is unknown, or its options are wrong.
    """
    ruled = tuple(place(view, target))
    if target.compiler is None or path is None:
        return CompiledPlacement(ruled, missing="there is no file to compile")
    compiler = COMPILERS.get(target.compiler.name, where=target.name)
    if any(op.kind == "custom" and ruled[op.index].where == target.processors[0].name
           for op in view.graph.ops):  # fmt: skip
        return CompiledPlacement(
            ruled, missing="the file is compiled already: profile the file that it was made from"
        )
    try:
        result = compiler(path, view.graph, target.compiler.options)
    except MissingDependencyError as error:
        return CompiledPlacement(ruled, missing=f"{error.message}: {error.hint}")
    except InputError:
        raise
    except EdgekitError as error:
        return CompiledPlacement(ruled, missing=_last_words(error), failed=True)
    return CompiledPlacement(tuple(_placed(view, target, result, ruled)), result)


def _last_words(error: EdgekitError) -> str:
    """The message, with the last line of what the compiler printed."""
    lines = (error.hint or "").strip().splitlines()
    return f"{error.message}: {lines[-1].strip()}" if lines else error.message


def compiled_memory(result: Compiled) -> dict[str, Figure]:
    """Bytes by memory, as the compiler laid them out."""
    return {
        name: Figure(value=size, unit="bytes", origin="compiled", method=method(result))
        for name, size in result.memory.items()
    }


def compiled_ram(result: Compiled) -> Figure | None:
    """See `ram_bytes`; None: the compiler says nothing of it."""
    size = ram_bytes(result)
    if not size:
        return None
    return Figure(value=size, unit="bytes", origin="compiled", method=method(result))


def ram_bytes(result: Compiled) -> int:
    """Bytes of the target's memory that is written to; 0 if the compiler says nothing of it."""
    return sum(
        size
        for name, size in result.memory.items()
        if "flash" not in name and not name.startswith("parameters_")
    )


def compiled_flash(
    flash: Figure | None, result: Compiled | None, source_bytes: int
) -> Figure | None:
    """Flash with the compiled file in the place of its source, if the accelerator runs any of it.

    Args:
        flash: with the source; None: weights are in RAM.
        result: the compiler's; None: nothing was compiled.
        source_bytes: size of the source file.
    """
    if flash is None or result is None or result.left_to_cpu == len(result.ops):
        return flash
    more = len(result.model) - source_bytes
    ends = {name: getattr(flash, name) for name in ("low", "value", "high")}
    ends = {name: end if end is None else end + more for name, end in ends.items()}
    words = f"{flash.method}, as {result.compiler} writes it"
    return flash.model_copy(update={**ends, "method": words})


def compiled_profile(
    view: GraphView, target: Target, artifact: str, placed: CompiledPlacement
) -> Profile:
    """The profile of a file by the compiler's own cost model; see `Compiled`.

    A latency is given only where the accelerator runs every operator: the compiler does not time
    those on the CPU, and a part is not the whole.
    """
    result = placed.result
    details: dict[str, object] = {"precision": view.precision}
    if result is not None:
        details |= {
            "compiler": result.compiler,
            "configuration": result.configuration,
            "compiled_bytes": len(result.model),
        }
        if result.cycles is not None:
            cycles = Figure(
                value=result.cycles, unit="cycles", origin="compiled", method=method(result)
            )
            details["cycles"] = cycles.model_dump(mode="json", exclude_none=True)
        details["memory"] = {
            name: figure.model_dump(mode="json", exclude_none=True)
            for name, figure in compiled_memory(result).items()
        }
    return Profile(
        artifact=artifact,
        target=target.name,
        device=target.title,
        latency_ms=_latency(placed),
        energy_mj=Figure.missing(
            placed.missing or f"{result.compiler if result else ''} says nothing about energy"
        ),
        peak_memory_bytes=_peak(placed),
        placement=counted(placed.ops, target),
        layers=_layers(view, placed),
        warnings=_warnings(placed),
        details=details,
    )


def _placed(
    view: GraphView, target: Target, result: Compiled, ruled: Sequence[OpPlacement]
) -> list[OpPlacement]:
    first, *others = target.processors
    rest: Sequence[OpPlacement] = [OpPlacement(None)] * len(ruled)
    if others and result.left_to_cpu:
        rest = place(view, target.model_copy(update={"processors": tuple(others)}))
    placed = []
    for op, made, rule, behind in zip(view.graph.ops, result.ops, ruled, rest, strict=True):
        if made.accelerated:
            placed.append(OpPlacement(first.name))
            continue
        severity: Severity = "unsupported" if behind.where is None else "fallback"
        if rule.where == first.name or not rule.findings:  # the rules did not know
            found: tuple[Finding, ...] = (_left(op, made, result, severity), *behind.findings)
        else:
            found = rule.findings
        placed.append(OpPlacement(behind.where, found))
    return placed


def _left(op: Op, left: CompiledOp, result: Compiled, severity: Severity) -> Finding:
    blocks = finding(
        op,
        "compiler",
        left.found or "left to the CPU",
        left.allowed or f"{result.compiler} gave no reason",
        fix="replace the layer that makes it by one that the compiler takes",
        severity="blocks",
    )
    return blocks.model_copy(update={"severity": severity})


def method(result: Compiled) -> str:
    """What a figure rests on."""
    return f"{result.compiler} for {result.configuration}: the compiler's word, not silicon's"


def _latency(placed: CompiledPlacement) -> Figure:
    result = placed.result
    if result is None:
        return Figure.missing(placed.missing)
    value = result.milliseconds(result.cycles)
    if value is None:
        return Figure.missing(f"{result.compiler} has no cost model")
    if result.left_to_cpu == len(result.ops):
        return Figure.missing(
            f"every operator is left to the CPU, which {result.compiler} does not time"
        )
    if result.left_to_cpu:
        return Figure.missing(
            f"{result.left_to_cpu} of {len(result.ops)} operators are left to the CPU, which "
            f"{result.compiler} does not time; the rest takes {value:.4g} ms by its cost model"
        )
    return Figure(
        value=value,
        unit="ms",
        origin="compiled",
        method=f"{result.cycles:,} cycles at {(result.clock_hz or 0) / 1e6:g} MHz, "
        f"{method(result)}; no interval: not compared with measurements",
    )


def _peak(placed: CompiledPlacement) -> Figure:
    result = placed.result
    if result is None:
        return Figure.missing(placed.missing)
    if result.left_to_cpu == len(result.ops):
        return Figure.missing(f"{result.compiler} left every operator to the CPU")
    parts = ", ".join(f"{name} {size:,}" for name, size in result.memory.items())
    return Figure(
        value=ram_bytes(result),
        unit="bytes",
        origin="compiled",
        method=f"{parts} bytes, {method(result)}",
    )


def _layers(view: GraphView, placed: CompiledPlacement) -> tuple[LayerProfile, ...]:
    result = placed.result
    layers = []
    for work, where in zip(works(view), placed.ops, strict=True):
        if result is None:
            figure = Figure.missing(placed.missing)
        else:
            figure = _layer_time(result, result.ops[work.op.index])
        layers.append(layer_profile(work, where.where, figure))
    return tuple(layers)


def _layer_time(result: Compiled, op: CompiledOp) -> Figure:
    value = result.milliseconds(op.cycles)
    if value is None:
        return Figure.missing(f"left to the CPU, which {result.compiler} does not time")
    return Figure(value=value, unit="ms", origin="compiled", method=f"{op.cycles:,} cycles")


def _warnings(placed: CompiledPlacement) -> tuple[str, ...]:
    if placed.result is None:
        return (f"not compiled, rules alone say what runs where: {placed.missing}",)
    left = (
        (f"left to the CPU: {op.allowed or op.found or 'no reason given'}", index)
        for index, op in enumerate(placed.result.ops)
        if not op.accelerated
    )
    return tuple(by_reason(left))
