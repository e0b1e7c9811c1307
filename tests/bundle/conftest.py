"""A run directory as the pipeline leaves it, with stand-ins for the model files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.files import sha256_file, write_text
from edgekit.schema.artifact import Preprocessing, Sidecar, TensorInfo
from edgekit.schema.figure import Figure
from edgekit.schema.quantization import Quantization
from edgekit.schema.results import (
    ArtifactResult,
    Profile,
    RunReport,
    StageResult,
    VerifyResult,
)

RECIPE = """\
name: digits
description: Handwritten digits.
data: {source: digits, preprocess: {scale: 0.0625}}
model: {name: cnn, args: {filters: 8}}
train: {epochs: 3}
compress:
  - prune: {sparsity: 0.5}
budgets:
  - {metric: accuracy_drop, max: 1.0}
"""


def write_artifact(directory: Path, name: str, content: bytes, precision: str = "int8") -> Path:
    """A stand-in model file with a truthful sidecar."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_bytes(content)
    files = [path]
    if path.suffix == ".xml":
        weights = path.with_suffix(".bin")
        weights.write_bytes(content[::-1])
        files.append(weights)
    quantization = Quantization((0.5,), (-3,)) if precision == "int8" else None
    dtype = "int8" if precision == "int8" else "float32"
    formats = {".tflite": "tflite", ".onnx": "onnx", ".xml": "openvino"}
    sidecar = Sidecar(
        file=name,
        files={file.name: sha256_file(file) for file in files},
        format=formats[path.suffix],
        precision=precision,
        bytes=sum(file.stat().st_size for file in files),
        sha256=sha256_file(path),
        inputs=(TensorInfo(name="x", shape=(1, 8, 8, 1), dtype=dtype, quantization=quantization),),
        outputs=(TensorInfo(name="y", shape=(1, 10), dtype=dtype, quantization=quantization),),
        preprocessing=Preprocessing(scale=0.0625),
        labels=tuple("0123456789"),
    )
    write_text(path.with_name(name + ".json"), sidecar.model_dump_json())
    return path


def parity(
    artifact: str, *, snr_db: float | None = 31.5, steps: float | None = 1.0
) -> VerifyResult:
    return VerifyResult(
        artifact=artifact,
        reference="keras",
        samples=360,
        max_abs_diff=0.0 if snr_db is None else 0.25,
        max_step_diff=steps,
        snr_db=snr_db,
        top1_agreement=0.995,
    )


def make_report(run: Path) -> RunReport:
    int8, fp32 = "digits-int8.tflite", "digits-fp32.xml"
    return RunReport(
        recipe="digits",
        run=str(run),
        artifacts=(
            ArtifactResult(
                path=f"artifacts/{int8}",
                format="tflite",
                precision="int8",
                bytes=2000,
                sha256="0" * 64,
                metrics={"accuracy": 0.975},
                parity=parity(int8),
            ),
            ArtifactResult(
                path=f"artifacts/{fp32}",
                format="openvino",
                precision="fp32",
                bytes=8000,
                sha256="0" * 64,
                metrics={"accuracy": 0.98},
                parity=parity(fp32, snr_db=None, steps=None),
            ),
        ),
        profiles=(
            Profile(
                artifact=int8,
                device="this machine",
                latency_ms=Figure(
                    value=0.02,
                    low=0.019,
                    high=0.021,
                    unit="ms",
                    origin="measured",
                    method="median of 900 runs",
                ),
                energy_mj=Figure.missing("no energy meter on this machine"),
                peak_memory_bytes=Figure(value=5e7, unit="bytes", origin="measured"),
                warnings=("other programs kept 0.9 cores busy",),
            ),
            Profile(
                artifact=int8,
                target="coral-usb",
                device="Coral USB",
                latency_ms=Figure(
                    value=0.4, low=0.3, high=0.6, unit="ms", origin="estimated", method="fitted"
                ),
                energy_mj=Figure(value=0.9, unit="mJ", origin="estimated"),
                peak_memory_bytes=Figure(value=4096.0, unit="bytes", origin="estimated"),
            ),
        ),
        reference_metrics={"accuracy": 0.981},
        stages=(StageResult(name="train", key="ab", cached=False, seconds=3.0),),
        versions={"numpy": "2.0"},
    )


@pytest.fixture
def artifact_writer() -> Callable[..., Path]:
    return write_artifact


@pytest.fixture
def report(run_directory: Path) -> RunReport:
    return make_report(run_directory)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "digits-0123abcd"
    write_artifact(run / "artifacts", "digits-int8.tflite", bytes(range(200)))
    write_artifact(run / "artifacts", "digits-fp32.xml", b"<net/>" * 50, "fp32")
    (run / "golden").mkdir()
    samples = np.arange(128, dtype=np.float32).reshape(2, 8, 8, 1)
    np.save(run / "golden" / "input.x.npy", samples)
    np.save(run / "golden" / "output.y.npy", np.ones((2, 10), np.float32))
    write_text(run / "recipe.lock.yaml", RECIPE)
    write_text(run / "run.json", json.dumps(make_report(run).model_dump(mode="json")))
    return run
