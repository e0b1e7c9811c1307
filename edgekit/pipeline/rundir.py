"""The run directory: its lock, and stages that are either whole or not there.

A stage works in `stages/<name>.partial`; when it is done, its result and the hashes of its files
are written there and the directory is renamed to `stages/<name>`. A kill at any point leaves a
finished stage, or a partial one that the next run discards or resumes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgekit.base.errors import RunLockedError
from edgekit.base.files import link_tree, sha256_file, write_json, write_text

RESULT_FILE = "result.json"
_KEY_FILE = "key"


class RunDirectory:
    """One run's directory.

    Args:
        path: the directory; made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stages = path / "stages"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory for this process; the lock ends with the process, even if killed.

        Raises:
            RunLockedError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        owner = self.path / ".owner"
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            who = owner.read_text() if owner.exists() else "another process"
            raise RunLockedError(
                f"{who} is working in this run directory",
                where=str(self.path),
                hint="wait for it to end, or use another --runs-dir",
            ) from None
        try:
            write_text(owner, f"process {os.getpid()}")
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def finished(self, name: str, key: str) -> dict[str, Any] | None:
        """The record of a finished stage with this key whose files are unaltered, else None."""
        return _record(self.stages / name, key)

    def adopt(self, name: str, key: str) -> dict[str, Any] | None:
        """Takes over the same finished stage of a sibling run, if there is one."""
        for candidate in sorted(self.path.parent.glob(f"*/stages/{name}")):
            if candidate.parent.parent == self.path or _record(candidate, key) is None:
                continue
            partial = self.begin(name, key, resumable=False)
            shutil.rmtree(partial)
            try:
                link_tree(candidate, partial)
            except (FileNotFoundError, shutil.Error):  # the sibling is doing it anew just now
                continue
            self._publish(name)
            return _record(self.stages / name, key)
        return None

    def begin(self, name: str, key: str, *, resumable: bool) -> Path:
        """The directory for a stage to work in: empty, unless it resumes the same work."""
        partial = self.stages / f"{name}.partial"
        key_file = partial / _KEY_FILE
        same = key_file.exists() and key_file.read_text() == key
        if partial.exists() and not (resumable and same):
            shutil.rmtree(partial)
        partial.mkdir(parents=True, exist_ok=True)
        write_text(key_file, key)
        return partial

    def finish(self, name: str, key: str, result: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Makes a stage's directory visible under its own name, and returns its record."""
        partial = self.stages / f"{name}.partial"
        (partial / _KEY_FILE).unlink()
        record = {"key": key, "seconds": seconds, "result": result, "files": _hashes(partial)}
        write_json(partial / RESULT_FILE, record)
        self._publish(name)
        return record

    def _publish(self, name: str) -> None:
        final = self.stages / name
        if final.exists():
            outdated = self.stages / f"{name}.outdated"
            shutil.rmtree(outdated, ignore_errors=True)
            final.rename(outdated)
        (self.stages / f"{name}.partial").rename(final)
        shutil.rmtree(self.stages / f"{name}.outdated", ignore_errors=True)


def _hashes(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): sha256_file(path) for path in files}


def _record(directory: Path, key: str) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((directory / RESULT_FILE).read_text())
        whole = record["key"] == key and all(
            sha256_file(directory / name) == digest for name, digest in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None
