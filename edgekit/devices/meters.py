"""Energy meters that the machine itself has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Meter(Protocol):
    """Counts joules; the difference of two readings is what was used between them."""

    @property
    def name(self) -> str:
        """What it measures."""

    def read(self) -> list[int]:
        """The state of its counters, for `joules`."""

    def joules(self, before: list[int], after: list[int]) -> float:
        """Energy between two readings, in joules."""


@dataclass(frozen=True)
class Rapl:
    """Running Average Power Limit counters of x86 CPUs: energy of the CPU packages.

    The whole package is counted: idle power and other programs too. Counters are in microjoules
    and wrap around. See the kernel's Documentation/power/powercap/powercap.rst.

    Attributes:
        zones: directories of the package zones, `intel-rapl:0` and so on.
    """

    zones: tuple[Path, ...]
    ranges: tuple[int, ...]

    @property
    def name(self) -> str:
        """See `Meter.name`."""
        return "RAPL counters of the CPU package, idle power and other programs included"

    def read(self) -> list[int]:
        """See `Meter.read`."""
        return [_counter(zone / "energy_uj") for zone in self.zones]

    def joules(self, before: list[int], after: list[int]) -> float:
        """See `Meter.joules`; one wrap of a counter between the readings is allowed for."""
        used = 0
        for start, end, span in zip(before, after, self.ranges, strict=True):
            used += end - start if end >= start else end - start + span
        return used / 1e6


def find_meter(root: Path = Path("/sys")) -> tuple[Meter | None, str]:
    """A meter of this machine, or None and why there is none.

    Args:
        root: where sysfs is mounted.
    """
    powercap = root / "class/powercap"
    zones = sorted(zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1)
    if not zones:
        return None, "no energy meter on this machine"
    try:
        meter = Rapl(tuple(zones), tuple(_counter(zone / "max_energy_range_uj") for zone in zones))
        meter.read()
    except PermissionError:
        return None, f"the energy counters below {powercap} can be read by root only"
    except (OSError, ValueError):
        return None, f"the energy counters below {powercap} cannot be read"
    return meter, ""


def _counter(path: Path) -> int:
    return int(path.read_text())
