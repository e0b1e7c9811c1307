"""Measuring networks as files, in the form that edgekit's own exports have."""

from __future__ import annotations

from pathlib import Path

from edgekit.base.errors import InputError
from edgekit.base.extras import require
from edgekit.base.files import write_bytes
from edgekit.pipeline.calibration.network import Network
from edgekit.pipeline.calibration.onnx_writer import write_onnx
from edgekit.pipeline.calibration.tflite_writer import write_tflite
from edgekit.schema.names import Format


def write_network(network: Network, kind: Format, directory: Path, *, quantized: bool) -> Path:
    """Writes a network as a file; an OpenVINO file is what its reader makes of the .tflite file.

    Args:
        network: what to write.
        kind: the format.
        directory: where to.
        quantized: int8, else float32.

    Returns:
        Path of the .tflite, .onnx or .xml file.

    Raises:
        MissingDependencyError: a library that writes the format is not installed.
        InputError: no measuring network is written in the format.
    """
    stem = f"{network.name}-{'int8' if quantized else 'fp32'}"
    if kind == "onnx":
        path = directory / f"{stem}.onnx"
        write_bytes(path, write_onnx(network, quantized=quantized))
        return path
    source = directory / f"{stem}.tflite"
    write_bytes(source, write_tflite(network, quantized=quantized))
    if kind == "tflite":
        return source
    if kind != "openvino":
        raise InputError(f"no measuring network is written as {kind}")
    path = directory / f"{stem}.xml"
    _to_openvino(source, path, quantized=quantized)
    source.unlink()
    return path


def _to_openvino(source: Path, path: Path, *, quantized: bool) -> None:
    from edgekit.export.grouped import lay_out_grouped_kernels
    from edgekit.export.rounding import round_before_add

    openvino = require("openvino", purpose="to write OpenVINO files")
    model = openvino.Core().read_model(str(source))
    if quantized:
        lay_out_grouped_kernels(model)
        round_before_add(model)
    openvino.save_model(model, str(path), compress_to_fp16=False)
