"""`edgekit profile`: latency, energy and memory of a model file on a target, estimated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.check import planner_of
from edgekit.profiling.cost import OpTime
from edgekit.profiling.estimate import (
    Estimate,
    charged_costs,
    energy_j,
    estimate,
    flight_seconds_per_hour,
)
from edgekit.profiling.memory import plan
from edgekit.profiling.placement import OpPlacement, place
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.figure import Figure
from edgekit.schema.results import LayerProfile, Placement, Profile, ProfileReport
from edgekit.schema.target import PredictionError, Target


def profile_report(path: Path, targets: Sequence[Target]) -> ProfileReport:
    """Profiles one file on several targets; see `profile_file`."""
    graph = read_graph(path)
    return ProfileReport(profiles=tuple(profile_graph(graph, t, path.name) for t in targets))


def profile_file(path: Path, target: Target) -> Profile:
    """Estimates latency, energy and memory of a model file.

    Raises:
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    return profile_graph(read_graph(path), target, path.name)


def profile_graph(graph: Graph, target: Target, artifact: str) -> Profile:
    """Estimates latency, energy and memory of a graph.

    Each figure is an estimate with its method, or missing with the reason: the target does not
    take the format, or an operator runs nowhere.

    Args:
        graph: as read from the artifact.
        target: the hardware and its runtime.
        artifact: the file's name, for the report.
    """
    if graph.format not in target.runtime.formats:
        return _unknown(graph, target, artifact)
    view = GraphView(graph)
    loads = list(works(view))
    placed = place(view, target)
    result = estimate(view, loads, placed, target)
    first = target.processors[0]
    on_first = sum(p.where == first.name for p in placed)
    accelerated = first.kind != "cpu"
    fallbacks = len(placed) - on_first if accelerated or on_first < len(placed) else 0
    charged = target.precisions.get(view.precision)
    error = (target.error or {}).get(charged) if charged else None
    known = isinstance(result, Estimate)
    return Profile(
        artifact=artifact,
        target=target.name,
        device=target.title,
        latency_ms=_latency(result, target, view, error),
        energy_mj=_energy(result, target, error),
        peak_memory_bytes=_memory(graph, target),
        flight_s_per_h=_flight(result, target),
        placement=Placement(accelerator_ops=on_first if accelerated else 0, fallback_ops=fallbacks),
        layers=_layers(loads, placed, result.ops if isinstance(result, Estimate) else None),
        warnings=_warnings(loads, placed, target, result),
        details={"precision": view.precision, "runtime": _runtime(target)} if known else {},
    )


def _unknown(graph: Graph, target: Target, artifact: str) -> Profile:
    takes = ", ".join(target.runtime.formats)
    missing = Figure.missing(f"{target.runtime.name} takes {takes}, not {graph.format}")
    return Profile(
        artifact=artifact,
        target=target.name,
        device=target.title,
        latency_ms=missing,
        energy_mj=missing,
        peak_memory_bytes=missing,
    )


def _runtime(target: Target) -> str:
    runtime = target.runtime
    threads = f", {runtime.threads} threads" if runtime.threads else ""
    return f"{runtime.name} {runtime.version or ''}".strip() + threads


def _latency(
    result: Estimate | str, target: Target, view: GraphView, error: PredictionError | None
) -> Figure:
    if isinstance(result, str):
        return Figure.missing(result)
    value = result.seconds * 1e3
    used = [costs for p in target.processors for costs in p.costs.values()]
    fitted = sum(costs.measurements for costs in used)
    basis = f"fitted to {fitted} measurements" if fitted else "from published specifications"
    interval = (
        f"; interval: 10th to 90th percentile of {error.method}"
        if error
        else "; no interval: not compared with measurements"
    )
    return Figure(
        value=value,
        low=value * error.low if error else None,
        high=value * error.high if error else None,
        unit="ms",
        origin="estimated",
        method=f"kernel costs of {target.name}, {view.precision}, {basis}{interval}",
    )


def _energy(result: Estimate | str, target: Target, error: PredictionError | None) -> Figure:
    if isinstance(result, str):
        return Figure.missing(result)
    joules = energy_j(result, target)
    if joules is None or target.power is None:
        return Figure.missing("no power of this target has been published")
    value = joules * 1e3
    return Figure(
        value=value,
        low=value * error.low if error else None,
        high=value * error.high if error else None,
        unit="mJ",
        origin="estimated",
        method=f"idle and active power of {target.power.scope} over the estimated latency"
        + ("; interval: that of the latency" if error else ""),
    )


def _memory(graph: Graph, target: Target) -> Figure:
    arena = plan(graph, planner=planner_of(target)).arena_bytes
    in_ram = target.memory.flash_bytes is None
    return Figure(
        value=arena + (graph.weight_bytes if in_ram else 0),
        unit="bytes",
        origin="estimated",
        method="arena of activations packed greedily by size, "
        + ("plus weights in RAM" if in_ram else "weights stay in flash"),
    )


def _flight(result: Estimate | str, target: Target) -> Figure | None:
    if target.vehicle is None:
        return None
    if isinstance(result, str):
        return Figure.missing(result)
    joules = energy_j(result, target)
    if joules is None or target.power is None:
        return Figure.missing("no power of this target has been published")
    vehicle = target.vehicle
    extra = joules - target.power.idle_w * result.seconds
    return Figure(
        value=flight_seconds_per_hour(result.seconds, extra, vehicle),
        unit="s/h",
        origin="estimated",
        method=f"energy above idle, at most {vehicle.camera_hz:g} inferences a second, over "
        f"{vehicle.hover_w:g} W of hover power",
    )


def _layers(
    loads: Sequence[Work], placed: Sequence[OpPlacement], times: Sequence[OpTime] | None
) -> tuple[LayerProfile, ...]:
    layers = []
    for number, (work, where) in enumerate(zip(loads, placed, strict=True)):
        figure = Figure.missing("the file has no estimate on this target")
        if times is not None:
            time = times[number]
            bound = "memory" if time.memory > time.kernel else "compute"
            figure = Figure(
                value=time.seconds * 1e3,
                unit="ms",
                origin="estimated",
                method="fused or computed once" if work.free else f"{bound} time plus dispatch",
            )
        layers.append(
            LayerProfile(
                index=work.op.index,
                op=work.op.name,
                layer=work.op.layer,
                macs=work.macs,
                bytes=work.bytes,
                where=where.where,
                latency_ms=figure,
            )
        )
    return tuple(layers)


def _warnings(
    loads: Sequence[Work],
    placed: Sequence[OpPlacement],
    target: Target,
    result: Estimate | str,
) -> tuple[str, ...]:
    if isinstance(result, str):
        return ()
    warnings: dict[str, list[int]] = {}
    for work, time in zip(loads, result.ops, strict=True):
        if time.extrapolated:
            warnings.setdefault(time.extrapolated, []).append(work.op.index)
    lines = [
        f"extrapolated: {why} (operators {', '.join(map(str, indices[:8]))}"
        + (", ...)" if len(indices) > 8 else ")")
        for why, indices in warnings.items()
    ]
    for precision in sorted({work.precision for work in loads if work.macs and not work.free}):
        charged = target.precisions.get(precision)
        if charged is not None and charged != precision:
            lines.append(f"extrapolated: {precision} is charged as {charged}")
    lines += _size_warnings(loads, placed, target, result)
    return tuple(lines)


def _size_warnings(
    loads: Sequence[Work], placed: Sequence[OpPlacement], target: Target, result: Estimate
) -> list[str]:
    """Networks far smaller or larger than all that were measured."""
    lines = []
    for processor in target.processors:
        own = [w for w, p in zip(loads, placed, strict=True) if p.where == processor.name]
        heaviest = max(own, key=lambda work: work.macs, default=None)
        if heaviest is None or not heaviest.macs:
            continue
        measured = charged_costs(processor, heaviest.precision, target).seen_macs
        if measured and not measured[0] / 2 <= result.macs <= measured[1] * 2:
            lines.append(
                f"extrapolated: {result.macs / 1e6:.3g} million MACs, measured networks have "
                f"{measured[0] / 1e6:.3g} to {measured[1] / 1e6:.3g}"
            )
    return lines
