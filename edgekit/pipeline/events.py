"""What a run tells while it works; the command line draws it, the log keeps it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StageStarted:
    """A stage begins."""

    name: str
    position: int
    total: int


@dataclass(frozen=True)
class StageFinished:
    """A stage is done; `origin` says whether it ran now, or came from the cache."""

    name: str
    origin: str
    seconds: float
    summary: str


@dataclass(frozen=True)
class StageFailed:
    """A stage failed, or was left out because one that it needs did."""

    name: str
    message: str


Event = StageStarted | StageFinished | StageFailed
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing."""


def log_to(path: Path) -> Listener:
    """A listener that appends every event to a JSON lines file."""

    def write(event: Event) -> None:
        entry: dict[str, Any] = {"time": time.time(), "event": type(event).__name__}
        with path.open("a") as handle:
            handle.write(json.dumps(entry | asdict(event)) + "\n")

    return write
