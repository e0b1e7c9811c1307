"""`edgekit inspect --json`: what a model file or a bundle consists of."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from edgekit.schema.artifact import TensorInfo
from edgekit.schema.base import Document


class OpCount(Document):
    """All operators of one name."""

    op: str
    kind: str
    count: int
    macs: int


class LayerInfo(Document):
    """One operator of a graph, or one layer of a Keras model.

    Attributes:
        index: position in the file.
        op: operator name in the file's format, or class of the Keras layer.
        layer: name of the layer that it came from, as far as the file tells.
        macs: multiply-accumulate operations of one sample.
        parameters: constant values that it reads.
        output_shape: of its first output; None is a free dimension.
        dtype: of its first output.
    """

    index: int
    op: str
    layer: str
    macs: int
    parameters: int
    output_shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)


class MemoryInfo(Document):
    """Memory for activations of one sample, planned as two runtimes plan it.

    Attributes:
        peak_bytes: largest sum of tensors live at once, graph inputs kept.
        peak_op: index of the operator where that is.
        arena_bytes: TensorFlow Lite's arena, without scratch buffers and delegates.
        micro_arena_bytes: head of TensorFlow Lite Micro's arena; .tflite only.
    """

    peak_bytes: int
    peak_op: int
    arena_bytes: int
    micro_arena_bytes: int | None = None


class Inspection(Document):
    """One file.

    Attributes:
        format: tflite, onnx, openvino, keras or bundle.
        parameters: number of constant values.
        weight_bytes: bytes of constants; None where the file does not tell (bundle).
        file_bytes: of all files that belong to it (.xml and .bin).
        ops: operators by name, those with the most multiply-accumulates first.
        layers: all operators in the file's order.
        artifacts: of a bundle: its model files, from their sidecars.
    """

    file: str
    format: str
    name: str
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    macs: int | None = None
    parameters: int | None = None
    weight_bytes: int | None = None
    file_bytes: int
    memory: MemoryInfo | None = None
    ops: tuple[OpCount, ...] = ()
    layers: tuple[LayerInfo, ...] = ()
    artifacts: tuple[Inspection, ...] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)
