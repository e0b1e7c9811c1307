"""Optional libraries: which extra brings which module, and a clear error where one is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from edgekit.base.errors import MissingDependencyError

# module: (distribution on PyPI, extra of edgekit that brings it)
OPTIONAL: dict[str, tuple[str, str]] = {
    "ai_edge_litert": ("ai-edge-litert", "litert"),
    "ethosu": ("ethos-u-vela", "vela"),
    "nncf": ("nncf", "nncf"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino"),
    "ai_edge_quantizer": ("ai-edge-quantizer", "train"),
    "keras": ("keras", "train"),
    "PIL": ("pillow", "train"),
    "scipy": ("scipy", "train"),
    "sklearn": ("scikit-learn", "train"),
    "tensorflow": ("tensorflow", "train"),
    "tf2onnx": ("tf2onnx", "train"),
    "tflite_runtime": ("tflite-runtime", "device-legacy"),
}


def have(module: str) -> bool:
    """Whether `module` is installed; nothing is imported."""
    return importlib.util.find_spec(module) is not None


def require(module: str, *, purpose: str) -> ModuleType:
    """Imports an optional module such as `onnx` or `tensorflow`.

    Args:
        module: dotted module name; its first part is looked up in `OPTIONAL`.
        purpose: what it is needed for, for the message: "to read ONNX files".

    Raises:
        MissingDependencyError: it is not installed; the hint is the command that installs it.
    """
    root = module.partition(".")[0]
    if not have(root):
        distribution, extra = OPTIONAL[root]
        raise MissingDependencyError(
            f"{distribution} is needed {purpose} and is not installed",
            hint=f"pip install 'edgekit[{extra}]'",
        )
    if root in ("keras", "tensorflow") and root not in sys.modules:
        return _import_tensorflow(module)
    return importlib.import_module(module)


def _import_tensorflow(module: str) -> ModuleType:
    """Imports TensorFlow or Keras without the lines that they log while they load.

    They are written by native code before any setting of TensorFlow's holds; whoever sets
    TF_CPP_MIN_LOG_LEVEL sees them.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return importlib.import_module(module)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with native_stderr_dropped():
        return importlib.import_module(module)


@contextmanager
def native_stderr_dropped() -> Iterator[None]:
    """Drops what native code writes to standard error meanwhile; Python's own is still shown."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere, os.fdopen(os.dup(2), "w") as still_shown:  # noqa: PTH123
        python_stderr, sys.stderr = sys.stderr, still_shown
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            sys.stderr = python_stderr


def version(distribution: str) -> str | None:
    """The installed version of a distribution, or None; nothing is imported."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(*distributions: str) -> dict[str, str]:
    """The installed versions among `distributions`."""
    found = {name: version(name) for name in distributions}
    return {name: number for name, number in found.items() if number is not None}
