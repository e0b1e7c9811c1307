"""Results as tables for a terminal. Estimates are marked with `~`, here and everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import PurePath

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgekit.report.notes import missing_notes, short_warning_notes, warning_notes
from edgekit.schema.figure import Figure
from edgekit.schema.manifest import PackResult
from edgekit.schema.results import (
    ArtifactResult,
    GateReport,
    Profile,
    RunReport,
    StageResult,
    VerifyReport,
    VerifyResult,
)
from edgekit.schema.units import NOTHING, show_bytes, show_figure, show_number, show_share

_LEGEND = (
    "~ estimated, all else measured. Accuracy: on the test split, and against the float model. "
    "Parity with the Keras model: share of samples of the same class, signal to noise; and of a "
    "derived int8 file the share within one output step of the int8 TFLite file."
)


def run_view(report: RunReport, *, full: bool = True) -> RenderableType:
    """A whole run: its table, checks that failed, budgets, and where the bundle is.

    Args:
        report: the run.
        full: whether all warnings about estimates are told, or only that there are some.
    """
    if not report.artifacts:
        parts: list[RenderableType] = [stage_table(report.stages)]
    else:
        parts = [run_table(report), Text(_LEGEND, style="dim")]
    parts += _notes(missing_notes(report.profiles), "dim")
    notes = warning_notes if full else short_warning_notes
    parts += _notes(notes(report.profiles), "yellow")
    for artifact in report.artifacts:
        name = PurePath(artifact.path).name
        for check in (artifact.parity, artifact.master_parity):
            if check is not None:
                lines = (f"{name} against {check.reference}: {one}" for one in check.failures)
                parts += _notes(lines, "red")
    parts += _notes((f"{one.stage}: {one.error['message']}" for one in report.failures), "red")
    if report.gate is not None and report.gate.results:
        parts.append(gate_table(report.gate))
    places = {"bundle": report.bundle, "report": report.report}
    parts += [
        Text(f"{what}: {PurePath(report.run) / place}") for what, place in places.items() if place
    ]
    return Group(*parts)


def run_table(report: RunReport) -> Table:
    """One block an artifact: what it is, how good it is, and a row a place where it was profiled.

    Accuracy is on the test split, with the difference from the float model in percentage points;
    parity is with the Keras model. For a drone, energy is also seconds of flight lost per hour of
    inference.
    """
    flies = any(profile.flight_s_per_h is not None for profile in report.profiles)
    table = plain_table(
        "artifact", "format", "precision", "bytes>", "accuracy>", "parity", "on", "latency>",
        "energy>", *(["flight/h>"] if flies else []),
    )  # fmt: skip
    for artifact in report.artifacts:
        name = PurePath(artifact.path).name
        profiles = [
            one
            for one in report.profiles
            if PurePath(one.artifact).name == name and one.latency_ms.value is not None
        ]
        # Line by line, so that a name that breaks in a narrow terminal moves nothing out of line.
        cells: list[Sequence[RenderableType]] = [
            [Text(name, style="bold")],
            [artifact.format],
            [artifact.precision],
            [f"{artifact.bytes:,}"],
            _accuracy(artifact, report.reference_metrics),
            _parity(artifact),
            [Text(one.place) for one in profiles],
            [_figure(one.latency_ms) for one in profiles],
            [_figure(one.energy_mj) for one in profiles],
        ]
        if flies:
            cells.append([_figure(one.flight_s_per_h) for one in profiles])
        for line in zip_longest(*cells, fillvalue=""):
            table.add_row(*line)
        table.add_section()
    return table


def profile_table(profiles: Sequence[Profile]) -> RenderableType:
    """Latency, energy and memory, one row a profile, with devices, methods and warnings below."""
    measured = any("p90_ms" in profile.details for profile in profiles)
    more = ("p90>", "p99>", "cold start>") if measured else ()
    table = plain_table("artifact", "on", "latency>", "energy>", "peak memory>", *more)
    for profile in profiles:
        details = profile.details
        cold = details.get("cold_start_ms", {}).get("total")
        times = (details.get("p90_ms"), details.get("p99_ms"), cold) if measured else ()
        table.add_row(
            Text(PurePath(profile.artifact).name, style="bold"),
            Text(profile.place),
            _figure(profile.latency_ms, interval=True),
            _figure(profile.energy_mj),
            _figure(profile.peak_memory_bytes),
            *(_milliseconds(time) for time in times),
        )
    devices = dict.fromkeys(f"{profile.place}: {profile.device}" for profile in profiles)
    methods = dict.fromkeys(
        f"{PurePath(profile.artifact).name} on {profile.place}: {profile.latency_ms.method}"
        for profile in profiles
        if profile.latency_ms.method
    )
    return Group(
        table,
        *_notes([*devices, *methods, *missing_notes(profiles)], "dim"),
        *_notes(warning_notes(profiles), "yellow"),
    )


def verify_table(report: VerifyReport) -> RenderableType:
    """Parity of each artifact with its reference, and the limits that it broke."""
    table = plain_table(
        "artifact", "reference", "samples>", "max diff>", "steps>", "SNR dB>", "top-1>",
        "metrics", "verdict",
    )  # fmt: skip
    for result in report.results:
        table.add_row(
            Text(PurePath(result.artifact).name, style="bold"),
            Text(PurePath(result.reference).name),
            str(result.samples),
            show_number(result.max_abs_diff),
            _optional(result.max_step_diff),
            _snr(result),
            NOTHING if result.top1_agreement is None else show_share(result.top1_agreement),
            "\n".join(_metrics(result.metrics)),
            _verdict(result.passed),
        )
    failures = (
        f"{PurePath(result.artifact).name}: {failure}"
        for result in report.results
        for failure in result.failures
    )
    return Group(table, *_notes(failures, "red"))


def gate_table(report: GateReport) -> Table:
    """Each budget with its value, its limit and its verdict."""
    table = plain_table("budget", "artifact", "value>", "limit>", "verdict", "why")
    for result in report.results:
        table.add_row(
            Text(result.budget),
            Text(result.artifact),
            _optional(result.value),
            result.limit,
            _verdict(result.passed),
            Text(result.reason or ""),
        )
    return table


def stage_table(stages: Sequence[StageResult]) -> Table:
    """The stages of a run with their time, or that they came from the cache."""
    table = plain_table("stage", "time>")
    for stage in stages:
        table.add_row(Text(stage.name), "cached" if stage.cached else f"{stage.seconds:.1f} s")
    return table


def bundle_view(result: PackResult) -> RenderableType:
    """What a bundle holds, and its hash."""
    table = plain_table("member", "size>", "sha256")
    for name, member in result.manifest.members.items():
        table.add_row(Text(name), show_bytes(member.bytes), member.sha256[:16])
    total = f"{result.bundle}: {show_bytes(result.bytes)}, sha256 {result.sha256}"
    return Group(table, Text(total))


def plain_table(*headers: str) -> Table:
    """A table with these columns; `>` at the end of a header aligns its column to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for header in headers:
        name = header.removesuffix(">")
        right = header.endswith(">")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table


def _figure(figure: Figure | None, *, interval: bool = False) -> Text:
    if figure is None or figure.value is None:
        return Text(NOTHING, style="dim")
    return Text(show_figure(figure, interval=interval))


def _milliseconds(value: float | None) -> Text:
    return _figure(None if value is None else Figure(value=value, unit="ms", origin="measured"))


def _accuracy(artifact: ArtifactResult, reference: dict[str, float]) -> list[str]:
    accuracy = artifact.metrics.get("accuracy")
    if accuracy is None:
        return _metrics(artifact.metrics)
    lines = [show_share(accuracy)]
    if "accuracy" in reference:
        lines.append(f"({100 * (accuracy - reference['accuracy']):+.1f} pp)")
    return lines


def _metrics(metrics: dict[str, float]) -> list[str]:
    words = [
        f"{name} {show_share(value) if name == 'accuracy' else show_number(value)}"
        for name, value in sorted(metrics.items())
    ]
    return words or [NOTHING]


def _parity(artifact: ArtifactResult) -> list[Text]:
    parity, master = artifact.parity, artifact.master_parity
    if parity is None:
        return [Text("not checked", style="yellow")]
    lines = [] if artifact.proven else ["FAILED"]
    if parity.top1_agreement is not None:
        lines.append(f"{show_share(parity.top1_agreement)} class")
    lines.append(_snr(parity) if parity.snr_db is None else f"{_snr(parity)} dB")
    if master is not None and master.within_one_step is not None:
        lines.append(f"{show_share(master.within_one_step)} 1 step")
    return [Text(line, style="" if artifact.proven else "red") for line in lines]


def _snr(result: VerifyResult) -> str:
    if result.snr_db is not None:
        return f"{result.snr_db:.1f}"
    return "identical" if result.max_abs_diff == 0 else NOTHING


def _optional(value: float | None) -> str:
    return NOTHING if value is None else show_number(value)


def _verdict(passed: bool) -> Text:
    return Text("ok", style="green") if passed else Text("FAILED", style="bold red")


def _notes(lines: Iterable[str], style: str) -> list[Text]:
    return [Text(line, style=style) for line in lines]
