"""int8 kernels of one grid in .tflite files.

TensorFlow's converter gives each output channel the step that its largest weight asks for. Kernels
with one codebook have one grid in training, which takes no more integers than the codebook has
values: here the file gets it. Kernels, biases and scales are overwritten where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ConversionError
from edgekit.base.extras import require

if TYPE_CHECKING:
    import keras

GRIDS_FILE = "shared_grids.npz"
"""In a SavedModel's directory: integers and steps of the kernels that have one grid."""
_LARGEST = 127
_SAME = 1e-4  # relative difference of steps that are the same
_ROUNDED = 0.51  # of a converter's step: it may round halves either way


@dataclass(frozen=True)
class Grid:
    """What the file is to have of one kernel.

    Attributes:
        name: of the layer and the kernel.
        codes: int8 of shape (output channels, weights of each).
        steps: of each output channel; 0 where the converter's stays.
    """

    name: str
    codes: NDArray[np.int8]
    steps: NDArray[np.float64]


def write_grids(model: keras.Model, path: Path) -> None:
    """Writes the kernels of a quantized model that have one grid, if there are any."""
    from edgekit.models.fakequant import integers, kernel_steps, quantized_layers

    arrays: dict[str, NDArray[Any]] = {}
    for layer in quantized_layers(model):
        for name in layer.shared:
            codes, axes = integers(layer, name), layer.rules[name]
            moved = np.moveaxis(codes, axes, tuple(range(len(axes))))
            steps = kernel_steps(layer, name).reshape(-1)
            key = f"{len(arrays) // 2}/{layer.name}.{name}"
            arrays[f"codes/{key}"] = moved.reshape(len(steps), -1)
            arrays[f"steps/{key}"] = steps
    if arrays:
        np.savez(path, **arrays)  # type: ignore[arg-type]


def read_grids(path: Path) -> list[Grid]:
    """What `write_grids` has written; nothing if there is no such file."""
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as arrays:
        keys = [name.removeprefix("codes/") for name in arrays.files if name.startswith("codes/")]
        return [
            Grid(key.partition("/")[2], arrays[f"codes/{key}"], arrays[f"steps/{key}"])
            for key in keys
        ]


def share_grids(content: bytes, grids: list[Grid]) -> bytes:
    """The file with these kernels on their grids.

    Args:
        content: a .tflite file with a step for each channel of these kernels.
        grids: of kernels with weights on them.

    Raises:
        ConversionError: one of the kernels is not in the file.
    """
    tflite = require("tflite", purpose="to write TFLite files")
    changed = bytearray(content)
    missing = {grid.name for grid in grids}
    written: dict[int, bytes] = {}
    # Equal constants lie in the file once: what is written must not be read again.
    old, new = (tflite.Model.GetRootAs(one, 0) for one in (content, changed))
    for number in range(old.SubgraphsLength() if grids else 0):
        graph = old.Subgraphs(number)
        for place in range(graph.OperatorsLength()):
            inputs = [int(index) for index in graph.Operators(place).InputsAsNumpy()]
            kernel = _Stored.read(old, number, inputs[1]) if len(inputs) > 1 else None
            grid = None if kernel is None else _match(kernel, grids)
            if kernel is None or grid is None:
                continue
            missing.discard(grid.name)
            steps = np.where(grid.steps > 0, grid.steps, kernel.scales)
            factor = kernel.scales / steps
            _write(new, number, inputs[1], grid.codes, steps, written)
            bias = _Stored.read(old, number, inputs[2]) if len(inputs) > 2 else None
            if bias is not None:
                rows = np.round(bias.rows * factor)
                _write(new, number, inputs[2], rows, bias.scales / factor, written)
    if missing:
        raise ConversionError(
            f"kernels of one grid are not in the file as expected: {', '.join(sorted(missing))}",
            where="tflite int8",
        )
    return bytes(changed)


@dataclass(frozen=True)
class _Stored:
    """A constant with scales in a file.

    Attributes:
        buffer: that holds it.
        rows: its integers, a row a channel.
        scales: of each channel.
    """

    buffer: int
    rows: NDArray[Any]
    scales: NDArray[np.float32]

    @classmethod
    def read(cls, model: Any, graph: int, index: int) -> _Stored | None:
        """The constant; None if the tensor is none, or has not a scale for each channel."""
        if index < 0:
            return None
        tflite = require("tflite", purpose="to write TFLite files")
        tensor = model.Subgraphs(graph).Tensors(index)
        types = {tflite.TensorType.INT8: np.int8, tflite.TensorType.INT32: np.int32}
        found, kind = tensor.Quantization(), types.get(tensor.Type())
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if kind is None or found is None or isinstance(data, int) or not found.ScaleLength():
            return None
        if not tensor.ShapeLength():  # a scalar
            return None
        channels = np.moveaxis(
            data.view(kind).reshape(tensor.ShapeAsNumpy()), found.QuantizedDimension(), 0
        )
        if len(channels) != found.ScaleLength():
            return None
        return cls(tensor.Buffer(), channels, found.ScaleAsNumpy())


def _write(
    model: Any,
    graph: int,
    index: int,
    rows: NDArray[Any],
    scales: NDArray[Any],
    written: dict[int, bytes],
) -> None:
    """Overwrites a constant; `written` is what was written so far, by buffer.

    Raises:
        ConversionError: another tensor that lies in the same place has become something else.
    """
    place = _Stored.read(model, graph, index)
    assert place is not None
    place.rows[:] = rows.reshape(place.rows.shape)
    place.scales[:] = scales
    content = place.rows.tobytes()
    if written.setdefault(place.buffer, content) != content:
        raise ConversionError("kernels of one grid share a constant", where="tflite int8")


def _match(kernel: _Stored, grids: list[Grid]) -> Grid | None:
    """Which kernel this is, as the converter has rounded it."""
    rows = kernel.rows.reshape(len(kernel.scales), -1)
    for grid in grids:
        if grid.codes.shape != rows.shape:
            continue
        codes = grid.codes.astype(np.float64)
        largest = np.abs(codes).max(axis=1)
        alive = largest > 0
        wanted = grid.steps * largest / _LARGEST
        if np.any(np.abs(kernel.scales - wanted)[alive] > _SAME * wanted[alive]):
            continue
        exact = codes * (_LARGEST / np.where(alive, largest, 1))[:, None]
        if np.all(np.abs(rows - exact) <= _ROUNDED):
            return grid
    return None
