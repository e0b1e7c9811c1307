"""What a run shows outside of its stages: artifacts that passed, golden samples, profiles."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.files import atomic_path, link_file, write_json
from edgekit.pipeline.execute import Execution
from edgekit.pipeline.resources import Resources
from edgekit.pipeline.rundir import RESULT_FILE, RunDirectory
from edgekit.pipeline.stages.compress import OUTPUTS_FILE
from edgekit.pipeline.stages.export import Wanted
from edgekit.schema.results import Profile, RunReport

GOLDEN_SAMPLES = 8


def publish_artifacts(run: RunDirectory, execution: Execution, passed: Iterable[Wanted]) -> None:
    """Shows the files of the given export stages, with their sidecars, in `artifacts/`."""

    def fill(directory: Path) -> None:
        for one in passed:
            source = execution.done[f"export-{one.key}"].directory
            for file in source.iterdir():
                if file.is_file() and file.name != RESULT_FILE:
                    link_file(file, directory / file.name)

    _replace(run.path / "artifacts", fill)


def publish_golden(run: RunDirectory, execution: Execution, resources: Resources) -> None:
    """Keeps a few test samples and the Keras model's answers in `golden/`, as .npy files.

    Inputs are preprocessed float32; a device that feeds them must find the answers within the
    parity that the artifact's sidecar states.
    """

    def fill(directory: Path) -> None:
        samples = resources.dataset.test.take(GOLDEN_SAMPLES).x
        for name, array in samples.items():
            _save(directory / f"input.{name}.npy", array)
        stored = np.load(execution.done["reference"].directory / OUTPUTS_FILE)
        with stored as outputs:
            for name in outputs.files:
                _save(directory / f"output.{name}.npy", outputs[name][:GOLDEN_SAMPLES])

    _replace(run.path / "golden", fill)


def publish_profiles(run: RunDirectory, report: RunReport) -> None:
    """Writes `profiles/<artifact>.json`: every profile of one artifact."""

    def fill(directory: Path) -> None:
        by_artifact: dict[str, list[Profile]] = {}
        for profile in report.profiles:
            by_artifact.setdefault(profile.artifact, []).append(profile)
        for artifact, profiles in by_artifact.items():
            plain = [profile.model_dump(mode="json") for profile in profiles]
            write_json(directory / f"{artifact}.json", {"profiles": plain})

    _replace(run.path / "profiles", fill)


def _save(path: Path, array: NDArray[Any]) -> None:
    with atomic_path(path) as temporary:
        np.save(temporary, array)


def _replace(directory: Path, fill: Callable[[Path], None]) -> None:
    """Builds a directory beside itself and swaps it in."""
    fresh = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    fill(fresh)
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
