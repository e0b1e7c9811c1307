"""The doctor's findings for a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from edgekit.devices.doctor import DoctorReport, Library
from edgekit.report.tables import plain_table
from edgekit.schema.units import NOTHING, show_bytes


def doctor_view(report: DoctorReport) -> RenderableType:
    """The machine, the extras with their libraries, and optional programs."""
    host = report.machine
    facts = {
        "edgekit": f"{report.edgekit}, Python {host.python}",
        "system": f"{host.os}, {host.kernel}, {host.architecture}",
        "CPU": f"{host.name}{', virtual' if host.virtual else ''} {' '.join(host.features)}",
        "governor": host.governor or "not known",
        "load": ", ".join(f"{load:.2f}" for load in host.load_average),
        "memory": f"{show_bytes(host.memory_bytes)}, "
        f"{show_bytes(host.available_memory_bytes)} available",
        "energy": report.energy_meter or "no meter on this machine",
    }
    extras = plain_table("extra", "", "libraries", "install what is missing")
    for extra in report.extras:
        mark = Text("ok", style="green") if extra.complete else Text("missing", style="yellow")
        libraries = Text(", ").join(_library(library) for library in extra.libraries)
        extras.add_row(extra.name, mark, libraries, Text(extra.install or ""))
    tools = plain_table("program", "path", "used to")
    for tool in report.tools:
        tools.add_row(tool.name, Text(tool.path or NOTHING), tool.purpose)
    lines = (Text(f"{name:<9}{fact}") for name, fact in facts.items())
    return Group(*lines, extras, tools)


def _library(library: Library) -> Text:
    if library.version is None:
        return Text(f"{library.name} {NOTHING}", style="yellow")
    if not library.fits:
        return Text(f"{library.name} {library.version} (not {library.wanted})", style="yellow")
    return Text(f"{library.name} {library.version}")
