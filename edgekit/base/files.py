"""Files that are either whole or not there: write beside, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgekit.base.errors import EdgekitError, InputError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILING = (errno.EROFS, errno.EIO)


def from_os_error(error: OSError) -> EdgekitError:
    """The user-facing error for an operating system error."""
    where = str(error.filename) if error.filename else None
    if error.errno in _FULL:
        return StorageError(
            f"cannot write: {error.strerror or error}", where=where, hint="free some disk space"
        )
    if error.errno in _FAILING:
        return StorageError(error.strerror or str(error), where=where)
    return InputError(error.strerror or str(error), where=where)


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Makes a folder and those above it; if the block fails, those it made go, unless used."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # what others have put something in stays
                folder.rmdir()
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` on success, else removes it.

    The temporary path keeps the suffix of `path`, because some libraries choose a format by it.

    Raises:
        StorageError: the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.errno in _FULL:
            raise from_os_error(error) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Flushes a file to the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 `text` to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def canonical_json(value: Any) -> str:
    """`value` as JSON with one spelling: the text to hash."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_text(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def existing_file(path: Path, *, what: str = "file") -> Path:
    """`path`, if it is a file.

    Raises:
        InputError: it does not exist or is not a file.
    """
    if not path.exists():
        raise InputError(f"{what} does not exist", where=str(path))
    if not path.is_file():
        raise InputError(f"{what} is not a regular file", where=str(path))
    return path


def link_file(source: str | Path, destination: str | Path) -> None:
    """Copies a file by a hard link where the file system allows, else by content."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


def link_tree(source: Path, destination: Path) -> None:
    """Copies a directory by hard links where the file system allows, else by content."""
    shutil.copytree(source, destination, copy_function=link_file)
