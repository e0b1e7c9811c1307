"""Post-training int8 quantization by the tools that users have today, called as they document it.

Each peer runs at its defaults and at the best settings known for it. It starts from a float file
of its own input format, made by the plain converters (recurrent layers unrolled, because every
converter fails or crashes on loops). A peer may crash: each runs in a child process with a limit
of time, and its exact error is the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError
from edgekit.base.extras import require
from edgekit.export.base import ExportJob, saved_model
from edgekit.export.exporter import EXPORTERS
from edgekit.schema.names import Format

Arrays = dict[str, NDArray[Any]]
Quantizer = Callable[[str, Arrays, str, bool], None]
Setting = Literal["default", "best"]

_PURPOSE = "as a peer of the benchmark"
_MOST_CORRECTED = 64
LIMIT_S = 180.0  # for one tool on one network
SUFFIXES: dict[Format, str] = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
FORMATS: dict[str, Format] = {"litert": "tflite", "onnxruntime": "onnx", "openvino": "openvino"}


@dataclass(frozen=True)
class Peer:
    """One tool at one of its settings.

    Attributes:
        tool: its name.
        setting: its defaults, or the best known.
        runtime: that its files are for.
        source: the kind of float file that it starts from.
        settings: in words, for the table.
        attention: what it does besides, for networks with attention.
        quantize: from the float file and the calibration samples to the int8 file.
    """

    tool: str
    setting: Setting
    runtime: str
    source: Literal["saved_model", "tflite", "onnx", "openvino"]
    settings: str
    quantize: Quantizer
    attention: str = ""

    @property
    def name(self) -> str:
        """Unique, and fit for a file's name."""
        return f"{self.tool}-{self.setting}".replace(" ", "-").lower()

    def describe(self, attention: bool) -> str:
        """The settings for a network."""
        return ", ".join([self.settings, *([self.attention] if attention else [])]).strip(", ")


@dataclass(frozen=True)
class Made:
    """What came of a quantization: a file, or an error.

    Attributes:
        file: the int8 file; None where there is an error.
        seconds: from the float Keras file to the int8 file, without the import of the libraries.
        settings: in words.
        error: the tool's exact message.
    """

    file: Path | None
    seconds: float
    settings: str
    error: str | None = None


def quantize_with(
    peer: Peer, model: Path, calibration: Path, folder: Path, worker: Worker, *, attention: bool
) -> Made:
    """Quantizes a float Keras model file by one peer.

    Args:
        peer: one of `PEERS`.
        model: the .keras file.
        calibration: .npz of samples by input name; all of them are used.
        folder: for the int8 file and the float file that it starts from.
        worker: the child, from `measure.child`.
        attention: whether the network has attention layers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{peer.name}{SUFFIXES[FORMATS[peer.runtime]]}"
    settings = peer.describe(attention)
    started = time.perf_counter()
    try:
        source, seconds = _source(peer.source, model, folder, worker)
        started = time.perf_counter()
        seconds += worker.call(
            "peers:run",
            name=peer.name,
            source=source,
            calibration=str(calibration.resolve()),
            output=str(output.resolve()),
            attention=attention,
        )
    except EdgekitError as error:
        return Made(None, time.perf_counter() - started, settings, exact(error))
    return Made(output, seconds, settings)


def has_attention(model: Any) -> bool:
    """Whether a Keras model has attention layers, which peers have settings for."""
    return any("Attention" in type(layer).__name__ for layer in model._flatten_layers())


def exact(error: EdgekitError) -> str:
    """The message in one line; of a child that died the last line of its log too."""
    lines = [error.message, *(error.hint or "").splitlines()[-1:]]
    return " / ".join(" ".join(line.split()) for line in lines if line.strip())


def _source(kind: str, model: Path, folder: Path, worker: Worker) -> tuple[str, float]:
    """The float file that a peer starts from, and the seconds that it took to make once."""
    record = folder / f"fp32-{kind}.seconds"
    started = time.perf_counter()
    if kind == "saved_model":
        path = saved_model(model, worker, batch=1)
    else:
        format_ = cast("Format", kind)
        output = (folder / f"fp32{SUFFIXES[format_]}").resolve()
        path = str(output)
        if not record.exists():
            job = ExportJob(model, format_, "fp32", output)
            EXPORTERS.get(format_)().convert(job, output, worker)
    if not record.exists():
        record.write_text(str(time.perf_counter() - started))
    return path, float(record.read_text())


def run(*, name: str, source: str, calibration: str, output: str, attention: bool) -> float:
    """Quantizes, in the child process; returns the seconds that it took."""
    with np.load(calibration, allow_pickle=False) as archive:
        samples = dict(archive)
    peer = next(peer for peer in PEERS if peer.name == name)
    _import(peer.tool)
    started = time.perf_counter()
    peer.quantize(source, samples, output, attention)
    return time.perf_counter() - started


def _import(tool: str) -> None:
    """Loads the tool, which is no part of what is timed."""
    if tool == "ai-edge-quantizer":
        require("ai_edge_quantizer.quantizer", purpose=_PURPOSE)
    elif tool.startswith("NNCF"):
        require("nncf", purpose=_PURPOSE).set_log_level(logging.ERROR)
    elif tool == "ONNX Runtime":
        require("onnxruntime.quantization", purpose=_PURPOSE)


def _rows(samples: Arrays) -> Iterator[Arrays]:
    for index in range(len(next(iter(samples.values())))):
        yield {name: array[index : index + 1] for name, array in samples.items()}


# https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_quantization
def _tflite_converter(source: str, samples: Arrays, output: str, fallback: bool) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _rows(samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if fallback:
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS)
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(output).write_bytes(converter.convert())


def _converter_default(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    _tflite_converter(source, samples, output, fallback=False)


def _converter_best(source: str, samples: Arrays, output: str, attention: bool) -> None:
    _tflite_converter(source, samples, output, fallback=attention)


def _aeq(*modules: str) -> list[Any]:
    return [require(f"ai_edge_quantizer.{module}", purpose=_PURPOSE) for module in modules]


# https://github.com/google-ai-edge/ai-edge-quantizer (README, "Static quantization")
def _aeq_default(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    quantizer, recipe = _aeq("quantizer", "recipe")
    tool = quantizer.Quantizer(source, recipe.static_wi8_ai8())
    ranges = tool.calibrate({"serving_default": list(_rows(samples))})
    tool.quantize(ranges, enable_progress_report=False).export_model(output, overwrite=True)


def _aeq_best(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    quantizer, calibrator, qtyping, qsv_utils, algorithm_manager = _aeq(
        "quantizer", "calibrator", "qtyping", "utils.qsv_utils", "algorithm_manager"
    )
    tool = quantizer.Quantizer(source)
    tool.add_static_config(
        ".*",
        qtyping.TFLOperationName.ALL_SUPPORTED,
        8,
        8,
        algorithm_key=algorithm_manager.AlgorithmName.OCTAV,
    )
    ranges = calibrator.Calibrator(
        Path(source).read_bytes(), qsv_update_func=qsv_utils.min_max_update
    )
    ranges.calibrate({"serving_default": list(_rows(samples))}, tool._recipe_manager)
    made = tool.quantize(ranges.get_model_qsvs(), enable_progress_report=False)
    made.export_model(output, overwrite=True)


# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
class _Reader:
    """ONNX Runtime's `CalibrationDataReader`: samples one by one."""

    def __init__(self, samples: Arrays) -> None:
        self._rows = _rows(samples)

    def get_next(self) -> Arrays | None:
        return next(self._rows, None)


def _ort_default(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    from onnxruntime import quantization

    quantization.quantize_static(source, output, _Reader(samples))


def _ort_best(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{output}.prepared"
    quant_pre_process(source, prepared)
    quantization.quantize_static(
        prepared,
        output,
        _Reader(samples),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )


# https://docs.openvino.ai: "Basic Quantization Flow", "Quantizing with accuracy control"
def _nncf(model: Any, rows: list[Any], *, best: bool, attention: bool, correct: bool = True) -> Any:
    nncf = require("nncf", purpose=_PURPOSE)
    estimators = require("nncf.quantization.range_estimator", purpose=_PURPOSE)
    parameters = require("nncf.quantization.advanced_parameters", purpose=_PURPOSE)
    if not best:
        return nncf.quantize(model, nncf.Dataset(rows))
    advanced: dict[str, Any] = {
        "activations_range_estimator_params": estimators.RangeEstimatorParametersSet.MINMAX,
        # The first layer keeps 8 bits: only CPUs without VNNI need fewer.
        "overflow_fix": parameters.OverflowFix.DISABLE,
        "disable_bias_correction": not correct,
    }
    if attention:
        advanced["smooth_quant_alphas"] = nncf.AdvancedSmoothQuantParameters(matmul=-1)
    return nncf.quantize(
        model,
        nncf.Dataset(rows),
        subset_size=len(rows),
        fast_bias_correction=False,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        advanced_parameters=nncf.AdvancedQuantizationParameters(**advanced),
    )


def _nncf_openvino(source: str, samples: Arrays, output: str, best: bool, attention: bool) -> None:
    import openvino as ov
    from openvino._offline_transformations import apply_moc_transformations

    model = ov.Core().read_model(source)
    if best:  # as `ov.convert_model` does; NNCF corrects no bias of a layer that has none yet
        apply_moc_transformations(model, cf=False, smart_reshape=False)
    layers = [node.get_type_name() for node in model.get_ops()]
    made = _nncf(
        model, list(_rows(samples)), best=best, attention=attention, correct=_correctable(layers)
    )
    ov.save_model(made, output, compress_to_fp16=False)


def _nncf_openvino_default(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    _nncf_openvino(source, samples, output, best=False, attention=False)


def _nncf_openvino_best(source: str, samples: Arrays, output: str, attention: bool) -> None:
    _nncf_openvino(source, samples, output, best=True, attention=attention)


def _nncf_onnx_default(source: str, samples: Arrays, output: str, attention: bool) -> None:
    del attention
    import onnx

    made = _nncf(onnx.load(source), list(_rows(samples)), best=False, attention=False)
    onnx.save(made, output)


def _nncf_onnx_best(source: str, samples: Arrays, output: str, attention: bool) -> None:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{output}.prepared"
    quant_pre_process(source, prepared)  # folds batch normalization, which NNCF leaves
    model, rows = onnx.load(prepared), list(_rows(samples))
    correct = _correctable([node.op_type for node in model.graph.node])
    try:
        made = _nncf(model, rows, best=True, attention=attention, correct=correct)
    except RuntimeError:  # its bias correction cuts some residual graphs at the wrong places
        made = _nncf(onnx.load(prepared), rows, best=True, attention=attention, correct=False)
    onnx.save(made, output)


def _correctable(operators: list[str]) -> bool:
    """Whether full bias correction, which runs the graph for each layer, ends within minutes."""
    layers = {"Conv", "Gemm", "Convolution", "GroupConvolution", "MatMul"}
    return sum(operator in layers for operator in operators) <= _MOST_CORRECTED


_TRANSFORMER = "model_type TRANSFORMER without SmoothQuant"

PEERS: tuple[Peer, ...] = (
    Peer("TFLite converter", "default", "litert", "saved_model", "int8 operators only, int8 input "
         "and output", _converter_default),
    Peer("TFLite converter", "best", "litert", "saved_model", "as the default", _converter_best,
         "float operators where int8 ones are missing"),
    Peer("ai-edge-quantizer", "default", "litert", "tflite", "static_wi8_ai8, moving average of "
         "ranges", _aeq_default),
    Peer("ai-edge-quantizer", "best", "litert", "tflite", "min-max ranges, OCTAV weights",
         _aeq_best),
    Peer("ONNX Runtime", "default", "onnxruntime", "onnx", "quantize_static, QDQ, per tensor, "
         "S8S8, min-max", _ort_default),
    Peer("ONNX Runtime", "best", "onnxruntime", "onnx", "quant_pre_process, QDQ, per channel, U8S8,"
         " min-max", _ort_best),
    Peer("NNCF ONNX", "default", "onnxruntime", "onnx", "nncf.quantize", _nncf_onnx_default),
    Peer("NNCF ONNX", "best", "onnxruntime", "onnx", "quant_pre_process, min-max ranges, full bias "
         "correction where it ends without error in minutes, no overflow fix",
         _nncf_onnx_best, _TRANSFORMER),
    Peer("NNCF OpenVINO", "default", "openvino", "openvino", "nncf.quantize",
         _nncf_openvino_default),
    Peer("NNCF OpenVINO", "best", "openvino", "openvino", "folded graph, min-max ranges, full bias "
         "correction where it ends in minutes, no overflow fix", _nncf_openvino_best, _TRANSFORMER),
)  # fmt: skip
