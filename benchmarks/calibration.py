"""How far a calibrated target's predictions are from what this machine measures.

    python benchmarks/calibration.py [--target FILE] [--minutes 18] [--threads 1 2] [--cache DIR]
        [--again] [--docs]

Makes a target with `edgekit calibrate`, or takes one; exports twelve keras.applications networks
and the models of ../shared/models (or $EDGEKIT_SHARED/models) in all formats, float and int8, which
needs TensorFlow, and keeps the files in the cache; measures each on this machine, in turns with
the others, and prints by runtime, precision and threads: median and 90th percentile error,
the shares within 10 and 20 percent, and coverage of the interval; then each file. What could not be
exported or run is listed with the reason. --docs writes docs/calibration.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from statistics import median

import numpy as np
from groundtruth import SHARED
from markdown import DOCS, README, put_between

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError
from edgekit.base.files import write_json, write_text
from edgekit.devices.device import LocalDevice
from edgekit.devices.latency import UNKNOWN, Latency, quiet_of, quietest, settled
from edgekit.export.base import ExportJob
from edgekit.export.exporter import derive_from_tflite, export
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.calibrate import calibrate
from edgekit.profiling.fit.residuals import Residual, median_pct, p90_pct, within_pct
from edgekit.profiling.profile import profile_file
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.runtimes.open import default_runtime
from edgekit.schema.names import Format, Precision
from edgekit.schema.recipe import Limits

CACHE = Path("runs") / "calibration"
NETWORKS = (
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "ResNet50V2", "DenseNet121",
    "NASNetMobile", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "VGG16", "ConvNeXtTiny",
)  # fmt: skip
FORMATS: tuple[Format, ...] = ("tflite", "onnx", "openvino")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
_SUFFIX = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
_SAMPLES = 8
_SIDE = 224  # of images, where a network takes any
_LIVELY = 20.0  # on the last layer's weights
_PATIENCE_S = 900.0
_PAUSE_S = 0.5
_RUNS_S = 0.3
_INTRODUCTION = """# How far a calibrated target is off

Made by `python benchmarks/calibration.py --docs`: {source}. Each file was measured on the same
machine, in turns with the others, and predicted by a target that `edgekit calibrate` made of small
networks of its own; none of these files was among them. Both take the runs beside which a loop of
known length was not slowed on any core in use: other programs, and other virtual machines on the
same physical core, make runs up to twice as slow. Runs of two threads have each thread on a core of
its own, and count if the two cores were near each other: a hypervisor moves a virtual machine's
cores, and where they share no cache, small networks take up to twice as long. What was disturbed is
measured again for a quarter of an hour, and left out if it always was.
Twelve keras.applications networks with random weights, and the files of the shared models that run
without an accelerator; int8 ONNX and OpenVINO files are derived from the .tflite files.
|predicted / measured - 1|; coverage of the 10th to 90th percentile interval."""
Times = dict[tuple[Path, int], float]


@dataclass(frozen=True)
class Row:
    """One file in one setting: what was measured, and what was predicted."""

    model: str
    runtime: str
    precision: str
    threads: int
    measured_ms: float
    predicted_ms: float
    inside: bool | None


def main(arguments: Sequence[str]) -> None:
    """Calibrates if asked to, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, help="a calibrated target; made if none is given")
    parser.add_argument("--minutes", type=float, default=18.0, help="of the calibration")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cache", type=Path, default=CACHE, help="of exported files")
    parser.add_argument("--seconds", type=float, default=_RUNS_S, help="of the runs of one file")
    parser.add_argument("--only", nargs="*", help="words of which a file's name must have one")
    parser.add_argument("--again", action="store_true", help="predict what was measured last")
    parser.add_argument("--docs", action="store_true", help="write docs/calibration.md")
    parser.add_argument("--no-export", action="store_true", help="take what is in the cache")
    options = parser.parse_args(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    target = options.target
    if target is None:
        target = options.cache / "this-machine.yaml"
        report = calibrate(target, threads=options.threads, minutes=options.minutes)
        print(*(f"warning: {line}" for line in report.warnings), sep="\n")
    if not options.no_export:
        export_all(options.cache, options.only)
    kept = options.cache / "latencies.json"
    if options.again and kept.exists():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        times = {(Path(path), count): seconds for path, count, seconds in stored}
    else:
        files = [path for path in found(options.cache) if wanted(path.name, options.only)]
        times = measured(files, options.threads, options.seconds)
        write_json(kept, [[str(path), count, times[path, count]] for path, count in times])
    found_rows = list(rows(times, target))
    print(groups_table(found_rows), files_table(found_rows), sep="\n\n")
    if options.docs:
        (source,) = load_target(str(target)).sources
        introduction = _INTRODUCTION.format(source=source.title)
        tables = groups_table(found_rows), files_table(found_rows)
        write_text(DOCS / "calibration.md", "\n\n".join((introduction, *tables)) + "\n")
        put_between(README, "calibration", tables[0])


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether a file was asked for."""
    return not only or any(word in name for word in only)


def export_all(cache: Path, only: Sequence[str] | None) -> None:
    """Exports what the cache lacks, one file after the other: one failure spoils no other."""
    sources = [cache / f"{name}.keras" for name in NETWORKS]
    sources += sorted((SHARED / "models").glob("*.h5"))
    sources += sorted((SHARED / "models").glob("*_int8.tflite"))
    with Worker(preload=["tensorflow"]) as worker:
        for source in (one for one in sources if wanted(one.stem, only)):
            for kind, precision in product(FORMATS, PRECISIONS):
                path = cache / f"{source.stem.removesuffix('_int8')}-{precision}{_SUFFIX[kind]}"
                if source.suffix == ".tflite":
                    path = cache / f"{source.stem}{_SUFFIX[kind]}"
                    if precision == "fp32" or kind == "tflite":
                        continue
                try:
                    if not path.exists():
                        export_one(source, kind, precision, path, worker)
                except EdgekitError as error:
                    print(f"not exported: {path.name}: {error.message[:160]}", flush=True)


def export_one(
    source: Path, kind: Format, precision: Precision, path: Path, worker: Worker
) -> None:
    """Exports one file; int8 ONNX and OpenVINO files derive from the .tflite file.

    Parity is not asked for: random weights and samples are no measure of it, and latency does not
    depend on it.
    """
    if source.suffix == ".tflite" or (precision == "int8" and kind != "tflite"):
        master = source if source.suffix == ".tflite" else path.with_suffix(".tflite")
        derive_from_tflite(master, kind, path, worker=worker, limits=Limits())
        return
    if not source.exists() and source.stem in NETWORKS:
        build(source)
    data = path.parent / f"{source.stem}.npz"
    if not data.exists():
        samples(source, data)
    with np.load(data) as stored:
        x = dict(stored)
    job = ExportJob(source, kind, precision, path, calibration=data)
    export(job, reference_x=x, worker=worker, limits=Limits())


def build(path: Path) -> None:
    """Saves a keras.applications network with random weights, as lively as a trained one.

    Batch normalization gets the statistics of random images and the last layer is scaled up, so
    that scores differ: else a softmax of 1000 equal ones rounds to nothing in int8.
    """
    import keras

    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, path.stem)
    model = network(weights=None)
    if None in model.input_shape[1:]:
        model = network(weights=None, input_shape=(_SIDE, _SIDE, 3))
    images = np.random.default_rng(0).uniform(-1, 1, (_SAMPLES, *model.input_shape[1:]))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images.astype(np.float32), training=True)
    kernel = next(layer for layer in reversed(model.layers) if layer.weights).weights[0]
    kernel.assign(_LIVELY * kernel)
    model.save(path)


def samples(source: Path, path: Path) -> None:
    """Writes random samples for a model's inputs."""
    from edgekit.models.files import load_model

    generator = np.random.default_rng(0)
    arrays = {
        tensor.name: generator.uniform(-1, 1, (_SAMPLES, *tensor.shape[1:])).astype(np.float32)
        for tensor in load_model(source).inputs
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]  # names are names


def found(cache: Path) -> Iterator[Path]:
    """The files to measure: the cache's, and the shared .tflite files."""
    for folder, suffixes in ((cache, _SUFFIX.values()), (SHARED / "models", (".tflite",))):
        for suffix in suffixes:
            yield from sorted(folder.glob(f"*{suffix}"))


def measured(files: Sequence[Path], threads: Sequence[int], seconds: float) -> Times:
    """Latencies in seconds of each file and number of threads, in turns with the others.

    What was disturbed is measured again for a quarter of an hour; what always was is left out.
    """
    known: dict[tuple[Path, int], list[Latency]] = defaultdict(list)
    skipped: set[Path] = set()
    quiet = dict.fromkeys(threads, UNKNOWN)
    start = time.monotonic()
    with closing(LocalDevice()) as device:
        while True:
            late = time.monotonic() - start > _PATIENCE_S
            for path, count in product(files, threads):
                before = known[path, count]
                if path in skipped or (before and (late or settled(before, quiet[count]))):
                    continue
                if not late and not device.ready(count):
                    continue
                try:
                    before.append(
                        device.latency(
                            path, runtime=default_runtime(path), threads=count, seconds=seconds
                        )
                    )
                except EdgekitError as error:
                    print(f"not measured: {path.name}: {error.message[:160]}")
                    skipped.add(path)
            for count in quiet:
                alike = (found for (_, own), found in known.items() if own == count)
                quiet[count] = quiet_of(chain.from_iterable(alike))
            doubtful = [
                f"{path.name}, {count} threads"
                for (path, count), found in known.items()
                if path not in skipped and not settled(found, quiet[count])
            ]
            if late or not doubtful:
                break
            time.sleep(_PAUSE_S)
    for line in doubtful:
        print(f"never measured undisturbed, left out: {line}")
    return {
        key: median(one.seconds for one in quietest(found, quiet[key[1]]))
        for key, found in known.items()
        if settled(found, quiet[key[1]])
    }


def rows(times: Times, target: Path) -> Iterator[Row]:
    """What was measured beside what a calibrated target predicts."""
    targets = {count: load_target(f"{target}@{count}") for count in {count for _, count in times}}
    for (path, count), seconds in times.items():
        figure = profile_file(path, targets[count]).latency_ms
        if figure.value is None:
            print(f"not predicted: {path.name}, {count} threads: {figure.reason}")
            continue
        inside = None
        if figure.low is not None and figure.high is not None:
            inside = figure.low <= 1e3 * seconds <= figure.high
        yield Row(
            model=path.stem,
            runtime=default_runtime(path),
            precision=GraphView(read_graph(path)).precision,
            threads=count,
            measured_ms=1e3 * seconds,
            predicted_ms=figure.value,
            inside=inside,
        )


def groups_table(found: Sequence[Row]) -> str:
    """Errors by runtime, precision and threads."""
    lines = [
        "| runtime | precision | threads | files | median error | p90 | within 10% | within 20% "
        "| coverage |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (runtime, precision, threads), group in _grouped(found):
        lines.append(f"| {runtime} | {precision} | {threads} | {summary(group)} |")
    return "\n".join([*lines, f"| all | | | {summary(found)} |"])


def files_table(found: Sequence[Row]) -> str:
    """Each file's latency, measured and predicted."""
    lines = [
        "| file | runtime | precision | threads | measured ms | predicted ms | off |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (runtime, precision, threads), group in _grouped(found):
        for row in sorted(group, key=lambda one: one.model):
            off = 100 * (row.predicted_ms / row.measured_ms - 1)
            lines.append(
                f"| {row.model} | {runtime} | {precision} | {threads} | {row.measured_ms:.4g} | "
                f"{row.predicted_ms:.4g} | {off:+.0f}% |"
            )
    return "\n".join(lines)


def _grouped(found: Sequence[Row]) -> list[tuple[tuple[str, str, int], list[Row]]]:
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in found:
        groups[row.runtime, row.precision, row.threads].append(row)
    return sorted(groups.items())


def summary(group: Sequence[Row]) -> str:
    """Errors of a group, as cells of a table."""
    residuals = [Residual(r.model, r.model, r.measured_ms / r.predicted_ms) for r in group]
    judged = [row.inside for row in group if row.inside is not None]
    covered = f"{100 * sum(judged) / len(judged):.0f}%" if judged else ""
    return (
        f"{len(group)} | {median_pct(residuals):.1f}% | {p90_pct(residuals):.1f}% | "
        f"{within_pct(residuals, 10):.0f}% | {within_pct(residuals, 20):.0f}% | {covered}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
