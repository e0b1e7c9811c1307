"""What runtimes make of zeros: latency and gzip size of sparse models against the dense one.

    python benchmarks/sparsity.py [--networks resnet8 wide] [--rounds 101] [--patience 60]
        [--json] [--docs]

A network with random weights is pruned to 50%, to 2:4, and to 80% in blocks of 1x4, exported to
each format in fp32 and int8, and run beside the dense file, in turns, in one process. A ratio is
the median over the rounds of sparse time over dense time. `sparse` is TensorFlow's own encoding of
sparse weights in .tflite files, and OpenVINO's decompression of sparse weights. `--docs` writes
docs/sparsity.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import PATIENCE_S, TIMEOUT_S, child, sizes, take_turns

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError
from edgekit.base.extras import versions
from edgekit.base.files import write_text
from edgekit.devices.machine import machine
from edgekit.devices.timing import random_inputs
from edgekit.export.base import ExportJob, saved_model
from edgekit.export.exporter import export
from edgekit.runtimes.open import open_session
from edgekit.schema.names import Format, Precision
from edgekit.schema.recipe import Limits

if TYPE_CHECKING:
    import keras

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PATTERNS: dict[str, dict[str, Any]] = {
    "dense": {},
    "50%": {"sparsity": 0.5},
    "2:4": {"pattern": "2:4"},
    "1x4 80%": {"pattern": "block_1x4", "sparsity": 0.8},
}
FORMATS: tuple[tuple[Format, str], ...] = (
    ("tflite", ".tflite"),
    ("openvino", ".xml"),
    ("onnx", ".onnx"),
)
RUNTIMES = {"tflite": "LiteRT", "openvino": "OpenVINO", "onnx": "ONNX Runtime"}
LIBRARIES = ("tensorflow", "ai-edge-litert", "openvino", "onnxruntime")
HEAD = """# What runtimes make of zeros

Made by `python benchmarks/sparsity.py --docs`: networks with random weights, dense and pruned to
50%, to 2:4, and to 80% in blocks of 1x4. "ratio" is the median over the rounds of the time over
that of the plain dense file, measured in turns in one process; "gzip ratio" that of the sizes after
gzip. `sparse` is TensorFlow's own encoding of sparse weights in .tflite files, and OpenVINO's
decompression of sparse weights.
"""
_SPARSE_RATE = 0.5  # OpenVINO: weights with at least so many zeros are stored without them


@dataclass(frozen=True)
class Row:
    """One sparse file against the dense file of the same runtime and precision.

    Attributes:
        encoding: "plain" or "sparse".
        dense_ms: median latency of the plain dense file; None where it cannot run.
        ms: median latency.
        ratio: median over the rounds of the time over that of the plain dense file.
        error: why there is no figure.
    """

    network: str
    runtime: str
    precision: str
    pattern: str
    encoding: str
    bytes: int | None = None
    gzip_bytes: int | None = None
    gzip_ratio: float | None = None
    dense_ms: float | None = None
    ms: float | None = None
    ratio: float | None = None
    error: str | None = None


def build(network: str) -> tuple[keras.Model, tuple[int, ...]]:
    """A built-in family, or `wide`: dense layers as large as those that sparse kernels are for."""
    from edgekit.models.build import build_model
    from edgekit.schema.recipe import ModelSpec

    shapes = {"resnet8": (32, 32, 3), "mobilenet_v1": (96, 96, 3), "wide": (1024,)}
    args = {"units": [1024, 1024, 1024]} if network == "wide" else {}
    spec = ModelSpec(name="mlp" if network == "wide" else network, args=args)
    shape = shapes[network]
    model = build_model(spec, input_shapes={"x": shape}, classes=10, root=Path(), seed=0)
    return model, shape


def benchmark(network: str, folder: Path, rounds: int, patience_s: float) -> Iterator[Row]:
    """All rows of one network."""
    from edgekit.compress import prune
    from edgekit.models.files import save_model

    model, shape = build(network)
    samples = folder / "samples.npz"
    x = np.random.default_rng(0).normal(size=(32, *shape)).astype(np.float32)
    np.savez(samples, x=x)
    made: dict[tuple[str, str, str, str], Path | str] = {}
    with child("tensorflow") as worker:
        for number, (pattern, options) in enumerate(PATTERNS.items()):
            home = folder / f"{number}"
            home.mkdir()
            sparse = prune(model, **options).model if options else model
            save_model(sparse, home / "model.keras")
            made |= {
                (runtime, precision, pattern, encoding): file
                for runtime, precision, encoding, file in _files(home, samples, worker)
            }
    keys = {key[:2] for key in made}
    for runtime, precision in sorted(keys):
        group = {key[2:]: one for key, one in made.items() if key[:2] == (runtime, precision)}
        yield from _rows(network, runtime, precision, group, rounds, patience_s)


def _files(
    home: Path, samples: Path, worker: Worker
) -> Iterator[tuple[str, Precision, str, Path | str]]:
    """Runtime, precision, encoding and file (or the error) of one Keras model."""
    model, master = home / "model.keras", home / "int8.tflite"
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    with np.load(samples) as archive:
        reference = dict(archive)
    for precision in precisions:
        for format_, suffix in FORMATS:
            file = home / f"{precision}{suffix}"
            job = ExportJob(model, format_, precision, file, calibration=samples, master=master)
            try:
                export(job, worker=worker, reference_x=reference, limits=Limits())
            except EdgekitError as error:
                yield RUNTIMES[format_], precision, "plain", str(error)
                continue
            yield RUNTIMES[format_], precision, "plain", file
            if format_ == "openvino":
                yield RUNTIMES[format_], precision, "sparse", file
        encoded = home / f"{precision}-sparse.tflite"
        try:
            worker.call(
                "sparsity:encode",
                saved_model=saved_model(model, worker, batch=1),
                output=str(encoded),
                samples=str(samples) if precision == "int8" else None,
            )
            yield "LiteRT", precision, "sparse", encoded
        except EdgekitError as error:
            yield "LiteRT", precision, "sparse", str(error)


def encode(*, saved_model: str, output: str, samples: str | None) -> None:
    """TensorFlow's converter with its encoding of sparse weights; in the child process."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if samples is not None:
        x = np.load(samples)["x"]
        converter.optimizations.append(tf.lite.Optimize.DEFAULT)
        converter.representative_dataset = lambda: ({"x": x[i : i + 1]} for i in range(len(x)))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(output).write_bytes(converter.convert())


def _rows(
    network: str,
    runtime: str,
    precision: str,
    group: dict[tuple[str, str], Path | str],
    rounds: int,
    patience_s: float,
) -> Iterator[Row]:
    files = {key: one for key, one in group.items() if isinstance(one, Path)}
    times: dict[str, list[float]] = {}
    errors: dict[str, str] = {}
    with child(timeout_s=TIMEOUT_S) as worker:
        answer = worker.call(
            "sparsity:in_turns",
            files={"|".join(key): (str(one), key[1]) for key, one in files.items()},
            rounds=rounds,
            patience_s=patience_s,
        )
        times, errors = answer["times"], answer["errors"]
    dense = times.get("dense|plain")
    first = files.get(("dense", "plain"))
    base = sizes(first)[1] if first is not None else None
    for (pattern, encoding), one in group.items():
        row = Row(network, runtime, precision, pattern, encoding)
        if isinstance(one, str):
            yield Row(**{**asdict(row), "error": one})
            continue
        plain, zipped = sizes(one)
        found = times.get(f"{pattern}|{encoding}")
        both = zip(found, dense, strict=True) if found and dense else ()
        ratios = [own / other for own, other in both]
        yield Row(
            **{
                **asdict(row),
                "bytes": plain,
                "gzip_bytes": zipped,
                "gzip_ratio": zipped / base if base else None,
                "dense_ms": 1000 * median(dense) if dense else None,
                "ms": 1000 * median(found) if found else None,
                "ratio": median(ratios) if ratios else None,
                "error": errors.get(f"{pattern}|{encoding}"),
            }
        )


def in_turns(
    *, files: dict[str, tuple[str, str]], rounds: int, patience_s: float
) -> dict[str, Any]:
    """Seconds an inference of each file in each round; in the child process."""
    calls: dict[str, Callable[[], object]] = {}
    errors: dict[str, str] = {}
    with ExitStack() as stack:
        for name, (path, encoding) in files.items():
            try:
                if path.endswith(".xml") and encoding == "sparse":
                    calls[name] = _decompressing(path)
                else:
                    session = stack.enter_context(open_session(Path(path)))
                    calls[name] = session.prepared(random_inputs(session.inputs, 0))
            except (EdgekitError, RuntimeError) as error:
                errors[name] = str(error).strip().splitlines()[-1]
        return {"times": take_turns(calls, rounds, patience_s), "errors": errors}


def _decompressing(path: str) -> Callable[[], object]:
    """OpenVINO told to store sparse weights without their zeros; it does where it has kernels."""
    import openvino

    from edgekit.runtimes.openvino import compile_options

    options = {**compile_options(1), "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": _SPARSE_RATE}
    request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
    with open_session(Path(path)) as session:
        inputs = random_inputs(session.inputs, 0)
    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", default=["resnet8", "wide"])
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, help="seconds to wait for quiet"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    asked = parser.parse_args()
    rows = []
    for network in asked.networks:
        with tempfile.TemporaryDirectory() as folder:
            for row in benchmark(network, Path(folder), asked.rounds, asked.patience):
                rows.append(row)
                print(f"{network} {row.runtime} {row.precision} {row.pattern}", file=sys.stderr)
    host = machine()
    if asked.json:
        content = {"machine": host.model_dump(mode="json"), "rows": [asdict(row) for row in rows]}
        print(json.dumps(content, indent=1))
        return
    text = _table(rows, f"{host.cpu}, 1 thread, {asked.rounds} rounds")
    print(text)
    if asked.docs:
        from markdown import DOCS

        write_text(DOCS / "sparsity.md", f"{HEAD}\n{text}\n")


def _reason(error: str) -> str:
    """An error without the file that it names, and without its details."""
    return error.split(": ")[1 if ": " in error else 0][:60]


def _table(rows: list[Row], measured_on: str) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in versions(*LIBRARIES).items())
    lines = [
        f"{measured_on}; {libraries}.",
        "",
        "| network | runtime | precision | zeros | encoding | KB | gzip ratio | ms | ratio |",
        "|---|---|---|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.network} | {row.runtime} | {row.precision} | {row.pattern} | {row.encoding} "
        f"| {_cell(row.bytes and row.bytes / 1000, '{:.0f}')} "
        f"| {_cell(row.gzip_ratio, '{:.2f}')} | {_cell(row.ms, '{:.3f}')} "
        f"| {_cell(row.ratio, '{:.2f}')}{' ' + _reason(row.error) if row.error else ''} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
