"""The rules of a target as a document: `edgekit targets rules`, and the pages of docs/ops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgekit.base.files import write_text
from edgekit.profiling.rules import RULE_SETS, RuleSet
from edgekit.schema.rules import ProcessorRules, RuleRow, RuleTable, TargetRules
from edgekit.schema.target import Target

COMMAND = "edgekit targets rules --output docs/ops"


def target_rules(target: Target) -> TargetRules:
    """All rules that `edgekit check` holds a model against, processor by processor.

    Raises:
        InputError: the target names a rule set that does not exist.
    """
    processors = []
    for processor in target.processors:
        rules = RULE_SETS.get(processor.rules, where=target.name)
        fast = None if rules.fast is None else _table(rules.fast, slow=True)
        processors.append(ProcessorRules(processor=processor.name, table=_table(rules), fast=fast))
    return TargetRules(
        target=target.name,
        title=target.title,
        formats=tuple(target.runtime.formats),
        precisions=tuple(target.precisions),
        processors=tuple(processors),
    )


def write_pages(targets: Sequence[Target], folder: Path) -> list[Path]:
    """Writes `<target>.md` into a folder, for each target.

    Raises:
        StorageError: a page cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for target in targets:
        page = folder / f"{target.name}.md"
        write_text(page, page_text(target_rules(target)))
        pages.append(page)
    return pages


def page_text(document: TargetRules) -> str:
    """The page of a target, in Markdown."""
    lines = [
        f"<!-- Made by `{COMMAND}` from the rules in edgekit/profiling/rules: do not edit. -->",
        "",
        f"# What {document.target} takes",
        "",
        f"{document.title}. Formats: {', '.join(document.formats)}. "
        f"Precisions: {', '.join(document.precisions)}.",
        "",
        "An operator runs on the first processor below that takes it. A broken rule that `blocks` "
        "sends it to the next one; after the last, it runs nowhere. One that is `slow` leaves it "
        "there, on a slower kernel; `requantized`: with scales that the vendor's tools choose.",
    ]
    for entry in document.processors:
        lines += ["", f"## {entry.processor}: {entry.table.title}", ""]
        lines += _table_lines(entry.table)
        if entry.fast is not None:
            lines += ["", f"### Fast kernels: {entry.fast.title}", ""]
            lines += _table_lines(entry.fast)
    return "\n".join(lines) + "\n"


def _table(rules: RuleSet, *, slow: bool = False) -> RuleTable:
    return RuleTable(
        name=rules.name,
        title=rules.title,
        source=rules.source,
        about=" ".join(rules.about.split()),
        operators=tuple(sorted(rules.takes)),
        kinds=tuple(sorted(rules.kinds)),
        rules=tuple(
            RuleRow(
                id=entry.id,
                operators=tuple(sorted(entry.ops)),
                severity="slow" if slow else entry.severity,
                rule=entry.text,
                fix=entry.fix,
                source=entry.source or rules.source,
            )
            for entry in rules.rules
        ),
    )


def _table_lines(table: RuleTable) -> Iterator[str]:
    yield f"Rule set `{table.name}`, published at <{table.source}>."
    if table.about:
        yield ""
        yield table.about
    yield ""
    if table.operators:
        yield f"Operators: {', '.join(table.operators)}."
    elif table.kinds:
        yield f"Classes of operators: {', '.join(table.kinds)}."
    else:
        yield "All operators of the format."
    if not table.rules:
        return
    yield ""
    yield "| rule | operators | severity | allowed | fix |"
    yield "| --- | --- | --- | --- | --- |"
    for row in table.rules:
        name = f"`{row.id}`"
        if row.source != table.source:
            name = f"[{name}]({row.source})"
        operators = ", ".join(row.operators) or "all"
        cells = (name, operators, row.severity, _cell(row.rule), _cell(row.fix))
        yield f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
