"""What is to be exported, and what an exporter is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.base.files import sha256_file
from edgekit.models.files import has_ranges
from edgekit.schema.names import Format, Precision
from edgekit.schema.plan import QuantizationPlan

_SAVED_MODELS = "edgekit.export.savedmodel"


@dataclass(frozen=True)
class ExportJob:
    """One model file to make.

    Attributes:
        model: the Keras model file.
        format: of the output.
        precision: of the output.
        output: the file to write; for OpenVINO the .xml, with the .bin beside it.
        calibration: .npz of arrays by input name, for tflite int8, int16x8 and mixed.
        master: the .tflite file that onnx and openvino int8 and mixed derive from.
        opset: onnx only.
        plan: the quantization that was decided for the model; None: as the file beside it says.
        target: vela only: name or .yaml file of the target to compile for.
        dense_one_scale: targets for whose sake dense layers have one scale for all weights
            (`edgekit.profiling.dense_scales`); tflite int8 only. None: one an output.
    """

    model: Path
    format: Format
    precision: Precision
    output: Path
    calibration: Path | None = None
    master: Path | None = None
    opset: int | None = None
    plan: QuantizationPlan | None = None
    target: str | None = None
    dense_one_scale: tuple[str, ...] = ()


class Exporter(ABC):
    """Converts to one format, in a child process.

    Attributes:
        precisions: that the format is made in.
        calibrated: those that need calibration samples.
        trained: those of them that do not if the model brings its ranges, as `qat` leaves it.
        derived: those that derive from the TFLite file of the same precision, their master.
        compiled: whether the files run on an accelerator only: no runtime here opens them, and
            what is proven of them is proven of their master (`edgekit.export.compiled`).
    """

    precisions: ClassVar[tuple[Precision, ...]]
    calibrated: ClassVar[tuple[Precision, ...]] = ()
    trained: ClassVar[tuple[Precision, ...]] = ()
    derived: ClassVar[tuple[Precision, ...]] = ()
    compiled: ClassVar[bool] = False

    @classmethod
    def needs_calibration(cls, model: Path, precision: Precision) -> bool:
        """Whether this precision of a model file needs calibration samples."""
        if precision not in cls.calibrated:
            return False
        return precision not in cls.trained or not has_ranges(model)

    @abstractmethod
    def convert(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any] | None:
        """Converts the Keras model to `output`, which need not be the job's own.

        Returns:
            What was decided on the way, for the sidecar's provenance; or nothing.

        Raises:
            ConversionError: the converter failed, died, or passed a limit.
        """

    def derive(
        self, master: Path, record: str, output: Path, worker: Worker, *, opset: int | None
    ) -> None:
        """Converts an int8 or mixed .tflite file to the same network in this format.

        Args:
            master: the .tflite file.
            record: JSON of its inputs and outputs (`edgekit.runtimes.metadata.IoRecord`).
            output: the file to write.
            worker: the child to convert in.
            opset: onnx only.

        Raises:
            InputError: this format has no such conversion.
            ConversionError: the converter failed, died, or passed a limit.
        """
        del record, output, worker, opset
        raise InputError("this format is not derived from a .tflite file", where=str(master))


def saved_model(model: Path, worker: Worker, *, batch: int | None, keep_lstm: bool = False) -> str:
    """A Keras model as a SavedModel with unrolled recurrent layers, made once a worker.

    Args:
        model: the Keras model file.
        worker: the child that makes it, and keeps it.
        batch: a fixed batch size, or None to leave it free.
        keep_lstm: leave LSTM layers as they are.
    """
    key = f"{sha256_file(model)[:16]}-{batch}-{keep_lstm}"
    directory: str = worker.call(
        f"{_SAVED_MODELS}:ensure",
        model=str(model.resolve()),
        directory=str(worker.scratch / key),
        batch=batch,
        keep_lstm=keep_lstm,
    )
    return directory


def keras_outputs(model: Path, samples: Path, worker: Worker) -> Path:
    """An .npz of a Keras model's outputs on an .npz of samples, made once a worker."""
    key = f"{sha256_file(model)[:16]}-{sha256_file(samples)[:16]}"
    output = worker.scratch / f"{key}.npz"
    worker.call(
        f"{_SAVED_MODELS}:reference_outputs",
        model=str(model.resolve()),
        samples=str(samples),
        output=str(output),
    )
    return output


def sidecar_path(model: Path) -> Path:
    """Where the sidecar of a model file lies."""
    return model.with_name(f"{model.name}.json")
