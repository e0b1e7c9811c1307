from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.base import extras
from edgekit.base.errors import InputError
from edgekit.graph.tflite import read_tflite
from edgekit.profiling.check import check_file
from edgekit.profiling.memory.arena import plan
from edgekit.profiling.memory.need import Runtime, memory_need, runtime_of
from edgekit.profiling.memory.report import memory_file, memory_graph, memory_plans
from edgekit.profiling.memory.scratch import tflm_scratch
from edgekit.profiling.memory.tail import tail_bytes
from edgekit.profiling.profile import profile_file
from edgekit.profiling.targets import load_target
from edgekit.schema.target import MicroKernels
from tests.profiling.test_memory import make_graph

MICRO = "stm32-l4r5-tflm"
ETHOS = "ethos-u55-128"


def test_a_microcontroller_needs_arena_tail_and_code(shared: Path) -> None:
    graph = read_tflite(shared / "models/mlperf_tiny_kws_int8.tflite")
    need = memory_need(graph, runtime_of(load_target(MICRO)))
    assert need.parts["arena"].value == 16000
    assert need.ram.value == 16000 + tail_bytes(graph)
    assert need.flash is not None
    assert need.parts["runtime_code"].value is not None
    assert need.flash.value == graph.file_bytes + need.parts["runtime_code"].value
    for figure in (need.ram, need.flash):
        assert None not in (figure.low, figure.value, figure.high)
        assert (figure.low or 0) < (figure.value or 0) < (figure.high or 0)


def test_cmsis_nn_needs_more_of_both(shared: Path) -> None:
    graph = read_tflite(shared / "models/mlperf_tiny_ic_int8.tflite")
    reference = memory_need(graph, Runtime("tflm", "reference", False))
    fast = memory_need(graph, Runtime("tflm", "cmsis-nn-dsp", False))
    assert (fast.ram.value or 0) > (reference.ram.value or 0)
    assert fast.flash is not None
    assert reference.flash is not None
    assert (fast.flash.value or 0) - (reference.flash.value or 0) == 18_000


def test_flash_of_whole_images(shared: Path) -> None:
    """Published sketches, and images taken apart by hand, lie within the interval."""
    measured = {  # bytes, all but the built-in test input
        "tinymlfc_FC10p50_Digits": 125.621 * 1024,
        "tinymlfc_FC10p50_Iris": 123.254 * 1024,
        "tinymlfc_FC10x10_Digits": 128.371 * 1024,
        "tinymlfc_FC1x10_Digits": 121.582 * 1024,
        "mlperf_tiny_kws_int8": 131_500 - 490,
        "mlperf_tiny_vww_int8": 438_000 - 27_648,
        "mlperf_tiny_ic_int8": 178_600 - 3_072,
        "mlperf_tiny_ad_int8": 354_700 - 640,
    }
    for name, flash in measured.items():
        need = memory_need(
            read_tflite(shared / f"models/{name}.tflite"), Runtime("tflm", "reference", False)
        )
        assert need.flash is not None
        assert (need.flash.low or 0) - 100 <= flash <= (need.flash.high or 0) + 100, name


def test_other_runtimes() -> None:
    runtime = runtime_of(load_target("stm32-h7a3-cubeai"))
    assert (runtime.planner, runtime.kernels, runtime.weights_in_ram) == ("tflm", None, False)
    graph = make_graph([64, 64], [("NEG", [0], [1])], [0], [1])
    need = memory_need(graph, runtime)
    assert set(need.parts) == {"arena"}
    # Its planner is not published: the interval is as wide as ST's own figures are off.
    assert (need.ram.low, need.ram.value, need.ram.high) == (99, 128, 175)
    assert "not published" in (need.ram.method or "")
    runtime = runtime_of(load_target("raspberry-pi-4"))
    assert (runtime.planner, runtime.kernels, runtime.weights_in_ram) == ("tflite", None, True)
    assert memory_need(graph, runtime).flash is None


def test_variables_of_tflite_are_in_ram() -> None:
    graph = make_graph([64, 64, 640], [("LSTM", [0, 2], [1])], [0], [1])
    need = memory_need(graph, Runtime("tflite", None, True))
    assert need.parts["arena"].value == 128 + 640


def test_report_adds_up(shared: Path) -> None:
    path = shared / "models/mlperf_tiny_ic_int8.tflite"
    report = memory_file(path, load_target(MICRO))
    assert report.peak is not None
    assert report.peak.live_bytes == report.peak_bytes == max(s.live_bytes for s in report.steps)
    graph = read_tflite(path)
    found = plan(graph, planner="tflm", scratch=tflm_scratch(graph))
    assert (report.peak.index, report.arena_bytes) == (found.peak_op, found.arena_bytes)
    for step in report.steps:
        live = sum(b.bytes for b in report.blocks if b.first <= step.index <= b.last)
        assert live == step.live_bytes
    assert report.peak.layer


def test_report_tells_of_a_better_order() -> None:
    ops = [("A", [0], [1]), ("A", [0], [2]), ("B", [1], [3]), ("B", [2], [4]), ("C", [3, 4], [5])]
    graph = make_graph([10, 1000, 900, 10, 10, 10], ops, [0], [5])
    report = memory_graph(graph, load_target(MICRO), "g.tflite")
    assert report.order in ((0, 2, 1, 3, 4), (1, 3, 0, 2, 4))
    assert (report.peak_bytes, report.order_peak_bytes) == (1910, 1020)
    assert report.order_arena_bytes < report.arena_bytes


def test_wrong_format_is_an_error(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Neg", ["x"], ["y"])
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph([node], "g", [value("x", kind, [4])], [value("y", kind, [4])])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="takes tflite"):
        memory_file(tmp_path / "m.onnx", load_target(MICRO))


@pytest.mark.parametrize(
    "name", ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "SVDF", "FULLY_CONNECTED", "MEAN",
             "UNIDIRECTIONAL_SEQUENCE_LSTM", "AVERAGE_POOL_2D", "REDUCE_MAX", "SOFTMAX"],
)  # fmt: skip
@pytest.mark.parametrize("kernels", ["reference", "cmsis-nn-dsp", "cmsis-nn-mve", None])
def test_operators_without_their_inputs_are_no_fault_here(
    name: str, kernels: MicroKernels | None
) -> None:
    graph = make_graph([64, 64], [(name, [0], [1])], [0], [1])
    need = memory_need(graph, Runtime("tflm" if kernels else "tflite", kernels, False))
    assert (need.ram.value or 0) >= 128


@pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
def test_ram_on_an_ethos_u_is_what_vela_lays_out(shared: Path) -> None:
    path = shared / "models/mlperf_tiny_ic_int8.tflite"
    target = load_target(ETHOS)
    report = memory_file(path, target)
    assert (report.ram.value, report.ram.origin) == (51_840, "compiled")  # from Vela's own summary
    assert report.ram.value == profile_file(path, target).peak_memory_bytes.value
    assert set(report.parts) == {"sram", "runtime_code"}
    assert "before it" in report.notes[0]
    plain = memory_graph(read_tflite(path), target, path.name)
    assert (report.arena_bytes, report.peak_bytes) == (plain.arena_bytes, plain.peak_bytes)
    assert report.flash is not None
    assert plain.flash is not None
    saved = (plain.flash.value or 0) - (report.flash.value or 0)
    assert 0 < saved < path.stat().st_size  # Vela packs the weights
    assert (plain.flash.low or 0) - (report.flash.low or 0) == saved


@pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
def test_what_vela_leaves_to_the_cpu_is_planned_as_for_that(shared: Path) -> None:
    path = shared / "models/mlperf_tiny_ic_fp32.tflite"
    report = memory_file(path, load_target(ETHOS))
    assert report.ram.origin == "estimated"
    assert "every operator to the CPU" in report.notes[0]


def test_without_the_compiler_the_report_says_so(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "have", lambda module: module != "ethosu")
    report = memory_file(shared / "models/mlperf_tiny_ic_int8.tflite", load_target(ETHOS))
    assert report.ram.origin == "estimated"
    assert report.notes[0].startswith("planned as for the CPU, not compiled")
    assert "edgekit[vela]" in report.notes[0]


def test_plans_of_many_targets_are_those_that_differ() -> None:
    graph = make_graph([64, 64], [("NEG", [0], [1])], [0], [1])
    names = ("raspberry-pi-4", "raspberry-pi-5", MICRO, ETHOS, "jetson-nano")
    plans = memory_plans(graph, [load_target(name) for name in names], "g.tflite")
    # The two boards allocate alike, Vela lays out for the Ethos-U, the Jetson takes no .tflite.
    assert [plan.target for plan in plans] == ["raspberry-pi-4", MICRO]


@pytest.mark.skipif(not extras.have("ethosu"), reason="vela is not installed")
def test_check_and_memory_count_the_same_flash(shared: Path) -> None:
    path, target = shared / "models/mlperf_tiny_ic_int8.tflite", load_target(ETHOS)
    checked = check_file(path, target).memory
    report = memory_file(path, target)
    assert report.flash is not None
    assert checked["flash_needed"].value == report.flash.value
    assert (checked["flash_needed"].value or 0) >= (checked["flash"].value or 0)
    assert checked["ram_needed"].value == report.ram.value
