from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.base.errors import TargetError
from edgekit.graph.types import Graph
from edgekit.profiling.fit.costs import fit_costs
from edgekit.profiling.fit.least_squares import non_negative
from edgekit.profiling.fit.samples import Sample, predict, sample
from edgekit.profiling.targets import load_target
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import KernelCosts, Target, Term
from tests.profiling.graphs import GraphMaker

COSTS: dict[Term, float] = {
    "mac.conv": 0.1,
    "mac.pointwise": 0.1,
    "mac.dense": 0.1,
    "mac.depthwise": 0.3,
    "mac.depthwise_large": 0.3,
    "activation_byte": 0.5,
    "weight_byte": 0.25,
    "op": 20_000.0,
    "inference": 300_000.0,
    "patch": 1.5,
    "conv_output": 4.0,
    "depthwise_output": 2.0,
}
SPEC = FitSpec(processor="cpu", precision="int8", source="mlperf-v2.0")


def network(rng: random.Random, *, dense_only: bool = False) -> Graph:
    """A chain of operators with random channels."""
    size, channels = rng.choice([8, 16, 32]), rng.choice([8, 16, 32])
    make = GraphMaker((1, size, size, channels))
    for _ in range(0 if dense_only else rng.randint(1, 6)):
        wider = rng.choice([8, 24, 48, 64])
        kernel = rng.choice([1, 3, 5])
        make.op("CONV_2D", "pointwise" if kernel == 1 else "conv", (1, size, size, wider),
                weights=((wider, kernel, kernel, channels),),
                macs=size * size * wider * kernel * kernel * channels)  # fmt: skip
        make.op("DEPTHWISE_CONV_2D", "depthwise", (1, size, size, wider),
                weights=((1, 3, 3, wider),), macs=size * size * wider * 9)  # fmt: skip
        channels = wider
        if rng.random() < 0.5:
            make.op("RELU", "activation", (1, size, size, channels))
    make.op("MEAN", "reduce", (1, channels))
    units = rng.choice([10, 100, 1000, 4000])
    make.op("FULLY_CONNECTED", "dense", (1, units), weights=((units, channels),),
            macs=units * channels)  # fmt: skip
    return make.graph()


def with_ns(target: Target, ns: dict[Term, float]) -> Target:
    first, *rest = target.processors
    costs = KernelCosts(origin="assumed", ns=ns)
    first = first.model_copy(update={"costs": {"int8": costs}})
    return target.model_copy(update={"processors": (first, *rest)})


def measured(
    target: Target, count: int = 24, *, noise: float = 0.0, dense_only: bool = False
) -> list[Sample]:
    """Networks that take just as long as the target says, but for the noise."""
    rng = random.Random(0)
    samples = []
    for number in range(count):
        graph = network(rng, dense_only=dense_only)
        made = sample(graph, target, model=f"n{number}", family=f"f{number % 4}", latency_s=1.0)
        seconds = predict(made, target).seconds * (1 + noise * rng.gauss(0, 1))
        samples.append(
            sample(graph, target, model=f"n{number}", family=f"f{number % 4}", latency_s=seconds)
        )
    return samples


@pytest.fixture(scope="module")
def board() -> Target:
    return with_ns(load_target("raspberry-pi-4"), COSTS)


def test_the_costs_that_made_the_measurements_are_found(board: Target) -> None:
    fit = fit_costs(measured(board), with_ns(board, {}), SPEC)
    found = fit.target.processors[0].costs["int8"]
    for term in ("mac.conv", "mac.pointwise", "op", "inference", "patch"):
        assert found.ns[term] == pytest.approx(COSTS[term], rel=0.02), term
    assert found.origin == "fitted"
    assert found.measurements == 24
    assert found.seen == ("activation", "conv", "dense", "depthwise", "pointwise", "reduce")
    assert fit.error is not None
    assert fit.error.p90_pct < 0.1
    assert fit.error.family_p90_pct is not None
    assert fit.error.family_p90_pct < 0.1


def test_the_error_is_that_of_models_left_out(board: Target) -> None:
    samples = measured(board, 40, noise=0.05)
    fit = fit_costs(samples, board, SPEC)
    assert fit.error is not None
    # 5% of normal noise has a median of 3.4% by itself, and the fit adds to it.
    assert 2.5 < fit.error.median_pct < 8
    assert fit.error.low < 1 < fit.error.high
    assert fit.error.unseen_low <= fit.error.low < fit.error.high <= fit.error.unseen_high
    # By hand: without the first model.
    without = fit_costs(samples[1:], board, SPEC, validate=False)
    ratio = samples[0].latency_s / predict(samples[0], without.target).seconds
    assert fit.residuals[0].ratio == pytest.approx(ratio)
    assert without.error is None


def test_what_no_measurement_had_gets_no_cost(board: Target) -> None:
    fit = fit_costs(measured(board, 24, dense_only=True), board, SPEC)
    costs = fit.target.processors[0].costs["int8"]
    assert not {"mac.depthwise", "patch", "conv_output"} & set(costs.ns)


def test_few_measurements_get_few_costs(board: Target) -> None:
    many = fit_costs(measured(board, 24), board, SPEC, validate=False)
    few = fit_costs(measured(board, 6), board, SPEC, validate=False)
    assert many.parameters.size > 6 > few.parameters.size


def test_other_boards_tell_how_costs_relate(board: Target) -> None:
    slower = with_ns(board, {term: 3 * cost for term, cost in COSTS.items()})
    others = [measured(slower, 24)]
    own = measured(board, 27)[24:]
    alone = fit_costs(own, board, SPEC, validate=False).target
    helped = fit_costs(own, board, SPEC, prior=others, validate=False).target
    unseen = measured(board, 40)[27:]

    def worst(target: Target) -> float:
        return max(abs(predict(s, target).seconds / s.latency_s - 1) for s in unseen)

    assert worst(helped) < 0.01 < worst(alone)
    costs = helped.processors[0].costs["int8"]
    assert costs.measurements == 3
    assert costs.ns["op"] == pytest.approx(COSTS["op"], rel=0.02)


def test_waiting_for_weights_is_told_from_arithmetic(board: Target) -> None:
    macs = ("mac.conv", "mac.pointwise", "mac.dense", "mac.depthwise", "mac.depthwise_large")
    truth: dict[Term, float] = dict.fromkeys(macs, 0.001)  # type: ignore[arg-type]
    truth |= {"weight_byte": 2.0, "activation_byte": 0.5, "inference": 50_000.0}
    spec = SPEC.model_copy(update={"parameters": "bandwidth"})
    fit = fit_costs(measured(with_ns(board, truth)), board, spec, validate=False)
    found = fit.target.processors[0].costs["int8"].ns
    for term in ("weight_byte", "activation_byte", "inference"):
        assert found[term] == pytest.approx(truth[term], rel=0.02)


LINKED = FitSpec(
    processor="edgetpu", precision="int8", source="coral-benchmarks", parameters="edgetpu"
)


def behind(target: Target, gb_per_s: float, ns: dict[Term, float]) -> Target:
    """The target with other costs of its accelerator, behind another link."""
    first, host = target.processors
    assert first.link is not None
    link = first.link.model_copy(update={"gb_per_s": gb_per_s, "us_per_transfer": 0.0})
    costs = KernelCosts(origin="assumed", ns=ns)
    update = {"link": link, "costs": {"int8": costs}}
    return target.model_copy(update={"processors": (first.model_copy(update=update), host)})


def dense_layers(truth: Target, units: Sequence[int]) -> list[Sample]:
    """Dense layers, which take just as long as the target says."""
    samples = []
    for number in units:
        make = GraphMaker((1, number))
        make.op("FULLY_CONNECTED", "dense", (1, number), weights=((number, number),),
                macs=number**2)  # fmt: skip
        made = sample(make.graph(), truth, model=f"n{number}", family="mlp", latency_s=1.0)
        samples.append(replace(made, latency_s=predict(made, truth).seconds))
    return samples


def test_the_speed_of_a_link_is_fitted() -> None:
    coral = load_target("coral-usb")
    truth = behind(coral, 0.25, {"lane_mac": 0.001, "inference": 1000.0})
    samples = dense_layers(truth, [512, 1024, 2048, 2560, 3072, 4096, 5120, 6144])
    fitted = fit_costs(samples, coral, LINKED).target.processors[0].link
    assert fitted is not None
    assert fitted.gb_per_s == pytest.approx(0.25, rel=0.02)


def test_hosts_share_the_costs_of_an_accelerator_and_have_links_of_their_own() -> None:
    coral = load_target("coral-usb")
    truth = behind(coral, 0.3, {"lane_mac": 0.01, "inference": 2e6})
    other = behind(coral, 0.1, {"lane_mac": 0.01, "inference": 1e6})
    elsewhere = dense_layers(other, [512, 1024, 1536, 2048, 2560, 3072, 4096])
    own = dense_layers(truth, [256, 1280, 4608])
    fitted = fit_costs(own, coral, LINKED, prior=[elsewhere], validate=False).target.processors[0]
    assert fitted.link is not None
    assert fitted.link.gb_per_s == pytest.approx(0.3, rel=0.02)
    assert fitted.costs["int8"].ns["lane_mac"] == pytest.approx(0.01, rel=0.05)
    assert fitted.costs["int8"].ns["inference"] == pytest.approx(2e6, rel=0.05)


def test_a_link_that_nothing_tells_is_expected_to_carry_most_of_its_standard() -> None:
    coral = load_target("coral-usb")
    first = coral.processors[0]
    assert first.link is not None
    assert first.link.most_gb_per_s == 0.5
    same = dense_layers(behind(coral, 0.01, {"lane_mac": 0.01, "inference": 1e6}), [512])
    fitted = fit_costs(same, coral, LINKED, validate=False).target.processors[0].link
    assert fitted is not None
    assert fitted.gb_per_s == pytest.approx(0.4, rel=0.05)


def test_a_softmax_of_more_classes_takes_longer() -> None:
    """TinyML Benchmark (IEEE WF-IoT 2021), Arduino Nano 33: 0.390 and 0.284 ms."""
    target = load_target("nrf52840-tflm-float")

    def predicted(*sizes: int) -> float:
        make = GraphMaker((1, sizes[0]), "float32")
        for before, units in pairwise(sizes):
            make.op("FULLY_CONNECTED", "dense", (1, units), weights=((units, before),),
                    dtype="float32", macs=units * before)  # fmt: skip
        make.op("SOFTMAX", "activation", (1, sizes[-1]), dtype="float32")
        made = sample(make.graph(), target, model="m", family="f", latency_s=1.0)
        return predict(made, target).seconds

    digits, wine = predicted(64, 10, 10), predicted(13, 10, 50, 3)
    assert digits == pytest.approx(0.390e-3, rel=0.2)
    assert wine == pytest.approx(0.284e-3, rel=0.1)


def test_what_cannot_be_fitted_says_why(board: Target) -> None:
    with pytest.raises(TargetError, match="nothing to fit cpu int8 to"):
        fit_costs([], board, SPEC)
    unknown = SPEC.model_copy(update={"parameters": "cpus"})
    with pytest.raises(TargetError, match="unknown parameters 'cpus'"):
        fit_costs(measured(board, 4), board, unknown)


def optimal(matrix: Sequence[Sequence[float]], wanted: Sequence[float]) -> bool:
    """Karush, Kuhn and Tucker's conditions of the non-negative least squares problem."""
    a, b = np.array(matrix), np.array(wanted)
    x = non_negative(a, b)
    gradient = a.T @ (a @ x - b)
    tolerance = 1e-7 * max(1.0, float(np.abs(a).max()) ** 2) * max(1.0, float(np.abs(x).max()))
    return bool(
        np.all(x >= 0)
        and np.all(gradient >= -tolerance)
        and np.all(np.abs(gradient[x > 0]) <= tolerance)
    )


@settings(max_examples=50)
@given(
    st.integers(1, 5).flatmap(
        lambda columns: st.lists(
            st.lists(st.floats(0.01, 100), min_size=columns, max_size=columns),
            min_size=columns, max_size=12,
        )
    )
)  # fmt: skip
def test_non_negative_is_optimal(matrix: list[list[float]]) -> None:
    assert optimal(matrix, [1.0] * len(matrix))


def test_a_robust_fit_ignores_an_outlier() -> None:
    x = np.linspace(1, 10, 20)
    wanted = 3 * x
    wanted[4] *= 10
    assert non_negative(x[:, None], wanted, robust=True)[0] == pytest.approx(3, rel=0.01)
    assert non_negative(x[:, None], wanted)[0] > 3.05
