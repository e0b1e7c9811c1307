"""Hashes of the files that a recipe names, so that a changed file is noticed."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import edgekit
from edgekit.base.files import sha256_file


@cache
def code_version() -> str:
    """Edgekit's version with the hash of its code: in a checkout the code changes in between."""
    digest = hashlib.sha256()
    for path in sorted(Path(edgekit.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{edgekit.__version__}+{digest.hexdigest()[:12]}"


def fingerprint(reference: str, root: Path) -> str | None:
    """The hash of what `reference` names on the disk, or None if it names no file.

    Args:
        reference: as a recipe writes it: "npz:x.npz", "image_folder:photos", "net.py:build".
        root: folder that relative paths start from.
    """
    for part in (reference, reference.partition(":")[2], reference.rpartition(":")[0]):
        path = root / part
        if part and path.is_file():
            return sha256_file(path)
        if part and path.is_dir():
            return _tree_hash(path)
    return None


def _tree_hash(directory: Path) -> str:
    """A hash of names, sizes and times: reading every image would cost more than it is worth."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            status = path.stat()
            line = f"{path.relative_to(directory)}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()
