"""The sidecar of a model file: all that a device needs to feed it and to read its answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from edgekit.schema.base import Document
from edgekit.schema.names import Format, Precision
from edgekit.schema.quantization import Quantization


class Preprocessing(Document):
    """What is done to a raw sample, in this order, before the model sees it.

    `value = (raw * scale - mean) / std`, after an optional resize; the result is cast to `dtype`.

    Attributes:
        resize: height and width in pixels, or None to keep the size.
        resize_method: interpolation of the resize.
        scale: factor on the raw value, for example 1/255 for 8-bit images.
        mean: subtracted; one number or one a channel (last axis).
        std: divisor; one number or one a channel (last axis).
        layout: order of the axes of one batch of images.
        dtype: dtype of the result.
    """

    resize: tuple[int, int] | None = None
    resize_method: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"
    scale: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["float32", "int32"] = "float32"

    @field_validator("std")
    @classmethod
    def _positive(cls, value: float | tuple[float, ...]) -> float | tuple[float, ...]:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(number <= 0 for number in numbers):
            raise ValueError("must be greater than 0")
        return value

    @field_validator("resize")
    @classmethod
    def _at_least_one_pixel(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("must be at least 1 pixel each way")
        return value


class TensorInfo(Document):
    """One input or output of a model file.

    Attributes:
        name: signature name, the same in every format made from one model.
        shape: None stands for a free dimension, usually the batch.
        dtype: NumPy name.
        quantization: how integers stand for real values, or None for a float tensor.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    quantization: Quantization | None = None


class Sidecar(Document):
    """`<file>.json` beside a model file.

    Attributes:
        file: name of the model file; `files` lists all files that belong to it (.xml and .bin).
        bytes: size of all files, in bytes.
        sha256: of the model file; for several files, see `files`.
        provenance: where it came from: source model hash, converter and library versions, passes.
        parity: figures of the parity check that the file passed before it became an artifact.
    """

    edgekit_artifact: Literal[1] = 1
    file: str
    files: dict[str, str] = Field(description="file name to SHA-256")
    format: Format
    precision: Precision
    bytes: int
    sha256: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)
    parity: dict[str, Any] = Field(default_factory=dict)
