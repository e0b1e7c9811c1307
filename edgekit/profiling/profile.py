"""`edgekit profile`: latency, energy and memory of a model file on a target, estimated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.compiled import (
    compiled_alone,
    compiled_flash,
    compiled_placement,
    compiled_profile,
)
from edgekit.profiling.cost import OpTime
from edgekit.profiling.energy import compiled_energy, demands, energy_figures
from edgekit.profiling.estimate import Estimate, charged_costs, estimate
from edgekit.profiling.flight import flight_profile, flight_seconds_per_hour
from edgekit.profiling.free_sizes import free_sizes
from edgekit.profiling.intervals import Range, error_range, estimated
from edgekit.profiling.memory.fits import Held, held, shortages
from edgekit.profiling.memory.need import Need, Runtime, memory_need, runtime_of
from edgekit.profiling.operators import by_reason, layer_profile
from edgekit.profiling.placement import OpPlacement, counted, place
from edgekit.profiling.view import GraphView, compiles, computed, in_halves
from edgekit.profiling.work import Work, works
from edgekit.schema.figure import Figure
from edgekit.schema.results import LayerProfile, Profile
from edgekit.schema.target import Target
from edgekit.schema.units import show_number

_EXTRAPOLATED = "extrapolated:"
_FAR_LONGER = 10  # times


class Subject:
    """A graph with what its profiles on all targets share, each found once.

    Args:
        graph: as read from the artifact.
        artifact: the file's name, for the report.
        path: the file, for targets with a compiler.
    """

    def __init__(self, graph: Graph, artifact: str, path: Path | None = None) -> None:
        self.artifact = artifact
        self.path = path
        self.view = GraphView(graph)
        self._computed: dict[tuple[str, bool, bool], tuple[GraphView, tuple[Work, ...]]] = {}
        self._needs: dict[Runtime, Need] = {}

    def on(self, target: Target) -> tuple[GraphView, tuple[Work, ...]]:
        """The graph as a target computes it, and the work of each operator."""
        compiled = self.view.graph.format != "tflite" and compiles(target)
        kind = (target.zeros.channels, in_halves(target), compiled)
        if kind not in self._computed:
            graph = computed(self.view.graph, target)
            same = graph is self.view.graph and not compiled
            view = self.view if same else GraphView(graph, for_accelerator=compiled)
            self._computed[kind] = view, tuple(works(view))
        return self._computed[kind]

    def need(self, runtime: Runtime) -> Need:
        """What a runtime needs for the model."""
        if runtime not in self._needs:
            self._needs[runtime] = memory_need(self.view.graph, runtime)
        return self._needs[runtime]


def profile_file(path: Path, target: Target) -> Profile:
    """Estimates latency, energy and memory of a model file.

    Raises:
        ModelFileError: the file is corrupt or of an unknown kind.
        MissingDependencyError: the reader of its format is not installed.
    """
    return profile_graph(read_graph(path), target, path.name, path=path)


def profile_graph(
    graph: Graph, target: Target, artifact: str, *, path: Path | None = None
) -> Profile:
    """Estimates latency, energy and memory of a graph.

    Each figure is an estimate with its method, or missing with the reason: the target does not
    take the format, or an operator runs nowhere.

    Args:
        graph: as read from the artifact.
        target: the hardware and its runtime.
        artifact: the file's name, for the report.
        path: the file, for a target with a compiler.
    """
    return profile_subject(Subject(graph, artifact, path), target)


def profile_subject(subject: Subject, target: Target) -> Profile:
    """As `profile_graph`, for a graph that is profiled on several targets."""
    return profile_with_memories(subject, target)[0]


def profile_with_memories(subject: Subject, target: Target) -> tuple[Profile, tuple[Held, ...]]:
    """A profile, and the target's memories with what they are to hold, as `edgekit check` says."""
    graph, running = subject.view.graph, target.running(subject.view.graph.format)
    compiled = None
    if compiled_alone(running, graph.format):
        placed = compiled_placement(subject.view, running, subject.path)
        compiled = placed.result
        alone = compiled_profile(subject.view, running, subject.artifact, placed)
        profile = _with_energy(alone, running)
    else:
        profile = _profile(subject, running)
    flash = compiled_flash(subject.need(runtime_of(target)).flash, compiled, graph.file_bytes)
    memories = held(profile.peak_memory_bytes, flash, target.memory)
    if profile.placement is None:  # its runtime does not read the file
        return profile, memories
    if target.power is not None and profile.energy_mj.value == 0:
        why = target.assumed.get("power", "nothing is drawn by the network")
        elsewhere = Figure.missing(f"of {target.power.scope}: {why}")
        profile = profile.model_copy(update={"energy_mj": elsewhere, "power_w": elsewhere})
    short = shortages(memories)
    update = {"warnings": (*short, *profile.warnings), "shortages": short}
    return profile.model_copy(update=update), memories


def _profile(subject: Subject, target: Target) -> Profile:
    if subject.view.graph.format not in target.runtime.formats:
        return _unknown(subject.view.graph, target, subject.artifact)
    view, loads = subject.on(target)
    placed = place(view, target)
    result = estimate(view, loads, placed, target)
    free = free_sizes(subject.view.graph)
    if free is not None:
        result = free
    if isinstance(result, Estimate) and not result.seconds:
        result = "what was measured on this target says nothing about so small a network"
    charged = target.precisions.get(view.precision)
    whole = _network_warnings(loads, placed, target, result)
    warnings = (*_operator_warnings(loads, result), *whole)
    if (macs := subject.view.graph.macs) > view.graph.macs:
        less = 100 * (1 - view.graph.macs / macs)
        warnings += (
            f"{less:.0f}% of the multiply-accumulates are of channels that are zero whatever the "
            f"input: {target.runtime.name} leaves them out",
        )
    known = not isinstance(result, str)
    share = 1.0 if whole else _extrapolated_share(result)
    span = error_range(target.error, charged, extrapolated=share)
    energy, power = _energy(result, loads, placed, target, view, share)
    profile = Profile(
        artifact=subject.artifact,
        target=target.name,
        device=target.title,
        latency_ms=_latency(result, target, view, span),
        energy_mj=energy,
        power_w=power,
        peak_memory_bytes=Figure.missing(free) if free else subject.need(runtime_of(target)).ram,
        placement=counted(placed, target),
        layers=_layers(loads, placed, result.ops if isinstance(result, Estimate) else None),
        warnings=warnings,
        details={"precision": view.precision, "runtime": _runtime(target)} if known else {},
    )
    return with_flight(profile, target)


def _with_energy(profile: Profile, target: Target) -> Profile:
    """A compiled profile with the energy that its compiler says nothing about."""
    if target.power is not None:
        energy, power = compiled_energy(profile.latency_ms, target)
        profile = profile.model_copy(update={"energy_mj": energy, "power_w": power})
    return with_flight(profile, target)


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


def _latency(result: Estimate | str, target: Target, view: GraphView, span: Range | None) -> Figure:
    if isinstance(result, str):
        return Figure.missing(result)
    value = result.seconds * 1e3
    used = [costs for p in target.processors for costs in p.costs.values()]
    fitted = sum(costs.measurements for costs in used)
    basis = f"fitted to {fitted} measurements" if fitted else "from published specifications"
    interval = (
        f"; interval: {span.method}" if span else "; no interval: not compared with measurements"
    )
    return estimated(
        value,
        "ms",
        f"kernel costs of {target.name}, {view.precision}, {basis}{interval}",
        span,
    )


def _energy(
    result: Estimate | str,
    loads: Sequence[Work],
    placed: Sequence[OpPlacement],
    target: Target,
    view: GraphView,
    extrapolated: float,
) -> tuple[Figure, Figure]:
    """Energy of one inference and average power over it."""
    if isinstance(result, str):
        return Figure.missing(result), Figure.missing(result)
    return energy_figures(
        result,
        demands(result, loads, placed, target),
        target,
        target.precisions.get(view.precision),
        extrapolated=extrapolated,
    )


def with_flight(profile: Profile, target: Target) -> Profile:
    """The profile with what it costs in flight, if the target is a drone."""
    if target.vehicle is None:
        return profile
    latency, energy = profile.latency_ms, profile.energy_mj
    power = profile.power_w or Figure.missing(energy.reason or "the power is not known")
    flight = flight_profile(latency, energy, power, target.power, target.vehicle)
    lost = Figure.missing(flight.inference_w.reason or "the energy is not known")
    if latency.value is not None and energy.value is not None and target.power is not None:
        seconds = latency.value * 1e-3
        extra = energy.value * 1e-3 - target.power.idle_w * seconds
        span = flight.inference_w
        hourly = flight_seconds_per_hour(seconds, extra, target.vehicle)
        lost = Figure(
            value=hourly,
            low=None if span.low is None else span.low / target.vehicle.hover_w * 3600,
            high=None if span.high is None else span.high / target.vehicle.hover_w * 3600,
            unit="s/h",
            origin="estimated",
            method=f"{span.method}, over {target.vehicle.hover_w:g} W of hover power",
        )
    return profile.model_copy(update={"flight": flight, "flight_s_per_h": lost})


def _extrapolated_share(result: Estimate | str) -> float:
    """Share of operators that the fit never saw, should they take far longer than is predicted."""
    if isinstance(result, str):
        return 0.0
    unseen = sum(time.seconds for time in result.ops if time.extrapolated)
    return _FAR_LONGER * unseen / (result.seconds + (_FAR_LONGER - 1) * unseen)


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
        layers.append(layer_profile(work, where.where, figure))
    return tuple(layers)


def _operator_warnings(loads: Sequence[Work], result: Estimate | str) -> list[str]:
    """Operators that the fit never saw."""
    if isinstance(result, str):
        return []
    return by_reason(
        (f"{_EXTRAPOLATED} {time.extrapolated}", work.op.index)
        for work, time in zip(loads, result.ops, strict=True)
        if time.extrapolated
    )


def _network_warnings(
    loads: Sequence[Work],
    placed: Sequence[OpPlacement],
    target: Target,
    result: Estimate | str,
) -> list[str]:
    """What makes the whole network unlike those that were measured."""
    if isinstance(result, str):
        return []
    lines = []
    for precision in sorted({work.precision for work in loads if work.macs and not work.free}):
        charged = target.precisions.get(precision)
        if charged is not None and charged != precision:
            lines.append(f"{_EXTRAPOLATED} {precision} is charged as {charged}")
    return lines + _size_warnings(loads, placed, target, result)


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
            macs, least, most = (show_number(count / 1e6, 3) for count in (result.macs, *measured))
            lines.append(
                f"{_EXTRAPOLATED} {macs} million MACs, measured networks have {least} to {most}"
            )
    return lines
