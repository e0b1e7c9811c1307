"""The plan of a post-training quantization: decided by a pass, realized by the export."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgekit.base.files import write_json
from edgekit.schema.base import Document
from edgekit.schema.names import Precision
from edgekit.schema.yamlfile import read_yaml, validate


class QuantizationPlan(Document):
    """How the exporter quantizes a model.

    Attributes:
        precision: of the file to make.
        calibration_samples: how many samples of the calibration split set the ranges of
            activations, from its start; None: all of them, or none where none are needed.
        layers: of a `mixed` plan, the precision of each Keras layer that is not int8, by name.
        engine: of int8 in ONNX and OpenVINO: `derived` from the TFLite file, the same network
            bit for bit, or the runtime's own (`native`) quantizer.
        calibration: how the ranges of activations are chosen, of int8 in TFLite and by `native`.
        percentile: in percent, for that.
    """

    precision: Precision
    calibration_samples: int | None = Field(None, ge=1)
    layers: dict[str, Precision] = Field(default_factory=dict)
    engine: Literal["derived", "native"] = "derived"
    calibration: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    percentile: float = Field(99.99, gt=50, le=100)


def plan_path(model: Path) -> Path:
    """Where the plan of a .keras file is kept: beside it, as `<file>.plan.json`."""
    return model.with_name(f"{model.name}.plan.json")


def save_plan(plan: QuantizationPlan, model: Path) -> Path:
    """Writes the plan beside its model file, and returns where.

    Raises:
        StorageError: the disk is full.
    """
    path = plan_path(model)
    write_json(path, plan.model_dump(mode="json"))
    return path


def load_plan(model: Path) -> QuantizationPlan | None:
    """The plan kept beside a model file, or None if there is none.

    Raises:
        InputError: there is one, and it is damaged; the place names line and column.
    """
    path = plan_path(model)
    # JSON is read as the YAML that it also is, because that tells where a fault stands.
    return validate(QuantizationPlan, read_yaml(path)) if path.exists() else None
