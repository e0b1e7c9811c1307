"""Opens a bundle, and believes nothing: every member is held against the manifest."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import struct
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from edgekit.base.errors import BundleError, InputError
from edgekit.base.files import existing_file
from edgekit.bundle.archive import Source, write_archive
from edgekit.schema.artifact import Sidecar
from edgekit.schema.manifest import MANIFEST, REPORT, Manifest, check_member_name
from edgekit.schema.results import RunReport

MAX_BYTES = 4 << 30
MAX_MEMBERS = 10_000
_MAX_MANIFEST_BYTES = 16 << 20
_CHUNK = 1 << 20
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: the zip file.
        manifest_sha256: of the manifest's bytes.
        report: the run that made it, with metrics and profiles.
        sidecars: by the member name of the artifact.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str
    report: RunReport
    sidecars: dict[str, Sidecar]

    def read(self, name: str) -> bytes:
        """The content of one member, verified again because the file may have changed.

        Raises:
            BundleError: there is no such member, or it no longer has its SHA-256.
        """
        with _opened(self.path) as archive:
            return self._read(archive, name)

    def golden(self) -> dict[str, NDArray[Any]]:
        """The golden inputs and outputs, by their path below `golden/` without `.npy`.

        Raises:
            BundleError: a member is not a plain .npy array.
        """
        arrays = {}
        for name in self.manifest.golden:
            try:
                array = np.load(io.BytesIO(self.read(name)), allow_pickle=False)
            except (ValueError, EOFError, TypeError) as fault:
                raise BundleError(f"is not an .npy array: {fault}", where=name) from None
            arrays[name.removeprefix("golden/").removesuffix(".npy")] = array
        return arrays

    def extract(self, directory: Path) -> Path:
        """Writes all members below `directory`, which appears only when it is complete.

        Raises:
            InputError: `directory` exists and is not empty.
            BundleError: a member no longer has its SHA-256.
        """
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InputError("exists and is not an empty directory", where=str(directory))
        temporary = directory.parent / f".tmp-{uuid.uuid4().hex}"
        try:
            with _opened(self.path) as archive:
                for name in (MANIFEST, *self.manifest.members):
                    member = temporary / name
                    member.parent.mkdir(parents=True, exist_ok=True)
                    member.write_bytes(self._read(archive, name))
            temporary.replace(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return directory

    def _read(self, archive: zipfile.ZipFile, name: str) -> bytes:
        expected = {MANIFEST: self.manifest_sha256} | {
            member: entry.sha256 for member, entry in self.manifest.members.items()
        }
        if name not in expected:
            raise BundleError(f"has no member {name!r}", where=str(self.path))
        with _faults_of(self.path, name):
            data = archive.read(name)
        if hashlib.sha256(data).hexdigest() != expected[name]:
            raise BundleError(f"member {name!r} was altered", where=str(self.path))
        return data


def open_bundle(path: Path, *, max_bytes: int = MAX_BYTES) -> Bundle:
    """Verifies a bundle from end to end.

    Its members must be exactly those of its manifest, each with its size and SHA-256, under safe
    names, and the file must be, byte for byte, what edgekit writes for them: so nothing hides
    between the members, and no two readers can see different contents.

    Args:
        path: the zip file.
        max_bytes: largest file that is read.

    Raises:
        InputError: there is no such file.
        BundleError: it is not a bundle, is damaged, altered or unsafe.
    """
    existing_file(path, what="bundle")
    size = path.stat().st_size
    if size > max_bytes:
        raise BundleError(f"has {size} bytes; {max_bytes} are allowed", where=str(path))
    with _opened(path) as archive:
        infos = _safe_members(archive, path, size)
        data = _read_manifest(archive, infos, path)
        manifest = parse_document(Manifest, data, f"{path}:{MANIFEST}", BundleError)
        _compare(archive, infos, manifest, path)
        _require_canonical(archive, infos, path)
        sidecars = {
            artifact.path: parse_document(
                Sidecar, archive.read(artifact.sidecar), f"{path}:{artifact.sidecar}", BundleError
            )
            for artifact in manifest.artifacts
        }
        report = parse_document(RunReport, archive.read(REPORT), f"{path}:{REPORT}", BundleError)
    return Bundle(path, manifest, hashlib.sha256(data).hexdigest(), report, sidecars)


def load_report(path: Path) -> RunReport:
    """The report of a run directory, of a `run.json` file, or of a bundle (verified).

    Raises:
        InputError: it is missing or is none of these.
    """
    if path.is_dir():
        path = path / REPORT
    existing_file(path, what="run report")
    with path.open("rb") as stream:
        is_zip = stream.read(2) == b"PK"
    if is_zip or path.suffix == ".zip":
        return open_bundle(path).report
    return parse_document(RunReport, path.read_bytes(), str(path))


@contextmanager
def _faults_of(path: Path, member: str | None = None) -> Iterator[None]:
    """Turns what a damaged zip makes the reader raise into a BundleError."""
    try:
        yield
    except _BROKEN_ZIP as fault:
        what = f"member {member!r}: " if member else "is not an intact zip file: "
        raise BundleError(f"{what}{fault}", where=str(path)) from None


def _opened(path: Path) -> zipfile.ZipFile:
    with _faults_of(path):
        return zipfile.ZipFile(path)


def _safe_members(archive: zipfile.ZipFile, path: Path, size: int) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise BundleError(f"has more than {MAX_MEMBERS} members", where=str(path))
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in entries:
        name = info.filename
        try:
            check_member_name(info.orig_filename)
        except ValueError as fault:
            raise BundleError(str(fault), where=str(path)) from None
        if name in infos:
            raise BundleError(f"member {name!r} is there twice", where=str(path))
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise BundleError(f"member {name!r} is a link or a device", where=str(path))
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BundleError(f"member {name!r} is compressed", where=str(path))
        infos[name] = info
    if sum(info.file_size for info in entries) > size:
        raise BundleError("its members are larger than the file itself", where=str(path))
    return infos


def _read_manifest(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], path: Path
) -> bytes:
    if MANIFEST not in infos:
        raise BundleError(f"has no {MANIFEST}: this is not an edgekit bundle", where=str(path))
    if infos[MANIFEST].file_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"its {MANIFEST} is too large", where=str(path))
    with _faults_of(path, MANIFEST):
        return archive.read(MANIFEST)


def _compare(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], manifest: Manifest, path: Path
) -> None:
    missing = sorted(set(manifest.members) - set(infos))
    extra = sorted(set(infos) - set(manifest.members) - {MANIFEST})
    if missing or extra:
        faults = [f"{name!r} is missing" for name in missing]
        faults += [f"{name!r} is not in the manifest" for name in extra]
        raise BundleError("; ".join(faults), where=str(path))
    for name, member in manifest.members.items():
        with _faults_of(path, name):
            found = _source(archive, infos[name]).member()
        if found != member:
            raise BundleError(
                f"member {name!r} was altered: its size or SHA-256 is not the manifest's",
                where=str(path),
            )


def _require_canonical(
    archive: zipfile.ZipFile, infos: dict[str, zipfile.ZipInfo], path: Path
) -> None:
    """Writes the members again and compares the files: the headers must hold nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        again = Path(directory) / "bundle.zip"
        write_archive(again, {name: _source(archive, info) for name, info in infos.items()})
        with path.open("rb") as found, again.open("rb") as expected:
            chunk = None
            while chunk != b"":
                chunk = found.read(_CHUNK)
                if chunk != expected.read(_CHUNK):
                    raise BundleError(
                        "its zip structure is not as edgekit writes it", where=str(path)
                    )


def _source(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Source:
    return Source(info.file_size, lambda: archive.open(info))


def parse_document(
    kind: type[D], data: bytes, where: str, error: type[InputError] = InputError
) -> D:
    """A pydantic document from JSON bytes.

    Raises:
        InputError: (or the given subclass) for the first fault, with its place.
    """
    try:
        return kind.model_validate(json.loads(data))
    except ValidationError as fault:
        first = fault.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise error(f"'{place}': {text}" if place else text, where=where) from None
    except UnicodeDecodeError:
        raise error("is not valid JSON: it is not text", where=where) from None
    except (ValueError, RecursionError) as fault:
        raise error(f"is not valid JSON: {fault}", where=where) from None
