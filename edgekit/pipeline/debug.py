"""`edgekit debug`: where and why model files compute something else than their Keras model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.base.errors import EdgekitError, InputError
from edgekit.base.progress import Progress, silent
from edgekit.pipeline.debug_layers import record_layers
from edgekit.pipeline.debug_speed import BENCH_S, Timed, measure, slow_causes
from edgekit.pipeline.verify_files import open_safely, precision_of
from edgekit.runtimes.session import Arrays
from edgekit.schema.debugging import Cause, DebugReport, FileDebug, Trial
from edgekit.schema.figure import Figure
from edgekit.training.evaluate import record_outputs
from edgekit.verify.causes import find_causes
from edgekit.verify.layerwise import Layer, Match, match_layers
from edgekit.verify.parity import verify_file
from edgekit.verify.recording import Recording, record_file

_PERFECT_DB = 1000.0


@dataclass(frozen=True)
class _Reference:
    """The Keras model on the samples."""

    path: Path
    layers: tuple[Layer, ...]
    outputs: Arrays
    x: Arrays


@dataclass(frozen=True)
class _File:
    path: Path
    recording: Recording
    matches: tuple[Match, ...]
    output_snr: float | None

    @property
    def quantized(self) -> bool:
        return any(match.tensor.quantization is not None for match in self.matches)


def debug_files(
    model: Path,
    files: Sequence[Path],
    data: Path,
    *,
    samples: int = 64,
    speed: bool = True,
    targets: Sequence[str] = (),
    try_proposals: bool = False,
    progress: Progress = silent,
) -> DebugReport:
    """Holds model files against their Keras model layer by layer, and names what is wrong.

    Args:
        model: a .keras or .h5 file.
        files: .tflite, .onnx and .xml files made from it, in any precision.
        data: .npz of samples by input name; also what proposals are tried with.
        samples: how many of them to compare on; all are used to calibrate.
        speed: measure float and quantized files of one format against each other.
        targets: names or files of targets, to judge speed by their cost models too.
        try_proposals: export again with what is proposed, and compare.
        progress: told what is at work.

    Raises:
        InputError: a file cannot be used, or the samples do not fit.
        ToolError: a runtime failed, or died.
    """
    from edgekit.data.samples import load_samples
    from edgekit.models.files import load_model
    from edgekit.profiling.targets import load_target

    loaded_targets = [load_target(name) for name in targets]
    x = {name: array[:samples] for name, array in load_samples(data)[0].items()}
    loaded = load_model(model)
    open_safely(files, progress)
    progress(f"running {model.name}")
    reference = _Reference(model, record_layers(loaded, x), record_outputs(loaded, x), x)
    if not reference.layers:
        raise InputError("it has no layers to compare", where=str(model))
    opened: list[_File] = []
    for path in dict.fromkeys(files):
        progress(f"looking into {path.name}", len(opened), len(files))
        opened.append(_look(path, reference))
    timed = [Timed(one.path, one.recording.graph, one.quantized) for one in opened]
    latencies = measure(timed, progress) if speed else {}
    documents = tuple(
        _document(one, reference, latencies, slow_causes(file, timed, latencies, loaded_targets))
        for one, file in zip(opened, timed, strict=True)
    )
    report = DebugReport(model=str(model), samples=len(next(iter(x.values()))), files=documents)
    if not try_proposals:
        return report
    trials = _trials(reference, report, data, progress)
    return report.model_copy(update={"trials": trials})


def _look(path: Path, reference: _Reference) -> _File:
    recording = record_file(path, reference.x)
    result = verify_file(path, reference.outputs, reference.x)
    return _File(path, recording, tuple(match_layers(reference.layers, recording)), result.snr_db)


def _document(
    file: _File,
    reference: _Reference,
    latencies: dict[Path, Figure],
    slow: Sequence[Cause],
) -> FileDebug:
    found = {id(match.layer) for match in file.matches}
    causes = find_causes(file.recording, file.matches, reference.x)
    worst = sorted(file.matches, key=lambda match: _decibels(match.snr))
    return FileDebug(
        artifact=str(file.path),
        output_snr_db=file.output_snr,
        layers=tuple(match.document() for match in worst),
        unmatched=tuple(layer.name for layer in reference.layers if id(layer) not in found),
        causes=(*causes, *slow),
        latency_ms=latencies.get(file.path),
    )


def _trials(
    reference: _Reference,
    report: DebugReport,
    data: Path,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Each proposal once, for the worst file that it is for."""
    wanted: dict[tuple[str, ...], Trial] = {}
    for file in sorted(report.files, key=lambda one: _decibels(one.output_snr_db)):
        for cause in file.causes:
            passes = cause.proposal.passes
            before = wanted.setdefault(
                passes,
                Trial(
                    passes=passes,
                    causes=(),
                    precision="",
                    snr_db_before=file.output_snr_db,
                    latency_ms_before=file.latency_ms,
                ),
            )
            causes = tuple(dict.fromkeys((*before.causes, cause.name)))
            wanted[passes] = before.model_copy(update={"causes": causes})
    wanted.pop((), None)
    trials: list[Trial] = []
    for trial in wanted.values():
        progress(f"trying {', '.join(trial.passes)}", len(trials), len(wanted))
        trials.append(_try(reference, trial, data))
    return tuple(trials)


def _try(reference: _Reference, trial: Trial, data: Path) -> Trial:
    from edgekit.devices.bench import bench_file
    from edgekit.pipeline.compress_file import compress_file

    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "tried.tflite"
        try:
            made = compress_file(reference.path, trial.passes, path, data=data)
        except EdgekitError as error:
            return trial.model_copy(update={"failure": str(error).splitlines()[0]})
        results: dict[str, Any] = {
            "snr_db": verify_file(path, reference.outputs, reference.x).snr_db,
            "bytes": made.bytes,
            "precision": precision_of(path),
        }
        if trial.latency_ms_before is not None:
            results["latency_ms"] = bench_file(path, max_seconds=BENCH_S).latency_ms
        return trial.model_copy(update=results)


def _decibels(snr: float | None) -> float:
    return _PERFECT_DB if snr is None else snr
