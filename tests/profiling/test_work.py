from __future__ import annotations

import math

import pytest

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
        "lane_mac": 8 * 8 * 128 * 64,
        "block_mac": 8 * 8 * 25 * 32 * 32,
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
