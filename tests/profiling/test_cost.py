from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.graph.types import Op
from edgekit.profiling.cost import crossing_seconds, kernel_terms, op_time, systolic_cycles
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import Gemm, Work, works
from edgekit.schema.target import KernelCosts, Link, MemorySpec, Processor, SystolicArray
from tests.profiling.graphs import GraphMaker, small_cnn

COSTS = KernelCosts(
    origin="assumed",
    ns={
        "mac.conv": 0.1,
        "mac.dense": 0.3,
        "activation_byte": 0.01,
        "weight_byte": 0.02,
        "op": 2000.0,
        "patch": 0.04,
    },
)
CPU = Processor(name="cpu", kind="cpu", rules="litert-cpu", costs={"int8": COSTS})
MEMORY = MemorySpec(ram_bytes=1 << 30, cache_bytes=1000, bandwidth_gb_s=1.0)


def work(
    kind: str = "conv", macs: int = 1000, activations: int = 100, weights: int = 50,
    gemm: Gemm | None = None, *, free: bool = False,
) -> Work:  # fmt: skip
    op = Op(0, "OP", kind, "layer", (0,), (1,), {}, macs)  # type: ignore[arg-type]
    return Work(op, "int8", macs, activations, weights, gemm, free)


def test_the_time_of_an_operator_within_the_cache() -> None:
    time = op_time(work(), CPU, COSTS, MEMORY)
    assert time.kernel == pytest.approx((1000 * 100 + 100 * 10 + 50 * 20) * 1e-12)
    assert time.memory == 0
    assert time.seconds == pytest.approx(time.kernel + 2e-6)
    assert time.extrapolated is None


def test_no_kernel_is_faster_than_the_memory() -> None:
    time = op_time(work(activations=10**6), CPU, COSTS, MEMORY)
    assert time.memory == pytest.approx((10**6 + 50) / 1e9)
    assert time.seconds == pytest.approx(time.memory + 2e-6)


def test_an_unmeasured_class_costs_as_much_as_the_slowest() -> None:
    time = op_time(work("depthwise"), CPU, COSTS, MEMORY)
    assert time.kernel == pytest.approx((1000 * 300 + 100 * 10 + 50 * 20) * 1e-12)
    assert "depthwise" in (time.extrapolated or "")


@pytest.mark.parametrize(
    ("kind", "gemm", "lanes"),
    [
        ("conv", Gemm(m=10, k=27, n=32), 10 * 64 * 64),
        ("pointwise", Gemm(m=10, k=128, n=65), 10 * 128 * 128),
        ("conv", Gemm(m=10, k=16, n=16, groups=4), 10 * 64 * 64 * 4),
        ("depthwise", Gemm(m=10, k=9, n=1, groups=65), 10 * 9 * 128),
        ("recurrent", None, 1000),
    ],
)
def test_an_array_spends_as_much_on_idle_lanes(kind: str, gemm: Gemm | None, lanes: int) -> None:
    load = work(kind, gemm=gemm)
    assert kernel_terms(load)["lane_mac"] == lanes
    costs = KernelCosts(origin="assumed", ns={"lane_mac": 0.5})
    device = Processor(name="npu", kind="npu", rules="systolic", costs={"int8": costs})
    time = op_time(load, device, costs, MEMORY)
    assert time.kernel == pytest.approx(lanes * 0.5e-9)
    assert time.extrapolated is None


def test_a_layer_of_a_pipeline_costs_its_cycles_in_place_of_its_products() -> None:
    costs = KernelCosts(origin="assumed", ns={"pipeline_cycle": 2.5, "mac.conv": 3.0})
    layer = op_time(work(), CPU, costs, MEMORY, cycles=40.0)
    assert layer.kernel == pytest.approx(40 * 2.5e-9)
    assert "pipeline_cycle" not in kernel_terms(work())
    assert op_time(work(), CPU, costs, MEMORY).kernel == pytest.approx(3000e-9)


def test_a_network_that_is_loaded_part_by_part_costs_by_operator() -> None:
    terms = kernel_terms(work(), switched=True)
    assert terms["switched_op"] == 1
    assert "switched_norm" not in terms
    assert kernel_terms(work("normalization", 0), switched=True)["switched_norm"] == 1
    assert not {"switched_op", "switched_norm"} & kernel_terms(work("normalization", 0)).keys()
    costs = KernelCosts(origin="assumed", ns={"mac.conv": 0.1, "switched_op": 300.0})
    whole, parts = (op_time(work(), CPU, costs, MEMORY, switched=one) for one in (False, True))
    assert parts.seconds - whole.seconds == pytest.approx(300e-9)


def test_only_operators_that_move_data_cost_vector_bytes() -> None:
    assert kernel_terms(work("data", 0))["vector_byte"] == 100
    assert kernel_terms(work("elementwise", 0))["vector_byte"] == 100
    assert "vector_byte" not in kernel_terms(work("pool", 0))


@pytest.mark.parametrize("kind", ["pool", "reduce", "activation"])
def test_bytes_of_what_stands_between_convolutions_are_told_apart(kind: str) -> None:
    assert kernel_terms(work(kind, 0))["unfused_byte"] == 100
    assert "unfused_byte" not in kernel_terms(work("elementwise", 0))
    assert "unfused_byte" not in kernel_terms(work("pointwise"))


@pytest.mark.parametrize(
    ("name", "kind", "counts"),
    [
        ("SOFTMAX", "activation", False), ("Transpose", "data", True),
        ("LayerNormalization", "normalization", False), ("LOGISTIC", "activation", False),
        ("CONCATENATION", "data", False), ("Slice", "data", True), ("SPLIT", "data", True),
    ],
)  # fmt: skip
def test_only_operators_whose_values_change_lanes_cost_reorder_bytes(
    name: str, kind: str, counts: bool
) -> None:
    load = replace(work(kind, 0), row_bytes=320)
    terms = kernel_terms(replace(load, op=replace(load.op, name=name)))
    assert terms.get("reorder_byte") == (320 if counts else None)


@pytest.mark.parametrize(
    ("name", "kind", "counts"),
    [
        ("MEAN", "reduce", True), ("ArgMax", "reduce", True), ("Softmax", "activation", True),
        ("LayerNormalization", "normalization", True), ("LAYER_NORM", "normalization", True),
        ("BatchNormalization", "normalization", False), ("Sigmoid", "activation", False),
        ("Conv", "conv", False), ("MaxPool", "pool", False),
    ],
)  # fmt: skip
def test_what_needs_many_values_for_each_counts_by_operator(
    name: str, kind: str, counts: bool
) -> None:
    load = work(kind, 0)
    terms = kernel_terms(replace(load, op=replace(load.op, name=name)))
    assert terms.get("statistic_op") == (1 if counts else None)


def test_weights_and_activations_that_are_too_large_pass_the_memory_off_the_chip() -> None:
    load = replace(work(activations=700, weights=50), maps=(400, 300))
    amounts = [kernel_terms(load, resident_bytes=most)["offchip_byte"] for most in (299, 300, 400)]
    assert amounts == [750, 450, 50]
    assert "offchip_byte" not in kernel_terms(load)
    costs = KernelCosts(origin="assumed", ns={"mac.conv": 0.0, "offchip_byte": 2.0})
    device = Processor(
        name="npu", kind="npu", rules="qnn-htp", costs={"int8": costs}, resident_bytes=300
    )
    assert op_time(load, device, costs, MEMORY).kernel == pytest.approx(900e-9)


def test_a_processor_with_its_own_memory_does_not_wait_for_the_hosts() -> None:
    load = work(activations=10**6)
    link = Link(name="USB", gb_per_s=0.5)
    apart = {"link": link, "parameter_cache_bytes": 1 << 20}
    assert op_time(load, CPU.model_copy(update=apart), COSTS, MEMORY).memory == 0
    flash = {"link": link, "parameter_cache_bytes": 0}
    assert op_time(load, CPU.model_copy(update=flash), COSTS, MEMORY).memory > 0


def test_a_fused_operator_is_free() -> None:
    assert op_time(work(free=True), CPU, COSTS, MEMORY).seconds == 0
    assert kernel_terms(work(free=True)) == {}


@given(
    macs=st.integers(0, 10**9),
    more=st.integers(0, 10**9),
    activations=st.integers(0, 10**8),
    weights=st.integers(0, 10**8),
    kind=st.sampled_from(["conv", "dense", "depthwise"]),
)
def test_more_work_never_takes_less_time(
    macs: int, more: int, activations: int, weights: int, kind: str
) -> None:
    less = op_time(work(kind, macs, activations, weights), CPU, COSTS, MEMORY).seconds
    assert (
        op_time(work(kind, macs + more, activations, weights), CPU, COSTS, MEMORY).seconds >= less
    )
    assert (
        op_time(work(kind, macs, activations + more, weights), CPU, COSTS, MEMORY).seconds >= less
    )


def simulated_tile(rows: int, columns: int, m: int) -> int:
    """Cycles of one tile, cell by cell: weights shift in row by row, then activations in a wave."""
    loaded = rows
    finished = 0
    for step in range(m):
        enters = loaded + step
        reaches_last_row = enters + rows - 1
        reaches_last_column = reaches_last_row + columns - 1
        finished = max(finished, reaches_last_column + 1)
    return finished


@settings(max_examples=60)
@given(
    rows=st.integers(1, 32), columns=st.integers(1, 32), m=st.integers(1, 300),
    k=st.integers(1, 300), n=st.integers(1, 300), groups=st.integers(1, 4),
)  # fmt: skip
def test_systolic_cycles_are_those_of_the_wave(
    rows: int, columns: int, m: int, k: int, n: int, groups: int
) -> None:
    array = SystolicArray(rows=rows, columns=columns, clock_mhz=100)
    tiles = len(range(0, k, rows)) * len(range(0, n, columns))
    # SCALE-Sim counts the index of the last cycle of each product.
    expected = groups * (tiles * simulated_tile(rows, columns, m) - 1)
    assert systolic_cycles(work(gemm=Gemm(m, k, n, groups)), array) == expected


def test_the_link_costs_its_speed_and_its_latency() -> None:
    link = Link(name="USB", gb_per_s=0.5, us_per_transfer=100)
    device = CPU.model_copy(update={"link": link})
    assert crossing_seconds(10**6, device) == pytest.approx(2e-3 + 1e-4)
    assert crossing_seconds(0, device) == 0
    assert crossing_seconds(10**6, CPU) == 0


def test_matrix_shapes() -> None:
    loads = list(works(GraphView(small_cnn().graph())))
    assert [load.gemm for load in loads] == [
        Gemm(256, 27, 8, taps=9, kernel_rows=3), Gemm(256, 9, 1, groups=8), Gemm(256, 8, 16),
        None, Gemm(1, 16, 10), None,
    ]  # fmt: skip
    assert loads[0].activation_bytes == 16 * 16 * 3 + 16 * 16 * 8
    assert loads[0].weight_bytes == 8 * 27


def test_a_grouped_convolution() -> None:
    make = GraphMaker((1, 4, 4, 8))
    make.op("CONV_2D", "conv", (1, 4, 4, 16), weights=((16, 3, 3, 2),), macs=16 * 16 * 18)
    (load,) = works(GraphView(make.graph()))
    assert load.gemm == Gemm(16, 18, 4, groups=4, taps=9, kernel_rows=3)


def test_a_grouped_convolution_of_openvino() -> None:
    make = GraphMaker((1, 8, 4, 4), "float32", file_format="openvino")
    make.op("GroupConvolution", "conv", (1, 16, 4, 4), weights=((4, 4, 2, 3, 3),), dtype="float32",
            macs=16 * 16 * 18)  # fmt: skip
    (load,) = works(GraphView(make.graph()))
    assert load.gemm is not None
    assert (load.gemm.taps, load.gemm.kernel_rows) == (9, 3)


def test_bytes_between_quantizers_count_as_integers() -> None:
    make = GraphMaker((1, 8, 4, 4), "float32", file_format="onnx")
    make.op("QuantizeLinear", "quantize", (1, 8, 4, 4))
    make.op("DequantizeLinear", "quantize", (1, 8, 4, 4), dtype="float32")
    make.op("Conv", "pointwise", (1, 16, 4, 4), weights=((16, 8, 1, 1),), dtype="float32",
            macs=2048)  # fmt: skip
    loads = list(works(GraphView(make.graph())))
    assert loads[2].precision == "int8"
    assert loads[2].activation_bytes == 128 + 256
    assert loads[2].gemm == Gemm(16, 8, 16)


def test_the_engine_is_faster_than_one_multiplier() -> None:
    engine = load_target("systolic-16x16").processors[0]
    assert engine.array is not None
    gemm = Gemm(1024, 256, 64)
    macs = gemm.m * gemm.k * gemm.n
    cycles = systolic_cycles(work(macs=macs, gemm=gemm), engine.array)
    assert macs / 256 < cycles < macs / 128
