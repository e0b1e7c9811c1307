"""`edgekit targets`: the hardware that edgekit knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from edgekit.schema.rules import RuleTable, TargetRules

EXAMPLES = examples(
    "edgekit targets                        # the list",
    "edgekit targets show raspberry-pi-4    # its fit and its error",
    "edgekit targets rank model.tflite --max-latency-ms 20 --max-mj 5 --class mcu",
    "edgekit targets rules coral-usb        # what it takes",
    "edgekit targets rules litert-gpu       # or a rule set, whatever the board",
    "edgekit targets rules --output docs/ops  # a page for each target, and each other rule set",
    "edgekit targets validate my-board.yaml",
)


def command(
    action: Annotated[
        Literal["list", "show", "rank", "rules", "validate"], typer.Argument()
    ] = "list",
    name: Annotated[
        str | None,
        typer.Argument(
            help="A target's name or .yaml file; with `rules`, a rule set's too; with `rank`, a "
            "model file."
        ),
    ] = None,
    output_folder: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With `rules`: write Markdown pages to this folder."),
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="With `rank`: budget of latency in milliseconds.")
    ] = None,
    max_mj: Annotated[
        float | None, typer.Option(help="With `rank`: budget of energy in millijoules.")
    ] = None,
    max_kib: Annotated[
        float | None, typer.Option(help="With `rank`: budget of peak memory in 1024 bytes.")
    ] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", help="With `rank`: only this class, such as mcu.")
    ] = None,
    by: Annotated[
        Literal["latency", "energy", "memory"], typer.Option(help="With `rank`: what to sort by.")
    ] = "latency",
    no_compile: Annotated[
        bool, typer.Option("--no-compile", help="With `rank`: leave compilers out.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """List targets, show one or its rules, rank them for a model, or validate a target file.

    `rank` answers which board to buy: those that fit first. It exits with 1 if none does.
    """
    from edgekit.base.errors import InputError
    from edgekit.profiling.targets import all_targets, named_target
    from edgekit.report.targets import target_list, target_view

    output = Output(json=json, quiet=quiet, verbose=verbose)
    ranked = (max_latency_ms, max_mj, max_kib, device_class, no_compile or None)
    if action != "rank" and any(value is not None for value in ranked):
        raise InputError("--max-..., --class and --no-compile are for 'rank'", where="targets")
    if action == "list" and name is not None:
        raise InputError(f"'list' lists all, not {name}", hint=f"edgekit targets show {name}")
    if action == "list":
        targets = all_targets()
        summaries = [
            {
                "name": target.name,
                "title": target.title,
                "device_class": target.device_class,
                "formats": list(target.runtime.formats),
                "precisions": list(target.precisions),
                "median_error_pct": {
                    name: error.median_pct for name, error in (target.error or {}).items()
                },
            }
            for target in targets
        ]
        output.result({"targets": summaries}, lambda console: console.print(target_list(targets)))
        return
    if action == "rank":
        from edgekit.profiling.budgets import Limits
        from edgekit.profiling.ranking import rank_file
        from edgekit.report.targets import ranking_view

        limits = Limits(max_latency_ms, max_mj, max_kib)
        with output.progress() as progress:
            ranking = rank_file(
                name, limits, device_class=device_class, by=by, compiled=not no_compile,
                progress=progress,
            )  # fmt: skip
        output.result(ranking, lambda console: console.print(ranking_view(ranking)))
        if not any(one.verdict == "ok" for one in ranking.targets):
            raise typer.Exit(1)
        return
    if action == "rules":
        _show_rules(output, name, output_folder)
        return
    target = named_target(name, action)
    if action == "show":
        output.result(target, lambda console: console.print(target_view(target)))
    else:
        output.result(
            {"valid": True, "name": target.name},
            lambda console: console.print(f"{target.name}: valid", markup=False),
        )


def _show_rules(output: Output, name: str | None, folder: Path | None) -> None:
    from edgekit.profiling.rule_targets import documented, with_rules
    from edgekit.profiling.rulebook import target_rules, write_pages

    if folder is None:
        rules = target_rules(with_rules(name))
        output.result(rules, lambda console: _rules(console, rules))
        return
    pages = [
        str(page) for page in write_pages([with_rules(name)] if name else documented(), folder)
    ]
    output.result({"pages": pages}, lambda console: console.print("\n".join(pages), markup=False))


def _rules(console: Console, rules: TargetRules) -> None:
    console.print(f"{rules.target}: {rules.title}", markup=False)
    for entry in rules.processors:
        console.print(_rule_table(f"{entry.processor}: {entry.table.title}", entry.table))
        if entry.fast is not None:
            console.print(_rule_table(f"fast kernels: {entry.fast.title}", entry.fast))


def _rule_table(title: str, rules: RuleTable) -> RenderableType:
    from rich.console import Group
    from rich.table import Column
    from rich.text import Text

    from edgekit.report.fitting import FittingTable

    rows = (
        (row.id, ", ".join(row.operators) or "all", row.severity, row.rule, row.fix)
        for row in rules.rules
    )
    heads = (Column("rule", no_wrap=True), "operators", "severity", "allowed", "fix")
    taken = ", ".join(rules.operators or rules.kinds) or "all operators of the format"
    return Group(
        FittingTable(heads, rows, title=title),
        Text(f"takes {taken}; source: {rules.source}", style="dim"),
    )
