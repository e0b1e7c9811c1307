"""Targets as tables: the list, one target with its fit and its error, a ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from edgekit.report.fitting import FittingTable
from edgekit.schema.fitting import FitSpec
from edgekit.schema.power import PowerSpec, Vehicle
from edgekit.schema.results import Ranking
from edgekit.schema.target import PredictionError, Target, Variant
from edgekit.schema.units import show_bytes, show_figure


def target_list(targets: Sequence[Target]) -> RenderableType:
    """All targets, a line each."""
    name = Column("target", no_wrap=True)
    return FittingTable(
        (name, "class", "hardware and runtime", "formats", "precisions", "median error"),
        (
            (
                target.name,
                target.device_class,
                target.title,
                ", ".join(target.runtime.formats),
                ", ".join(target.precisions),
                _errors(target),
            )
            for target in targets
        ),
    )


def _errors(target: Target) -> str:
    if not target.error:
        return "not validated"
    return ", ".join(f"{name} {error.median_pct:.1f}%" for name, error in target.error.items())


def target_view(target: Target) -> Table:
    """One target: what it is, what its costs were fitted to, and how far predictions were off."""
    table = Table(show_header=False, title=Text(target.name))
    for title, text in _rows(target):
        table.add_row(Text(title), Text(text))
    return table


def _rows(target: Target) -> Iterator[tuple[str, str]]:
    runtime, memory = target.runtime, target.memory
    threads = f", {runtime.threads} threads" if runtime.threads else ""
    yield "hardware", f"{target.title} ({target.device_class})"
    yield "runtime", f"{runtime.name} {runtime.version or ''}".strip() + threads
    yield "formats", ", ".join(runtime.formats)
    yield (
        "precisions",
        ", ".join(
            name if charged in (name, None) else f"{name} (charged as {charged})"
            for name, charged in target.precisions.items()
        ),
    )
    for processor in target.processors:
        costs = ", ".join(
            f"{name} {own.origin} ({own.measurements} measurements)"
            for name, own in processor.costs.items()
        )
        yield f"processor {processor.name}", f"rules {processor.rules}; costs: {costs or 'none'}"
    for variant in target.variants:
        yield from _variant(variant)
    if target.compiler:
        yield "compiler", f"{target.compiler.name}: its answer takes the place of estimates"
    size = "unknown" if memory.ram_bytes is None else show_bytes(memory.ram_bytes)
    yield "RAM", f"{size}, {memory.bandwidth_gb_s:g} GB/s"
    if memory.flash_bytes:
        yield "flash", show_bytes(memory.flash_bytes)
    if target.power:
        yield from _power(target.power)
    if target.vehicle:
        yield "vehicle", _vehicle(target.vehicle)
    yield "zero weights", f"{target.zeros.effect}: {target.zeros.why}"
    if target.zeros.channels == "removed":
        yield "zero channels", "left out, where all weights of the filters that make them are zero"
    yield from (
        (f"fit {spec.processor} {spec.precision}", _fit(spec, target)) for spec in target.fit
    )
    for what, errors in (("latency", target.error), ("energy", target.energy_error)):
        if not errors:
            yield f"error of {what}", "not compared with measurements"
        for name, error in (errors or {}).items():
            yield f"error of {what}, {name}", _error(error)
    yield from ((f"assumed {key}", reason) for key, reason in target.assumed.items())
    yield from ((f"source {one.id}", f"{one.title} {one.url}") for one in target.sources)


def _variant(variant: Variant) -> Iterator[tuple[str, str]]:
    runtime = variant.runtime
    name = f"{runtime.name} {runtime.version or ''}".strip() + f", {runtime.threads} threads"
    for precision, costs in variant.costs.items():
        error = (variant.error or {}).get(precision)
        far = "" if error is None else f"; {_error(error)}"
        text = f"{', '.join(runtime.formats)}; {costs.origin} ({costs.measurements} measurements)"
        yield f"{name}, {precision}", text + far


def _power(power: PowerSpec) -> Iterator[tuple[str, str]]:
    active = ", ".join(f"{name} +{watts:g} W" for name, watts in power.active_w.items())
    asleep = "" if power.sleep_w is None else f", asleep {power.sleep_w:g} W"
    yield "power", f"{power.scope}: idle {power.idle_w:g} W{asleep}, {active}"
    for name, precisions in power.operators.items():
        for precision, own in precisions.items():
            alike = len(set(own.w.values())) == 1
            watts = (
                f"+{next(iter(own.w.values())):g} W"
                if alike
                else ", ".join(f"{kind} +{value:g} W" for kind, value in own.w.items())
            )
            for value, unit in (
                (own.pj_per_mac, "pJ/MAC"),
                (own.pj_per_byte, "pJ/byte from the DRAM"),
                (own.mj_per_inference, "mJ an inference"),
            ):
                watts += f", {value:g} {unit}" if value else ""
            yield (
                f"power {name} {precision}",
                f"{watts}; {own.origin}, {own.measurements} measurements",
            )
    if power.spread:
        low, high = power.spread.low, power.spread.high
        yield "spread of power", f"{low:g} to {high:g}: {power.spread.method}"


def _vehicle(vehicle: Vehicle) -> str:
    known = {
        "mass": (vehicle.mass_g, "g"),
        "computer": (vehicle.computer_g, "g"),
        "battery": (vehicle.battery_wh, "Wh"),
        "hovers with": (vehicle.hover_w, "W"),
        "flies": (vehicle.flight_time_min, "min"),
        "camera": (vehicle.camera_hz, "Hz"),
        "detects at": (vehicle.detection_m, "m"),
        "brakes with": (vehicle.braking_m_s2, "m/s2"),
    }
    parts = [
        f"{name} unknown" if value is None else f"{name} {value:g} {unit}"
        for name, (value, unit) in known.items()
    ]
    return f"{vehicle.name}: " + ", ".join(parts)


def _fit(spec: FitSpec, target: Target) -> str:
    references = spec.reference or [r for r in target.reference if r.precision == spec.precision]
    parts = [
        ", ".join(
            filter(
                None, (r.device, r.runtime, f"{r.threads} threads" if r.threads else "", r.source)
            )
        )
        for r in references
    ]
    text = f"parameters {spec.parameters}, to " + "; ".join(parts)
    if spec.prior:
        text += f"; with those of {', '.join(dict.fromkeys(r.device for r in spec.prior))}"
    return text


def _error(error: PredictionError) -> str:
    lines = [
        f"leave one model out: median {error.median_pct:.1f}%, 90th percentile {error.p90_pct:.1f}%"
        f" ({error.models} models)"
    ]
    if error.family_median_pct is not None:
        lines.append(
            f"leave one family out: median {error.family_median_pct:.1f}%, 90th percentile "
            f"{error.family_p90_pct:.1f}%"
        )
    if error.source_median_pct is not None:
        lines.append(
            f"another source, unseen: median {error.source_median_pct:.1f}%, 90th percentile "
            f"{error.source_p90_pct:.1f}%"
        )
    lines.append(
        f"interval: measured over predicted {error.low:.2f} to {error.high:.2f} (extrapolated "
        f"{error.unseen_low:.2f} to {error.unseen_high:.2f}), covers {error.coverage_pct:.0f}%"
    )
    return "\n".join([*lines, error.method])


def ranking_view(ranking: Ranking) -> RenderableType:
    """A ranking: those that fit, those that do not, and why."""
    heads = (
        Column("#", justify="right"), Column("target", no_wrap=True), "class", "verdict", "latency",
        "energy", "peak memory", "why",
    )  # fmt: skip
    rows = (
        (
            "" if one.rank is None else str(one.rank), one.target, one.device_class, one.verdict,
            *map(show_figure, (one.latency_ms, one.energy_mj, one.peak_memory_bytes)),
            one.reason or "",
        )
        for one in ranking.targets
    )  # fmt: skip
    table = FittingTable(heads, rows, title=f"{ranking.artifact}, by {ranking.by}")
    fits = sum(one.verdict == "ok" for one in ranking.targets)
    summary = (
        f"{fits} of {len(ranking.targets)} targets fit; ~ estimated or compiled. Energy is over "
        "what a target's power covers, from a chip's supply to a whole board: edgekit targets show"
    )
    return Group(table, Text(summary))
