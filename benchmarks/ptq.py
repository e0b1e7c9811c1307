"""Post-training quantization of one trained network: edgekit and its peers, runtime by runtime.

Every tool starts from the same float Keras network and calibrates on the same samples; every file
is run on the whole test split in its real runtime and held to the float network's outputs; the
latencies are measured in turns in one process, with one thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import child, quality, sizes
from numpy.typing import NDArray
from peers import FORMATS, LIMIT_S, PEERS, Made, has_attention, quantize_with
from peers import SUFFIXES as SUFFIXES
from peers import exact as exact
from reference import Reference, score

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError
from edgekit.compress.contract import PassContext
from edgekit.compress.passes import parse_pass, run_passes
from edgekit.export.exporter import ExportJob, export
from edgekit.models.files import save_model
from edgekit.schema.names import Format
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import Limits
from edgekit.training.evaluate import record_outputs

RUNTIMES: dict[Format, str] = {format_: runtime for runtime, format_ in FORMATS.items()}
EDGEKIT: dict[str, tuple[str, ...]] = {
    "default": ("quantize",),
    "best": (
        "equalize",
        "adaround(calibration='mse')",
        "correct_bias(calibration='mse')",
        "quantize(calibration='mse')",
    ),
}


@dataclass(frozen=True)
class Row:
    """One int8 file of one network, or the float file for comparison.

    Attributes:
        network: its name.
        seed: of its data, training and quantization.
        runtime: that ran the file.
        tool: that made it.
        settings: in words.
        accuracy: 0 to 1, or the network's own metric.
        drop: points lost against the float Keras network.
        snr_db: of the outputs against the float Keras network's.
        bytes: of the file.
        gzip_bytes: the same, with gzip.
        file: where it lies.
        latency_ms: median, one thread; comparable within one network and seed. Measured last, when
            nothing else runs.
        seconds: from the float Keras file to this one.
        macs: multiply-accumulates for one sample, where passes change them.
        error: why there is no file, or none that runs.
    """

    network: str
    seed: int
    runtime: str
    tool: str
    settings: str
    accuracy: float | None = None
    drop: float | None = None
    snr_db: float | None = None
    bytes: int | None = None
    gzip_bytes: int | None = None
    file: str | None = None
    latency_ms: float | None = None
    seconds: float | None = None
    macs: int | None = None
    error: str | None = None


def run_ptq(trained: Reference, folder: Path, *, seed: int = 0) -> list[Row]:
    """Quantizes a network by every tool at every setting, and measures every file.

    Args:
        trained: the float network.
        folder: for the files.
        seed: of what is random in the passes.

    Returns:
        A row a file; a tool that fails has its exact error in its row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset, model = trained.dataset, trained.model
    float_file, calibration = folder / "float.keras", folder / "calibration.npz"
    save_model(model, float_file)
    np.savez(calibration, **dataset.calibration.x)  # type: ignore[arg-type]
    with child("tensorflow") as worker:
        made = [*_edgekit(trained, float_file, calibration, folder, worker, seed)]
    attention = has_attention(model)
    # A new one, which keeps nothing of edgekit's.
    with child("tensorflow", "peers", timeout_s=LIMIT_S) as worker:
        for peer in PEERS:
            result = quantize_with(
                peer, float_file, calibration, folder / "peers", worker, attention=attention
            )
            made.append((peer.runtime, f"{peer.tool} {peer.setting}", result))
    return measured(trained, made, seed=seed)


def measured(trained: Reference, made: Iterable[tuple[str, str, Made]], *, seed: int) -> list[Row]:
    """Holds files against the float network.

    Args:
        trained: the float network.
        made: runtime, tool and outcome of each.
        seed: for the rows.
    """
    test = trained.dataset.test
    (wanted,) = record_outputs(trained.model, test.x).values()

    def value(outputs: NDArray[Any]) -> float:
        return score(outputs, test, trained.metric)

    base, rows = value(wanted), []
    for runtime, tool, result in made:
        row = Row(
            trained.name, seed, runtime, tool, result.settings,
            seconds=result.seconds, error=result.error,
        )  # fmt: skip
        if result.file is not None:
            try:
                found = quality(result.file, test.x, wanted, value)
                plain, zipped = sizes(result.file)
                row = replace(
                    row,
                    accuracy=found.score,
                    drop=100 * (base - found.score),
                    snr_db=found.snr_db,
                    bytes=plain,
                    gzip_bytes=zipped,
                    file=str(result.file.resolve()),
                )
            except EdgekitError as error:
                row = replace(row, error=exact(error))
        rows.append(row)
    return rows


def _edgekit(
    trained: Reference,
    float_file: Path,
    calibration: Path,
    folder: Path,
    worker: Worker,
    seed: int,
) -> Iterator[tuple[str, str, Made]]:
    """What edgekit makes for each runtime: default, best, by the runtime's own engine, float."""
    for setting, passes in EDGEKIT.items():
        named = f"edgekit {setting}"
        started = time.perf_counter()
        try:
            model, _, plan = run_passes(
                trained.model,
                [parse_pass(word) for word in passes],
                PassContext(folder / "passes", dataset=trained.dataset, seed=seed),
            )
        except EdgekitError as error:
            failed = Made(None, time.perf_counter() - started, ", ".join(passes), exact(error))
            for runtime in RUNTIMES.values():
                yield runtime, named, failed
            continue
        file = folder / f"{setting}.keras"
        save_model(model, file)
        seconds = time.perf_counter() - started
        assert plan is not None
        own = plan.model_copy(update={"engine": "native"})
        for suffix, chosen, formats in (
            ("", plan, tuple(RUNTIMES)),
            (" native", own, ("onnx", "openvino")),
        ):
            yield from int8_files(
                trained, file, chosen, calibration, worker, named + suffix, passes, seconds, formats
            )
    for format_, runtime in RUNTIMES.items():
        job = ExportJob(float_file, format_, "fp32", folder / f"fp32{SUFFIXES[format_]}")
        yield runtime, "float", exported(job, trained, worker, "fp32", 0.0)


def int8_files(
    trained: Reference,
    model_file: Path,
    plan: QuantizationPlan | None,
    calibration: Path,
    worker: Worker,
    named: str,
    words: tuple[str, ...],
    seconds: float,
    formats: tuple[Format, ...],
) -> Iterator[tuple[str, str, Made]]:
    """One compressed Keras file in some formats; derived ones cost the master's seconds too."""
    master: Path | None = None
    before = seconds
    for format_ in formats:
        job = ExportJob(
            model_file,
            format_,
            "int8",
            model_file.with_name(f"{named.replace(' ', '-')}-int8{SUFFIXES[format_]}"),
            calibration,
            None if format_ == "tflite" else master,
            plan=plan,
        )
        made = exported(job, trained, worker, ", ".join(words), before)
        if format_ == "tflite" and made.file is not None:
            master, before = made.file, made.seconds
        yield RUNTIMES[format_], named, made


def exported(job: ExportJob, trained: Reference, worker: Worker, words: str, before: float) -> Made:
    """One file, proven but not refused for what it loses: that is what the table tells."""
    started = time.perf_counter()
    x = trained.dataset.calibration.take(64).x
    try:
        export(job, reference_x=x, worker=worker, limits=Limits())
    except EdgekitError as error:
        return Made(None, before + time.perf_counter() - started, words, exact(error))
    return Made(job.output, before + time.perf_counter() - started, words)
