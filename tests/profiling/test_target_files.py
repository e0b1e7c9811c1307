"""The shipped targets: what their figures rest on, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.graph.read import read_graph
from edgekit.profiling.profile import Subject, profile_graph, profile_subject
from edgekit.profiling.targets import all_targets, load_target, target_names
from edgekit.schema.figure import Figure
from edgekit.schema.target import KernelCosts, Target
from tests.profiling.graphs import GraphMaker

TARGETS = all_targets()
NETWORKS = ("ad", "ic", "kws", "vww")  # MLPerf Tiny

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@pytest.fixture(scope="module")
def subjects(shared: Path) -> list[Subject]:
    files = [shared / "models" / f"mlperf_tiny_{name}_int8.tflite" for name in NETWORKS]
    return [Subject(read_graph(path), path.name) for path in files]


def costs_of(target: Target) -> Iterator[KernelCosts]:
    for processor in target.processors:
        yield from processor.costs.values()


def reasons(target: Target, *heads: str) -> list[str]:
    return [why for key, why in target.assumed.items() if key.split(".")[0] in heads]


def test_there_are_boards_of_every_kind_under_names_of_their_own() -> None:
    names = [target.name for target in TARGETS]
    assert len(names) == len(set(names)) >= 40
    assert names == target_names()
    kinds = [target.device_class for target in TARGETS]
    fewest = {"phone": 8, "sbc_cpu": 8, "mcu": 8, "mcu_npu": 8, "edgetpu": 5, "fpga": 5, "npu": 4,
              "drone": 5, "gpu": 2, "x86_cpu": 2}  # fmt: skip
    assert all(kinds.count(kind) >= count for kind, count in fewest.items())  # type: ignore[arg-type]


def test_the_names_that_others_rely_on() -> None:
    named = {"raspberry-pi-4", "raspberry-pi-5", "pixel-3", "pixel-4", "coral-usb",
             "coral-dev-board", "stm32-l4r5-tflm", "stm32-h7a3-cubeai", "ethos-u55-128",
             "zcu102-dpu-b4096", "jetson-orin-nano", "drone-x500-cm4"}  # fmt: skip
    assert named <= set(target_names())


@each_target
def test_every_figure_has_a_source_or_a_reason(target: Target) -> None:
    for costs in costs_of(target):
        assert costs.source, costs
    for processor in target.processors:
        assert processor.link is None or processor.link.source
        assert processor.array is None or reasons(target, "processors")
    for head in ("memory", "power", "vehicle"):
        part = getattr(target, head)
        assert part is None or part.source or reasons(target, head), head
    assert all(target.assumed.values())
    assert all(source.url.startswith("https://") for source in target.sources)
    assert target.zeros.why


@each_target
def test_no_source_is_named_in_vain(target: Target) -> None:
    ids = [source.id for source in target.sources]
    assert len(ids) == len(set(ids))
    if any(costs.origin == "fitted" for costs in costs_of(target)):
        assert target.reference
        assert target.measurements
    if any(costs.origin in ("derived", "assumed") for costs in costs_of(target)):
        assert reasons(target, "processors", "error"), "derived from what?"


@each_target
def test_a_processor_without_costs_says_why(target: Target) -> None:
    without = [p for p in target.processors if not p.costs]
    if without and target.compiler is None and not any(True for _ in costs_of(target)):
        assert any("none" in why for why in reasons(target, "processors"))


@each_target
def test_fits_state_how_many_measurements_they_used(target: Target) -> None:
    fitted = [costs for costs in costs_of(target) if costs.origin == "fitted"]
    assert all(costs.measurements > 0 and costs.ns and costs.seen for costs in fitted)
    bases = {spec.precision: load_target(spec.base) for spec in target.derived if spec.error}
    for precision, error in (target.error or {}).items():
        measured = bases.get(precision, target).measurements
        listed = [m for m in measured if m.precision == precision]
        # Tables give one network several names, and one name to networks of several input sizes.
        assert 0 < error.models <= len(listed)
        assert error.low <= error.high


def test_the_same_computer_on_the_ground_has_the_same_costs_and_error() -> None:
    ground, board = load_target("drone-tello"), load_target("raspberry-pi-4")
    assert ground.error == board.error
    assert ground.runtime.version == board.runtime.version


@each_target
def test_a_derived_error_is_its_bases(target: Target) -> None:
    for spec in target.derived:
        if spec.error:
            base = load_target(spec.base)
            processor = next(p for p in target.processors if p.name == spec.processor)
            other = next(p for p in base.processors if p.name == spec.base_processor)
            assert (spec.times, spec.without) == (1, ())
            own, costs = processor.costs[spec.precision], other.costs[spec.precision]
            assert own.model_copy(update={"origin": costs.origin}) == costs
            assert base.error
            assert target.error
            assert target.error[spec.precision] == base.error[spec.precision]


@each_target
def test_small_networks_get_a_figure_with_its_method_or_a_reason(
    subjects: list[Subject], target: Target
) -> None:
    for subject in subjects:
        profile = profile_subject(subject, target)
        for figure in (profile.latency_ms, profile.energy_mj, profile.peak_memory_bytes):
            assert_said(figure)
        latency = profile.latency_ms
        if latency.value is None:
            continue
        assert latency.value > 0
        if target.error and "int8" in target.error:
            assert latency.low is not None
            assert latency.high is not None
            assert latency.low <= latency.high
        else:
            assert "no interval" in (latency.method or "")


def assert_said(figure: Figure) -> None:
    assert figure.method if figure.value is not None else figure.reason


def prices_int8(target: Target) -> bool:
    prices = all(p.costs.get("int8") for p in target.processors)
    takes = "tflite" in target.runtime.formats and target.precisions.get("int8")
    return bool(prices and takes)


@pytest.mark.parametrize("target", [t for t in TARGETS if prices_int8(t)], ids=lambda t: t.name)
def test_who_was_measured_in_int8_answers_for_all_four(
    subjects: list[Subject], target: Target
) -> None:
    """No operator of them is left without a processor or a price."""
    for subject in subjects:
        latency = profile_subject(subject, target).latency_ms
        assert latency.value is not None, latency.reason


def onnx_cnn() -> GraphMaker:
    make = GraphMaker((1, 3, 32, 32), "float32", file_format="onnx")
    make.op("Conv", "conv", (1, 16, 32, 32), weights=((16, 3, 3, 3), (16,)), dtype="float32",
            macs=442_368, kernel_shape=[3, 3], group=1, pads=[1, 1, 1, 1])  # fmt: skip
    make.op("Relu", "activation", (1, 16, 32, 32), dtype="float32")
    make.op("Conv", "pointwise", (1, 32, 32, 32), weights=((32, 16, 1, 1), (32,)), dtype="float32",
            macs=524_288, kernel_shape=[1, 1], group=1)  # fmt: skip
    make.op("GlobalAveragePool", "reduce", (1, 32, 1, 1), dtype="float32")
    make.op("Flatten", "data", (1, 32), dtype="float32")
    make.op("Gemm", "dense", (1, 10), weights=((10, 32), (10,)), dtype="float32", macs=320)
    return make


@pytest.mark.parametrize(
    "target", [t for t in TARGETS if "onnx" in t.runtime.formats], ids=lambda target: target.name
)
def test_targets_for_onnx_files_price_a_small_convolutional_network(target: Target) -> None:
    latency = profile_graph(onnx_cnn().graph(), target, "made.onnx").latency_ms
    charged = target.precisions.get("fp32")
    if charged and target.processors[0].costs.get(charged):
        assert latency.value is not None, latency.reason
        assert latency.value > 0
    else:
        assert "fp32" in (latency.reason or "") or "no measurements" in (latency.reason or "")
