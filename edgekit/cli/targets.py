"""`edgekit targets`: the hardware that edgekit knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.schema.rules import RuleTable, TargetRules
    from edgekit.schema.target import Target

EXAMPLES = examples(
    "edgekit targets                        # the list",
    "edgekit targets show raspberry-pi-4",
    "edgekit targets rules coral-usb        # what it takes",
    "edgekit targets rules --output docs/ops  # a page for each target",
    "edgekit targets validate my-board.yaml",
)


def command(
    action: Annotated[Literal["list", "show", "rules", "validate"], typer.Argument()] = "list",
    name: Annotated[str | None, typer.Argument(help="A target's name or .yaml file.")] = None,
    output_folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With `rules`: write Markdown pages to this folder."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List targets, show one or its rules, or validate a target file."""
    from edgekit.profiling.targets import all_targets, named_target

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if action == "list":
        targets = all_targets()
        summaries = [
            {
                "name": target.name,
                "title": target.title,
                "device_class": target.device_class,
                "formats": list(target.runtime.formats),
                "precisions": list(target.precisions),
            }
            for target in targets
        ]
        output.result({"targets": summaries}, lambda console: _list(console, targets))
        return
    if action == "rules" and output_folder is not None:
        _write(output, [named_target(name, action)] if name else all_targets(), output_folder)
        return
    target = named_target(name, action)
    if action == "rules":
        from edgekit.profiling.rulebook import target_rules

        rules = target_rules(target)
        output.result(rules, lambda console: _rules(console, rules))
    elif action == "show":
        output.result(target, lambda console: _show(console, target))
    else:
        output.result(
            {"valid": True, "name": target.name},
            lambda console: console.print(f"{target.name}: valid", markup=False),
        )


def _list(console: Console, targets: list[Target]) -> None:
    from rich.table import Column, Table

    name = Column("target", no_wrap=True)
    table = Table(name, "hardware and runtime", "formats", "precisions", "median error")
    for target in targets:
        table.add_row(
            target.name,
            target.title,
            ", ".join(target.runtime.formats),
            ", ".join(target.precisions),
            _errors(target),
        )
    console.print(table)


def _errors(target: Target) -> str:
    if not target.error:
        return "not validated"
    return ", ".join(f"{name} {error.median_pct:.1f}%" for name, error in target.error.items())


def _show(console: Console, target: Target) -> None:
    from rich.table import Table

    table = Table(show_header=False, title=target.name)
    memory, power, vehicle = target.memory, target.power, target.vehicle
    rows = [("hardware", target.title)]
    rows.append(("formats", ", ".join(target.runtime.formats)))
    rows.append(("precisions", ", ".join(target.precisions)))
    for processor in target.processors:
        fitted = ", ".join(
            f"{name} {costs.origin} ({costs.measurements} measurements)"
            for name, costs in processor.costs.items()
        )
        rows.append((f"processor {processor.name}", f"rules {processor.rules}; costs: {fitted}"))
    rows.append(("RAM", f"{memory.ram_bytes:,} bytes, {memory.bandwidth_gb_s:g} GB/s"))
    if memory.flash_bytes:
        rows.append(("flash", f"{memory.flash_bytes:,} bytes"))
    if power:
        active = ", ".join(f"{name} +{watts:g} W" for name, watts in power.active_w.items())
        rows.append(("power", f"{power.scope}: idle {power.idle_w:g} W, {active}"))
    if vehicle:
        rows.append(("vehicle", f"{vehicle.name}: hovers with {vehicle.hover_w:g} W"))
    rows.append(("zero weights", f"{target.zeros.effect}: {target.zeros.why}"))
    for name, error in (target.error or {}).items():
        found = f"median {error.median_pct:.1f}%, 90th percentile {error.p90_pct:.1f}%"
        rows.append((f"error {name}", f"{found}, {error.models} models: {error.method}"))
    rows += [(f"assumed {key}", reason) for key, reason in target.assumed.items()]
    rows += [(f"source {source.id}", f"{source.title} {source.url}") for source in target.sources]
    for title, text in rows:
        table.add_row(title, text)
    console.print(table)


def _write(output: Output, targets: list[Target], folder: Path) -> None:
    from edgekit.profiling.rulebook import write_pages

    pages = [str(page) for page in write_pages(targets, folder)]
    output.result({"pages": pages}, lambda console: console.print("\n".join(pages), markup=False))


def _rules(console: Console, rules: TargetRules) -> None:
    console.print(f"{rules.target}: {rules.title}", markup=False)
    for entry in rules.processors:
        console.print(_rule_table(f"{entry.processor}: {entry.table.title}", entry.table))
        if entry.fast is not None:
            console.print(_rule_table(f"fast kernels: {entry.fast.title}", entry.fast))


def _rule_table(title: str, rules: RuleTable) -> object:
    from rich.table import Column, Table
    from rich.text import Text

    taken = ", ".join(rules.operators or rules.kinds) or "all operators of the format"
    table = Table(
        Column("rule", no_wrap=True), "operators", "severity", "allowed", "fix",
        title=Text(title), caption=Text(f"takes {taken}; source: {rules.source}"),
    )  # fmt: skip
    for row in rules.rules:
        operators = ", ".join(row.operators) or "all"
        table.add_row(*map(Text, (row.id, operators, row.severity, row.rule, row.fix)))
    return table
