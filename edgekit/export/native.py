"""int8 by the runtimes' own quantizers, at their best settings, from the float model.

ONNX Runtime's static quantizer for ONNX, NNCF for OpenVINO. Their defaults lose 10 to 20 dB; the
settings here were measured. The functions `quantize_onnx` and `quantize_openvino` run in a child
process.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError, InputError
from edgekit.base.extras import require, versions
from edgekit.export.base import Exporter, ExportJob
from edgekit.export.integer_nodes import integer_nodes, keep_floats
from edgekit.export.onnx_biases import correct_biases
from edgekit.export.onnx_ranges import activation_ranges
from edgekit.export.openvino_ranges import choose_ranges
from edgekit.export.tflite import first_lines
from edgekit.models.files import has_ranges
from edgekit.models.ranges import Calibration
from edgekit.runtimes.session import Arrays, match_names

_QUANTIZERS = {"onnx": "quantize_onnx", "openvino": "quantize_openvino"}

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
# NNCF runs the graph anew for each layer whose bias it corrects: over 10 minutes for the 96
# layers of an unrolled recurrent one, seconds for the 28 of a MobileNet.
_MOST_CORRECTED = 64
_AT_ONCE = 32  # samples that run together


class NativeExporter(Exporter):
    """One of the exporters, with int8 by the quantizer of the format's own runtime.

    Args:
        inner: makes the float file.
    """

    precisions = ("int8",)
    calibrated = ("int8",)

    def __init__(self, inner: Exporter) -> None:
        self._inner = inner

    @staticmethod
    def takes(job: ExportJob) -> bool:
        """Whether the job's plan asks for it."""
        planned = job.plan is not None and job.plan.engine == "native"
        return planned and job.precision == "int8" and job.format in _QUANTIZERS

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any]:
        """See `Exporter.convert`; returns the engine.

        Raises:
            InputError: the model brings its ranges, which another quantizer would not keep.
            ConversionError: the converter or the quantizer failed.
        """
        if has_ranges(job.model):
            raise InputError(
                "the model brings the ranges of its activations, which the runtime's own "
                "quantizer would not keep",
                where=str(job.model),
                hint="leave out 'engine: native', or 'qat'",
            )
        source = output.with_name(f"float-{output.name}")
        self._inner.convert(replace(job, precision="fp32"), source, worker)
        try:
            worker.call(
                f"{__name__}:{_QUANTIZERS[job.format]}",
                source=str(source),
                output=str(output),
                calibration_file=str(job.calibration.resolve()) if job.calibration else "",
                samples=job.plan.calibration_samples if job.plan else None,
                **self._ranges(job),
            )
        finally:
            for path in (source, source.with_suffix(".bin")):
                path.unlink(missing_ok=True)
        libraries = {"onnx": "onnxruntime", "openvino": "nncf"}
        return {"engine": "native", "quantizer": versions(libraries[job.format])}

    @staticmethod
    def _ranges(job: ExportJob) -> dict[str, Any]:
        if job.plan is None:
            return {}
        return {"calibration": job.plan.calibration, "percentile": job.plan.percentile}


def quantize_onnx(
    *,
    source: str,
    output: str,
    calibration_file: str,
    samples: int | None,
    calibration: Calibration = "minmax",
    percentile: float = 99.99,
) -> None:
    """Writes an int8 .onnx file with quantize-dequantize nodes and float inputs and outputs.

    Weights are int8 on -127 ... 127, a scale an output channel. Activations are uint8: x86 has
    fused kernels for uint8 with int8 weights only, Arm for both, and the values are the same. Only
    what the runtime computes in integers is rounded (`integer_nodes`); biases are corrected.

    Args:
        source: the float .onnx file.
        output: the file to write.
        calibration_file: .npz of samples by input name.
        samples: use the first so many; None: all.
        calibration: how the ranges are chosen.
        percentile: in percent, for that.

    Raises:
        ConversionError: the quantizer failed.
        DataError: the samples do not fit the inputs.
    """
    onnx = require("onnx", purpose="to quantize with ONNX Runtime")
    quantization = require("onnxruntime.quantization", purpose="to quantize with ONNX Runtime")
    prepare = require("onnxruntime.quantization.shape_inference", purpose="to quantize")
    inputs = onnx.load(source).graph.input
    arrays = _calibration(calibration_file, [value.name for value in inputs], samples)
    prepared = str(Path(output).with_suffix(".prepared.onnx"))
    try:
        # Folds normalizations; without it 1 to 6 dB are lost. onnx's own shape inference will do.
        prepare.quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        for index, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}__{index}"
        onnx.save(model, prepared)
        chosen = integer_nodes(model)
        at_once = _AT_ONCE if all(_is_free(value) for value in inputs) else 1
        batches = list(_each(arrays, at_once))
        options: dict[str, Any] = {}
        if calibration != "minmax":
            ranges = activation_ranges(model, chosen.names, batches, calibration, percentile)
            options["TensorQuantOverrides"] = {
                name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
                for name, (low, high) in ranges.items()
            }
        if chosen.names:  # an empty list would mean all
            quantization.quantize_static(
                prepared,
                output,
                _reader(quantization, arrays),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_quantize=sorted(chosen.names),
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options=options,
            )
            quantized = onnx.load(output)
        else:
            quantized = model
        keep_floats(quantized, chosen)
        correct_biases(quantized, model, batches)
        onnx.save(quantized, output)
    except Exception as error:  # noqa: BLE001 the quantizer raises anything
        raise ConversionError(
            f"ONNX Runtime's quantizer failed: {first_lines(error)}", where="onnx int8"
        ) from None
    finally:
        Path(prepared).unlink(missing_ok=True)


def _is_free(value: Any) -> bool:
    """Whether an input of an ONNX model takes any number of samples."""
    return not value.type.tensor_type.shape.dim[0].HasField("dim_value")


def _reader(quantization: Any, arrays: Arrays) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._samples = _each(arrays)

        def get_next(self) -> Arrays | None:
            return next(self._samples, None)

    return Reader()


def quantize_openvino(
    *,
    source: str,
    output: str,
    calibration_file: str,
    samples: int | None,
    calibration: Calibration = "minmax",
    percentile: float = 99.99,
) -> None:
    """Writes an int8 .xml and .bin with float inputs and outputs.

    Ranges are min-max instead of means of them, or chosen afterwards. The biases of all layers are
    corrected one after the other, unless these are more than 64: none is then, as NNCF's fast
    correction loses more than it repairs. For transformers attention is recognized, and
    activations are not smoothed.
    Weights keep all 8 bits, as in the derived files; NNCF gives the first layer 7 for CPUs whose
    sums of products saturate at 16 bits.

    Args:
        source: the float .xml file.
        output: the .xml to write.
        calibration_file: .npz of samples by input name.
        samples: use the first so many; None: all.
        calibration: how the ranges are chosen.
        percentile: in percent, for that.

    Raises:
        ConversionError: NNCF failed.
        DataError: the samples do not fit the inputs.
        MissingDependencyError: nncf is not installed.
    """
    ov = require("openvino", purpose="to quantize for OpenVINO")
    os.environ["NNCF_CI"] = "1"  # else it reports its use to a server
    nncf = require("nncf", purpose="to quantize for OpenVINO by its own quantizer")
    ranges = require("nncf.quantization.range_estimator", purpose="to quantize for OpenVINO")
    advanced = require("nncf.quantization.advanced_parameters", purpose="to quantize for OpenVINO")
    offline = require("openvino._offline_transformations", purpose="to quantize for OpenVINO")
    model = ov.Core().read_model(source)
    # Folds normalizations, so that layers have the biases that NNCF corrects.
    offline.apply_moc_transformations(model, cf=False, smart_reshape=False)
    arrays = _calibration(calibration_file, [port.any_name for port in model.inputs], samples)
    count = len(next(iter(arrays.values())))
    attends = has_attention(model)
    options: dict[str, Any] = {
        "activations_range_estimator_params": ranges.RangeEstimatorParametersSet.MINMAX,
        "overflow_fix": advanced.OverflowFix.DISABLE,
        "disable_bias_correction": layers_with_weights(model) > _MOST_CORRECTED,
    }
    if attends:
        options["smooth_quant_alphas"] = nncf.AdvancedSmoothQuantParameters(matmul=-1)
    try:
        with redirect_stdout(io.StringIO()):  # bars of progress
            quantized = nncf.quantize(
                model,
                nncf.Dataset(list(_each(arrays))),
                subset_size=count,
                fast_bias_correction=False,
                model_type=nncf.ModelType.TRANSFORMER if attends else None,
                advanced_parameters=nncf.AdvancedQuantizationParameters(**options),
            )
    except Exception as error:  # noqa: BLE001 NNCF raises anything
        raise ConversionError(f"NNCF failed: {first_lines(error)}", where="openvino int8") from None
    if calibration != "minmax":
        choose_ranges(quantized, list(_each(arrays)), calibration, percentile)
    ov.save_model(quantized, output, compress_to_fp16=False)


def has_attention(model: Any) -> bool:
    """Whether an `openvino.Model` multiplies two activations, one of them out of a softmax."""
    for node in model.get_ops():
        if node.get_type_name() == "ScaledDotProductAttention":
            return True
        if node.get_type_name() == "MatMul" and any(
            _comes_from_softmax(value) for value in node.input_values()
        ):
            return True
    return False


def layers_with_weights(model: Any) -> int:
    """How many layers of an `openvino.Model` multiply by a constant."""
    return sum(
        node.get_type_name() in _LAYERS and _is_constant(node.input_value(1))
        for node in model.get_ops()
    )


def _is_constant(value: Any) -> bool:
    """Whether a value is a constant, stored as it is or in another type or layout."""
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Transpose", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _comes_from_softmax(value: Any) -> bool:
    node = value.get_node()
    while node.get_type_name() in ("Reshape", "Transpose", "Convert", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Softmax")


def _calibration(path: str, names: list[str], limit: int | None) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        arrays = match_names(tuple(names), {name: archive[name] for name in archive.files})
    return {name: array[:limit] for name, array in arrays.items()}


def _each(arrays: Arrays, at_once: int = 1) -> Iterator[Arrays]:
    """The samples one by one, with a batch axis of 1; or some together."""
    for index in range(0, len(next(iter(arrays.values()))), at_once):
        yield {name: array[index : index + at_once] for name, array in arrays.items()}
