"""Why a quantized file is slow: the reasons, with latencies made up."""

from __future__ import annotations

import pytest

from edgekit.graph.types import Graph, Op, Tensor
from edgekit.schema.figure import Figure
from edgekit.verify.speed import slower_than_float

FAST = ("avx2", "avx512_vnni")


def ms(value: float) -> Figure:
    return Figure(value=value, low=0.95 * value, high=1.05 * value, unit="ms", origin="measured")


def graph(*dtypes: str, kind: str = "conv", changes: int = 0, weights: str = "int8") -> Graph:
    tensors = [Tensor(0, "w", (3, 3), weights, constant=True)]
    ops = []
    for dtype in dtypes:
        tensors.append(Tensor(len(tensors), "t", (1, 8), dtype))
        ops.append(Op(len(ops), "CONV_2D", kind, "", (0,), (len(tensors) - 1,), macs=100))  # type: ignore[arg-type]
    for _ in range(changes):
        tensors.append(Tensor(len(tensors), "q", (1, 8), "int8"))
        ops.append(Op(len(ops), "QUANTIZE", "quantize", "", (1,), (len(tensors) - 1,)))
    return Graph("tflite", "", tuple(tensors), tuple(ops), (), (), 0)


def test_a_faster_file_and_one_that_may_be_as_fast_have_no_cause() -> None:
    assert slower_than_float(graph("int8"), ms(1), ms(2), FAST) is None
    assert slower_than_float(graph("int8"), ms(1.04), ms(1), FAST) is None
    assert slower_than_float(graph("int8"), Figure.missing("none"), ms(1), FAST) is None


@pytest.mark.parametrize(
    ("slow", "features", "reason"),
    [
        (graph("int16", "int16"), FAST, "int16"),
        (graph("int8", "float32"), FAST, "1 of 2 computing operators stayed in float (1 CONV_2D)"),
        (graph("int8", changes=2), FAST, "2 of 3 operators only change scale or dtype"),
        (graph("int8"), ("avx2",), "no 8-bit dot product"),
        (graph("int8", kind="depthwise"), FAST, "depthwise"),
        (graph("int8", weights="int4"), FAST, "int4"),
        (graph("int8"), FAST, "not faster here"),
    ],
)
def test_the_reason_is_told_and_no_other(
    slow: Graph, features: tuple[str, ...], reason: str
) -> None:
    found = slower_than_float(slow, ms(2), ms(1), features)
    assert found is not None
    assert found.startswith("2 ms, the float file 1 ms: ")
    assert reason in found
    assert ";" not in found
