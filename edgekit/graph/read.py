"""Reading a model file of any known format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit.base.errors import ModelFileError
from edgekit.base.files import existing_file
from edgekit.base.registry import Registry
from edgekit.graph.types import Graph
from edgekit.schema.names import SUFFIXES

READERS: Registry[Callable[[Path], Graph]] = Registry(
    "graph reader",
    {
        "tflite": "edgekit.graph.tflite:read_tflite",
        "onnx": "edgekit.graph.onnx:read_onnx",
        "openvino": "edgekit.graph.openvino:read_openvino",
    },
    group="readers",
)
_KERAS = (".keras", ".h5")  # inspected and exported, not read as a graph


def read_graph(path: Path) -> Graph:
    """Reads a .tflite, .onnx or OpenVINO .xml file; the readers check what is inside.

    Raises:
        InputError: the file does not exist.
        ModelFileError: its suffix is of no known format, or its content is not what it says.
        MissingDependencyError: the extra that reads this format is not installed.
    """
    existing_file(path, what="model file")
    if path.suffix not in SUFFIXES:
        raise ModelFileError(
            f"unknown model format '{path.suffix or path.name}'",
            where=str(path),
            hint=f"formats: {', '.join(sorted(SUFFIXES))}"
            + (f"; edgekit export {path.name} makes them" if path.suffix in _KERAS else ""),
        )
    return READERS.get(SUFFIXES[path.suffix])(path)
