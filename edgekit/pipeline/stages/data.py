"""The data stage: samples loaded, preprocessed, split and kept."""

from __future__ import annotations

import numpy as np

from edgekit.base.files import atomic_path
from edgekit.pipeline.stage import Result, Stage, StageContext

CALIBRATION_FILE = "calibration.npz"


def stage(fingerprint: str | None, data: object, seed: int) -> Stage:
    """The stage for one recipe's data; `fingerprint` is the hash of its files."""
    return Stage(
        name="data",
        group="data",
        function=_run,
        settings={"data": data, "seed": seed, "files": fingerprint},
        libraries=("numpy", "scikit-learn", "pillow"),
    )


def _run(context: StageContext) -> Result:
    from edgekit.data.dataset import save_dataset
    from edgekit.data.sources import load_dataset

    resources = context.resources
    context.progress(f"loading {resources.recipe.data.source}")
    dataset = load_dataset(
        resources.recipe.data,
        seed=resources.recipe.seed,
        root=resources.root,
        source=resources.source,
    )
    save_dataset(dataset, context.directory)
    with atomic_path(context.directory / CALIBRATION_FILE) as path:
        np.savez(path, **dataset.calibration.x)  # type: ignore[arg-type]
    splits = ("train", "validation", "calibration", "test")
    return {
        "samples": {name: len(getattr(dataset, name)) for name in splits},
        "inputs": {name: list(array.shape[1:]) for name, array in dataset.train.x.items()},
        "labels": list(dataset.labels),
        "preprocessing": dataset.preprocessing.model_dump(mode="json"),
    }
