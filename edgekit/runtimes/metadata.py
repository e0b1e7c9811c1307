"""The inputs and outputs of a model, written inside ONNX and OpenVINO files that edgekit makes.

These formats have no place for the quantization of an int8 input or output; with this record the
file can be fed and read without its sidecar.
"""

from __future__ import annotations

from pydantic import ValidationError

from edgekit.schema.artifact import TensorInfo
from edgekit.schema.base import Document

ONNX_KEY = "edgekit.io"
OPENVINO_PATH = ("edgekit", "io")


class IoRecord(Document):
    """What is stored, as JSON: the tensors in the order of the file."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def apply(
    record: str | None, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The tensors that a runtime reports, with the quantization that the file's record adds.

    A record that cannot be read or that names other tensors is left alone: the file is still a
    valid model of its format.
    """
    if not record:
        return inputs, outputs
    try:
        stored = IoRecord.model_validate_json(record)
    except ValidationError:
        return inputs, outputs
    known = {info.name: info for info in (*stored.inputs, *stored.outputs)}
    return _merge(inputs, known), _merge(outputs, known)


def _merge(infos: tuple[TensorInfo, ...], known: dict[str, TensorInfo]) -> tuple[TensorInfo, ...]:
    return tuple(
        info.model_copy(update={"quantization": known[info.name].quantization})
        if info.name in known and known[info.name].dtype == info.dtype
        else info
        for info in infos
    )
