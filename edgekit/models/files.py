"""Reading and writing Keras model files; nothing in a file is ever executed."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.base.errors import EdgekitError, ModelFileError
from edgekit.base.extras import require
from edgekit.base.files import atomic_path, existing_file

if TYPE_CHECKING:
    import keras

_SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"
_METADATA = "metadata.json"
_CONFIG = "config.json"
_SHARED_ID = re.compile(rb'("shared_object_id": )(\d+)')
_LONGEST_REASON = 300


def load_model(path: Path) -> keras.Model:
    """Loads a Keras model for inference or further training.

    Reads .keras files with `safe_mode` (no lambdas, no code), and .h5 files of Keras 2, whose
    DepthwiseConv2D layers carry an argument `groups` that Keras 3 does not know.

    Returns:
        A functional model (a Sequential one is wrapped), not compiled.

    Raises:
        ModelFileError: the file is missing, truncated, corrupt, of another kind, or needs code
            that it does not hold.
    """
    check_keras_file(path)
    keras = require("keras", purpose="to read Keras models")
    importlib.import_module("edgekit.models.fakequant_cells")  # Keras learns edgekit's layers
    try:
        objects = _keras2_objects() if path.suffix != ".keras" else {}
        model = keras.models.load_model(path, custom_objects=objects, compile=False, safe_mode=True)
    except EdgekitError:
        raise
    except Exception as error:  # noqa: BLE001 a damaged file makes Keras raise anything
        raise ModelFileError(
            f"cannot be read as a Keras model: {_reason(error)}",
            where=str(path),
            hint="the file is damaged, or it needs layers or code that edgekit does not know",
        ) from None
    return as_functional(model, where=str(path))


def save_model(model: keras.Model, path: Path) -> None:
    """Writes a .keras file without the optimizer; the same model gives the same bytes.

    Raises:
        StorageError: the disk is full.
        ModelFileError: the path does not end in .keras, or the model cannot be written.
    """
    if path.suffix != ".keras":
        raise ModelFileError("a Keras model is written to a .keras file", where=str(path))
    with atomic_path(path) as temporary:
        try:
            as_functional(model, where=str(path)).save(temporary)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 layers written by users can raise anything
            raise ModelFileError(
                f"the model cannot be written: {_reason(error)}", where=str(path)
            ) from None
        _make_reproducible(temporary)


def has_ranges(path: Path) -> bool:
    """Whether a .keras file brings the ranges of its activations, as `qat` leaves them."""
    return _configured(path, b'"edgekit>FakeQuant"')


def has_dense_one_scale(path: Path) -> bool:
    """Whether `qat` has trained a .keras file's dense layers in one scale for all weights each."""
    return has_ranges(path) and _configured(path, b'"dense_one_scale": true')


def _configured(path: Path, words: bytes) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return words in archive.read(_CONFIG)
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def as_functional(model: keras.Model, *, where: str = "model") -> keras.Model:
    """The model as an uncompiled functional model that shares its layers and weights.

    Raises:
        ModelFileError: it has no fixed inputs and outputs.
    """
    keras = require("keras", purpose="to handle Keras models")
    inputs = outputs = None
    with suppress(AttributeError, ValueError):
        inputs, outputs = model.inputs, model.outputs
    if not inputs or not outputs:
        raise ModelFileError(
            "the model has no fixed inputs and outputs",
            where=where,
            hint="build it with keras.Input and keras.Model(inputs, outputs)",
        )
    if isinstance(model, keras.Sequential) or model.compiled:
        return keras.Model(model.inputs, model.outputs, name=model.name)
    return model


def check_keras_file(path: Path) -> None:
    """Checks what can be seen of a Keras file without Keras: its suffix and its frame.

    Raises:
        ModelFileError: the file is missing, truncated or of another kind.
    """
    try:
        existing_file(path, what="model file")
    except EdgekitError as error:
        raise ModelFileError(error.message, where=error.where) from None
    if path.suffix not in _SUFFIXES:
        raise ModelFileError(
            f"'{path.suffix}' is not a Keras model", where=str(path), hint=", ".join(_SUFFIXES)
        )
    with path.open("rb") as handle:
        start = handle.read(len(_HDF5_MAGIC))
    if path.suffix == ".keras":
        whole = start.startswith(_ZIP_MAGIC) and zipfile.is_zipfile(path)
    else:
        whole = start == _HDF5_MAGIC
    if not whole:
        raise ModelFileError(
            f"is no {path.suffix} file: truncated, empty or of another kind", where=str(path)
        )


def _keras2_objects() -> dict[str, Any]:
    keras = require("keras", purpose="to read Keras models")

    layer = keras.layers.DepthwiseConv2D

    def from_config(_: type, config: dict[str, Any]) -> Any:
        return layer(**{key: value for key, value in config.items() if key != "groups"})

    name = layer.__name__
    return {name: type(name, (layer,), {"from_config": classmethod(from_config)})}


def _make_reproducible(path: Path) -> None:
    """Rewrites a .keras archive without its dates and memory addresses."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members[_METADATA])
    metadata.pop("date_saved", None)
    members[_METADATA] = json.dumps(metadata, sort_keys=True).encode()
    addresses: dict[bytes, int] = {}  # Keras marks an object that it meets again by its address

    def number(match: re.Match[bytes]) -> bytes:
        return b"%s%d" % (match[1], addresses.setdefault(match[2], len(addresses)))

    members[_CONFIG] = _SHARED_ID.sub(number, members[_CONFIG])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."
