"""Keras to TFLite, by TensorFlow's converter. The function `convert` runs in a child process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError, DataError, InputError
from edgekit.base.extras import require
from edgekit.export.base import Exporter, ExportJob, saved_model
from edgekit.export.fourbit import narrow_weights
from edgekit.export.layer_precision import layer_precisions
from edgekit.export.mixed import mix_precisions
from edgekit.export.savedmodel import LAYERS_FILE, SIGNATURE
from edgekit.export.shared_grid import GRIDS_FILE, read_grids, share_grids
from edgekit.graph.read import read_graph
from edgekit.graph.tflite import read_buffer
from edgekit.graph.types import COMPUTING, Graph
from edgekit.models.files import has_dense_one_scale, has_ranges
from edgekit.runtimes.session import match_names
from edgekit.schema.names import Precision


class TfliteExporter(Exporter):
    """TFLite files with batch 1, as devices run them."""

    precisions = ("fp32", "fp16", "int8-dynamic", "int8", "int16x8", "int4-weight", "mixed")
    calibrated = ("int8", "int16x8", "mixed")
    trained = ("int8",)

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any]:
        """See `Exporter.convert`.

        Returns:
            Of mixed, the precision of each layer; of int8-dynamic, how many kernels are int8; of
            int8, how many scales dense layers have for the sake of which targets.

        Raises:
            InputError: mixed precision of a model that brings its ranges.
            ConversionError: the converter failed, died, or passed a limit.
        """
        if job.precision == "mixed" and has_ranges(job.model):
            raise InputError(
                "the model brings the ranges of its activations, which mixed precision would not "
                "keep",
                where=str(job.model),
                hint="export it in int8, or mix the precisions of the model before `qat`",
            )
        # Samples are for what the model brings no ranges of; with them the converter fails on some
        # models (REVERSE_V2), and would give layers that need none ranges of its own.
        trained = job.precision in self.trained and has_ranges(job.model)
        if trained and job.dense_one_scale and not has_dense_one_scale(job.model):
            kept = self.convert(replace(job, dense_one_scale=()), output, worker)
            return {**kept, "warnings": [_kept(job.dense_one_scale)]}
        if job.calibration is not None and trained:
            with suppress(ConversionError):
                decided = self._call(replace(job, calibration=None), output, worker)
                if not any(t.dtype == "float32" for t in read_graph(output).tensors):
                    return decided
        return self._call(job, output, worker)

    def _call(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any]:
        # A model that was trained so computes so, whoever asks for the file.
        one_scale = job.precision == "int8" and (
            bool(job.dense_one_scale) or has_dense_one_scale(job.model)
        )
        decided: dict[str, Any] = worker.call(
            "edgekit.export.tflite:convert",
            saved_model=saved_model(job.model, worker, batch=1),
            output=str(output),
            precision=job.precision,
            calibration=None if job.calibration is None else str(job.calibration.resolve()),
            calibration_samples=job.plan.calibration_samples if job.plan else None,
            layers=dict(job.plan.layers) if job.plan else {},
            dense_one_scale=one_scale,
        )
        if one_scale:
            decided["dense_scales"] = {"each": "layer", "for": list(job.dense_one_scale)}
        return decided


def _kept(targets: tuple[str, ...]) -> str:
    return (
        f"dense layers keep the scale an output that they were trained in, which "
        f"{', '.join(targets)} does not take: give `qat` the target too, or let edgekit check "
        "--fix make them convolutions"
    )


def convert(
    *,
    saved_model: str,
    output: str,
    precision: str,
    calibration: str | None,
    calibration_samples: int | None,
    layers: dict[str, Precision] | None = None,
    dense_one_scale: bool = False,
) -> dict[str, Any]:
    """Writes a .tflite file.

    Only TFLite's own operators are allowed: files with TensorFlow's ("Flex") run nowhere here.

    Args:
        saved_model: directory of a SavedModel with batch 1.
        output: the file to write.
        precision: fp32; fp16 (weights); int8-dynamic (weights int8, activations float at run
            time); int8 (per-channel weights, int8 inputs and outputs); int16x8 (int16 activations,
            inputs and outputs); int4-weight (weights int4, activations float); mixed (int8 but for
            `layers`).
        calibration: .npz of samples by input name, for int8, int16x8 and mixed; not needed for
            int8 of a model that brings the ranges of its activations.
        calibration_samples: use the first so many; None: all.
        layers: of mixed, the precision of each Keras layer that is not int8, by name.
        dense_one_scale: dense layers have one scale for all weights, not one an output.

    Returns:
        Of mixed, the precision of each layer in `layers`, as the file was read back; of
        int8-dynamic, how many kernels are int8, with `warnings` where that is none.

    Raises:
        ConversionError: the converter failed, or cannot treat a layer as planned.
        InputError: a planned layer is not in the file.
        DataError: the calibration samples do not fit the inputs.
    """
    tf = require("tensorflow", purpose="to convert to TFLite")
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision not in ("fp32", "int4-weight", "mixed"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # The converter's own switch for runtimes of before 2024; it has no public one.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = dense_one_scale
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in ("int8", "int16x8"):
        sets, kind = {
            "int8": (tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.int8),
            "int16x8": (
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tf.int16,
            ),
        }[precision]
        converter.inference_input_type = converter.inference_output_type = kind
        # Ranges that the model brings go before those that are seen on the samples.
        if calibration is not None or precision not in TfliteExporter.trained:
            converter.target_spec.supported_ops = [sets]
            converter.representative_dataset = representative(
                saved_model, calibration, calibration_samples
            )
    try:
        content = converter.convert()
    except Exception as error:  # noqa: BLE001 the converter raises anything
        raise ConversionError(
            f"TensorFlow's converter failed: {first_lines(error)}", where=f"tflite {precision}"
        ) from None
    decided: dict[str, Any] = {}
    if precision == "int8":
        content = share_grids(content, read_grids(Path(saved_model) / GRIDS_FILE))
    elif precision == "int4-weight":
        content = narrow_weights(content)
    elif precision == "mixed":
        samples = representative(saved_model, calibration, calibration_samples)
        known = json.loads((Path(saved_model) / LAYERS_FILE).read_text())
        content = mix_precisions(content, layers or {}, list(samples()), known)
        decided["layers"] = layer_precisions(read_buffer(content), known)
    elif precision == "int8-dynamic":
        decided = _dynamic(read_buffer(content))
    Path(output).write_bytes(content)
    return decided


def _dynamic(graph: Graph) -> dict[str, Any]:
    """How many kernels became int8: the converter leaves small ones, of under 1024 weights."""
    kernels = [
        tensor
        for op in graph.ops
        if op.kind in COMPUTING
        for tensor in (graph.tensors[index] for index in op.inputs[1:2])
        if tensor.constant
    ]
    quantized = sum(tensor.dtype == "int8" for tensor in kernels)
    found: dict[str, Any] = {"int8_kernels": f"{quantized} of {len(kernels)}"}
    if not quantized:
        found["warnings"] = [
            "int8-dynamic has quantized nothing: the converter leaves kernels of under 1024 "
            "weights in float, and all of this model are; it is no smaller or faster than fp32"
        ]
    return found


def representative(
    saved_model: str, calibration: str | None, limit: int | None
) -> Callable[[], Iterator[dict[str, Any]]]:
    """The samples of an .npz as the converter takes them: one by one, by input name.

    Raises:
        DataError: they are missing, or do not fit the inputs.
    """
    if calibration is None:
        raise DataError("static quantization needs calibration samples")
    tf = require("tensorflow", purpose="to convert to TFLite")
    signature = tf.saved_model.load(saved_model).signatures[SIGNATURE]
    specs = signature.structured_input_signature[1]
    with np.load(calibration, allow_pickle=False) as archive:
        arrays = match_names(tuple(specs), {name: archive[name] for name in archive.files})
    for name, array in arrays.items():
        if array.shape[1:] != tuple(specs[name].shape[1:]):
            raise DataError(
                f"calibration samples of '{name}' have shape {array.shape[1:]}, "
                f"the model takes {tuple(specs[name].shape[1:])}",
                where=calibration,
            )
    ready = {n: a[:limit].astype(specs[n].dtype.as_numpy_dtype) for n, a in arrays.items()}
    count = len(next(iter(ready.values())))

    def samples() -> Iterator[dict[str, Any]]:
        for index in range(count):
            yield {name: array[index : index + 1] for name, array in ready.items()}

    return samples


def first_lines(error: Exception, count: int = 3) -> str:
    """The first lines of a long error message that say something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:count]) or type(error).__name__
