"""What the operators of a model file make on given samples, in the file's real runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.base.errors import ModelFileError
from edgekit.base.extras import require
from edgekit.base.registry import Registry
from edgekit.runtimes.litert import LiteRTSession
from edgekit.runtimes.onnxruntime import OnnxSession
from edgekit.runtimes.open import default_runtime
from edgekit.runtimes.openvino import OpenVinoSession
from edgekit.runtimes.session import Session, run_raw
from edgekit.schema.artifact import TensorInfo

Tensors = dict[int, NDArray[Any]]

RECORDERS: Registry[type[Session]] = Registry(
    "recorder",
    {
        "litert": "edgekit.runtimes.recording:LiteRTRecorder",
        "onnxruntime": "edgekit.runtimes.recording:OnnxRecorder",
        "openvino": "edgekit.runtimes.recording:OpenVinoRecorder",
        "tflite-runtime": "edgekit.runtimes.recording:LegacyRecorder",
    },
    group="recorders",
)


def record_tensors(
    path: Path, samples: Mapping[str, NDArray[Any]], tensors: Mapping[int, str]
) -> Tensors:
    """Runs samples through a model file and keeps the tensors asked for.

    Args:
        path: a .tflite, .onnx or .xml file.
        samples: float arrays of shape (n, ...), by input name.
        tensors: names by index, as the graph readers give them; tensors whose first axis is the
            batch. TFLite's are found by index, the others' by name.

    Returns:
        Arrays of shape (n, ...) in the runtime's dtypes, by index; a tensor that the runtime does
        not know is left out.

    Raises:
        ModelFileError: the file is not a model that its runtime takes.
        ToolError: the runtime failed.
        MissingDependencyError: the runtime is not installed.
    """
    kind: Any = RECORDERS.get(default_runtime(path))
    with kind(path, tensors) as session:
        raw = run_raw(session, samples)
    return {int(name): values for name, values in raw.items()}


class LiteRTRecorder(LiteRTSession):
    """An interpreter whose outputs are any of the file's tensors, named by their index."""

    def __init__(self, path: Path, tensors: Mapping[int, str], *, runtime: str = "litert") -> None:
        super().__init__(path, keep_tensors=True, runtime=runtime)
        self._output_indices = {str(index): index for index in tensors}
        self.outputs = _infos(self._output_indices)


class LegacyRecorder(LiteRTRecorder):
    """The same in tflite-runtime."""

    def __init__(self, path: Path, tensors: Mapping[int, str]) -> None:
        super().__init__(path, tensors, runtime="tflite-runtime")


class OnnxRecorder(OnnxSession):
    """A session on a copy of the model that has the tensors as outputs.

    The runtime may still join an operator with others where none of the tensors lies between.
    """

    def __init__(self, path: Path, tensors: Mapping[int, str]) -> None:
        onnx = require("onnx", purpose="to record what operators of .onnx files make")
        try:
            model = onnx.load(path)
        except Exception as error:  # noqa: BLE001 the parser's exceptions share no base class
            raise ModelFileError(f"not an ONNX model: {error}", where=str(path)) from None
        given = {output.name for output in model.graph.output}
        made = {name for node in model.graph.node for name in node.output}
        known = {index: name for index, name in tensors.items() if name in made}
        model.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in known.values() if name not in given
        )
        super().__init__(path, content=model.SerializeToString())
        self._recorded = known
        self._output_names = list(known.values())
        self.outputs = _infos(known)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Session.run`; the arrays are named by their tensors' indices."""
        results = super().run(inputs) if self._recorded else {}
        return {str(index): results[name] for index, name in self._recorded.items()}


class OpenVinoRecorder(OpenVinoSession):
    """A model compiled with the tensors as further outputs."""

    def __init__(self, path: Path, tensors: Mapping[int, str]) -> None:
        self._wanted = {name: index for index, name in tensors.items()}
        self._places: dict[str, int] = {}
        super().__init__(path)
        self.outputs = _infos(self._places)

    def _prepare(self, model: Any) -> None:
        results = [_key(port.get_node().input_value(0)) for port in model.outputs]
        added = []
        for node in model.get_ordered_ops():
            for port in node.outputs() if node.get_type_name() != "Result" else ():
                names = port.get_names()
                name = min(names) if names else node.get_friendly_name()
                index = self._wanted.pop(name, None)
                if index is None:
                    continue
                if _key(port) not in results:  # an output is not added twice
                    results.append(_key(port))
                    added.append(port)
                self._places[str(index)] = results.index(_key(port))
        model.add_outputs(added)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Session.run`; the arrays are named by their tensors' indices."""
        results = self._infer(inputs)
        return {name: results[place] for name, place in self._places.items()}


def _key(port: Any) -> tuple[str, int]:
    return port.get_node().get_name(), port.get_index()


def _infos(names: Any) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(name=str(name), shape=(None,), dtype="float32") for name in names)
