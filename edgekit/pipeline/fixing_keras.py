"""The workbench of Keras models: rewritten as such, checked as the .tflite file that they become.

The file is TensorFlow's float conversion of the model as it is, rolled loops and all. Where a
target takes it better in int8 it is checked as if quantized: what it computes is int8, in scales
that are unknown and count as equal.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgekit.base.child import Worker
from edgekit.graph.tflite import read_tflite
from edgekit.graph.types import Graph, Tensor
from edgekit.pipeline.fixing_bench import Checked, Workbench, difference, with_real
from edgekit.pipeline.fixing_tflite import finding_keys
from edgekit.pipeline.rewrites import KERAS_REWRITES, Draft
from edgekit.profiling.check import check_graph
from edgekit.profiling.links import WEIGHTED
from edgekit.profiling.rewrites import REWRITES
from edgekit.runtimes.session import Arrays, match_names
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.fixing import Difference
from edgekit.schema.quantization import Quantization
from edgekit.schema.target import Target
from edgekit.verify.samples import random_samples

if TYPE_CHECKING:
    import keras


class KerasBench(Workbench):
    """A Keras model; a state is a functional model.

    Args:
        path: the file.
        target: of the check.
        given: real samples by input name.
        samples: how many random ones.
        seed: of the random ones.
        scratch: a folder for candidates.
        worker: a child process to convert in.
    """

    rewrites = KERAS_REWRITES
    later: ClassVar = {"unpack": REWRITES.get("unpack")}  # Keras unrolls with it

    def __init__(
        self,
        path: Path,
        target: Target,
        given: Arrays | None,
        samples: int,
        seed: int,
        scratch: Path,
        worker: Worker,
    ) -> None:
        from edgekit.models.files import load_model
        from edgekit.training.evaluate import record_outputs

        self._path, self._target, self._scratch = path, target, scratch
        self._worker = worker
        self._as_int8: bool | None = None
        self._model = load_model(path)
        infos = tuple(
            TensorInfo(name=tensor.name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))
            for tensor in self._model.inputs
        )
        self._samples = random_samples(infos, count=samples, seed=seed)
        if given is not None:
            self._samples = with_real(self._samples, match_names(tuple(self._samples), given))
        self._reference = record_outputs(self._model, self._samples)

    @property
    def basis(self) -> str:
        """See `Workbench.basis`."""
        quantized = ", as if quantized to int8" if self._as_int8 else ""
        return f"its float .tflite conversion{quantized}"

    def start(self) -> keras.Model:
        """See `Workbench.start`."""
        return self._model

    def editable(self, state: keras.Model) -> Draft:
        """See `Workbench.editable`."""
        return Draft(state)

    def finished(self, copy: Draft) -> keras.Model:
        """See `Workbench.finished`."""
        return copy.model

    def check(self, state: keras.Model) -> Checked:
        """See `Workbench.check`."""
        from edgekit.models.files import save_model

        source, made = self._scratch / "candidate.keras", self._scratch / "candidate.tflite"
        save_model(state, source)
        self._worker.call(
            "edgekit.pipeline.fixing_keras:convert_plainly",
            model=str(source),
            saved_model=str(self._scratch / "saved_model"),
            output=str(made),
        )
        graph = read_tflite(made)
        if self._as_int8 is not None:
            return self._checked(as_int8(graph) if self._as_int8 else graph)
        real, integer = self._checked(graph), self._checked(as_int8(graph))
        self._as_int8 = len(integer.keys) < len(real.keys)
        return integer if self._as_int8 else real

    def _checked(self, graph: Graph) -> Checked:
        report = check_graph(graph, self._target, self._path.name)
        return Checked(report, finding_keys(graph, report))

    def compare(self, state: keras.Model) -> Difference:
        """See `Workbench.compare`."""
        from edgekit.training.evaluate import record_outputs

        found = record_outputs(state, self._samples)
        named = dict(zip(self._reference, found.values(), strict=True))
        measured = difference(named, self._reference, (named, self._reference))
        return measured.model_copy(update={"kernels": ("keras",)})

    def write(self, state: keras.Model, path: Path) -> None:
        """See `Workbench.write`."""
        from edgekit.models.files import save_model

        save_model(state, path)


def convert_plainly(*, model: str, saved_model: str, output: str) -> None:
    """Converts a Keras model as it is to a float .tflite file. Called in a child.

    Raises:
        ConversionError: the converter failed.
    """
    from edgekit.export import tflite
    from edgekit.export.savedmodel import write
    from edgekit.models.files import load_model

    shutil.rmtree(saved_model, ignore_errors=True)
    write(load_model(Path(model)), Path(saved_model), batch=1)
    tflite.convert(
        saved_model=saved_model,
        output=output,
        precision="fp32",
        calibration=None,
        calibration_samples=None,
    )


def as_int8(graph: Graph) -> Graph:
    """A float graph with the dtypes that full integer quantization would give it."""
    biases = {op.inputs[2] for op in graph.ops if op.kind in WEIGHTED and len(op.inputs) > 2}
    scale = Quantization((1.0,), (0,))

    def narrow(tensor: Tensor) -> Tensor:
        if tensor.dtype != "float32":
            return tensor
        dtype = "int32" if tensor.index in biases and tensor.constant else "int8"
        return replace(tensor, dtype=dtype, quantization=scale)

    return replace(graph, tensors=tuple(map(narrow, graph.tensors)))
