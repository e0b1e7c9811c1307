"""The shapes that measured kernels are looked up by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgekit.profiling.kernels.shapes import KernelShape, kernel_shape
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from tests.profiling.graphs import GraphMaker


@pytest.mark.parametrize(
    ("row", "run"),
    [((3,), 3), ((1, 1, 1, 3), 3), ((4, 1, 1), 24), ((), 4096), ((1, 4, 8, 3), 4096)],
)
def test_a_kernel_knows_how_soon_a_factor_is_repeated(row: tuple[int, ...], run: int) -> None:
    make = GraphMaker((None, 4, 8, 3), "float32")
    make.op("MUL", "elementwise", (None, 4, 8, 3), weights=(row,), dtype="float32")
    view = GraphView(make.graph())
    assert kernel_shape(view, next(iter(works(view)))).features[6] == run


def test_openvino_keeps_the_channels_of_an_image_last() -> None:
    make = GraphMaker((1, 3, 4, 8), "float32", file_format="openvino")
    row = ((1, 3, 1, 1),)
    make.op("Multiply", "elementwise", (1, 3, 4, 8), weights=row, dtype="float32")
    view = GraphView(make.graph())
    assert kernel_shape(view, next(iter(works(view)))).features[6] == 3


@pytest.mark.parametrize(
    ("row", "run"),
    [((), 1), ((1,), 1), ((1, 1), 1), ((1, 1, 1, 1), 4096), ((64, 1, 1), 4096)],
)
def test_onnxruntime_goes_value_by_value_where_axes_that_a_factor_lacks_begin(
    row: tuple[int, ...], run: int
) -> None:
    """Of 800 values of one place, a factor of shape () takes 6.4 us, one of (1, 1, 1, 1) 0.4."""
    make = GraphMaker((1, 64, 1, 1), "float32", file_format="onnx")
    make.op("Mul", "elementwise", (1, 64, 1, 1), weights=(row,), dtype="float32")
    view = GraphView(make.graph())
    assert kernel_shape(view, next(iter(works(view)))).features[6] == run


def _dense(columns: int, inputs: int = 64, rows: int = 1) -> KernelShape:
    make = GraphMaker((rows, inputs), "float32")
    make.op("FULLY_CONNECTED", "dense", (rows, columns), weights=((columns, inputs),),
            dtype="float32", macs=rows * columns * inputs)  # fmt: skip
    view = GraphView(make.graph())
    return kernel_shape(view, next(iter(works(view))))


@pytest.mark.parametrize(
    ("columns", "kernel", "together"),
    [(16, "dense_tile", 1), (24, "dense", 1), (32, "dense_tile", 2), (48, "dense", 1),
     (56, "dense", 2), (80, "dense", 1), (128, "dense", 2)],
)  # fmt: skip
def test_columns_of_a_dense_layer_fill_tiles_of_two_widths(
    columns: int, kernel: str, together: int
) -> None:
    """As XNNPACK's float kernels for one row were measured: 24 is divided, 32 is not."""
    shape = _dense(columns)
    assert shape.kernel == kernel
    assert shape.features[5] == together


def test_what_an_inference_touches_counts_between_two_bounds() -> None:
    small, middle, large = (_dense(1024, inputs) for inputs in (16, 512, 16384))
    touched = [shape.features[-1] for shape in (small, middle, large)]
    assert touched == [0.5, pytest.approx(4 * (512 * 1024 + 1024) / 1e6), 32.0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_moved_values_are_counted_in_pieces_of_any_type(dtype: str) -> None:
    """A row of each tensor is one copy: 64 places of three tensors."""
    make = GraphMaker((1, 8, 8, 1), dtype)
    others = [make.tensor((1, 8, 8, channels), dtype) for channels in (2, 3)]
    make.op("CONCATENATION", "data", (1, 8, 8, 6), dtype=dtype)
    make.ops[0] = replace(make.ops[0], inputs=(0, *others))
    view = GraphView(make.graph())
    shape = kernel_shape(view, next(iter(works(view))))
    assert shape.kernel == "CONCATENATION"
    assert shape.features[4] == 64 * 3 / (64 * 6)


def test_a_difference_takes_as_long_as_a_sum_in_a_tflite_file() -> None:
    make = GraphMaker((1, 4, 4, 8), "int8")
    make.op("SUB", "elementwise", (1, 4, 4, 8), weights=((8,),))
    view = GraphView(make.graph())
    assert kernel_shape(view, next(iter(works(view)))).kernel == "ADD"
