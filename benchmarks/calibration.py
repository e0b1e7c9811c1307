"""How far a calibrated target's predictions are from what this machine measures.

    python benchmarks/calibration.py [--target FILE] [--minutes 5] [--threads 1 2] [--cache DIR]

Makes a target with `edgekit calibrate`, or takes one; exports twelve keras.applications networks
and the models of ../shared/models (or $EDGEKIT_SHARED/models) in all formats, float and int8, which
needs TensorFlow, and keeps the files in the cache; measures each on this machine, in turns with
the others, and prints by runtime, precision and threads: median and 90th percentile error,
the shares within 10 and 20 percent, coverage of the interval, and the worst networks. What could
not be exported or run is listed with the reason.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from groundtruth import SHARED

from edgekit.base.errors import EdgekitError
from edgekit.devices.device import LocalDevice
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration.calibrate import calibrate
from edgekit.pipeline.export_files import export_files
from edgekit.profiling.fit.residuals import Residual, median_pct, p90_pct, within_pct
from edgekit.profiling.profile import profile_file
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.runtimes.open import default_runtime

CACHE = Path("runs") / "calibration"
NETWORKS = (
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "ResNet50", "ResNet50V2", "DenseNet121",
    "NASNetMobile", "EfficientNetB0", "EfficientNetV2B0", "InceptionV3", "VGG16", "ConvNeXtTiny",
)  # fmt: skip
FORMATS = ("tflite", "onnx", "openvino")
PRECISIONS = ("fp32", "int8")
_SUFFIX = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
_SAMPLES = 8
_ROUNDS = 3
_WORST = 3


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
    parser.add_argument("--minutes", type=float, default=5.0, help="of the calibration")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cache", type=Path, default=CACHE, help="of exported files")
    parser.add_argument("--seconds", type=float, default=1.0, help="of the runs of one file")
    parser.add_argument("--only", nargs="*", help="words of which a file's name must have one")
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
    files = [path for path in found(options.cache) if wanted(path.name, options.only)]
    show(measure(files, target, options.threads, options.seconds))


def wanted(name: str, only: Sequence[str] | None) -> bool:
    """Whether a file was asked for."""
    return not only or any(word in name for word in only)


def export_all(cache: Path, only: Sequence[str] | None) -> None:
    """Exports what the cache lacks, one file after the other: one failure spoils no other."""
    sources = [cache / f"{name}.keras" for name in NETWORKS]
    sources += sorted((SHARED / "models").glob("*.h5"))
    for source in sources:
        if not wanted(source.stem, only):
            continue
        for kind in FORMATS:
            for precision in PRECISIONS:
                path = cache / f"{source.stem}-{precision}{_SUFFIX[kind]}"
                master = cache / f"{source.stem}-int8.tflite"
                derived = precision == "int8" and kind != "tflite"
                if not path.exists():
                    export_one(master if derived else source, kind, precision, path)
    for master in sorted((SHARED / "models").glob("*_int8.tflite")):
        for kind in FORMATS[1:]:
            path = cache / f"{master.stem}{_SUFFIX[kind]}"
            if wanted(master.stem, only) and not path.exists():
                export_one(master, kind, "int8", path)


def export_one(source: Path, kind: str, precision: str, path: Path) -> None:
    """Exports one file; says why if that fails."""
    try:
        if not source.exists() and source.stem in NETWORKS:
            build(source)
        data = path.parent / f"{source.stem}.npz"
        if source.suffix != ".tflite" and not data.exists():
            samples(source, data)
        export_files(
            source,
            formats=[kind],
            precisions=[precision],
            data=data if data.exists() else None,
            output=path,
        )
    except EdgekitError as error:
        print(f"not exported: {path.name}: {error}")


def build(path: Path) -> None:
    """Saves a keras.applications network with random weights."""
    import keras

    keras.utils.set_random_seed(0)
    getattr(keras.applications, path.stem)(weights=None).save(path)


def samples(source: Path, path: Path) -> None:
    """Writes random samples for a model's inputs."""
    from edgekit.models.files import load_model

    generator = np.random.default_rng(0)
    arrays = {
        tensor.name: generator.uniform(-1, 1, (_SAMPLES, *tensor.shape[1:])).astype(np.float32)
        for tensor in load_model(source).inputs
    }
    np.savez(path, **({"x": next(iter(arrays.values()))} if len(arrays) == 1 else arrays))


def found(cache: Path) -> Iterator[Path]:
    """The files to measure: the cache's, and the shared .tflite files."""
    for folder, suffixes in ((cache, _SUFFIX.values()), (SHARED / "models", (".tflite",))):
        for suffix in suffixes:
            yield from sorted(folder.glob(f"*{suffix}"))


def measure(
    files: Sequence[Path], target: Path, threads: Sequence[int], seconds: float
) -> Iterator[Row]:
    """Measures files in turns, and predicts them."""
    targets = {count: load_target(f"{target}@{count}") for count in threads}
    known: dict[tuple[Path, int], list[float]] = defaultdict(list)
    skipped: set[Path] = set()
    with closing(LocalDevice()) as device:
        for _ in range(_ROUNDS):
            for path in files:
                for count in threads:
                    if path in skipped:
                        continue
                    try:
                        latency = device.latency(
                            path,
                            runtime=default_runtime(path),
                            threads=count,
                            seconds=seconds / _ROUNDS,
                        )
                    except EdgekitError as error:
                        print(f"not measured: {path.name}: {error.message[:160]}")
                        skipped.add(path)
                        continue
                    known[path, count].append(1e3 * latency.seconds)
    for (path, count), times in known.items():
        figure = profile_file(path, targets[count]).latency_ms
        if figure.value is None:
            print(f"not predicted: {path.name}, {count} threads: {figure.reason}")
            continue
        inside = None
        if figure.low is not None and figure.high is not None:
            inside = figure.low <= median(times) <= figure.high
        yield Row(
            model=path.stem,
            runtime=default_runtime(path),
            precision=GraphView(read_graph(path)).precision,
            threads=count,
            measured_ms=median(times),
            predicted_ms=figure.value,
            inside=inside,
        )


def show(rows: Iterator[Row]) -> None:
    """Prints each file, then the groups."""
    groups: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.runtime, row.precision, row.threads].append(row)
    everything = [row for group in groups.values() for row in group]
    for (runtime, precision, threads), group in sorted(groups.items()):
        print(f"\n{runtime} {precision}, {threads} threads")
        for row in group:
            off = 100 * (row.predicted_ms / row.measured_ms - 1)
            print(f"  {row.model:48} {row.measured_ms:10.4f} ms {row.predicted_ms:10.4f} "
                  f"{off:+7.1f}%")  # fmt: skip
    print()
    for (runtime, precision, threads), group in sorted(groups.items()):
        print(f"{runtime:12} {precision:6} {threads} threads: {summary(group)}")
    if everything:
        print(f"{'all':30} {summary(everything)}")


def summary(rows: Sequence[Row]) -> str:
    """Errors of a group in one line."""
    residuals = [Residual(r.model, r.model, r.measured_ms / r.predicted_ms) for r in rows]
    judged = [row.inside for row in rows if row.inside is not None]
    covered = f"{100 * sum(judged) / len(judged):.0f}%" if judged else "unknown"
    worst = sorted(residuals, key=lambda one: one.error_pct, reverse=True)[:_WORST]
    return (
        f"{len(rows)} files, median {median_pct(residuals):.1f}%, p90 {p90_pct(residuals):.1f}%, "
        f"within 10%: {within_pct(residuals, 10):.0f}%, 20%: {within_pct(residuals, 20):.0f}%, "
        f"coverage {covered}; worst "
        + ", ".join(f"{one.model} {100 * (1 / one.ratio - 1):+.0f}%" for one in worst)
    )


if __name__ == "__main__":
    main(sys.argv[1:])
