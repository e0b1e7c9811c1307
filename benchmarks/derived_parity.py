"""ONNX and OpenVINO files derived from int8 TFLite files, held to the TFLite files' outputs.

    python benchmarks/derived_parity.py ../shared/models/mlperf_tiny_*_int8.tflite

For each file, format and kind of input: the share of samples whose outputs are bit-equal, the
share within one output step, and the largest difference in steps. The reference is LiteRT with its
default kernels (XNNPACK); LiteRT's own reference kernels stand beside it as a row, to show how far
two implementations of TFLite differ. Inputs: `photos`, crops of scikit-learn's two sample
photographs (image models); `smooth`, random fields; `noise`, independent random integers, the
hardest, which no real input resembles.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.base.child import Worker
from edgekit.base.extras import require, versions
from edgekit.export.exporter import derive_from_tflite
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays, run_raw
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.names import Format
from edgekit.schema.recipe import Limits
from edgekit.verify.samples import random_samples

SAMPLES = 500
FORMATS: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}


def photo_crops(size: int, channels: int, count: int, seed: int) -> NDArray[np.float32]:
    """Square crops at random places and scales, 0 to 255: (count, size, size, channels)."""
    images = require("sklearn.datasets", purpose="for sample photographs").load_sample_images()
    random = np.random.default_rng(seed)
    crops = np.empty((count, size, size, channels), np.float32)
    for index in range(count):
        image = images.images[index % 2]
        side = int(random.integers(size, min(image.shape[:2])))
        top, left = (int(random.integers(0, s - side + 1)) for s in image.shape[:2])
        places = np.arange(size) * side // size
        crops[index] = image[top : top + side, left : left + side][places][:, places]
    return crops


def inputs(info: TensorInfo, count: int, seed: int) -> Iterator[tuple[str, Arrays]]:
    """The kinds of samples that fit an input."""
    shape = [size or 1 for size in info.shape[1:]]
    if len(shape) == 3 and shape[-1] == 3 and info.quantization is not None:
        high = info.quantization.dequantize(np.array([127]))[0]
        crops = photo_crops(shape[0], shape[-1], count, seed)
        yield "photos", {info.name: (crops * (high / 255)).astype(np.float32)}
    yield "smooth", random_samples((info,), count=count, seed=seed)
    random = np.random.default_rng(seed)
    yield "noise", {info.name: random.integers(-128, 128, (count, *shape)).astype(info.dtype)}


def reference_kernels(master: Path, x: NDArray[Any]) -> NDArray[Any]:
    """The first output of LiteRT's reference kernels, sample by sample."""
    module = require("ai_edge_litert.interpreter", purpose="to run .tflite files")
    interpreter = module.Interpreter(
        str(master), experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    given, made = (
        d[0]["index"] for d in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    outputs = []
    for sample in x:
        interpreter.set_tensor(given, sample[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(made))
    return np.concatenate(outputs)


def figures(found: NDArray[Any], wanted: NDArray[Any]) -> tuple[float, float, int]:
    """Share bit-equal, share within one step, largest difference."""
    steps = np.abs(found.astype(int) - wanted.astype(int)).reshape(len(found), -1).max(axis=1)
    return float(np.mean(steps == 0)), float(np.mean(steps <= 1)), int(steps.max())


def rows(
    master: Path, worker: Worker, *, samples: int = SAMPLES, seed: int = 0
) -> Iterator[tuple[str, str, float, float, int]]:
    """(what ran, kind of input, bit-equal, within one step, largest difference) of one file."""
    with open_session(master) as session, tempfile.TemporaryDirectory() as folder:
        (info,), (output,) = session.inputs, session.outputs
        made = {}
        for kind, suffix in FORMATS.items():
            made[kind] = Path(folder) / f"{master.stem}{suffix}"
            derive_from_tflite(master, kind, made[kind], worker=worker, limits=Limits())
        for name, x in inputs(info, samples, seed):
            wanted = run_raw(session, x)[output.name]
            for kind, path in made.items():
                with open_session(path) as other:
                    found = run_raw(other, x)[output.name]
                yield kind, name, *figures(found, wanted)
            raw = x[info.name]
            if raw.dtype != info.dtype and info.quantization is not None:
                raw = info.quantization.quantize(raw, info.dtype)
            yield "tflite-ref", name, *figures(reference_kernels(master, raw), wanted)


def main(arguments: list[str]) -> None:
    """Prints the table."""
    masters = [Path(argument) for argument in arguments]
    if not masters:
        sys.exit((__doc__ or "").strip())
    libraries = versions("ai-edge-litert", "onnxruntime", "openvino", "tf2onnx", "numpy")
    print(f"{platform.machine()}, {SAMPLES} samples, {cast('object', libraries)}")
    print(f"{'file':28} {'ran':10} {'inputs':7} {'equal':>7} {'<=1':>7} {'max':>4}")
    with Worker(preload=["tensorflow"]) as worker:
        for master in masters:
            for kind, name, equal, within, largest in rows(master, worker):
                print(
                    f"{master.stem:28} {kind:10} {name:7} {equal:7.3f} {within:7.3f} {largest:4d}"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
