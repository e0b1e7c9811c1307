"""Hashes of the files that a recipe names, so that a changed file is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

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
    file, _, _ = reference.rpartition(":")
    if file.endswith(".py"):
        return _files_hash(_with_imports(root / file)) if (root / file).is_file() else None
    for part in (reference, reference.partition(":")[2]):
        path = root / part
        if part and path.is_file():
            return sha256_file(path)
        if part and path.is_dir():
            return _tree_hash(path)
    return None


def fingerprints(value: Any, root: Path) -> dict[str, str]:
    """The hashes of the files that texts within `value` name, such as a pass's teacher.

    Args:
        value: plain data: mappings, lists, texts.
        root: folder that relative paths start from.
    """
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return {name: digest for item in items for name, digest in fingerprints(item, root).items()}
    named = isinstance(value, str) and not (root / value).is_dir()
    digest = fingerprint(value, root) if named else None
    return {value: digest} if digest else {}


def _with_imports(path: Path) -> list[Path]:
    """A Python file and what it imports of the files beside it; nothing is executed."""
    finder = ModuleFinder([str(path.parent)])
    try:
        finder.run_script(str(path))
    except (SyntaxError, ValueError):  # building the model tells where
        return [path]
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    return sorted(Path(file) for file in files if file)


def _files_hash(paths: Iterable[Path]) -> str:
    return hashlib.sha256("".join(sha256_file(path) for path in paths).encode()).hexdigest()


def _tree_hash(directory: Path) -> str:
    """A hash of names, sizes and times: reading every image would cost more than it is worth."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            status = path.stat()
            line = f"{path.relative_to(directory)}\0{status.st_size}\0{status.st_mtime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()
