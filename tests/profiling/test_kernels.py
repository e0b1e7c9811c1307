"""Tables of kernels: interpolation against scikit-learn, the fit, and target files with them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from edgekit.base.errors import TargetError
from edgekit.cli.main import run
from edgekit.profiling.fit.attribution import Part
from edgekit.profiling.fit.composition import composed
from edgekit.profiling.fit.evidence import Scale, best_scale, evidence
from edgekit.profiling.fit.kernels import Observation, fit_kernels, predict_seconds, rows
from edgekit.profiling.kernels.factors import factors, looked_up
from edgekit.profiling.kernels.interpolation import covariance, interpolate
from edgekit.profiling.kernels.shapes import FEATURE_VERSION, KernelShape, kernel_shape
from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.profiling.view import GraphView
from edgekit.profiling.work import works
from edgekit.schema.kernels import KernelRows, KernelTable, rows_text
from edgekit.schema.target import RuntimeSpec, Target, Variant, parse_target
from tests.profiling.graphs import small_cnn

LENGTHS = (1.7, 0.6, 3.0)


def test_covariance_is_that_of_scikit_learn() -> None:
    kernels = pytest.importorskip("sklearn.gaussian_process.kernels")
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(5, 3)), generator.normal(size=(4, 3))
    reference = kernels.ConstantKernel(1.5**2) + kernels.ConstantKernel(0.4**2) * kernels.Matern(
        length_scale=LENGTHS, nu=1.5
    )
    own = covariance(left, right, lengths=LENGTHS, offset=1.5, spread=0.4)
    assert np.allclose(own, reference(left, right))


def test_interpolation_is_that_of_scikit_learn() -> None:
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    generator = np.random.default_rng(1)
    points, queries = generator.normal(size=(12, 3)), generator.normal(size=(6, 3))
    values = generator.normal(size=12)
    kernel = kernels.ConstantKernel(1.5**2) + kernels.ConstantKernel(0.4**2) * kernels.Matern(
        length_scale=LENGTHS, nu=1.5
    )
    nugget = 1e-3 * (1.5**2 + 0.4**2)
    reference = process.GaussianProcessRegressor(kernel, alpha=nugget, optimizer=None)
    mean, deviation = reference.fit(points, values).predict(queries, return_std=True)
    found = interpolate(points, values, queries, lengths=LENGTHS, offset=1.5, spread=0.4)
    assert np.allclose(found[0], mean)
    assert np.allclose(found[1], deviation, atol=1e-6)


def _regression(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Scale]:
    """Points of a kernel's shapes, observations that are sums over them, and a scale."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(9, 2))
    slopes = generator.uniform(0, 1, size=(7, 9))
    return points, slopes, generator.normal(size=7), Scale((1.2, 0.7), 0.4, 0.1)


def test_evidence_is_that_of_scikit_learn() -> None:
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    points, _, wanted, scale = _regression(2)
    points = points[:7]
    kernel = kernels.ConstantKernel(1.5**2) + kernels.ConstantKernel(0.4**2) * kernels.Matern(
        length_scale=scale.lengths, nu=1.5
    )
    reference = process.GaussianProcessRegressor(kernel, alpha=0.1**2, optimizer=None)
    logs = np.log([*scale.lengths, scale.spread, scale.noise])
    found, _ = evidence(logs, np.eye(7), points, wanted, np.zeros(7), offset=1.5)
    constant = 3.5 * np.log(2 * np.pi)
    likelihood = reference.fit(points, wanted).log_marginal_likelihood()
    assert found - constant == pytest.approx(likelihood)


@pytest.mark.parametrize("seed", [3, 4])
def test_the_slopes_of_the_evidence_are_its_differences(seed: int) -> None:
    points, slopes, wanted, scale = _regression(seed)
    logs = np.log([*scale.lengths, scale.spread, scale.noise])
    given = (slopes, points, wanted, np.full(7, 0.05))
    _, gradient = evidence(logs, *given, offset=1.5)
    for index in range(len(logs)):
        step = np.zeros(len(logs))
        step[index] = 1e-6
        above, below = (evidence(logs + one, *given, offset=1.5)[0] for one in (step, -step))
        assert gradient[index] == pytest.approx((above - below) / 2e-6, abs=1e-5)


def test_the_best_scale_has_more_evidence_than_others() -> None:
    pytest.importorskip("scipy")
    points, slopes, wanted, first = _regression(5)
    given = (slopes, points, wanted, np.full(7, 0.05))
    best = best_scale(slopes, points, wanted, np.full(7, 0.05), first, offset=1.5)

    def value(scale: Scale) -> float:
        logs = np.log([*scale.lengths, scale.spread, scale.noise])
        return evidence(logs, *given, offset=1.5)[0]

    assert value(best) > value(first)


def _table(view: GraphView, factor: float) -> KernelTable:
    kernels = {}
    for work in works(view):
        shape = kernel_shape(view, work)
        rows = ((*shape.features, factor),)
        kernels[shape.kernel] = KernelRows(
            lengths=(1.0,) * len(shape.features), spread=0.3, rows=rows
        )
    return KernelTable(offset=1.5, kernels=kernels)


def test_a_shape_in_the_table_has_its_factor() -> None:
    view = GraphView(small_cnn().graph())
    loads = list(works(view))
    found = factors(view, loads, [_table(view, 3.0)] * len(loads))
    known = [one for one in found if one.extrapolated is None]
    assert known
    assert all(one.value == pytest.approx(3.0, rel=0.02) for one in known)


def test_a_kernel_that_is_not_in_the_table_keeps_its_cost_and_says_so() -> None:
    view = GraphView(small_cnn().graph())
    loads = list(works(view))
    table = _table(view, 3.0)
    left = {name: rows for name, rows in table.kernels.items() if name != "pointwise"}
    without = table.model_copy(update={"kernels": left})
    found = factors(view, loads, [without] * len(loads))
    (odd,) = [f for f, w in zip(found, loads, strict=True) if w.kind == "pointwise"]
    assert odd.value == 1.0
    assert "no measured kernel of pointwise" in (odd.extrapolated or "")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("1 2\n3 4 5\n", "same features"),
        ("1 x\n", "not numbers"),
        ("1 -2\n", "positive"),
        ("1 2 3\n", "1 lengths for 2 features"),
    ],
)
def test_a_table_with_odd_lines_is_refused(rows: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        KernelRows.model_validate({"lengths": [1], "spread": 1, "rows": rows})


def test_rows_are_the_same_as_text() -> None:
    rows = KernelRows(lengths=(1, 1), spread=1, rows=((49.0, 1280.0, 0.8512), (1.0, 3.0, 2.5)))
    assert rows.model_dump()["rows"] == rows_text(rows.rows)
    assert KernelRows.model_validate(rows.model_dump()) == rows


def _observations(factor: float) -> list[Observation]:
    """Networks whose time is a nanosecond a MAC, but for depthwise ones: `factor` times that."""
    found = []
    for number, times in enumerate((1, 2, 3, 5, 8)):
        maker = small_cnn("float32")
        for _ in range(times):
            maker.op("DEPTHWISE_CONV_2D", "depthwise", (1, 8, 8, 16),
                     weights=((1, 3, 3, 16),), dtype="float32", macs=8 * 8 * 16 * 9)  # fmt: skip
        graph = maker.graph()
        seconds = 1e-9 * sum(
            (factor if op.kind == "depthwise" else 1) * op.macs + 100 for op in graph.ops
        )
        found.append(Observation(f"n{number}", f"f{number % 3}", GraphView(graph), seconds))
    return found


def test_the_fit_finds_what_made_the_latencies() -> None:
    pytest.importorskip("scipy")
    observations = _observations(4.0)
    costs, scales = fit_kernels(observations[:-1], source="s")
    last = observations[-1]
    assert predict_seconds(last, costs) == pytest.approx(last.seconds, rel=0.1)
    again, _ = fit_kernels(observations[:-1], source="s", scales=scales)
    assert again == costs
    assert costs.kernels is not None
    assert costs.kernels.feature_version == FEATURE_VERSION


def test_many_networks_of_one_thread_tell_of_two_threads_what_few_do_not() -> None:
    """The few have one mixture of kernels; another's time follows from what one thread takes."""
    pytest.importorskip("scipy")
    alone = _observations(4.0)
    base, _ = fit_kernels(alone, source="s")
    few = [replace(alone[0], name=str(copy), seconds=0.5 * alone[0].seconds) for copy in range(3)]
    without, _ = fit_kernels(few, source="s")
    on_base, _ = fit_kernels(few, source="s", base=base)
    last, truth = alone[-1], 0.5 * alone[-1].seconds
    assert predict_seconds(last, on_base) == pytest.approx(truth, rel=0.1)
    assert abs(predict_seconds(last, without) / truth - 1) > 0.2
    assert on_base.measurements == 3


def test_a_table_on_top_of_another_multiplies_its_factors() -> None:
    """And what is expected of a second thread: 1e5 multiplications take three quarters."""
    generator = np.random.default_rng(0)

    def table(features: int, **sizes: int) -> KernelTable:
        kernels = {
            name: KernelRows(
                typical=float(generator.uniform(0.5, 2)), lengths=(2.0,) * features, spread=0.5,
                rows=tuple(map(tuple, generator.uniform(1, 9, (size, features + 1)))),
            )
            for name, size in sizes.items()
        }  # fmt: skip
        return KernelTable(feature_version=FEATURE_VERSION, offset=2.0, kernels=kernels)

    under, over = table(12, both=6, low=2), table(1, both=3, high=2)
    found = composed(under, over)
    assert found.kernels.keys() == {"both", "low"}
    for kernel in ("both", "low"):
        rows = zip(found.kernels[kernel].rows, under.kernels[kernel].rows, strict=True)
        for row, alone in rows:
            assert row[:-1] == alone[:-1]
            multiplications = math.prod(row[:4])
            faster = 0.5 + 0.5 / (1 + multiplications / 1e5)
            if kernel == "both":
                shape = KernelShape("both", (multiplications,))
                faster *= looked_up(over, over.kernels["both"], [shape])[0][0]
            assert row[-1] == pytest.approx(alone[-1] * faster, rel=1e-3)


def test_times_of_operators_tell_what_sums_do_not() -> None:
    """All measured networks are the same, so that their sums tell nothing of another mixture."""
    pytest.importorskip("scipy")

    def measured(one: Observation) -> Observation:
        times = {
            work.op.index: 1e-5 + 1e-8 * (4 if work.kind == "depthwise" else 1) * work.macs
            for work in one.loads
            if not work.free
        }
        parts = tuple(Part(frozenset({index}), seconds) for index, seconds in times.items())
        return replace(one, seconds=sum(times.values()), parts=parts)

    known, *_, other = map(measured, _observations(4.0))
    copies = [replace(known, name=str(copy)) for copy in range(3)]
    costs, _ = fit_kernels(copies, source="s")
    assert predict_seconds(other, costs) == pytest.approx(other.seconds, rel=0.3)
    sums, _ = fit_kernels([replace(copy, parts=()) for copy in copies], source="s")
    assert predict_seconds(other, sums) < 0.5 * other.seconds


def _alike(one: Observation) -> list[int]:
    """Operators of a network that have the same shape."""
    by_shape: dict[object, list[int]] = {}
    for work, shape in zip(one.loads, one.shapes, strict=True):
        if shape is not None:
            by_shape.setdefault(shape, []).append(work.op.index)
    return max(by_shape.values(), key=len)


def test_what_a_profiler_takes_is_counted_for_each_of_the_runtimes_operators() -> None:
    """Of two runtime's operators that one of the file's became, the profiler takes twice."""
    pytest.importorskip("scipy")
    one = _observations(4.0)[-1]
    first, second, *_ = _alike(one)
    other = next(
        work.op.index
        for work, shape in zip(one.loads, one.shapes, strict=True)
        if shape is not None and shape != one.shapes[first]
    )
    times = {first: (10e-6, 1), second: (10e-6, 1), other: (22e-6, 4)}
    parts = tuple(Part(frozenset({index}), *told) for index, told in times.items())
    costs, _ = fit_kernels(_observations(4.0), source="s")
    costs = costs.model_copy(update={"ns": {**costs.ns, "inference": 0.0, "weight_byte": 0.0}})
    found = rows([replace(one, seconds=18e-6, parts=parts)], costs)
    assert [row.seconds for row in found[-2:]] == pytest.approx([6e-6] * 2)


def test_parts_that_are_alike_are_one_with_their_mean_time() -> None:
    pytest.importorskip("scipy")
    one = _observations(4.0)[-1]
    twins = _alike(one)[:2]
    seconds = zip(twins, (2e-3, 4e-3), strict=True)
    parts = tuple(Part(frozenset({index}), each) for index, each in seconds)
    costs, _ = fit_kernels(_observations(4.0), source="s")
    costs = costs.model_copy(update={"ns": {**costs.ns, "inference": 0.0}})
    found = rows([replace(one, seconds=6e-3, parts=parts)], costs)
    assert [row.seconds for row in found] == pytest.approx([3e-3])


def test_the_whole_counts_where_the_profiler_takes_much_of_what_it_tells() -> None:
    pytest.importorskip("scipy")
    one = _observations(4.0)[-1]
    live = [work.op.index for work in one.loads if not work.free][:2]
    parts = tuple(Part(frozenset({index}), 4e-3) for index in live)
    costs, _ = fit_kernels(_observations(4.0), source="s")
    sure, doubtful = (
        rows([replace(one, seconds=seconds, parts=parts)], costs) for seconds in (7e-3, 4e-3)
    )
    assert len(doubtful) == len(sure) + 1
    assert doubtful[0].seconds == 4e-3
    assert len(doubtful[0].kernels) > len(doubtful[1].kernels)


def test_one_latency_that_is_far_off_changes_little() -> None:
    pytest.importorskip("scipy")
    observations = _observations(4.0) * 2
    spoilt = [replace(observations[0], seconds=3 * observations[0].seconds), *observations[1:]]
    costs, _ = fit_kernels(spoilt, source="s")
    last = observations[-1]
    assert predict_seconds(last, costs) == pytest.approx(last.seconds, rel=0.15)


def test_a_fit_needs_observations() -> None:
    with pytest.raises(ValueError, match="observations"):
        fit_kernels([], source="s")


def _target() -> Target:
    """A target whose ONNX runtime takes twice as long as its own, and with two threads half."""
    target = load_target("hp-pavilion-14")
    costs = target.processors[0].costs
    double = {
        precision: own.model_copy(update={"ns": {name: 2 * ns for name, ns in own.ns.items()}})
        for precision, own in costs.items()
    }
    spec = target.runtime.model_copy(update={"threads": 1})
    onnx = RuntimeSpec(name="ONNX Runtime", threads=1, formats=("onnx",))
    variants = (
        Variant(runtime=onnx, rules="onnxruntime-cpu", costs=double),
        Variant(
            runtime=spec.model_copy(update={"threads": 2}), rules="litert-xnnpack", costs=double
        ),
    )
    return target.model_copy(update={"runtime": spec, "variants": variants, "name": "box"})


def test_a_variant_takes_the_format_that_the_runtime_does_not() -> None:
    target = _target()
    onnx = target.running("onnx")
    assert onnx.runtime.name == "ONNX Runtime"
    assert onnx.processors[0].rules == "onnxruntime-cpu"
    assert target.running("tflite") is target
    assert target.running("openvino") is target  # whoever asks sees that it does not take it


def test_a_file_is_profiled_on_the_variant_for_its_format() -> None:
    graph = small_cnn().graph()
    own = profile_graph(graph, _target(), "a").latency_ms
    other = profile_graph(graph, _target().running("tflite", 2), "a").latency_ms
    assert own.value is not None
    assert other.value == pytest.approx(2 * own.value, rel=0.2)


def test_threads_are_chosen_behind_an_at_sign(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "box.yaml"
    data = _target().model_dump(mode="json", exclude_none=True)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert load_target(str(path)).runtime.threads == 1
    two = load_target(f"{path}@2")
    assert (two.runtime.threads, two.name) == (2, "box-2-threads")
    with pytest.raises(TargetError, match="not measured with 7 threads"):
        load_target(f"{path}@7")


def test_a_faulty_table_is_an_error_that_names_its_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = _target().model_dump(mode="json", exclude_none=True)
    table = {
        "offset": 1.5,
        "kernels": {"conv": {"lengths": [1], "spread": 1, "rows": "1 nonsense\n"}},
    }
    data["processors"][0]["costs"]["fp32"]["kernels"] = table
    with pytest.raises(TargetError, match=r"box\.yaml:\d+:\d+") as caught:
        parse_target(yaml.safe_dump(data), "box.yaml")
    assert "not numbers" in str(caught.value)


@pytest.mark.parametrize(
    "version", [None, FEATURE_VERSION - 1, FEATURE_VERSION, FEATURE_VERSION + 1]
)
@pytest.mark.parametrize("place", ["own", "variant"])
def test_a_table_of_other_features_asks_for_a_new_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int | None, place: str
) -> None:
    data = _target().model_dump(mode="json", exclude_none=True)
    owner = data["processors"][0] if place == "own" else data["variants"][1]
    table = _table(GraphView(small_cnn("float32").graph()), 2.0).model_dump(mode="json")
    table["feature_version"] = version
    if version is None:  # files of the time before the number
        del table["feature_version"]
    owner["costs"]["fp32"]["kernels"] = table
    path = tmp_path / "box.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    if version == FEATURE_VERSION:
        load_target(f"{path}@2")
        return
    assert run(["targets", "validate", str(path), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["where"]) == ("TargetError", str(path))
    assert "edgekit calibrate" in error["hint"]
    with pytest.raises(TargetError, match=f"version {version or 1}"):
        load_target(f"{path}@2")
