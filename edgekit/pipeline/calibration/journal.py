"""What a calibration has measured so far, kept so that a killed run goes on."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.base.files import write_text
from edgekit.schema.names import Precision

Entry = dict[str, Any]
"""What a visit to a network told: latency, times of operators, version; or why it failed."""


@dataclass(frozen=True)
class Setting:
    """One way to run models on a device."""

    runtime: str
    precision: Precision
    threads: int

    @property
    def key(self) -> str:
        """One word for it."""
        return f"{self.runtime}-{self.precision}-{self.threads}"


class Journal:
    """Latencies as they come, in a file beside the result, so that a killed run goes on.

    Args:
        path: of the file.
        head: what the run is about; a file with another head is begun anew.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path = path
        self._known: dict[tuple[str, str, int], Entry] = {}
        self._start = time.monotonic()
        first = json.dumps({"head": head}, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or lines[0] != first:
            write_text(path, first + "\n")
            return
        for line in lines[1:]:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # the last may be cut off
                entry = json.loads(line)
                self._known[entry["setting"], entry["network"], entry["visit"]] = entry
        self._start -= max((entry["spent"] for entry in self._known.values()), default=0.0)

    @property
    def spent(self) -> float:
        """Seconds since it was begun, of all runs that wrote it."""
        return time.monotonic() - self._start

    def get(self, setting: Setting, network: str, visit: int) -> Entry | None:
        """What is known of a network."""
        return self._known.get((setting.key, network, visit))

    def add(self, setting: Setting, network: str, visit: int, **found: Any) -> Entry:
        """Notes what was measured."""
        what = {"setting": setting.key, "network": network, "visit": visit}
        entry = {**what, "spent": round(self.spent, 1), **found}
        self._known[setting.key, network, visit] = entry
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return entry

    def remove(self) -> None:
        """Takes the file away: the result is written."""
        self._path.unlink(missing_ok=True)
