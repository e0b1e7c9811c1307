"""The tables of `edgekit check --fix`."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.report.fitting import FittingTable
from edgekit.schema.fixing import UNVARIED, AppliedRewrite, FindingFix, FixReport

_REWRITES = ("rewrite", "of", "change", "promise", "difference to the original")
_FINDINGS = ("operator", "rule", "found", "fixed by", "why not")


def fix_view(report: FixReport) -> RenderableType:
    """The verdicts, the changes with their differences, and what became of each finding."""
    parts: list[RenderableType] = [
        Text(
            f"{report.artifact} on {report.target}: {report.before.verdict}, "
            f"after rewrites: {report.after.verdict} (checked: {report.checked})"
        )
    ]
    if report.rewrites:
        parts.append(FittingTable(_REWRITES, map(_rewrite, report.rewrites)))
    if report.findings:
        parts.append(FittingTable(_FINDINGS, map(_finding, report.findings)))
    parts.append(Text(_written(report)))
    return Group(*parts)


def _rewrite(one: AppliedRewrite) -> tuple[str, ...]:
    place = one.layer or one.op or "file"
    return one.rewrite, place, one.change, str(one.promise), _difference(one)


def _finding(entry: FindingFix) -> tuple[str, ...]:
    found = entry.finding
    place = "" if found.index is None else f"{found.index} {found.op} {found.layer or ''}"
    return place, found.rule, found.found, entry.rewrite or "", entry.why or ""


def _difference(one: AppliedRewrite) -> str:
    found = one.difference
    if not found.varied:
        return f"none on {found.samples} samples, but {UNVARIED}: give --data"
    if found.max_abs == 0:
        return f"none on {found.samples} samples"
    steps = "" if found.max_steps is None else f" ({found.max_steps} steps)"
    return (
        f"{found.max_abs:.3g}{steps}, {found.relative:.2%} of the range "
        f"on {found.samples} samples (limit {one.tolerance:.3%})"
    )


def _written(report: FixReport) -> str:
    if report.output is not None:
        return f"written: {report.output}"
    if report.rewrites:
        return "nothing written: give --output"
    return "nothing to write: no rewrite applied"
