from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph
from edgekit.profiling.check import check_graph
from edgekit.profiling.edgetpu_cache import PROGRAM_BYTES
from edgekit.profiling.memory.report import memory_graph
from edgekit.profiling.profile import profile_file, profile_graph
from edgekit.profiling.targets import all_targets, load_target
from edgekit.profiling.view import GraphView, computed
from edgekit.profiling.work import works
from edgekit.schema.figure import Figure
from edgekit.schema.target import Target, Term
from tests.profiling.graphs import GraphMaker, small_cnn


def value(figure: Figure | None) -> float:
    assert figure is not None
    assert figure.value is not None, figure.reason
    return figure.value


def test_every_figure_is_an_estimate_with_its_method() -> None:
    profile = profile_graph(small_cnn().graph(), load_target("raspberry-pi-4"), "made.tflite")
    for figure in (profile.latency_ms, profile.energy_mj, profile.peak_memory_bytes):
        assert figure.origin == "estimated"
        assert figure.method
        assert value(figure) > 0
    latency = profile.latency_ms
    assert latency.low is not None
    assert latency.high is not None
    assert latency.low < value(latency) < latency.high
    assert [layer.op for layer in profile.layers] == [op.name for op in small_cnn().ops]


def test_layers_and_the_fixed_cost_are_the_latency() -> None:
    target = load_target("raspberry-pi-4")
    profile = profile_graph(small_cnn().graph(), target, "made")
    layers = sum(value(layer.latency_ms) for layer in profile.layers)
    fixed = target.processors[0].costs["int8"].ns.get("inference", 0.0) * 1e-6
    assert value(profile.latency_ms) == pytest.approx(layers + fixed)


def test_a_faster_network_lets_the_drone_fly_longer() -> None:
    drone = load_target("drone-x500-cm4")
    small = profile_graph(small_cnn().graph(), drone, "made")
    make = small_cnn()
    make.op("FULLY_CONNECTED", "dense", (1, 1000), weights=((1000, 1000),), macs=1_000_000)
    large = profile_graph(make.graph(), drone, "made")
    assert 0 < value(small.flight_s_per_h) < value(large.flight_s_per_h)
    assert profile_graph(small_cnn().graph(), load_target("pixel-3"), "m").flight_s_per_h is None


def test_figures_that_are_not_known_say_why() -> None:
    onnx = GraphMaker((1, 4), "float32", file_format="onnx")
    onnx.op("Relu", "activation", (1, 4), dtype="float32")
    wrong = profile_graph(onnx.graph(), load_target("raspberry-pi-4"), "m.onnx")
    assert wrong.latency_ms.value is None
    assert "takes tflite, not onnx" in (wrong.latency_ms.reason or "")

    phone = profile_graph(small_cnn().graph(), load_target("pixel-3"), "m")
    assert "no power" in (phone.energy_mj.reason or "")

    flex = GraphMaker((1, 4), "float32")
    flex.op("FlexErf", "custom", (1, 4), dtype="float32")
    lost = profile_graph(flex.graph(), load_target("raspberry-pi-4"), "m")
    assert "operator 0 (FlexErf) runs nowhere" in (lost.latency_ms.reason or "")

    unmeasured = profile_graph(small_cnn("float32").graph(), load_target("stm32-h7a3-cubeai"), "m")
    assert "no measurements of fp32" in (unmeasured.latency_ms.reason or "")


def test_operators_that_the_fit_never_saw_are_listed() -> None:
    make = small_cnn()
    make.op("UNIDIRECTIONAL_SEQUENCE_LSTM", "recurrent", (1, 10), weights=((40, 10),), macs=400)
    profile = profile_graph(make.graph(), load_target("raspberry-pi-4"), "m")
    assert any("recurrent" in warning and "6" in warning for warning in profile.warnings)
    assert any("million MACs" in warning for warning in profile.warnings)
    dynamic = GraphMaker((1, 8), "float32")
    dynamic.op("FULLY_CONNECTED", "dense", (1, 4), weights=((4, 8),), dtype="float32",
               weight_dtype="int8", macs=32)  # fmt: skip
    profile = profile_graph(dynamic.graph(), load_target("raspberry-pi-4"), "m")
    assert "extrapolated: int8-dynamic is charged as fp32" in profile.warnings


def test_weights_beyond_the_cache_are_streamed() -> None:
    coral = load_target("coral-usb")
    edgetpu = coral.processors[0]
    assert edgetpu.link is not None

    def latency(units: int) -> float:
        make = GraphMaker((1, units))
        make.op("FULLY_CONNECTED", "dense", (1, units), weights=((units, units),), macs=units**2)
        return value(profile_graph(make.graph(), coral, "m").latency_ms)

    fits, exceeds = 2000, 4000
    # Larger than all of the cache, so none of it stays there; 64 channels at a time, and biases.
    streamed = 4032 * (exceeds + 8)
    over_link = streamed / (edgetpu.link.gb_per_s * 1e6)
    assert latency(exceeds) - latency(fits) > over_link
    assert latency(exceeds) - latency(fits) < over_link * 1.1


def test_each_boundary_is_crossed_once() -> None:
    coral = load_target("coral-usb")
    link = coral.processors[0].link
    assert link is not None
    make = GraphMaker((1, 8, 8, 4))
    make.op("RELU", "activation", (1, 8, 8, 4))
    profile = profile_graph(make.graph(), coral, "m")
    own = value(profile.layers[0].latency_ms)
    fixed = coral.processors[0].costs["int8"].ns.get("inference", 0.0) * 1e-6
    moved = 2 * 256 + PROGRAM_BYTES
    crossing = moved / (link.gb_per_s * 1e6) + 2 * link.us_per_transfer * 1e-3
    assert value(profile.latency_ms) == pytest.approx(own + fixed + crossing)


@pytest.fixture(scope="module")
def third_party(shared: Path) -> dict[str, Graph]:
    """The .tflite files of others, read once for all targets."""
    files = sorted((shared / "models").glob("*.tflite"))
    return {path.name: read_graph(path) for path in files}


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_every_third_party_file_is_profiled_or_refused_with_a_reason(
    third_party: dict[str, Graph], target: Target
) -> None:
    for name, graph in third_party.items():
        # Without its path: compilers have tests of their own.
        profile = profile_graph(graph, target, name)
        assert (profile.latency_ms.value is None) == bool(profile.latency_ms.reason), name
        report = check_graph(graph, target, name)
        if report.verdict == "unsupported":
            assert profile.latency_ms.value is None
        assert len(profile.layers) == len(report.ops)


@pytest.mark.parametrize(
    ("target", "file", "measured_ms", "tolerance"),
    [
        # MLPerf Inference v2.1, open/Krai, and MLPerf Tiny v1.2, closed/STMicroelectronics
        ("raspberry-pi-4", "coral_mobilenet_v2_1.0_224_quant.tflite", 23.683, 0.08),
        ("stm32-h7a3-cubeai", "mlperf_tiny_ic_int8.tflite", 40.845, 0.30),
        ("stm32-h7a3-cubeai", "mlperf_tiny_vww_int8.tflite", 23.804, 0.30),
        ("stm32-h7a3-cubeai", "mlperf_tiny_kws_int8.tflite", 11.318, 0.30),
        ("stm32-h7a3-cubeai", "mlperf_tiny_ad_int8.tflite", 1.2255, 0.30),
        # Coral's published table
        ("coral-usb", "coral_mobilenet_v2_1.0_224_quant.tflite", 2.6, 0.30),
    ],
)
def test_predictions_against_published_measurements(
    shared: Path, target: str, file: str, measured_ms: float, tolerance: float
) -> None:
    profile = profile_file(shared / "models" / file, load_target(target))
    assert value(profile.latency_ms) == pytest.approx(measured_ms, rel=tolerance)


def test_floats_are_halves_where_the_target_computes_in_those() -> None:
    jetson, pi = load_target("jetson-nano"), load_target("raspberry-pi-4")
    graph = small_cnn("float32").graph()
    assert computed(graph, pi) is graph
    halves = works(GraphView(computed(graph, jetson)))
    whole = [load for load in works(GraphView(graph)) if load.bytes]
    assert whole
    for half, load in zip([half for half in halves if half.bytes], whole, strict=True):
        assert half.precision == "fp16"
        assert half.bytes * 2 == load.bytes


def test_the_values_of_inputs_and_outputs_cost_once_an_inference() -> None:
    target = load_target("galaxy-s24-qnn")
    first, *rest = target.processors
    per_value = 5000.0  # nanoseconds
    ns: dict[Term, float] = {"inference": 1e6, "input_value": per_value, "output_value": 300.0}
    costs = {"int8": first.costs["int8"].model_copy(update={"ns": ns})}
    update = {"processors": (first.model_copy(update={"costs": costs}), *rest)}
    target = target.model_copy(update=update)
    make = GraphMaker((1, 256), file_format="onnx")
    make.op("Slice", "data", (1, 64))
    latency = value(profile_graph(make.graph(), target, "m").latency_ms)
    assert latency == pytest.approx(1 + (256 * per_value + 64 * 300.0) * 1e-6)


def test_a_profile_says_where_the_model_does_not_fit() -> None:
    board = load_target("stm32-h7a3-cubeai")
    graph = small_cnn().graph()
    assert not any("does not fit" in line for line in profile_graph(graph, board, "m").warnings)
    small = board.memory.model_copy(update={"ram_bytes": 16, "flash_bytes": 2048})
    found = profile_graph(
        replace(graph, file_bytes=4096), board.model_copy(update={"memory": small}), "m"
    )
    ram, flash = found.shortages
    assert found.warnings[:2] == found.shortages
    assert ram.startswith("does not fit: ")
    assert ram.endswith(" of RAM needed, 16 B available")
    assert flash == "does not fit: 4 KiB of flash needed, 2 KiB available"


def test_energy_that_others_pay_for_is_not_zero() -> None:
    profile = profile_graph(small_cnn().graph(), load_target("drone-tello"), "made.tflite")
    assert profile.energy_mj.value is None
    assert "the computer is on the ground" in (profile.energy_mj.reason or "")
    assert profile.flight is not None
    assert value(profile.flight.seconds_lost) == 0


@pytest.mark.parametrize(("shape", "known"), [((None, 8, 8, 3), True), ((1, None, None, 3), False)])
def test_a_free_size_is_not_taken_for_one(shape: tuple[int | None, ...], known: bool) -> None:
    make = GraphMaker((1, 8, 8, 3))
    make.op("CONV_2D", "conv", (1, 8, 8, 4), weights=((4, 3, 3, 3),), macs=6912)
    graph = make.graph()
    source = replace(graph.tensors[graph.inputs[0].tensor], shape=shape)
    at = graph.inputs[0].tensor
    graph = replace(graph, tensors=(*graph.tensors[:at], source, *graph.tensors[at + 1 :]))
    board = load_target("raspberry-pi-4")
    profile, report = profile_graph(graph, board, "m"), check_graph(graph, board, "m")
    for figure in (profile.latency_ms, profile.energy_mj, profile.peak_memory_bytes):
        assert (figure.value is not None) == known
        assert known or "?x?x3: time and memory depend on sizes" in (figure.reason or "")
    assert ("free_sizes" in [one.rule for one in report.findings]) != known
    assert (report.memory["ram_needed"].value is not None) == known
    assert bool(memory_graph(graph, board, "m").notes) != known
