"""One word for each precision, format and runtime, used everywhere."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "int8-dynamic", "int8", "int16x8", "int4-weight", "mixed"]
Format = Literal["tflite", "onnx", "openvino", "vela"]
Runtime = Literal["litert", "tflite-runtime", "onnxruntime", "openvino", "keras"]

PRECISIONS: tuple[str, ...] = get_args(Precision)
FORMATS: tuple[str, ...] = get_args(Format)

SUFFIXES: dict[str, Format] = {".tflite": "tflite", ".onnx": "onnx", ".xml": "openvino"}

SUFFIX_OF: dict[Format, str] = {
    **{format_: suffix for suffix, format_ in SUFFIXES.items()},
    "vela": ".tflite",  # compiled for an accelerator: a .tflite file with operators of its own
}

Origin = Literal["fitted", "datasheet", "derived", "assumed"]
"""Where a target's parameters come from."""
