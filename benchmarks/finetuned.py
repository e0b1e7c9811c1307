"""The sections of `compression.py` that train on: QAT, structured pruning, and the chain.

QAT where post-training quantization loses much; pruning to half of the MACs; the chain of pruning,
clustering and QAT, for the smallest file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from measure import child
from peers import Made, exact
from ptq import RUNTIMES, SUFFIXES, Row, exported, int8_files, measured
from reference import Reference

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError, PreconditionError
from edgekit.compress.contract import PassContext
from edgekit.compress.cost import costs
from edgekit.compress.passes import parse_pass, run_passes
from edgekit.export.exporter import ExportJob
from edgekit.models.files import save_model
from edgekit.schema.names import Format
from edgekit.schema.plan import QuantizationPlan

BITS = (8, 4)
LARGE_DROP = 3.0  # points that post-training quantization loses, from which on QAT is tried
SPARSITY, CLUSTERS = 0.8, 16  # of the chain
WHOLE, HALF = "whole", "half the MACs"


def run_qat(trained: Reference, folder: Path, *, seed: int = 0) -> list[Row]:
    """8 and 4-bit weights in int8 .tflite files: rounded, and trained where that loses much."""
    rows = []
    for bits in BITS:
        rounded = f"qat(weight_bits={bits}, epochs=0)"
        rows += _run(trained, folder, f"PTQ, {bits}-bit weights", (rounded,), seed)
        drop = rows[-1].drop
        if drop is not None and drop > LARGE_DROP:
            aware = f"qat(weight_bits={bits}, epochs={2 * _epochs(trained)}, ranges=learnt)"
            rows += _run(trained, folder, f"QAT, {bits}-bit weights", (aware,), seed)
    return rows


def run_structured(trained: Reference, folder: Path, *, seed: int = 0) -> list[Row]:
    """Half the MACs by removing channels, in float and int8, in each runtime."""
    folder.mkdir(parents=True, exist_ok=True)
    made, macs = [], {}
    with child("tensorflow") as worker:
        macs[WHOLE], files = _files(trained, folder, WHOLE, (), worker, seed)
        made += files
        try:
            macs[HALF], files = _files(trained, folder, HALF, _half(trained, 16), worker, seed)
        except PreconditionError:  # too few channels for blocks of 16
            macs[HALF], files = _files(trained, folder, HALF, _half(trained, 8), worker, seed)
        made += files
    rows = measured(trained, made, seed=seed)
    return [replace(row, macs=macs[row.tool.rpartition(",")[0]]) for row in rows]


def run_chain(trained: Reference, folder: Path, *, seed: int = 0) -> list[Row]:
    """QAT alone, and prune, cluster, QAT, beside the float file, in LiteRT."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {
        step: f"epochs={epochs}, learning_rate={rate!r}"
        for step, (epochs, rate) in chain_steps(trained).items()
    }
    chain = (
        f"prune(sparsity={SPARSITY}, distribution=erdos_renyi, {words['prune']})",
        f"cluster(clusters={CLUSTERS}, {words['cluster']})",
        f"qat({words['qat']}, codebooks=kernel, distill=0.5)",
    )
    whole = folder / "float.keras"
    save_model(trained.model, whole)
    job = ExportJob(whole, "tflite", "fp32", whole.with_suffix(".tflite"))
    with child("tensorflow") as worker:
        made = [("litert", "float", exported(job, trained, worker, "", 0.0))]
    rows = measured(trained, made, seed=seed)
    rows += _run(trained, folder, "edgekit qat", (f"qat({words['qat']})",), seed)
    return rows + _run(trained, folder, "edgekit chain", chain, seed)


def chain_steps(trained: Reference) -> dict[str, tuple[int, float]]:
    """Epochs and learning rate of each step, for edgekit and tfmot alike.

    Pruning trains at the network's own rate (Renda et al. 2020), half as long as it was trained.
    """
    epochs, rate = trained.train.epochs, trained.train.optimizer.learning_rate
    tuning = (max(4, epochs // 4), rate / 4)
    return {"prune": (max(4, epochs // 2), rate), "cluster": tuning, "qat": tuning}


def _half(trained: Reference, block: int) -> tuple[str]:
    """Kernels for blocks of 16 channels are what a processor with AVX-512 has.

    What is left is trained once more as the network was, at the same rate (Renda et al. 2020).
    """
    rate, epochs = trained.train.optimizer.learning_rate, trained.train.epochs
    tuned = f"distill=0.7, epochs={epochs}, learning_rate={rate!r}"
    return (f"shrink(budget={{macs: 0.5}}, round_to={block}, {tuned})",)


def _epochs(trained: Reference) -> int:
    return max(4, trained.train.epochs // 2)


def _run(
    trained: Reference, folder: Path, name: str, words: tuple[str, ...], seed: int
) -> list[Row]:
    """Passes, and the int8 .tflite file of what comes out."""
    folder.mkdir(parents=True, exist_ok=True)
    with child("tensorflow") as worker:
        try:
            one = _compressed(trained, folder, name, words, seed)
            made = [*_int8(trained, one, name, worker, ("tflite",))]
        except EdgekitError as error:
            made = [("litert", name, Made(None, 0.0, ", ".join(words), exact(error)))]
    return measured(trained, made, seed=seed)


@dataclass(frozen=True)
class _Compressed:
    """What passes made of a network: its file, its plan, and what it costs.

    Attributes:
        words: the passes.
        seconds: that they took.
    """

    file: Path
    plan: QuantizationPlan | None
    macs: int
    words: tuple[str, ...]
    seconds: float


def _compressed(
    trained: Reference, folder: Path, name: str, words: tuple[str, ...], seed: int
) -> _Compressed:
    started = time.perf_counter()
    context = PassContext(
        folder / "passes", dataset=trained.dataset, train=trained.train, seed=seed
    )
    model, _, plan = run_passes(trained.model, [parse_pass(word) for word in words], context)
    file = folder / f"{_stem(name)}.keras"
    save_model(model, file)
    return _Compressed(file, plan, costs(model)["macs"], words, time.perf_counter() - started)


def _int8(
    trained: Reference, one: _Compressed, name: str, worker: Worker, formats: tuple[Format, ...]
) -> Iterator[tuple[str, str, Made]]:
    calibration = _calibration(trained, one.file.parent)
    yield from int8_files(
        trained, one.file, one.plan, calibration, worker, name, one.words, one.seconds, formats
    )


def _files(
    trained: Reference,
    folder: Path,
    name: str,
    words: tuple[str, ...],
    worker: Worker,
    seed: int,
) -> tuple[int, list[tuple[str, str, Made]]]:
    """MACs of what the passes make, and its float and int8 files in each format."""
    one = _compressed(trained, folder, name, words, seed)
    made = []
    for format_, runtime in RUNTIMES.items():
        job = ExportJob(one.file, format_, "fp32", one.file.with_suffix(SUFFIXES[format_]))
        file = exported(job, trained, worker, ", ".join(words), one.seconds)
        made.append((runtime, f"{name}, fp32", file))
    made += _int8(trained, one, f"{name}, int8", worker, tuple(RUNTIMES))
    return one.macs, made


def _calibration(trained: Reference, folder: Path) -> Path:
    path = folder / "calibration.npz"
    np.savez(path, **trained.dataset.calibration.x)  # type: ignore[arg-type]
    return path


def _stem(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
