"""How long work reports how far it is, without knowing who is looking."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the state of one piece of work; called often, must be cheap."""

    def __call__(self, text: str, done: float = 0.0, total: float | None = None) -> None:
        """Reports `done` of `total` (None: unknown) and one line of text."""


def silent(text: str, done: float = 0.0, total: float | None = None) -> None:
    """A `Progress` that shows nothing."""
