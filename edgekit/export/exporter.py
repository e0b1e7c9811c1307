"""Export: convert in a child, prove on the real runtime, and only then keep the file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.base.extras import versions
from edgekit.base.files import from_os_error, new_folder, sha256_file, sync, write_text
from edgekit.base.registry import Registry
from edgekit.export.base import Exporter, ExportJob, keras_outputs, sidecar_path
from edgekit.export.calibrated import CalibratedExporter
from edgekit.export.compiled import compile_master
from edgekit.export.layer_precision import is_mixed, layer_precisions
from edgekit.export.native import NativeExporter
from edgekit.export.proof import Master, Proof
from edgekit.graph.read import read_graph
from edgekit.models.files import has_ranges
from edgekit.runtimes.session import Arrays
from edgekit.schema.artifact import Preprocessing, Sidecar
from edgekit.schema.names import Format, Precision
from edgekit.schema.plan import load_plan
from edgekit.schema.recipe import DEFAULT_LIMITS, Limits
from edgekit.verify.parity import simulated_limits
from edgekit.verify.samples import RANDOM_WITHIN_STEPS

__all__ = ["EXPORTERS", "ExportJob", "derive_from_tflite", "export", "sidecar_path"]

EXPORTERS: Registry[type[Exporter]] = Registry(
    "format",
    {
        "onnx": "edgekit.export.onnx:OnnxExporter",
        "openvino": "edgekit.export.openvino:OpenVinoExporter",
        "tflite": "edgekit.export.tflite:TfliteExporter",
        "vela": "edgekit.export.vela:VelaExporter",
    },
    group="exporters",
)

_LIBRARIES = (
    "edgekit",
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "ai-edge-quantizer",
)


def export(
    job: ExportJob,
    *,
    reference_x: Arrays | None = None,
    reference_y: Arrays | None = None,
    worker: Worker | None = None,
    limits: Limits | None = None,
    preprocessing: Preprocessing | None = None,
    labels: tuple[str, ...] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Sidecar:
    """Makes one model file of a Keras model, with its sidecar; or nothing at all.

    int8 and mixed in ONNX and OpenVINO derive from the job's `master` and are held to its outputs
    too.

    Args:
        job: what to make.
        reference_x: samples of shape (n, ...) by input name, to prove the file on; by default
            random ones over the range of its inputs.
        reference_y: the Keras model's outputs on them by name; by default they are computed.
        worker: the child to convert in; one serves many jobs. By default one is started.
        limits: of the parity with the Keras model; by default those of the precision.
        preprocessing: for the sidecar.
        labels: for the sidecar.
        provenance: for the sidecar, beside the source and the versions.

    Raises:
        InputError: the format is not made in this precision, or what it needs is not given.
        ConversionError: the converter failed, died, or passed a limit of time or memory.
        ParityError: the file does not compute what the model computes.
    """
    job = _planned(job)
    exporter = _exporter(job)
    if exporter.compiled and job.master is not None:
        about = {"source": job.model.name, "source_sha256": sha256_file(job.model)}
        return _compile(job.master, job, {**about, **(provenance or {})}, preprocessing, labels)
    limits = limits or DEFAULT_LIMITS[job.precision]
    with _worker(worker) as child, _folder(job.output) as folder:
        made = folder / job.output.name
        master = None
        decided: dict[str, Any] | None = None
        if job.precision in exporter.derived and job.master is not None:
            master = Master(job.master, reference_x, job.precision)
            exporter.derive(job.master, master.record, made, child, opset=job.opset)
        else:
            decided = exporter.convert(job, made, child)
        proof = Proof(made, job.output, reference_x if master is None else master.x)
        if reference_x is None or reference_y is None:
            reference_y = _keras_outputs(job.model, proof.x, child)
        held, simulated = limits, master is None and _simulates(job)
        if simulated:
            held = simulated_limits(limits, random=reference_x is None)
        parity = {"model": proof.against(reference_y, job.model.name, held, simulated=simulated)}
        source: dict[str, Any] = {
            "source": job.model.name,
            "source_sha256": sha256_file(job.model),
            **(decided or {}),
        }
        if master is not None:
            parity["master"] = proof.against_master(master, limits)
            source |= {"master": master.path.name, "master_sha256": sha256_file(master.path)}
            if job.precision == "mixed":
                source |= _layers(master.path)
        sidecar = proof.sidecar(
            job.format,
            job.precision,
            parity,
            {**source, "versions": versions(*_LIBRARIES), **(provenance or {})},
            preprocessing=preprocessing,
            labels=labels,
        )
        return _publish(folder, job.output, sidecar)


def derive_from_tflite(
    master: Path,
    format: Format,  # noqa: A002 the word used everywhere
    output: Path,
    *,
    reference_x: Arrays | None = None,
    worker: Worker | None = None,
    limits: Limits | None = None,
    opset: int | None = None,
    target: str | None = None,
) -> Sidecar:
    """Makes an ONNX, OpenVINO or compiled file of the same int8 or mixed network as a .tflite file.

    Needs no Keras model: third-party files will do. The result is held to the outputs of the
    .tflite file in LiteRT with its default kernels (XNNPACK), which is the reference.

    Args:
        master: the .tflite file, int8 or mixed.
        format: onnx or openvino.
        output: the file to write.
        reference_x: samples by input name, to prove the file on; by default random ones.
        worker: the child to convert in; by default one is started.
        limits: of the parity with the master; by default those of its precision, a little wider
            for random samples.
        opset: onnx only.
        target: vela only: name or .yaml file of the target to compile for.

    Raises:
        InputError: the master is not an int8 or mixed .tflite file, or the format is not derived
            from one.
        ConversionError: the converter failed, died, or passed a limit of time or memory.
        ParityError: the file does not compute what the master computes.
    """
    exporter = EXPORTERS.get(format)()
    if "int8" not in exporter.derived:
        raise InputError(f"{format} is not derived from a .tflite file", where=str(master))
    if exporter.compiled:
        job = ExportJob(master, format, "int8", output, target=target)
        return _compile(master, job, {}, None, ())
    precision = _precision(master)
    if limits is None:
        limits = DEFAULT_LIMITS[precision]
        if reference_x is None:
            limits = limits.model_copy(update={"min_within_steps": RANDOM_WITHIN_STEPS})
    with _worker(worker) as child, _folder(output) as folder:
        made = folder / output.name
        reference = Master(master, reference_x, precision)
        exporter.derive(master, reference.record, made, child, opset=opset)
        proof = Proof(made, output, reference.x)
        parity = {"master": proof.against_master(reference, limits)}
        provenance: dict[str, Any] = {
            "master": master.name,
            "master_sha256": sha256_file(master),
            "versions": versions(*_LIBRARIES),
        }
        if precision == "mixed":
            provenance |= _layers(master)
        return _publish(folder, output, proof.sidecar(format, precision, parity, provenance))


def _compile(
    master: Path,
    job: ExportJob,
    provenance: Mapping[str, Any],
    preprocessing: Preprocessing | None,
    labels: tuple[str, ...],
) -> Sidecar:
    """A file for an accelerator, with the proof that its master has."""
    with _folder(job.output) as folder:
        sidecar = compile_master(
            master,
            job.format,
            job.target,
            folder / job.output.name,
            provenance=provenance,
            preprocessing=preprocessing,
            labels=labels,
        )
        return _publish(folder, job.output, sidecar)


def _exporter(job: ExportJob) -> Exporter:
    exporter = EXPORTERS.get(job.format)()
    if NativeExporter.takes(job):
        exporter = NativeExporter(exporter)
    elif CalibratedExporter.takes(job):
        exporter = CalibratedExporter()
    if job.precision not in exporter.precisions:
        raise InputError(
            f"{job.format} is not made in {job.precision}",
            hint=f"{job.format} is made in {', '.join(exporter.precisions)}",
        )
    if job.calibration is None and exporter.needs_calibration(job.model, job.precision):
        raise InputError(
            f"{job.format} {job.precision} needs calibration samples",
            hint="give an .npz of representative inputs, by input name (--data)",
        )
    if job.precision in exporter.derived and job.master is None:
        raise InputError(
            f"{job.format} {job.precision} derives from the {job.precision} .tflite file, which is "
            "not given",
            hint=f"export tflite {job.precision} first",
        )
    return exporter


def _simulates(job: ExportJob) -> bool:
    """Whether the Keras model computes in float what the file computes in integers."""
    return job.precision == "int8" and has_ranges(job.model)


def _planned(job: ExportJob) -> ExportJob:
    """The job with the model's quantization plan, if it has one for this precision."""
    plan = job.plan or load_plan(job.model)
    plan = plan if plan and plan.precision == job.precision else None
    if job.precision == "mixed" and plan is None and job.master is None:
        raise InputError(
            "no plan says which layers of the model are in which precision",
            where=str(job.model),
            hint="a pass plans it, mixed_precision or fallback: in a recipe, or with "
            "edgekit compress MODEL.keras --pass mixed_precision -o PLANNED.keras --data calib.npz",
        )
    return replace(job, plan=plan)


def _precision(master: Path) -> Precision:
    """Whether layers of a .tflite file differ in precision; else it should be int8."""
    return "mixed" if is_mixed(read_graph(master)) else "int8"


def _layers(master: Path) -> dict[str, Any]:
    """The precision of each layer, for a derived file's sidecar, and which compute in another."""
    try:
        layers = Sidecar.model_validate_json(sidecar_path(master).read_text()).provenance["layers"]
    except (OSError, ValueError, KeyError):  # of a file of another maker its names tell
        layers = layer_precisions(read_graph(master))
    # The CPU runtimes round activations to int16 steps, and compute on these in float32.
    wide = {name: "float32" for name, precision in layers.items() if precision == "int16x8"}
    return {"layers": layers, "computed_in": wide}


@contextmanager
def _worker(given: Worker | None) -> Iterator[Worker]:
    if given is not None:
        yield given
    else:
        with Worker(preload=["tensorflow"]) as own:
            yield own


@contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside the output, for a file, or two, that is not yet proven."""
    try:
        with (
            new_folder(output.parent),
            tempfile.TemporaryDirectory(prefix=".tmp-", dir=output.parent) as name,
        ):
            yield Path(name).resolve()
    except OSError as error:
        raise from_os_error(error) from error


def _keras_outputs(model: Path, x: Arrays, worker: Worker) -> Arrays:
    samples = worker.scratch / "samples.npz"
    np.savez(samples, **x)  # type: ignore[arg-type]
    with np.load(keras_outputs(model, samples, worker), allow_pickle=False) as outputs:
        return dict(outputs)


def _publish(folder: Path, output: Path, sidecar: Sidecar) -> Sidecar:
    """Moves the proven files into place, the sidecar last: with it they are an artifact."""
    sidecar_path(output).unlink(missing_ok=True)
    for name in sorted(sidecar.files, key=lambda name: name == sidecar.file):
        sync(folder / name)
        (folder / name).replace(output.with_name(name))
    write_text(sidecar_path(output), sidecar.model_dump_json(indent=2) + "\n")
    return sidecar
