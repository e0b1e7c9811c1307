"""Opens a model file in the runtime for its format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgekit.base.errors import InputError, ModelFileError, did_you_mean
from edgekit.base.extras import have
from edgekit.base.files import existing_file
from edgekit.base.registry import Registry
from edgekit.runtimes.session import Session
from edgekit.schema.names import SUFFIXES, Format

RUNTIMES: Registry[Callable[..., Session]] = Registry(
    "runtime",
    {
        "litert": "edgekit.runtimes.litert:open_litert",
        "onnxruntime": "edgekit.runtimes.onnxruntime:OnnxSession",
        "openvino": "edgekit.runtimes.openvino:OpenVinoSession",
        "tflite-runtime": "edgekit.runtimes.litert:open_tflite_runtime",
    },
    group="runtimes",
)


def file_format(path: Path) -> Format:
    """The format that a model file's suffix stands for.

    Raises:
        InputError: none does.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"unknown kind of model file '{path.suffix}'",
            where=str(path),
            hint=did_you_mean(path.suffix, SUFFIXES),
        )
    return SUFFIXES[path.suffix]


def default_runtime(path: Path) -> str:
    """The runtime that opens a file by default, by its suffix and by what is installed."""
    kind = file_format(path)
    if kind == "tflite":
        only_legacy = have("tflite_runtime") and not have("ai_edge_litert")
        return "tflite-runtime" if only_legacy else "litert"
    return "onnxruntime" if kind == "onnx" else "openvino"


def open_session(path: Path, *, threads: int = 1, runtime: str | None = None) -> Session:
    """Loads a `.tflite`, `.onnx` or `.xml` file in its real runtime.

    Args:
        path: the model file.
        threads: that the runtime may use.
        runtime: a name of `RUNTIMES`; by default the one for the file's suffix.

    Raises:
        ModelFileError: the file is missing, corrupt or of an unknown kind.
        ToolError: the runtime cannot run it.
        MissingDependencyError: the runtime is not installed.
    """
    try:
        existing_file(path, what="model file")
    except InputError as error:
        raise ModelFileError(error.message, where=error.where) from None
    session: Session = RUNTIMES.get(runtime or default_runtime(path))(path, threads=threads)
    return session
