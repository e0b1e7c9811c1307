"""Other boards pull a board's costs where its own measurements do not tell them apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.profiling.fit.costs import fit_costs
from edgekit.profiling.fit.parameters import PARAMETERS
from edgekit.profiling.fit.samples import Sample, predict
from edgekit.profiling.targets import load_target
from edgekit.schema.fitting import FitSpec
from edgekit.schema.target import Target, Term
from tests.profiling.test_fit import COSTS, measured, with_ns

SPEC = FitSpec(processor="cpu", precision="int8", source="mlperf-v2.0", parameters="cpu-int8")


@pytest.fixture(scope="module")
def board() -> Target:
    return with_ns(load_target("raspberry-pi-4"), COSTS)


def times(factor: float, **other: float) -> dict[Term, float]:
    costs = {term: factor * cost for term, cost in COSTS.items()}
    costs.update({term: factor * cost for term, cost in other.items()})  # type: ignore[misc]
    return costs


def worst(target: Target, samples: list[Sample]) -> float:
    return max(abs(predict(s, target).seconds / s.latency_s - 1) for s in samples)


def test_what_a_board_did_not_measure_is_as_on_the_others(board: Target) -> None:
    own = [replace(s, model=f"{s.model}-{i}") for s in measured(board, 3) for i in range(6)]
    others = [measured(with_ns(board, times(3)), 24)]
    alone = fit_costs(own, board, SPEC, validate=False).target
    pulled = fit_costs(own, board, SPEC, prior=others, validate=False)
    assert pulled.parameters == PARAMETERS["cpu-int8"][0]
    unseen = measured(board, 40)[3:]
    assert worst(pulled.target, unseen) < 0.05 < worst(alone, unseen)


def test_own_measurements_outweigh_the_pull(board: Target) -> None:
    """Depthwise convolutions are four times as slow as on the other board."""
    truth = with_ns(board, times(1, **{"mac.depthwise": 4 * COSTS["mac.depthwise"]}))
    own = measured(truth, 40)
    others = [measured(with_ns(board, times(3)), 24)]
    found = fit_costs(own, board, SPEC, prior=others, validate=False).target
    errors = [abs(predict(s, found).seconds / s.latency_s - 1) for s in own]
    assert np.median(errors) < 0.03


def test_a_run_at_another_clock_does_not_bend_the_costs(board: Target) -> None:
    own = measured(board, 24)
    slow = [replace(s, latency_s=s.latency_s * (2.5 if i % 5 == 0 else 1))
            for i, s in enumerate(own)]  # fmt: skip
    robust = fit_costs(slow, board, SPEC, validate=False).target
    squares = SPEC.model_copy(update={"parameters": "cpu"})
    bent = fit_costs(slow, board, squares, validate=False).target

    def median(target: Target) -> float:
        return float(np.median([abs(predict(s, target).seconds / s.latency_s - 1) for s in own]))

    assert median(robust) < 0.02 < median(bent)
