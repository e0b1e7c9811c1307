"""The recipes and targets that come with edgekit."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal


def shipped_dir(kind: Literal["recipes", "targets"]) -> Path:
    """The folder of the shipped files: in the wheel inside the package, in a checkout beside it."""
    package = Path(str(files("edgekit")))
    inside = package / kind
    return inside if inside.is_dir() else package.parent / kind
