"""Why a quantized file is slow: the reasons, with latencies made up."""

from __future__ import annotations

import pytest

from edgekit.graph.types import Graph, Op, Tensor
from edgekit.schema.figure import Figure
from edgekit.schema.results import LayerProfile, Profile
from edgekit.verify.speed import slower_on_target, slower_than_float

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
    sure = Figure(value=1.08, low=1.079, high=1.081, unit="ms", origin="measured")
    assert (
        slower_than_float(graph("int8"), sure, sure.model_copy(update={"value": 1.0}), FAST) is None
    )
    assert slower_than_float(graph("int8"), Figure.missing("none"), ms(1), FAST) is None


@pytest.mark.parametrize(
    ("slow", "features", "reason"),
    [
        (graph("int16", "int16"), FAST, "int16"),
        (graph("int8", "float32"), FAST, "1 of 2 operators stayed in float (1 CONV_2D)"),
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


def test_operators_without_an_optimized_kernel_are_named() -> None:
    found = slower_than_float(graph("int8", "int8"), ms(2), ms(1), FAST, unoptimized=(0, 1))
    assert found is not None and "2 of 2 operators have no optimized kernel" in found


def test_an_estimate_for_a_target_tells_where_the_time_goes() -> None:
    def profile(latency: Figure, **times: float) -> Profile:
        nothing = Figure.missing("not asked")
        layers = tuple(
            LayerProfile(index=0, op=name, layer="", macs=0, bytes=0, latency_ms=ms(time))
            for name, time in times.items()
        )
        return Profile(
            artifact="a",
            target="board",
            device="b",
            latency_ms=latency,
            energy_mj=nothing,
            peak_memory_bytes=nothing,
            layers=layers,
        )

    fast = profile(ms(1), DEPTHWISE=0.5, CONV=0.5)
    slow = profile(ms(3), DEPTHWISE=2.5, CONV=0.5)
    found = slower_on_target(slow, fast)
    assert found is not None and found.startswith("on board, estimated: 3 ms, the float file 1 ms")
    assert "DEPTHWISE +2 ms" in found and "CONV +" not in found
    assert slower_on_target(fast, slow) is None
    nowhere = slower_on_target(profile(Figure.missing("no int8 kernels")), fast)
    assert nowhere == "board does not run it: no int8 kernels"
    assert slower_on_target(profile(Figure.missing("x")), profile(Figure.missing("x"))) is None
