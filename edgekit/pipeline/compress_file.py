"""Passes on one model file: a smaller .keras file, or a quantized file, comes out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from edgekit.base.errors import DataError, InputError, did_you_mean
from edgekit.base.files import existing_file
from edgekit.base.progress import Progress, silent
from edgekit.schema.artifact import Preprocessing, Sidecar
from edgekit.schema.base import Document
from edgekit.schema.names import SUFFIXES, Format, Precision
from edgekit.schema.plan import QuantizationPlan, plan_path, save_plan
from edgekit.schema.recipe import OptimizerSpec, PassSpec, TrainSpec, VerifySpec
from edgekit.schema.yamlfile import Words, YamlSource

if TYPE_CHECKING:
    import keras

    from edgekit.data.dataset import Arrays, Dataset

_VALIDATION_SHARE = 0.1
_GATE_SAMPLES = 128
_RANDOM_SAMPLES = 32
_FINE_TUNING = TrainSpec(epochs=20, optimizer=OptimizerSpec(learning_rate=1e-3))


class CompressReport(Document):
    """`edgekit compress --json` on a model file.

    Attributes:
        bytes_before: size of the given file.
        bytes: size of the written file.
        passes: the report of each pass, in order.
        plan: the quantization that was decided; realized if `output` is no .keras file.
        artifact: the sidecar of an exported file.
        warnings: of all passes.
    """

    model: str
    output: str
    bytes_before: int
    bytes: int
    passes: tuple[dict[str, Any], ...]
    plan: QuantizationPlan | None = None
    artifact: Sidecar | None = None
    warnings: tuple[str, ...] = Field(())


def compress_file(
    path: Path,
    passes: Sequence[str],
    output: Path,
    *,
    data: Path | None = None,
    targets: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> CompressReport:
    """Runs passes on a Keras model file and writes the result.

    Args:
        path: a .keras (or Keras 2 .h5) file.
        passes: as `prune(sparsity=0.5)`, in order.
        output: a .keras file, beside which a quantization plan is kept as `<file>.plan.json`; or
            a .tflite, .onnx or .xml file, which is quantized by the plan and proven.
        data: an .npz file with arrays by input name and, to fine-tune, labels `y`; a tenth of
            its samples validates, all of them calibrate.
        targets: names or files of targets, for what they make of zero weights.
        seed: of everything random.
        progress: receives the state of long work.
        tell: receives what the user should know before the work starts.

    Raises:
        InputError: a pass, an argument, a file or the data cannot be used.
        ParityError: the exported file does not compute what the model computes.
        StorageError: the disk is full.
    """
    from edgekit.compress.contract import PassContext
    from edgekit.compress.passes import parse_pass, prepare_passes, run_passes
    from edgekit.models.files import load_model, save_model
    from edgekit.profiling.dense_scales import refusing_dense_scales
    from edgekit.profiling.targets import load_target

    existing_file(path, what="model file")
    format_ = _format_of(output)
    specs = [parse_pass(text) for text in passes]
    source = _source(specs, passes)
    prepare_passes(specs, source)
    loaded_targets = tuple(load_target(name) for name in targets)
    dataset = _dataset(data, seed) if data else None
    model = load_model(path)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        context = PassContext(
            directory=Path(folder),
            dataset=dataset,
            train=_FINE_TUNING,
            seed=seed,
            targets=loaded_targets,
            progress=progress,
            tell=tell,
            root=Path.cwd(),
        )
        model, reports, plan = run_passes(model, specs, context, source)
        sidecar = None
        if format_ is None:
            save_model(model, output)
            plan_path(output).unlink(missing_ok=True)
            if plan:
                save_plan(plan, output)
        else:
            progress(f"exporting {output.name}")
            provenance = {"model": path.name, "passes": list(passes), "seed": seed}
            simple = refusing_dense_scales(loaded_targets)
            sidecar = _export(
                model, plan, format_, output, dataset, Path(folder), provenance, simple
            )
    return CompressReport(
        model=str(path),
        output=str(output),
        bytes_before=path.stat().st_size,
        bytes=sidecar.bytes if sidecar else output.stat().st_size,
        passes=tuple(reports),
        plan=plan,
        artifact=sidecar,
        warnings=tuple(line for report in reports for line in report.get("warnings", ())),
    )


def _format_of(output: Path) -> Format | None:
    """The format to export to, or None for a Keras file."""
    if output.suffix == ".keras":
        return None
    if output.suffix not in SUFFIXES:
        hint = did_you_mean(output.suffix, [".keras", *SUFFIXES])
        raise InputError(f"'{output.suffix}' is no format to write", where=str(output), hint=hint)
    return SUFFIXES[output.suffix]


def _source(specs: Sequence[PassSpec], texts: Sequence[str]) -> YamlSource:
    """The passes as if they stood in a recipe, so that a fault names the option."""
    places: dict[Words, str] = {
        ("compress", str(index)): f"--pass {text}" for index, text in enumerate(texts)
    }
    values = {"compress": [spec.model_dump() for spec in specs]}
    return YamlSource("--pass", values, overrides=places)


def _dataset(path: Path, seed: int) -> Dataset:
    """All samples to calibrate with, a stratified tenth to validate, the rest to train on."""
    from edgekit.data.dataset import Dataset, Split
    from edgekit.data.samples import load_samples
    from edgekit.data.splits import stratified_order

    x, y = load_samples(path)
    count = len(next(iter(x.values())))
    classes = y is not None and y.ndim == 1 and y.dtype.kind in "iu"
    if y is None:
        targets = np.zeros(count, np.float32)
    elif classes:
        if y.min() < 0:
            raise DataError(f"the class {y.min()} is negative", where=f"{path}: y")
        targets = y.astype(np.int32)
    else:
        targets = y.astype(np.float32)
    groups = targets if classes else np.zeros(count, np.int32)
    order = stratified_order(groups, np.random.default_rng(seed))
    cut = max(1, round(count * _VALIDATION_SHARE))

    def split(indices: np.ndarray[Any, Any]) -> Split:
        return Split({name: array[indices] for name, array in x.items()}, targets[indices])

    return Dataset(
        train=split(order[cut:] if y is not None else order[:0]),
        validation=split(order[:cut]),
        calibration=split(order),
        test=split(order[:cut]),
        labels=tuple(str(index) for index in range(int(targets.max()) + 1)) if classes else (),
        preprocessing=Preprocessing(),
    )


def _export(
    model: keras.Model,
    plan: QuantizationPlan | None,
    format_: Format,
    output: Path,
    dataset: Dataset | None,
    folder: Path,
    provenance: dict[str, Any],
    simple: tuple[str, ...],
) -> Sidecar:
    """Writes the file that the plan asks for, and the master if it derives from one."""
    from edgekit.base.child import Worker
    from edgekit.export.exporter import EXPORTERS, ExportJob, export
    from edgekit.models.files import save_model
    from edgekit.training.evaluate import record_outputs

    precision: Precision = plan.precision if plan else "fp32"
    samples = _samples(model, dataset)
    reference_x = {name: array[:_GATE_SAMPLES] for name, array in samples.items()}
    reference_y = record_outputs(model, reference_x)
    keras_file, calibration = folder / "model.keras", folder / "calibration.npz"
    save_model(model, keras_file)
    kept = plan.calibration_samples if plan else None
    chosen: dict[str, Any] = {name: array[:kept] for name, array in samples.items()}
    np.savez(calibration, **chosen)

    def make(worker: Worker, to: Format, file: Path, master: Path | None) -> Sidecar:
        job = ExportJob(
            model=keras_file,
            format=to,
            precision=precision,
            output=file,
            calibration=calibration,
            master=master,
            plan=plan,
            dense_one_scale=simple,
        )
        return export(
            job,
            worker=worker,
            limits=VerifySpec().limits_for(precision),
            provenance=provenance,
            reference_x=reference_x,
            reference_y=reference_y,
        )

    with Worker(preload=["tensorflow"]) as worker:
        master = None
        if format_ != "tflite" and precision in EXPORTERS.get(format_).derived:
            master = folder / "master.tflite"
            make(worker, "tflite", master, None)
        return make(worker, format_, output, master)


def _samples(model: keras.Model, dataset: Dataset | None) -> Arrays:
    """The given samples by the model's input names, or random ones where none were given."""
    from edgekit.runtimes.session import match_names

    names = tuple(tensor.name for tensor in model.inputs)
    if dataset is not None:
        return match_names(names, dataset.calibration.x)
    generator = np.random.default_rng(0)
    samples: Arrays = {}
    for tensor in model.inputs:
        if not str(tensor.dtype).startswith("float"):
            raise InputError(
                f"the input '{tensor.name}' takes {tensor.dtype}: samples are needed to prove the "
                "file",
                hint="give some with --data",
            )
        shape = (_RANDOM_SAMPLES, *(size or 1 for size in tensor.shape[1:]))
        samples[tensor.name] = generator.standard_normal(shape).astype(np.float32)
    return samples
