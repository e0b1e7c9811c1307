"""`edgekit verify`: model files held against a reference, each in its real runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError, InputError, ToolError
from edgekit.base.progress import Progress, silent
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays, Session, run_raw
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.names import PRECISIONS
from edgekit.schema.recipe import DEFAULT_LIMITS, Limits
from edgekit.schema.results import VerifyReport, VerifyResult
from edgekit.verify.parity import simulated_limits, verify_file
from edgekit.verify.samples import RANDOM_WITHIN_STEPS, random_samples

_KERAS = (".keras", ".h5", ".hdf5")
_PROBE_TIMEOUT_S = 120.0
_PROBE_SAMPLES = 1
_LAYER_SAMPLES = 64


def verify_files(
    files: Sequence[Path],
    reference: Path,
    *,
    data: Path | None = None,
    samples: int = 200,
    seed: int = 0,
    limits: Mapping[str, float | None] | None = None,
    threads: int = 1,
    layers: bool = False,
    progress: Progress = silent,
) -> VerifyReport:
    """Compares model files with a reference on the same samples.

    Args:
        files: .tflite, .onnx and .xml files.
        reference: a .keras, .h5, .tflite, .onnx or .xml file, or an .npz of recorded outputs by
            output name.
        data: .npz of samples by input name, with labels as "y"; by default random samples over
            the range of the inputs.
        samples: how many random ones.
        seed: of the random samples.
        limits: those that replace the defaults of the file's precision; None: keep the default,
            which for random samples lets 5% be further off than the limit of steps.
        threads: of the runtimes.
        layers: compare layer by layer too; the reference is a Keras model.
        progress: told which file is at work.

    Raises:
        InputError: a file cannot be used, or the samples do not fit.
        ToolError: a runtime failed, or died.
    """
    from edgekit.data.samples import load_samples, read_npz

    if reference.suffix == ".npz" and data is None:
        raise InputError(
            "recorded outputs need the samples that they were recorded on",
            where=str(reference),
            hint="--data test.npz",
        )
    if layers and reference.suffix not in _KERAS:
        raise InputError("only a Keras model has layers to compare with", where=str(reference))
    open_safely(
        (*files, *([reference] if reference.suffix not in (*_KERAS, ".npz") else [])), progress
    )
    x, y = load_samples(data) if data is not None else (None, None)
    if reference.suffix == ".npz":
        recorded: Arrays = read_npz(reference)
        recorded_infos: tuple[TensorInfo, ...] = ()
        if x is None:
            raise InputError("there are no samples", where=str(reference))
    else:
        with _reference(reference, threads) as session:
            if x is None:
                x = random_samples(_quantized_inputs(files, session), count=samples, seed=seed)
            progress(f"running {reference.name}")
            recorded, recorded_infos = run_raw(session, x), session.outputs
    results: list[VerifyResult] = []
    for path in files:
        progress(f"verifying {path.name}", len(results), len(files))
        simulated = reference.suffix in _KERAS and _simulated(path, reference)
        held = _limits(path, limits or {}, random=data is None)
        if simulated and (limits or {}).get("min_within_steps") is None:
            held = simulated_limits(held, random=data is None)
        result = verify_file(
            path,
            recorded,
            x,
            y,
            held,
            reference_name=str(reference),
            reference_infos=recorded_infos,
            threads=threads,
            simulated=simulated,
        )
        results.append(result)
    if layers:
        results = _with_layers(results, reference, x, progress)
    return VerifyReport(results=tuple(results))


def open_once(*, path: str) -> None:
    """Opens a file in its runtime and runs it once. Called in a child, which may die of it."""
    with open_session(Path(path)) as session:
        run_raw(session, random_samples(session.inputs, count=_PROBE_SAMPLES))


def precision_of(path: Path) -> str:
    """The precision of a model file: from its sidecar, else from its inputs and outputs."""
    try:
        stored = json.loads(path.with_name(f"{path.name}.json").read_text())["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        stored = None
    if stored in PRECISIONS:
        return str(stored)
    with open_session(path) as session:
        integers = any(info.dtype in ("int8", "uint8") for info in session.outputs)
    return "int8" if integers else "fp32"


def open_safely(files: Iterable[Path], progress: Progress = silent) -> None:
    """Opens each file in a child first: one that ends its runtime's process ends not this one.

    Raises:
        ModelFileError: a file is not a model.
        ToolError: its runtime fails on it, or dies of it.
    """
    with Worker(timeout_s=_PROBE_TIMEOUT_S) as worker:
        for path in files:
            progress(f"opening {path.name}")
            try:
                worker.call("edgekit.pipeline.verify_files:open_once", path=str(path.resolve()))
            except ConversionError as error:
                raise ToolError(
                    f"its runtime fails on it: {error.message}", where=str(path), hint=error.hint
                ) from None


def _with_layers(
    results: Sequence[VerifyResult], reference: Path, x: Arrays, progress: Progress
) -> list[VerifyResult]:
    from edgekit.models.files import load_model
    from edgekit.pipeline.debug_layers import record_layers
    from edgekit.verify.layerwise import match_layers
    from edgekit.verify.recording import record_file

    taken = {name: array[:_LAYER_SAMPLES] for name, array in x.items()}
    progress(f"running the layers of {reference.name}")
    known = record_layers(load_model(reference), taken)
    found: list[VerifyResult] = []
    for result in results:
        progress(f"looking into {Path(result.artifact).name}", len(found), len(results))
        matches = match_layers(known, record_file(Path(result.artifact), taken))
        layers = tuple(match.document() for match in matches)
        found.append(result.model_copy(update={"layers": layers}))
    return found


def _simulated(path: Path, reference: Path) -> bool:
    """Whether a Keras model computes in float what a .tflite file computes in integers."""
    from edgekit.models.files import has_ranges

    return path.suffix == ".tflite" and precision_of(path) == "int8" and has_ranges(reference)


def _reference(path: Path, threads: int) -> Session:
    if path.suffix in _KERAS:
        from edgekit.training.session import KerasSession

        return KerasSession(path)
    return open_session(path, threads=threads)


def _quantized_inputs(files: Sequence[Path], reference: Session) -> tuple[TensorInfo, ...]:
    """The reference's inputs, or a file's where only that knows the range of the values."""
    if any(info.quantization for info in reference.inputs):
        return reference.inputs
    for path in files:
        with open_session(path) as session:
            if any(info.quantization for info in session.inputs):
                return session.inputs
    return reference.inputs


def _limits(path: Path, given: Mapping[str, float | None], *, random: bool) -> Limits:
    base = DEFAULT_LIMITS[precision_of(path)].model_dump()
    if random and base["min_within_steps"] is not None:
        base["min_within_steps"] = RANDOM_WITHIN_STEPS
    replaced: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Limits.model_validate({**base, **replaced})
