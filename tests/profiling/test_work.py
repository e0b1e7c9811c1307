from __future__ import annotations

import math

import pytest

from edgekit.graph.types import OpClass
from edgekit.profiling.cost import kernel_terms, mac_term, op_time
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Work, works
from edgekit.schema.names import Format
from edgekit.schema.target import KernelCosts, MemorySpec, Processor
from tests.profiling.graphs import GraphMaker

MEMORY = MemorySpec(ram_bytes=1 << 30, bandwidth_gb_s=1e6)


def convolution(size: int, made: int, channels: int, kernel: int = 3) -> Work:
    make = GraphMaker((1, size, size, channels))
    make.op("CONV_2D", "conv", (1, made, made, 16), weights=((16, kernel, kernel, channels),),
            macs=made * made * 16 * kernel * kernel * channels)  # fmt: skip
    (load,) = works(GraphView(make.graph()))
    return load


@pytest.mark.parametrize(
    ("load", "winograd"),
    [
        (convolution(16, 16, 8), True),
        (convolution(16, 16, 3), False),  # few channels
        (convolution(16, 8, 8), False),  # stride 2
        (convolution(16, 16, 8, kernel=5), False),
        (convolution(16, 16, 8, kernel=1), False),
    ],
)
def test_where_winograds_algorithm_suits(load: Work, winograd: bool) -> None:
    assert load.winograd is winograd


def test_shallow_convolutions_are_those_of_few_channels() -> None:
    assert convolution(16, 16, 3).shallow
    assert not convolution(16, 16, 4).shallow
    assert mac_term(convolution(16, 16, 3)) == "mac.conv_shallow"
    make = GraphMaker((1, 3, 16, 16), "float32", file_format="onnx")
    make.op("Conv", "conv", (1, 8, 16, 16), weights=((8, 3, 5, 5),), dtype="float32", macs=1000)
    (load,) = works(GraphView(make.graph()))
    assert load.shallow


def test_the_terms_of_a_convolution() -> None:
    terms = kernel_terms(convolution(16, 8, 4, kernel=5))
    assert terms == {
        "mac.conv": 8 * 8 * 16 * 100,
        "patch": 8 * 8 * (100 + 5 * 4),
        "patch_row": 8 * 8 * 5,
        "lane_mac": 8 * 8 * 128 * 64,
        "tile_mac": 8 * 8 * 16 * 100,
        "tile": 2,  # of 16 by 32 results: eight runs of a kernel of 8 x 8 each
        "conv_output": 8 * 8 * 16,
        "activation_byte": 16 * 16 * 4 + 8 * 8 * 16,
        "weight_byte": 16 * 100,
        "op": 1,
    }


@pytest.mark.parametrize(
    ("file_format", "source", "output", "weights", "values"),
    [
        ("tflite", (1, 16, 16, 3), (1, 8, 8, 16), (16, 7, 5, 3), 105 + 7 * 4),
        ("onnx", (1, 3, 16, 16), (1, 16, 8, 8), (16, 3, 7, 5), 105 + 7 * 4),
        ("onnx", (1, 3, 64), (1, 16, 64), (16, 3, 9), 27 + 4),  # a kernel of one row
    ],
)
def test_patches_are_copied_row_by_row_of_the_kernel(
    file_format: Format,
    source: tuple[int, ...],
    output: tuple[int, ...],
    weights: tuple[int, ...],
    values: int,
) -> None:
    make = GraphMaker(source, file_format=file_format)
    name = "CONV_2D" if file_format == "tflite" else "Conv"
    make.op(name, "conv", output, weights=(weights,), macs=math.prod(weights) * 64)
    (load,) = works(GraphView(make.graph()))
    assert kernel_terms(load)["patch"] == 64 * values


def test_a_special_kernel_without_a_rate_runs_as_the_general_one() -> None:
    general = KernelCosts(origin="assumed", ns={"mac.conv": 0.5, "mac.dense": 9.0})
    cpu = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs={"int8": general})
    load = convolution(16, 16, 8)
    assert mac_term(load) == "mac.winograd"
    time = op_time(load, cpu, general, MEMORY)
    assert time.kernel == pytest.approx(load.macs * 0.5e-9)
    assert time.extrapolated is None
    fast = KernelCosts(origin="assumed", ns={"mac.conv": 0.5, "mac.winograd": 0.2})
    assert op_time(load, cpu, fast, MEMORY).kernel == pytest.approx(load.macs * 0.2e-9)


@pytest.mark.parametrize(("stored", "held"), [("int8", 1), ("int16", 2), ("float32", 1)])
def test_weights_count_as_they_are_stored_but_floats_as_computed(stored: str, held: int) -> None:
    make = GraphMaker((1, 8))
    make.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),), weight_dtype=stored, macs=32)
    (load,) = works(GraphView(make.graph()))
    assert load.precision == "int8"
    assert load.weight_bytes == 4 * 8 * held


@pytest.mark.parametrize(("dtype", "channels", "row"), [
    ("int8", 3, 32), ("int8", 48, 48), ("float16", 3, 8), ("float16", 48, 48), ("float32", 3, 3),
])  # fmt: skip
def test_few_channels_move_as_slowly_as_a_row(dtype: str, channels: int, row: int) -> None:
    make = GraphMaker((1, channels, 64, 64), dtype, file_format="onnx")
    make.op("Slice", "data", (1, channels, 32, 32), dtype=dtype)
    (load,) = works(GraphView(make.graph(), for_accelerator=True))
    assert load.row_bytes == (64 * 64 + 32 * 32) * row * load.activation_bytes // (
        (64 * 64 + 32 * 32) * channels
    )


@pytest.mark.parametrize(
    ("name", "kind", "passes"),
    [("Conv", "pointwise", True), ("Conv", "conv", False),
     ("MaxPool", "pool", False)],
)  # fmt: skip
def test_what_is_read_tile_by_tile_never_is_there_as_a_whole(
    name: str, kind: OpClass, passes: bool
) -> None:
    """The activation between two operators, 24 channels in a block of 32, through a fused Relu."""
    make = GraphMaker((1, 24, 8, 8), file_format="onnx")
    make.op("Conv", "conv", (1, 24, 8, 8), weights=((24, 24, 3, 3),), macs=331_776)
    between = make.op("Relu", "activation", (1, 24, 8, 8))
    make.op(name, kind, (1, 24, 8, 8))
    first, fused, second = works(GraphView(make.graph(), for_accelerator=True))
    size = 8 * 8 * 32
    assert fused.free
    assert (len(first.maps), len(second.maps)) == ((1, 1) if passes else (2, 2))
    assert {*first.maps, *second.maps} == {size}
    make.op("Neg", "elementwise", (1, 24, 8, 8), source=between)  # another that reads it
    first, _, second, *_ = works(GraphView(make.graph(), for_accelerator=True))
    assert (len(first.maps), len(second.maps)) == (2, 2)
