"""To OpenVINO: from Keras for floats, from the TFLite master for int8 and mixed.

The functions `convert` and `derive` run in a child process.

OpenVINO's own readers are called, not its `convert_model` tool, which reports to a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError
from edgekit.base.extras import require
from edgekit.export.base import Exporter, ExportJob, saved_model
from edgekit.export.tflite import first_lines
from edgekit.runtimes.metadata import OPENVINO_PATH, IoRecord


class OpenVinoExporter(Exporter):
    """OpenVINO files with batch 1: its CPU plugin is slower with free dimensions."""

    precisions = ("fp32", "fp16", "int8", "mixed")
    derived = ("int8", "mixed")

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> None:
        """See `Exporter.convert`."""
        worker.call(
            "edgekit.export.openvino:convert",
            saved_model=saved_model(job.model, worker, batch=1),
            output=str(output),
            precision=job.precision,
        )

    def derive(
        self, master: Path, record: str, output: Path, worker: Worker, *, opset: int | None
    ) -> None:
        """See `Exporter.derive`."""
        del opset
        worker.call(
            "edgekit.export.openvino:derive",
            master=str(master.resolve()),
            output=str(output),
            record=record,
        )


def convert(*, saved_model: str, output: str, precision: str) -> None:
    """Writes a float .xml and .bin from a SavedModel.

    Args:
        saved_model: directory of the SavedModel.
        output: the .xml to write; the .bin goes beside it.
        precision: fp32, or fp16: weights are stored as float16.

    Raises:
        ConversionError: OpenVINO failed.
    """
    ov = require("openvino", purpose="to convert to OpenVINO")
    model = _read(ov, saved_model)
    for port in (*model.inputs, *model.outputs):
        port.get_tensor().set_names({_signature_name(port)})
    ov.save_model(model, output, compress_to_fp16=precision == "fp16")


def derive(*, master: str, output: str, record: str) -> None:
    """Writes the .xml and .bin that are the same network as an int8 or mixed .tflite file.

    Args:
        master: the .tflite file.
        output: the .xml to write; the .bin goes beside it.
        record: JSON of the master's tensors (`IoRecord`), whose names the file gets.

    Raises:
        ConversionError: OpenVINO failed.
    """
    from edgekit.export.grouped import lay_out_grouped_kernels
    from edgekit.export.rounding import round_before_add

    ov = require("openvino", purpose="to convert to OpenVINO")
    model = _read(ov, master)
    tensors = IoRecord.model_validate_json(record)
    infos = (*tensors.inputs, *tensors.outputs)
    for port, info in zip((*model.inputs, *model.outputs), infos, strict=True):
        port.get_tensor().set_names({info.name})
    model.reshape({info.name: [size or 1 for size in info.shape] for info in tensors.inputs})
    lay_out_grouped_kernels(model)
    round_before_add(model)
    model.set_rt_info(record, list(OPENVINO_PATH))
    ov.save_model(model, output, compress_to_fp16=False)


def _read(ov: Any, source: str) -> Any:
    try:
        return ov.Core().read_model(source)
    except RuntimeError as error:
        raise ConversionError(f"OpenVINO failed: {first_lines(error)}", where=source) from None


def _signature_name(port: Any) -> str:
    """The SavedModel reader names a port by its signature name, beside names of its own."""
    names: set[str] = port.get_names()
    return min(names, key=lambda name: (":" in name, len(name), name))
