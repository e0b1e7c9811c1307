"""Models exported as they are in use, and how far the files are from what they should compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset
from edgekit.schema.names import Precision
from edgekit.schema.plan import QuantizationPlan


def exported(
    model: Any,
    dataset: Dataset,
    folder: Path,
    worker: Worker,
    precision: Precision = "int8",
    plan: QuantizationPlan | None = None,
) -> Path:
    """A .tflite file of a model, calibrated on the dataset, beside `model.keras` in the folder."""
    from edgekit.export.exporter import ExportJob, export
    from edgekit.models.files import save_model

    folder.mkdir(exist_ok=True)
    save_model(model, folder / "model.keras")
    np.savez(folder / "calibration.npz", **dataset.calibration.x)  # type: ignore[arg-type]
    job = ExportJob(
        folder / "model.keras",
        "tflite",
        precision,
        folder / f"model-{precision}.tflite",
        calibration=None if precision == "fp32" else folder / "calibration.npz",
        plan=plan,
    )
    export(job, worker=worker, reference_x=dataset.test.x)
    return job.output


def steps_apart(file: Path, wanted: np.ndarray, x: dict[str, np.ndarray]) -> np.ndarray:
    """How many steps of the file's output each of its values is from what is wanted."""
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw, to_real

    with open_session(file) as session:
        info = session.outputs[0]
        found = to_real(run_raw(session, x)[info.name], info)
    assert info.quantization is not None
    return np.abs(found - wanted) / info.quantization.scale[0]
