"""Arenas that TensorFlow Lite Micro's own interpreter allocates, against the prediction.

The numbers were printed by print_allocations of the Python package tflite-micro
0.dev20261023182759 (x86-64, reference kernels, decompression); where the package is installed it is
asked again.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from edgekit.graph.tflite import read_buffer, read_tflite
from edgekit.graph.types import Graph
from edgekit.profiling.memory.arena import plan
from edgekit.profiling.memory.scratch import tflm_scratch
from edgekit.profiling.memory.tail import Build, struct_bytes, tail_bytes
from tests.profiling.tflite_files import Slot, one_op

# Its recording allocators keep counters: 488 bytes in all, found from the files below.
WHEEL = Build(pointer=8, decompression=True, fixed=488)

FILES = {  # head and tail
    "coral_keras_lstm_mnist_ptq": (1568, 2912),
    "mlperf_tiny_ad_fp32": (3072, 3152),
    "mlperf_tiny_ad_int8": (768, 3216),
    "mlperf_tiny_ic_fp32": (196608, 6768),
    "mlperf_tiny_ic_int8": (49152, 6832),
    "mlperf_tiny_kws_int8": (16000, 8272),
    "mlperf_tiny_vww_fp32": (294912, 29888),
    "mlperf_tiny_vww_int8": (73728, 29952),
    "tinymlfc_FC10p50_Digits": (304, 1584),
    "tinymlfc_FC10x10_Iris": (96, 3568),
    "tinymlfc_FC1x10_Iris": (64, 1344),
}

IMAGE = (1, 4, 4, 8)
AXES = Slot((2,), "int32", [1, 2])


def _reduced(name: str, dtype: str) -> bytes:
    slots = [Slot(IMAGE, dtype), AXES, Slot((1, 8), dtype)]
    return one_op(name, slots, [0, 1], [2], "ReducerOptions", keepDims=False)


def _same(name: str, dtype: str, count: int = 1, options: str | None = None) -> bytes:
    slots = [Slot(IMAGE, dtype)] * (count + 1)
    return one_op(name, slots, list(range(count)), [count], options)


def _svdf() -> bytes:
    slots = [
        Slot((1, 16)),
        Slot((8, 16), values=True),
        Slot((8, 10), "int16", True),
        Slot((4,), "int32", True),
        Slot((1, 80), "int16", variable=True),
        Slot((1, 4)),
    ]
    return one_op("SVDF", slots, [0, 1, 2, 3, 4], [5], "SVDFOptions", rank=2)


def _transpose_conv() -> bytes:
    slots = [Slot((4,), "int32", [1, 8, 8, 4]), Slot((4, 3, 3, 8), values=True), Slot(IMAGE),
             Slot((1, 8, 8, 4))]  # fmt: skip
    return one_op(
        "TRANSPOSE_CONV", slots, [0, 1, 2], [3], "TransposeConvOptions", strideW=2, strideH=2
    )


def _four_bits() -> bytes:
    slots = [Slot((1, 16)), Slot((8, 16), "int4", True), Slot((1, 8))]
    return one_op("FULLY_CONNECTED", slots, [0, 1, -1], [2], "FullyConnectedOptions")


OPERATORS = {
    "transpose_conv": (_transpose_conv, 1408, 1024),
    "svdf": (_svdf, 80, 1152),
    "dense of 4 bits": (_four_bits, 160, 960),
    "mean": (lambda: _reduced("MEAN", "int8"), 208, 912),
    "mean of floats": (lambda: _reduced("MEAN", "float32"), 576, 848),
    "sum": (lambda: _reduced("SUM", "int8"), 208, 912),
    "reduce_max": (lambda: _reduced("REDUCE_MAX", "int8"), 176, 912),
    "add": (lambda: _same("ADD", "int8", 2, "AddOptions"), 384, 1024),
    "mul": (lambda: _same("MUL", "float32", 2, "MulOptions"), 1536, 896),
    "sub": (lambda: _same("SUB", "int8", 2, "SubOptions"), 384, 1008),
    "tanh": (lambda: _same("TANH", "int8"), 256, 848),
    "elu": (lambda: _same("ELU", "int8"), 256, 1088),
    "relu": (lambda: _same("RELU", "int8"), 256, 864),
    "hard_swish": (lambda: _same("HARD_SWISH", "int8"), 256, 848),
    "prelu": (lambda: _same("PRELU", "int8", 2), 384, 976),
    "squared_difference": (lambda: _same("SQUARED_DIFFERENCE", "int8", 2), 384, 1056),
}  # fmt: skip


def predicted(graph: Graph) -> tuple[int, int]:
    head = plan(graph, planner="tflm", scratch=tflm_scratch(graph)).arena_bytes
    return head, tail_bytes(graph, WHEEL)


def allocated(data: bytes, capfd: pytest.CaptureFixture[str]) -> tuple[int, int] | None:
    """What the interpreter says of its arena; None where it is not installed."""
    try:
        runtime = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    except ImportError:
        return None
    capfd.readouterr()
    runtime.Interpreter.from_bytes(data, arena_size=1 << 20).print_allocations()
    printed = "".join(capfd.readouterr())
    head, tail = (re.search(rf"allocation {part} (\d+)", printed) for part in ("head", "tail"))
    assert head is not None and tail is not None, printed
    return int(head[1]), int(tail[1])


@pytest.mark.parametrize("name", FILES)
def test_arena_of_files(shared: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = shared / "models" / f"{name}.tflite"
    assert predicted(read_tflite(path)) == FILES[name]
    assert allocated(path.read_bytes(), capfd) in (FILES[name], None)


@pytest.mark.parametrize("name", OPERATORS)
def test_arena_of_operators(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, head, tail = OPERATORS[name]
    data = make()
    assert predicted(read_buffer(data)) == (head, tail)
    assert allocated(data, capfd) in ((head, tail), None)


def test_microcontrollers_need_less(shared: Path) -> None:
    """Pointers are half as long, and there are no counters."""
    for name, (_, tail) in FILES.items():
        graph = read_tflite(shared / "models" / f"{name}.tflite")
        assert 0.4 * tail < tail_bytes(graph) < tail


@pytest.mark.parametrize(
    ("fields", "pointer", "size"),
    [("ppi", 8, 24), ("ppi", 4, 12), ("bi", 4, 8), ("ib", 8, 8), ("idi", 4, 24), ("b", 4, 1),
     ("hhb", 4, 6), ("ppppppip", 8, 64), ("ppppppip", 4, 32)],
)  # fmt: skip
def test_struct_sizes(fields: str, pointer: int, size: int) -> None:
    assert struct_bytes(fields, pointer) == size
