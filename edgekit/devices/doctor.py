"""What is installed on this machine, and what is missing for which work."""

from __future__ import annotations

import importlib.metadata
import re
import shutil

import edgekit
from edgekit.base.errors import InputError, MissingDependencyError, did_you_mean
from edgekit.base.extras import version
from edgekit.devices.machine import Machine, machine
from edgekit.devices.meters import find_meter
from edgekit.schema.base import Document

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(\[(?P<extras>[^\]]*)\])?(?P<version>[^;]*)"
)
_EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"]")

# Programs that some commands call where they are there, and what for.
_TOOLS = {
    "adb": "measure on Android devices",
    "edgetpu_compiler": "compile for the Coral Edge TPU",
    "ssh": "measure on boards over the network",
    "vela": "compile for Arm Ethos-U",
}


class Library(Document):
    """A library of an extra; `version` is None if it is not installed."""

    name: str
    wanted: str
    version: str | None


class Extra(Document):
    """An extra of edgekit, with the command that installs what is missing."""

    name: str
    complete: bool
    libraries: tuple[Library, ...]
    install: str | None


class Tool(Document):
    """An optional program; `path` is None if it is not there."""

    name: str
    purpose: str
    path: str | None


class DoctorReport(Document):
    """`edgekit doctor --json`."""

    edgekit: str
    machine: Machine
    energy_meter: str | None
    extras: tuple[Extra, ...]
    tools: tuple[Tool, ...]


def examine(strict: str | None = None) -> DoctorReport:
    """Looks at the machine and at what is installed; imports none of it.

    Args:
        strict: an extra that must be complete.

    Raises:
        InputError: there is no such extra.
        MissingDependencyError: `strict` is not complete.
    """
    requirements = importlib.metadata.requires("edgekit") or []
    names = importlib.metadata.metadata("edgekit").get_all("Provides-Extra") or []
    extras = {name: _extra(name, requirements) for name in names}
    if strict is not None and strict not in extras:
        raise InputError(f"unknown extra '{strict}'", hint=did_you_mean(strict, extras))
    if strict is not None and not extras[strict].complete:
        missing = [one.name for one in extras[strict].libraries if one.version is None]
        raise MissingDependencyError(
            f"extra '{strict}' lacks {', '.join(missing)}", hint=extras[strict].install
        )
    meter, _ = find_meter()
    return DoctorReport(
        edgekit=edgekit.__version__,
        machine=machine(),
        energy_meter=meter.name if meter else None,
        extras=tuple(extras.values()),
        tools=tuple(
            Tool(name=name, purpose=purpose, path=shutil.which(name))
            for name, purpose in _TOOLS.items()
        ),
    )


def _extra(name: str, requirements: list[str]) -> Extra:
    libraries = tuple(
        Library(name=library, wanted=wanted, version=version(library))
        for library, wanted in sorted(_libraries(name, requirements).items())
    )
    complete = all(library.version is not None for library in libraries)
    install = None if complete else f"pip install 'edgekit[{name}]'"
    return Extra(name=name, complete=complete, libraries=libraries, install=install)


def _libraries(extra: str, requirements: list[str]) -> dict[str, str]:
    """The distributions that an extra asks for, through the extras that it is made of."""
    found: dict[str, str] = {}
    for requirement in requirements:
        marker, match = _EXTRA.search(requirement), _REQUIREMENT.match(requirement)
        if marker is None or match is None or marker["extra"] != extra:
            continue
        if match["name"] == "edgekit":
            for part in (match["extras"] or "").split(","):
                found |= _libraries(part.strip(), requirements)
        else:
            found[match["name"]] = match["version"].strip(" ()")
    return found
