"""int8 TFLite files whose activations have the ranges that a plan asks for.

`convert` runs in a child process.

TensorFlow's converter works in two steps: a float file with the ranges that were seen on the
samples, and its quantization. Between them the ranges are changed: so they are those of the
network as it runs in integers, with normalizations folded and activations fused, and the
converter sees to it that all that shares a scale has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError
from edgekit.base.extras import require
from edgekit.export.base import Exporter, ExportJob, saved_model
from edgekit.export.tflite import first_lines, representative
from edgekit.models.files import has_ranges
from edgekit.models.ranges import Calibration, Histogram, choose_range
from edgekit.runtimes.recording import record_tensors
from edgekit.runtimes.session import Arrays

_AT_ONCE = 32  # samples whose activations are held together

# Operators whose result has the scale of what they take.
_ONE_SCALE = (
    *("AVERAGE_POOL_2D", "BATCH_TO_SPACE_ND", "CONCATENATION", "DEPTH_TO_SPACE", "EXPAND_DIMS"),
    *("GATHER", "MAX_POOL_2D", "MAXIMUM", "MINIMUM", "MIRROR_PAD", "PACK", "PAD", "PADV2"),
    *("RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "SLICE"),
    *("SPACE_TO_BATCH_ND", "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQUEEZE", "STRIDED_SLICE"),
    *("TILE", "TRANSPOSE", "UNPACK"),
)


class CalibratedExporter(Exporter):
    """int8 .tflite files whose ranges are chosen from histograms."""

    precisions = ("int8",)
    calibrated = ("int8",)

    @classmethod
    def takes(cls, job: ExportJob) -> bool:
        """Whether the plan asks for other ranges than those that the converter finds."""
        chosen = job.plan is not None and job.plan.calibration != "minmax"
        planned = chosen and (job.format, job.precision) == ("tflite", "int8")
        return planned and not has_ranges(job.model)

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any]:
        """See `Exporter.convert`; returns the ranges."""
        assert job.plan is not None
        assert job.calibration is not None
        rows = worker.call(
            "edgekit.export.calibrated:convert",
            saved_model=saved_model(job.model, worker, batch=1),
            output=str(output),
            samples=str(job.calibration.resolve()),
            limit=job.plan.calibration_samples,
            calibration=job.plan.calibration,
            percentile=job.plan.percentile,
        )
        return {"calibration": job.plan.calibration, "activations": rows}


def convert(
    *,
    saved_model: str,
    output: str,
    samples: str,
    limit: int | None,
    calibration: Calibration,
    percentile: float,
) -> list[dict[str, Any]]:
    """Writes an int8 .tflite file.

    Args:
        saved_model: directory of a SavedModel with batch 1.
        output: the file to write.
        samples: .npz of samples by input name.
        limit: use the first so many; None: all.
        calibration: how the ranges are chosen.
        percentile: in percent, for that.

    Returns:
        For each activation its `tensor` name, `min` and `max` on the samples, the chosen `low`
        and `high`, and the share of its values that is `clipped`.

    Raises:
        ConversionError: the converter failed.
        DataError: the samples do not fit the inputs.
    """
    tf = require("tensorflow", purpose="to convert to TFLite")
    quantizer = require("tensorflow.lite.python.convert", purpose="to convert to TFLite")
    given = representative(saved_model, samples, limit)
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converter.representative_dataset = given
    converter._experimental_calibrate_only = True
    scratch = Path(output).with_suffix(".calibrated.tflite")
    try:
        content = bytearray(converter.convert())
        scratch.write_bytes(content)
        rows = _choose(content, scratch, _together(given), calibration, percentile)
        made = quantizer.mlir_quantize(
            bytes(content), input_data_type=tf.int8, output_data_type=tf.int8
        )
    except Exception as error:  # noqa: BLE001 the converter raises anything
        raise ConversionError(
            f"TensorFlow's converter failed: {first_lines(error)}", where="tflite int8"
        ) from None
    finally:
        scratch.unlink(missing_ok=True)
    Path(output).write_bytes(made)
    return rows


def _together(samples: Callable[[], Iterator[Arrays]]) -> Arrays:
    rows = list(samples())
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _choose(
    content: bytearray, path: Path, samples: Arrays, calibration: Calibration, percentile: float
) -> list[dict[str, Any]]:
    """Overwrites the ranges in a calibrated file, which also lies at `path`."""
    tflite = require("tflite", purpose="to read TFLite files")
    graph = tflite.Model.GetRootAs(content, 0).Subgraphs(0)
    every = {index: graph.Tensors(index) for index in range(graph.TensorsLength())}
    tensors = {index: tensor for index, tensor in every.items() if _has_range(tensor)}
    ranges = {index: tensor.Quantization() for index, tensor in tensors.items()}
    names = {index: tensor.Name().decode("utf-8", "replace") for index, tensor in tensors.items()}
    seen = {i: (float(r.MinAsNumpy()[0]), float(r.MaxAsNumpy()[0])) for i, r in ranges.items()}
    shared = _shared_scales(content, tensors)
    histograms = {
        root: Histogram.between(
            min(seen[index][0] for index in tensors if shared[index] == root),
            max(seen[index][1] for index in tensors if shared[index] == root),
        )
        for root in set(shared.values())
    }
    for start in range(0, len(next(iter(samples.values()))), _AT_ONCE):
        some = {name: array[start : start + _AT_ONCE] for name, array in samples.items()}
        for index, values in record_tensors(path, some, names).items():
            histograms[shared[index]].add(values)
    chosen = {r: choose_range(h, calibration, percentile) for r, h in histograms.items()}
    rows = []
    for index, name in names.items():
        low, high = chosen[shared[index]]
        ranges[index].MinAsNumpy()[0], ranges[index].MaxAsNumpy()[0] = low, high
        rows.append(
            {
                "tensor": name,
                "min": seen[index][0],
                "max": seen[index][1],
                "low": low,
                "high": high,
                "clipped": histograms[shared[index]].outside(low, high),
            }
        )
    return rows


def _has_range(tensor: Any) -> bool:
    found = tensor.Quantization()
    return found is not None and found.MinLength() == 1 and found.MaxLength() == 1


def _shared_scales(content: bytearray, tensors: dict[int, Any]) -> dict[int, int]:
    """For each tensor one that stands for all that share its scale."""
    tflite = require("tflite", purpose="to read TFLite files")
    model = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    kinds = {getattr(tflite.BuiltinOperator, name) for name in _ONE_SCALE}
    stands = {index: index for index in tensors}
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() not in kinds:
            continue
        ends = [*operator.InputsAsNumpy(), *operator.OutputsAsNumpy()]
        joined = {stands[int(index)] for index in ends if int(index) in stands}
        for index, one in stands.items():
            if one in joined:
                stands[index] = min(joined)
    return stands
