"""Costs that are tied to others: what a fit takes them for without a measurement, and with."""

from __future__ import annotations

import pytest

from edgekit.profiling.fit.costs import fit_costs
from edgekit.profiling.fit.parameters import PARAMETERS
from edgekit.profiling.fit.samples import Sample, predict, sample
from edgekit.profiling.targets import load_target
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import KernelCosts, Target, Term
from tests.profiling.graphs import GraphMaker

SHAPES = ((8, 64, 32), (16, 32, 96), (12, 16, 8), (24, 24, 24), (6, 96, 200), (9, 48, 16))
SPEC = FitSpec(processor="cpu", precision="int8", source="chip", parameters="mcu-simd")
COSTS: dict[Term, float] = {
    "mac.pointwise": 10.0,
    "mac.conv": 12.0,
    "mac.dense": 40.0,
    "mac.depthwise": 30.0,
    "conv_output": 300.0,
    "pointwise_output": 300.0,
    "dense_output": 300.0,
}


@pytest.fixture(scope="module")
def board() -> Target:
    target = load_target("stm32-l4r5-cubeai")
    costs = {"int8": KernelCosts(origin="assumed", ns=COSTS)}
    cpu = target.processors[0].model_copy(update={"costs": costs})
    return target.model_copy(update={"processors": (cpu,)})


def measured(target: Target, *, dense: bool) -> list[Sample]:
    """Separable convolutions, and with `dense` two networks of dense layers."""
    samples = []
    for number, (size, wide, out) in enumerate(SHAPES):
        make = GraphMaker((1, size, size, wide))
        make.op("DEPTHWISE_CONV_2D", "depthwise", (1, size, size, wide),
                weights=((1, 3, 3, wide),), macs=size**2 * wide * 9)  # fmt: skip
        make.op("CONV_2D", "pointwise", (1, size, size, out),
                weights=((out, 1, 1, wide),), macs=size**2 * wide * out)  # fmt: skip
        samples.append(timed(make, target, f"separable-{number}"))
    for units in (256, 512) if dense else ():
        make = GraphMaker((1, 640))
        make.op("FULLY_CONNECTED", "dense", (1, units), weights=((units, 640),), macs=units * 640)
        samples.append(timed(make, target, f"dense-{units}"))
    return samples


def timed(make: GraphMaker, target: Target, name: str) -> Sample:
    graph = make.graph()
    seconds = predict(sample(graph, target, model=name, family="f", latency_s=1.0), target).seconds
    return sample(graph, target, model=name, family="f", latency_s=seconds)


def test_a_cost_without_measurements_is_what_it_is_tied_to(board: Target) -> None:
    fit = fit_costs(measured(board, dense=False), board, SPEC, validate=False)
    found = fit.target.processors[0].costs["int8"].ns
    assert fit.parameters == PARAMETERS["mcu-simd"][0]
    assert found["mac.pointwise"] == pytest.approx(10.0, rel=1e-3)
    assert found["mac.depthwise"] == pytest.approx(30.0, rel=1e-3)
    assert found["mac.dense"] == pytest.approx(10.0 * 4 / 3, rel=1e-3)
    assert found["mac.conv"] == pytest.approx(10.0, rel=1e-3)


def test_measurements_weigh_more_than_ties(board: Target) -> None:
    fit = fit_costs(measured(board, dense=True), board, SPEC, validate=False)
    found = fit.target.processors[0].costs["int8"].ns
    assert found["mac.dense"] == pytest.approx(40.0, rel=0.15)


def test_ties_leave_fewer_costs_free() -> None:
    first = PARAMETERS["mcu-simd"][0]
    assert first.size == len(first.groups) - 2
