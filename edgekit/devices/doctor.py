"""What is installed on this machine, and what is missing for which work."""

from __future__ import annotations

import importlib.metadata
import operator
import re
import shutil

import edgekit
from edgekit.base.errors import InputError, MissingDependencyError, did_you_mean
from edgekit.base.extras import version
from edgekit.devices.machine import Machine, machine
from edgekit.devices.meters import find_meter
from edgekit.schema.base import Document

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?P<version>[^;]*)")
_BOUND = re.compile(r"(?P<sign><=|>=|<|>|==|!=)\s*(?P<version>\S+)")
_COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_EXTRA = re.compile(r"extra\s*==\s*['\"](?P<extra>[^'\"]+)['\"]")

# Programs that some commands call where they are there, and what for.
_TOOLS = {
    "adb": "measure on Android devices",
    "edgetpu_compiler": "compile for the Coral Edge TPU",
    "ssh": "measure on boards over the network",
    "vela": "compile for Arm Ethos-U",
}


class Library(Document):
    """A library of an extra.

    Attributes:
        wanted: bounds of the version.
        version: that is installed, or None.
        fits: whether it is installed and within the bounds.
    """

    name: str
    wanted: str
    version: str | None
    fits: bool


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
    requirements, names = _declared()
    extras = {name: _extra(name, requirements) for name in names}
    if strict is not None and strict not in extras:
        raise InputError(f"unknown extra '{strict}'", hint=did_you_mean(strict, extras))
    if strict is not None and not extras[strict].complete:
        missing = [one.name for one in extras[strict].libraries if not one.fits]
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


def _declared() -> tuple[list[str], list[str]]:
    """The requirements and the extras of the installed distribution; none in a bare checkout."""
    try:
        metadata = importlib.metadata.metadata("edgekit")
    except importlib.metadata.PackageNotFoundError:
        return [], []
    return metadata.get_all("Requires-Dist") or [], metadata.get_all("Provides-Extra") or []


def _extra(name: str, requirements: list[str]) -> Extra:
    libraries = []
    for requirement in requirements:
        marker, match = _EXTRA.search(requirement), _REQUIREMENT.match(requirement)
        if marker is None or match is None or marker["extra"] != name:
            continue
        wanted, found = match["version"].strip(" ()"), version(match["name"])
        fits = found is not None and satisfies(found, wanted)
        libraries.append(Library(name=match["name"], wanted=wanted, version=found, fits=fits))
    complete = all(library.fits for library in libraries)
    install = None if complete else f"pip install 'edgekit[{name}]'"
    return Extra(name=name, complete=complete, libraries=tuple(libraries), install=install)


def satisfies(found: str, wanted: str) -> bool:
    """Whether a version lies within bounds such as `>=2.3,<3`, by its release numbers."""
    numbers = _release(found)
    for bound in filter(None, (part.strip() for part in wanted.split(","))):
        match = _BOUND.fullmatch(bound)
        if match is not None and not _COMPARE[match["sign"]](numbers, _release(match["version"])):
            return False
    return True


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version, without trailing zeros: 2.10 is (2, 10), 2.0 is (2,)."""
    match = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
