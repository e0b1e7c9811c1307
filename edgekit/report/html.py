"""A run as one HTML file that asks for nothing else: no scripts, no fonts, no images."""

from __future__ import annotations

import html
import io
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from edgekit.base.files import write_text
from edgekit.report.memory import memory_view
from edgekit.report.tables import profile_table, run_view, stage_table
from edgekit.schema.results import RunReport

_WIDTH = 160
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
{{stylesheet}}
body {{{{ color: {{foreground}}; background-color: {{background}}; margin: 2em; }}}}
pre {{{{ font-family: ui-monospace, Menlo, Consolas, monospace; overflow-x: auto; }}}}
</style>
</head>
<body>
<pre><code>{{code}}</code></pre>
</body>
</html>
"""


def write_html(report: RunReport, path: Path) -> None:
    """Writes the run's tables, every profile with its method, memory over time, and its stages.

    The file is written atomically.

    Raises:
        StorageError: the disk is full.
    """
    console = Console(
        record=True, file=io.StringIO(), width=_WIDTH, force_terminal=True, color_system="truecolor"
    )
    title = f"edgekit run: {report.recipe}"
    console.print(Text(title, style="bold"))
    console.print(run_view(report))
    if report.profiles:
        console.print(Text("\nProfiles", style="bold"))
        console.print(profile_table(report.profiles))
    if report.memory:
        console.print(Text("\nMemory over time", style="bold"))
        for plan in report.memory:
            console.print(memory_view(plan), Text())
    if report.stages:
        console.print(Text("\nStages", style="bold"))
        console.print(stage_table(report.stages))
    if report.versions:
        console.print(Text("\nVersions", style="bold"))
        versions = (f"{name} {version}" for name, version in sorted(report.versions.items()))
        console.print(Text(", ".join(versions)))
    # The page is filled in twice with str.format: here, and by rich.
    page = _PAGE.format(title=html.escape(title).replace("{", "{{").replace("}", "}}"))
    write_text(path, console.export_html(theme=DEFAULT_TERMINAL_THEME, code_format=page))
