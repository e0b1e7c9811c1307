"""int8 .tflite files compiled for an Arm Ethos-U NPU by Vela."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edgekit.base.child import Worker
from edgekit.base.errors import InputError
from edgekit.export.base import Exporter, ExportJob
from edgekit.schema.names import Precision


class VelaExporter(Exporter):
    """Derives from the int8 .tflite file; `edgekit.export.compiled` compiles it."""

    precisions: ClassVar[tuple[Precision, ...]] = ("int8",)
    derived: ClassVar[tuple[Precision, ...]] = ("int8",)
    compiled: ClassVar[bool] = True

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> dict[str, Any] | None:
        """Vela compiles no Keras model; see `Exporter.convert`.

        Raises:
            InputError: always.
        """
        del output, worker
        raise InputError("Vela compiles .tflite files only", where=str(job.model))
