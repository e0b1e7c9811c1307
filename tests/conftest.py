"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party models and measurements; users do not have it."""
    path = Path(os.environ.get("EDGEKIT_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared material at {path} (set EDGEKIT_SHARED)")
    return path
