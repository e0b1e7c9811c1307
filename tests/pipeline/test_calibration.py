"""`edgekit calibrate`: networks in three formats, the journal, and a whole calibration."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import InputError, PreconditionError, ToolError
from edgekit.cli.main import run
from edgekit.devices.device import DEVICES
from edgekit.devices.latency import Latency
from edgekit.devices.machine import Machine, machine
from edgekit.graph.read import read_graph
from edgekit.pipeline.calibration import calibrate as module
from edgekit.pipeline.calibration.calibrate import calibrate
from edgekit.pipeline.calibration.files import write_network
from edgekit.pipeline.calibration.journal import Journal, Setting
from edgekit.pipeline.calibration.measure import FileType, jobs, measure, networks
from edgekit.pipeline.calibration.network import Network
from edgekit.profiling.profile import profile_file
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.runtimes.open import open_session
from edgekit.runtimes.operators import OperatorTime
from edgekit.runtimes.session import predict

SETTING = Setting("litert", "fp32", 1)


def block(name: str = "block") -> Network:
    """Most kinds of layers, small."""
    network = Network(name, (1, 12, 12, 3), "block")
    last = network.conv(0, 8, 3, 2, valid=True)
    last = network.binary("add", network.depthwise(last, 3, 1, "relu6"), last)
    last = network.pool(network.pad(last), "max_pool", 3, 2)
    gate = network.unary("logistic", network.conv(network.mean(last), 8))
    last = network.binary("mul", last, gate)
    last = network.concat([network.conv(last, 4, groups=2), network.unary("hard_swish", last)])
    last = network.slice(network.pad(network.resize(last)), 8, begin=2)
    last = network.reshape(network.pool(last, "average_pool"), (1, 16, 8))
    scores = network.unary("softmax", network.matmul(last, network.transpose(last)))
    network.dense(network.matmul(scores, last), 5)
    return network


@pytest.mark.parametrize("kind", ["tflite", "onnx", "openvino"])
@pytest.mark.parametrize("quantized", [False, True])
def test_a_network_runs_in_each_format(tmp_path: Path, kind: str, quantized: bool) -> None:
    for library in ("ai_edge_litert", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(library)
    path = write_network(block(), kind, tmp_path, quantized=quantized)  # type: ignore[arg-type]
    graph = read_graph(path)
    view = GraphView(graph)
    assert view.precision == ("int8" if quantized else "fp32")
    with open_session(path) as session:
        (info,) = session.inputs
        shape = tuple(size or 1 for size in info.shape)
        data = {info.name: np.zeros(shape, np.float32)}
        assert np.isfinite(next(iter(predict(session, data).values()))).all()


def test_the_float_network_is_the_same_in_each_format(tmp_path: Path) -> None:
    for library in ("ai_edge_litert", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(library)
    macs = set()
    for kind in ("tflite", "onnx", "openvino"):
        graph = read_graph(write_network(block(), kind, tmp_path, quantized=False))
        macs.add(sum(work.macs for work in works(GraphView(graph)) if not work.free))
    assert len(macs) == 1


@pytest.mark.parametrize("name", ["densenet-0", "efficient-0", "inception-0", "resnet-0"])
def test_integers_stay_integers_in_onnx_runtime(tmp_path: Path, name: str) -> None:
    """As in real exports: there are integer kernels for all that these networks have."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    plan, _ = networks()
    (network,) = (one for one in plan if one.name == name)
    path = write_network(network, "onnx", tmp_path, quantized=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    runtime.InferenceSession(str(path), options)
    ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert ops.count("QuantizeLinear") == ops.count("DequantizeLinear") == 1
    assert ops.count("Transpose") <= 2  # of the input, and before the dense layer
    assert "QLinearConv" in ops


def test_no_sum_is_dropped_in_openvino(tmp_path: Path) -> None:
    """It drops sums with biases of zero, which trained networks do not have."""
    openvino = pytest.importorskip("openvino")
    network = Network("two", (1, 8, 8, 8), "two")
    network.conv(network.depthwise(0), 16)
    core = openvino.Core()
    compiled = core.compile_model(
        write_network(network, "openvino", tmp_path, quantized=True), "CPU"
    )
    layers = {
        op.get_rt_info()["layerType"].astype(str): op.get_input_size()
        for op in compiled.get_runtime_model().get_ops()
    }
    assert layers["Convolution"] == 3


def test_names_of_networks_differ_and_any_beginning_has_both_sorts() -> None:
    plan, whole = networks()
    names = [network.name for network in plan]
    assert len(set(names)) == len(names)
    assert 8 <= sum(name in whole for name in names[:60]) <= 40


def test_no_sort_of_networks_is_missing_from_the_beginning() -> None:
    plan, _ = networks()
    beginning = {network.name for network in plan[: len(plan) // 2]}
    for sort in ("dense-tiny", "scores-tiny", "dense-row", "lstm", "split", "resize", "deep"):
        members = [n.name for n in plan if n.name.rpartition("-")[0] == sort]
        assert sum(name in beginning for name in members) >= len(members) // 4


def test_profilers_save_chains_and_other_formats_what_they_have_not() -> None:
    plan, whole = networks()
    types: list[FileType] = [("litert", "int8"), ("litert", "fp32"), ("openvino", "int8")]
    order = jobs(plan, whole, types)
    places = {(one.name, kind): place for place, (one, kind) in enumerate(order)}
    assert len(places) == len(order)
    by_name = {one.name: one for one in plan}
    assert {kind for name, kind in places if by_name[name].unsigned} == {types[0]}
    assert {kind for name, kind in places if name.startswith("lstm")} == {*types[:2]}
    begun = order[: len(order) // 3]
    counts = Counter((kind[0], one.name in whole) for one, kind in begun if kind != types[0])
    assert counts["openvino", False] < 0.8 * counts["litert", False]
    assert abs(counts["openvino", True] - counts["litert", True]) <= 1


def test_a_journal_knows_what_an_earlier_run_measured(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, {"a": 1}).add(SETTING, "n", 0, seconds=1.0, loop_s=0.0)
    with path.open("a") as file:
        file.write('{"setting": "cut o')  # killed while it wrote
    again = Journal(path, {"a": 1})
    known = again.get(SETTING, "n", 0)
    assert known is not None
    assert again.spent >= known["spent"]
    assert known["seconds"] == 1.0
    assert Journal(path, {"a": 2}).get(SETTING, "n", 0) is None


class FakeDevice:
    """Takes a nanosecond a MAC, a depthwise one three, and 1 us an operator; knows no softmax."""

    name = "fake"
    asked = 0
    busy = False

    def machine(self) -> Machine:
        load = (9.0, 9.0, 9.0) if self.busy else (0.0, 0.0, 0.0)
        return machine().model_copy(update={"load_average": load, "cores": 2})

    def ready(self, threads: int) -> bool:
        return threads > 0

    def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
        del runtime, seconds
        type(self).asked += 1
        graph = read_graph(path)
        if path.name.startswith("softmax"):
            raise ToolError("no softmax here")
        if type(self).asked == self.stops_at:
            raise KeyboardInterrupt
        macs = sum((3 if op.kind == "depthwise" else 1) * op.macs for op in graph.ops)
        time = (1e-9 * macs + 1e-6 * len(graph.ops) + 1e-5) / threads
        return Latency(seconds=time, loop_s=1e-6)

    def operators(
        self, path: Path, *, runtime: str, threads: int, seconds: float
    ) -> list[OperatorTime]:
        del path, runtime, threads, seconds
        return []

    stops_at = -1

    def runtime_version(self, runtime: str) -> str:
        return f"{runtime} 1.0"

    def close(self) -> None:
        return


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDevice]:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("scipy")
    kind = type("Fake", (FakeDevice,), {})
    monkeypatch.setattr(DEVICES, "get", lambda _word: kind)
    plan, whole = networks()
    plan = [network for network in plan if not network.unsigned]
    sorts = {network.name.partition("-")[0]: network for network in reversed(plan)}
    small = [*sorts.values(), *(network for network in plan[:20] if network not in sorts.values())]
    short = (small, whole)
    monkeypatch.setattr("edgekit.pipeline.calibration.measure.networks", lambda: short)
    return kind


@pytest.mark.slow
def test_a_calibrated_target_predicts_what_the_device_takes(
    tmp_path: Path, fake: type[FakeDevice]
) -> None:
    path = tmp_path / "My Box.yaml"
    report = calibrate(path, runtimes=("litert",), precisions=("fp32",), threads=(1, 2))
    assert report.target == "my-box"
    assert {(one.runtime, one.threads) for one in report.settings} == {("litert", 1), ("litert", 2)}
    assert list(tmp_path.iterdir()) == [path]  # no journal is left
    own = write_network(block(), "tflite", tmp_path, quantized=False)
    truth = fake().latency(own, runtime="litert", threads=1, seconds=1).seconds * 1e3
    one = profile_file(own, load_target(str(path))).latency_ms
    two = profile_file(own, load_target(f"{path}@2")).latency_ms
    assert one.value == pytest.approx(truth, rel=0.25)
    assert two.value == pytest.approx(truth / 2, rel=0.25)
    assert one.value is not None
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.value <= one.high


def _disturbed_at_first(
    fake: type[FakeDevice], noisy: Callable[[str], bool]
) -> tuple[type[FakeDevice], Counter[str]]:
    """A device that something else runs beside at the first visit of some files, and the visits."""
    asked: Counter[str] = Counter()

    class Disturbed(fake):  # type: ignore[misc, valid-type]
        def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
            found: Latency = super().latency(
                path, runtime=runtime, threads=threads, seconds=seconds
            )
            asked[path.stem] += 1
            disturbed = noisy(path.stem) and asked[path.stem] == 1
            return Latency(2 * found.seconds, loop_s=1.9e-6) if disturbed else found

    return Disturbed, asked


def _made(path: Path) -> list[str]:
    """Names of what a file's operators make."""
    graph = read_graph(path)
    return [graph.tensors[op.outputs[0]].name for op in graph.ops]


def test_what_was_disturbed_is_measured_again(tmp_path: Path, fake: type[FakeDevice]) -> None:
    kind, asked = _disturbed_at_first(fake, lambda name: len(name) % 2 == 0)
    journal = Journal(tmp_path / "j", {})
    (series,) = measure(kind(), [SETTING], seconds=600, journal=journal)
    assert series.disturbed == 0.0
    assert {count for name, count in asked.items() if len(name) % 2} == {1}
    assert {count for name, count in asked.items() if not len(name) % 2} == {2}
    assert all(one.uncertainty == 0.0 for one in series.observations)


def test_operators_are_timed_again_where_the_first_time_was_disturbed(
    tmp_path: Path, fake: type[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small operators suffer most: shares of a disturbed visit are not those of a quiet one."""
    kind, asked = _disturbed_at_first(fake, lambda name: name.startswith("noisy"))

    class Telling(kind):  # type: ignore[misc, valid-type]
        def operators(self, path: Path, **_options: object) -> list[OperatorTime]:
            return [OperatorTime((name,), 1e-6 * asked[path.stem]) for name in _made(path)]

    plan = [block(name) for name in ("noisy", *(f"quiet-{number}" for number in range(9)))]
    monkeypatch.setattr(
        "edgekit.pipeline.calibration.measure.networks", lambda: (plan, frozenset())
    )
    journal = Journal(tmp_path / "j", {})
    (series,) = measure(Telling(), [SETTING], seconds=600, journal=journal)
    seconds = {one.name: {part.seconds for part in one.parts} for one in series.observations}
    assert asked["noisy-fp32"] == 2
    assert min(seconds["noisy"]) >= 2e-6
    assert min(seconds["quiet-0"]) < 2e-6


def test_what_a_device_is_not_ready_for_waits(
    tmp_path: Path, fake: type[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.pipeline.calibration.measure._LEAST_NETWORKS", 5)
    order: list[int] = []

    class FarAtFirst(fake):  # type: ignore[misc, valid-type]
        def ready(self, threads: int) -> bool:
            return threads == 1 or order.count(1) > 25

        def latency(self, path: Path, *, runtime: str, threads: int, seconds: float) -> Latency:
            found: Latency = super().latency(
                path, runtime=runtime, threads=threads, seconds=seconds
            )
            order.append(threads)
            return found

    settings = [SETTING, Setting("litert", "fp32", 2)]
    journal = Journal(tmp_path / "j", {})
    one, two = measure(FarAtFirst(), settings, seconds=60, journal=journal)
    assert len(one.observations) == len(two.observations) > 25
    assert order[:10] == [1, 2] * 5
    assert 2 not in order[10:30]
    assert order.count(1) == order.count(2)


def test_operators_of_an_earlier_run_are_known_in_files_that_are_written_anew(
    tmp_path: Path, fake: type[FakeDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO counts on in the names that it gives to a file's operators."""
    pytest.importorskip("openvino")

    class Telling(fake):  # type: ignore[misc, valid-type]
        def operators(self, path: Path, **_options: object) -> list[OperatorTime]:
            return [OperatorTime((name,), 1e-6) for name in _made(path)]

    monkeypatch.setattr(
        "edgekit.pipeline.calibration.measure.networks", lambda: ([block()], frozenset())
    )
    setting = Setting("openvino", "fp32", 1)
    journal = Journal(tmp_path / "j", {})
    (first,) = measure(Telling(), [setting], seconds=600, journal=journal)
    (again,) = measure(fake(), [setting], seconds=600, journal=journal)
    assert len(first.observations[0].parts) > 5
    assert first.observations[0].parts == again.observations[0].parts


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, fake: type[FakeDevice]) -> None:
    path = tmp_path / "box.yaml"
    fake.stops_at = 30
    with pytest.raises(KeyboardInterrupt):
        calibrate(path, runtimes=("litert",), precisions=("fp32",))
    assert not path.exists()
    fake.stops_at, before = -1, fake.asked
    report = calibrate(path, runtimes=("litert",), precisions=("fp32",))
    (setting,) = report.settings
    assert fake.asked - before == setting.networks + len(setting.failed) - (before - 1)
    assert path.exists()


def test_a_busy_device_is_refused_with_its_load(tmp_path: Path, fake: type[FakeDevice]) -> None:
    fake.busy = True
    with pytest.raises(PreconditionError, match=r"9\.00 on 2 cores"):
        calibrate(tmp_path / "box.yaml", runtimes=("litert",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"runtimes": ("tensorrt",)}, "runtime 'tensorrt'"),
        ({"precisions": ("fp16",)}, "precision 'fp16'"),
        ({"threads": (64,)}, "64 threads on 2"),
        ({"threads": (0,)}, "1 or more"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    tmp_path: Path, fake: type[FakeDevice], arguments: dict[str, object], reason: str
) -> None:
    del fake
    with pytest.raises(InputError, match=reason):
        calibrate(tmp_path / "box.yaml", **arguments)  # type: ignore[arg-type]


def test_the_output_is_a_yaml_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.yaml"):
        module.calibrate(tmp_path / "box.json")


@pytest.mark.slow
def test_this_machine_is_calibrated_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_litert")
    path = tmp_path / "box.yaml"
    arguments = ["--runtime", "litert", "--precision", "int8", "--minutes", "0.1", "--busy"]
    assert run(["calibrate", "--output", str(path), *arguments, "--json", "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"][0]["networks"] >= 50
    assert run(["targets", "validate", str(path)]) == 0
    assert run(["targets", "show", str(path)]) == 0
    own = write_network(block(), "tflite", tmp_path, quantized=True)
    capsys.readouterr()
    assert run(["profile", str(own), "--target", str(path), "--json"]) == 0
    (profile,) = json.loads(capsys.readouterr().out)["profiles"]
    assert profile["latency_ms"]["value"] > 0
