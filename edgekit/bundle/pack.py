"""Writes bundles: what is released, in one reproducible zip file."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

import edgekit
from edgekit.base.errors import DataError, InputError
from edgekit.base.files import atomic_path, existing_file, sha256_file
from edgekit.bundle.archive import Source, write_archive
from edgekit.bundle.card import model_card
from edgekit.bundle.load import load_report, open_bundle, parse_document
from edgekit.schema.artifact import Sidecar
from edgekit.schema.manifest import (
    CARD,
    LABELS,
    MANIFEST,
    RECIPE,
    REPORT,
    BundledArtifact,
    Manifest,
    PackResult,
    check_member_name,
)
from edgekit.schema.recipe import Recipe
from edgekit.schema.results import ArtifactResult, CheckReport, Profile, RunReport, VerifyResult
from edgekit.schema.yamlfile import parse_yaml, validate

R = TypeVar("R", Profile, CheckReport)


def pack(
    report: RunReport,
    artifacts: Sequence[Path],
    output: Path,
    *,
    golden: Mapping[str, NDArray[Any]] | None = None,
    recipe: str | None = None,
) -> PackResult:
    """Packs model files with all that belongs to them; the bundle is verified before it appears.

    Same arguments, same bytes: what differs between a run and its repetition from the cache (the
    stages and their seconds, where the run directory is) is left out.

    Args:
        report: metrics, parity, profiles and versions of the run.
        artifacts: model files, each with its sidecar `<file>.json` beside it.
        output: the zip file to write.
        golden: arrays of samples and the answers to them, by name, for `golden/<name>.npy`.
        recipe: text of the resolved recipe.

    Raises:
        InputError: an artifact has no sidecar, or is not the file that its sidecar describes.
        StorageError: the disk is full.
    """
    described = [(path, _sidecar(path)) for path in artifacts]
    if not described:
        raise InputError("there is no artifact to pack", where=report.run or None)
    sources: dict[str, Source] = {}
    for path, sidecar in described:
        for file in (*sidecar.files, f"{sidecar.file}.json"):
            if f"artifacts/{file}" in sources:
                raise InputError(f"two artifacts have a file {file!r}", where=str(path))
            sources[f"artifacts/{file}"] = Source.of_file(path.with_name(file))
    sidecars = [sidecar for _, sidecar in described]
    labels = _agreed(tuple(sidecar.labels for sidecar in sidecars if sidecar.labels), "labels")
    preprocessing = _agreed(
        tuple(sidecar.preprocessing for sidecar in sidecars if sidecar.preprocessing),
        "preprocessing",
    )
    released = _released(report, sidecars)
    settings = _recipe(recipe) if recipe is not None else None
    texts = {
        REPORT: released.model_dump_json(indent=2) + "\n",
        CARD: model_card(released, sidecars, settings),
    }
    if labels:
        texts[LABELS] = "".join(f"{label}\n" for label in labels)
    if recipe is not None:
        texts[RECIPE] = recipe
    sources |= {name: Source.of_bytes(text.encode()) for name, text in texts.items()}
    arrays = {f"golden/{name}.npy": _npy(array) for name, array in (golden or {}).items()}
    sources |= arrays
    for name in sources:
        _require_portable(name)
    manifest = Manifest(
        name=report.recipe,
        edgekit=edgekit.__version__,
        artifacts=tuple(_entry(sidecar) for sidecar in sidecars),
        preprocessing=preprocessing,
        labels=labels or (),
        golden=tuple(sorted(arrays)),
        versions=report.versions,
        members={name: source.member() for name, source in sorted(sources.items())},
    )
    sources[MANIFEST] = Source.of_bytes((manifest.model_dump_json(indent=2) + "\n").encode())
    with atomic_path(output) as temporary:
        write_archive(temporary, sources)
        open_bundle(temporary)
    return PackResult(
        bundle=str(output),
        bytes=output.stat().st_size,
        sha256=sha256_file(output),
        manifest=manifest,
    )


def pack_run(directory: Path, output: Path | None = None) -> PackResult:
    """Packs a run directory: the artifacts that passed parity, `golden/*.npy` and the recipe.

    Args:
        directory: with `run.json`.
        output: the zip file; by default `<recipe>.zip` in the run directory.

    Raises:
        InputError: something is missing, or was altered since the run.
    """
    report = load_report(directory)
    lock = directory / RECIPE
    return pack(
        report,
        [directory / artifact.path for artifact in report.artifacts if artifact.proven],
        output or directory / f"{report.recipe}.zip",
        golden={
            file.stem: _load_npy(file) for file in sorted((directory / "golden").glob("*.npy"))
        },
        recipe=lock.read_text(encoding="utf-8") if lock.exists() else None,
    )


def pack_files(files: Sequence[Path], output: Path | None = None) -> PackResult:
    """Packs model files with sidecars that come from no run.

    Args:
        files: .tflite, .onnx or .xml files.
        output: the zip file; by default `<first file>.zip` in the current directory.

    Raises:
        InputError: a file has no sidecar, or is not the file that its sidecar describes.
    """
    sidecars = [_sidecar(file) for file in files]
    name = files[0].stem
    report = RunReport(
        recipe=name,
        run="",
        artifacts=tuple(_from_sidecar(sidecar) for sidecar in sidecars),
        versions={
            library: str(version)
            for sidecar in sidecars
            if isinstance(recorded := sidecar.provenance.get("versions"), dict)
            for library, version in recorded.items()
        },
    )
    return pack(report, files, output or Path(f"{name}.zip"))


def _from_sidecar(sidecar: Sidecar) -> ArtifactResult:
    """What a sidecar records of its file: the parity check that it passed when it was exported."""
    parity = None
    for recorded in sidecar.parity.values():
        with contextlib.suppress(ValidationError):
            parity = parity or VerifyResult.model_validate(recorded)
    return ArtifactResult(
        path=sidecar.file,
        format=sidecar.format,
        precision=sidecar.precision,
        bytes=sidecar.bytes,
        sha256=sidecar.sha256,
        metrics=parity.metrics if parity else {},
        parity=parity,
    )


def package(paths: Sequence[Path], output: Path | None = None) -> PackResult:
    """Packs one run directory, or any number of model files; see `pack_run` and `pack_files`."""
    if len(paths) == 1 and paths[0].is_dir():
        return pack_run(paths[0], output)
    return pack_files(paths, output)


def _sidecar(path: Path) -> Sidecar:
    existing_file(path, what="model file")
    beside = path.with_name(f"{path.name}.json")
    if not beside.is_file():
        raise InputError(
            f"has no sidecar {beside.name}",
            where=str(path),
            hint="edgekit export writes it beside the model file",
        )
    sidecar = parse_document(Sidecar, beside.read_bytes(), str(beside))
    if sidecar.file != path.name or path.name not in sidecar.files:
        raise InputError(f"describes {sidecar.file!r}, not {path.name!r}", where=str(beside))
    for name, digest in sidecar.files.items():
        if PurePath(name).name != name:
            raise InputError(f"names a file outside its directory: {name!r}", where=str(beside))
        if sha256_file(existing_file(path.with_name(name))) != digest:
            raise InputError(
                "was altered since its sidecar was written (another SHA-256)",
                where=str(path.with_name(name)),
                hint="export it again",
            )
    return sidecar


def _entry(sidecar: Sidecar) -> BundledArtifact:
    return BundledArtifact(
        path=f"artifacts/{sidecar.file}",
        files=tuple(f"artifacts/{name}" for name in sidecar.files),
        sidecar=f"artifacts/{sidecar.file}.json",
        format=sidecar.format,
        precision=sidecar.precision,
    )


def _released(report: RunReport, sidecars: Sequence[Sidecar]) -> RunReport:
    """The report of what is in the bundle, without what differs from run to run."""
    names = {sidecar.file for sidecar in sidecars}
    artifacts = []
    for artifact in report.artifacts:
        name = PurePath(artifact.path).name
        if name in names:
            parity = artifact.parity and artifact.parity.model_copy(update={"artifact": name})
            update = {"path": f"artifacts/{name}", "parity": parity}
            artifacts.append(artifact.model_copy(update=update))
    left_out: dict[str, Any] = {"run": "", "stages": (), "failures": (), "bundle": None}
    kept = {
        "artifacts": tuple(artifacts),
        "profiles": _of(names, report.profiles),
        "checks": _of(names, report.checks),
    }
    return report.model_copy(update={**left_out, "report": None, **kept})


def _of(names: set[str], results: Sequence[R]) -> tuple[R, ...]:
    """The results on these artifacts, which are named without the directory that they were in."""
    return tuple(
        result.model_copy(update={"artifact": PurePath(result.artifact).name})
        for result in results
        if PurePath(result.artifact).name in names
    )


def _agreed(values: tuple[Any, ...], what: str) -> Any:
    if any(value != values[0] for value in values):
        raise InputError(f"the artifacts do not have the same {what}")
    return values[0] if values else None


def _recipe(text: str) -> Recipe:
    return validate(Recipe, parse_yaml(text, RECIPE))


def _require_portable(name: str) -> None:
    try:
        check_member_name(name)
    except ValueError as fault:
        raise InputError(str(fault), hint="rename the file or the array") from None


def _npy(array: NDArray[Any]) -> Source:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return Source.of_bytes(buffer.getvalue())


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as fault:
        raise DataError(f"is not an .npy array: {fault}", where=str(path)) from None
    return array
