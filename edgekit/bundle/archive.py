"""A zip file that depends on its contents only: same members, same bytes.

Members are stored, not compressed: deflate gives other bytes with another zlib build, and weights
hardly shrink. Times, modes and order are fixed.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgekit.schema.manifest import MANIFEST, Member

_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE_644 = 0o100644 << 16
_UNIX = 3


@dataclass(frozen=True)
class Source:
    """Content of a member: its size in bytes and how to read it."""

    size: int
    open: Callable[[], IO[bytes]]

    @classmethod
    def of_bytes(cls, data: bytes) -> Source:
        """Content held in memory."""
        return cls(len(data), lambda: io.BytesIO(data))

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """Content of a file."""
        return cls(path.stat().st_size, lambda: path.open("rb"))

    def member(self) -> Member:
        """The manifest's entry for this content."""
        with self.open() as stream:
            digest = hashlib.file_digest(stream, "sha256")  # type: ignore[arg-type]
        return Member(bytes=self.size, sha256=digest.hexdigest())


def write_archive(path: Path, sources: Mapping[str, Source]) -> None:
    """Writes the members to `path`: the manifest first, the others sorted by name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(sources, key=lambda name: (name != MANIFEST, name)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = _REGULAR_FILE_644
            info.file_size = sources[name].size
            with sources[name].open() as origin, archive.open(info, "w") as member:
                shutil.copyfileobj(origin, member)
