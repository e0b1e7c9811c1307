"""`edgekit export`: model files straight from a Keras model or from a .tflite file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import InputError, did_you_mean
from edgekit.base.progress import Progress, silent
from edgekit.runtimes.session import Arrays
from edgekit.schema.artifact import Sidecar
from edgekit.schema.base import Document
from edgekit.schema.names import FORMATS, PRECISIONS, SUFFIX_OF, SUFFIXES, Format, Precision

if TYPE_CHECKING:
    from edgekit.export.exporter import ExportJob

_PROOF_SAMPLES = 256


class ExportReport(Document):
    """`edgekit export --json`: the sidecars of what was made, and where it is."""

    artifacts: tuple[Sidecar, ...]
    directory: str


def export_files(
    source: Path,
    *,
    formats: Sequence[str],
    precisions: Sequence[str],
    data: Path | None = None,
    output: Path | None = None,
    opset: int | None = None,
    target: str | None = None,
    progress: Progress = silent,
) -> ExportReport:
    """Converts a model to every format and precision asked for, each file proven before it is kept.

    Args:
        source: a .keras or .h5 file, with its quantization plan beside it if it has one; or an
            int8 or mixed .tflite file, to derive ONNX and OpenVINO from.
        formats: of the files to make.
        precisions: of the files to make; by default fp32, for vela int8; ignored for a .tflite
            source.
        data: .npz of samples by input name: calibration, and what the files are proven on.
        output: the file, if one is made, or a folder; by default beside the source.
        opset: onnx only.
        target: name or .yaml file of the target to compile for (vela), or for whose sake dense
            layers of int8 .tflite files have one scale.
        progress: told what is being made.

    Raises:
        InputError: bad names, or samples, a plan or a target are needed and not given, or a
            target is given that no format is compiled for.
        ConversionError: a converter failed, died, or passed a limit.
        ParityError: a converted file computes something else.
    """
    from edgekit.data.samples import load_samples

    kinds = [cast("Format", _known(name, "format", FORMATS)) for name in formats]
    levels = [cast("Precision", _known(name, "precision", PRECISIONS)) for name in precisions]
    simple = _check_target(kinds, target)
    x = load_samples(data)[0] if data is not None else None
    pairs: list[tuple[Format, Precision]]
    if source.suffix == ".tflite":
        pairs = [(kind, "int8") for kind in dict.fromkeys(kinds)]
    else:
        pairs = list(dict.fromkeys((kind, lv) for kind in kinds for lv in levels or _default(kind)))
    paths = _outputs(source, pairs, output, target)
    with Worker(preload=["tensorflow"]) as worker:
        if source.suffix == ".tflite":
            made = _derive(source, paths, x, opset, target, worker, progress)
        else:
            made = _convert(source, paths, x, opset, target, simple, worker, progress)
    return ExportReport(artifacts=tuple(made), directory=str(next(iter(paths.values())).parent))


def _check_target(kinds: Sequence[Format], target: str | None) -> tuple[str, ...]:
    """What is made for the target otherwise; a wrong target is said before any work."""
    from edgekit.export.compiled import compiled_for
    from edgekit.export.exporter import EXPORTERS
    from edgekit.profiling.dense_scales import refusing_dense_scales
    from edgekit.profiling.targets import load_target

    compiled = [kind for kind in kinds if EXPORTERS.get(kind).compiled]
    for kind in compiled:
        compiled_for(kind, target)
    simple = refusing_dense_scales([] if target is None else [load_target(target)])
    if target is not None and not compiled and not simple:
        raise InputError(
            f"nothing in format {', '.join(kinds)} is compiled for a target",
            where="--target",
            hint="leave it out, or ask for --format vela",
        )
    return simple


def _default(kind: Format) -> tuple[Precision, ...]:
    return ("int8",) if kind == "vela" else ("fp32",)


Paths = dict[tuple[Format, Precision], Path]


def _derive(
    source: Path,
    paths: Paths,
    x: Arrays | None,
    opset: int | None,
    target: str | None,
    worker: Worker,
    progress: Progress,
) -> list[Sidecar]:
    from edgekit.export.exporter import derive_from_tflite

    made = []
    for index, ((kind, _), path) in enumerate(paths.items()):
        progress(f"deriving {path.name}", index, len(paths))
        sidecar = derive_from_tflite(
            source, kind, path, reference_x=_first(x), worker=worker, opset=opset, target=target
        )
        made.append(sidecar)
    return made


def _convert(
    source: Path,
    paths: Paths,
    x: Arrays | None,
    opset: int | None,
    target: str | None,
    simple: tuple[str, ...],
    worker: Worker,
    progress: Progress,
) -> list[Sidecar]:
    from edgekit.export.exporter import EXPORTERS, export
    from edgekit.models.files import check_keras_file

    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        calibration = None
        if x is not None:
            calibration = Path(name) / "calibration.npz"
            np.savez(calibration, **x)  # type: ignore[arg-type]
        for kind, level in paths:
            exporter = EXPORTERS.get(kind)
            maker = EXPORTERS.get("tflite") if level in exporter.derived else exporter
            if calibration is None and maker.needs_calibration(source, level):
                raise InputError(
                    f"{kind} {level} needs calibration samples",
                    where="--data",
                    hint="--data calib.npz: arrays of representative inputs, by input name",
                )
        check_keras_file(source)  # before TensorFlow is loaded
        masters: dict[Precision, Path] = {}
        made: list[Sidecar] = []
        for job in _jobs(source, paths, calibration, Path(name), opset):
            progress(f"converting to {job.format} {job.precision}", len(made), len(paths))
            derived = job.precision in EXPORTERS.get(job.format).derived
            whole = replace(
                job,
                master=masters[job.precision] if derived else None,
                target=target,
                dense_one_scale=simple,
            )
            sidecar = export(
                whole,
                reference_x=_first(x),
                worker=worker,
            )
            if job.format == "tflite":
                masters[job.precision] = job.output
            if job.output in paths.values():
                made.append(sidecar)
        return made


def _jobs(
    source: Path, paths: Paths, calibration: Path | None, scratch: Path, opset: int | None
) -> Iterable[ExportJob]:
    """A job for each file, a .tflite master, kept or not, before what derives from it."""
    from edgekit.export.exporter import EXPORTERS, ExportJob

    wanted = dict(paths)
    for level in dict.fromkeys(lv for kind, lv in paths if lv in EXPORTERS.get(kind).derived):
        key: tuple[Format, Precision] = ("tflite", level)
        wanted = {key: wanted.pop(key, scratch / f"{source.stem}-{level}.tflite"), **wanted}
    for (kind, level), path in wanted.items():
        yield ExportJob(source, kind, level, path, calibration=calibration, opset=opset)


def _first(x: Arrays | None) -> Arrays | None:
    return None if x is None else {name: array[:_PROOF_SAMPLES] for name, array in x.items()}


def _outputs(
    source: Path,
    pairs: Sequence[tuple[Format, Precision]],
    output: Path | None,
    target: str | None,
) -> Paths:
    one_file = output is not None and output.suffix in SUFFIXES
    if output is not None and one_file:
        if len(pairs) != 1:
            raise InputError(
                f"-o names one file, and {len(pairs)} are to be made",
                where=str(output),
                hint="give a folder",
            )
        if output.suffix != SUFFIX_OF[pairs[0][0]]:
            raise InputError(
                f"a file in format {pairs[0][0]} ends in {SUFFIX_OF[pairs[0][0]]}",
                where=str(output),
            )
        return {pairs[0]: output}
    folder = output or source.parent
    stem = source.stem

    def name(kind: Format, level: Precision) -> str:
        words = [stem] if source.suffix == ".tflite" else [stem, level]
        if kind == "vela":
            words.append(Path(target).stem if target else kind)
        return "-".join(words) + SUFFIX_OF[kind]

    return {(kind, level): folder / name(kind, level) for kind, level in pairs}


def _known(name: str, kind: str, allowed: tuple[str, ...]) -> str:
    if name not in allowed:
        raise InputError(
            f"unknown {kind} '{name}'", where=f"--{kind}", hint=did_you_mean(name, allowed)
        )
    return name
