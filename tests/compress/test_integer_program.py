"""The integer program against all assignments there are."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgekit.compress.integer_program import Table, choose

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 3))


def best(loss: Table, cost: Table, budget: float) -> float | None:
    """The least loss within the budget, by trying all."""
    found = None
    rows = range(len(loss))
    for picked in itertools.product(range(loss.shape[1]), repeat=len(loss)):
        if cost[rows, picked].sum() <= budget:
            total = float(loss[rows, picked].sum())
            found = total if found is None else min(found, total)
    return found


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_finds_the_least_loss_within_the_budget(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    values = st.floats(0, 100, allow_subnormal=False)
    sizes = st.integers(0, 10_000).map(float)
    loss = data.draw(arrays.arrays(np.float64, shape, elements=values))
    cost = data.draw(arrays.arrays(np.float64, shape, elements=sizes))
    budget = data.draw(st.integers(0, 30_000).map(float))
    picked = choose(loss, cost, budget)
    wanted = best(loss, cost, budget)
    if picked is None or wanted is None:
        assert picked is wanted is None
        return
    rows = range(len(loss))
    assert cost[rows, picked].sum() <= budget
    np.testing.assert_allclose(loss[rows, picked].sum(), wanted, rtol=1e-5, atol=1e-5)


def test_what_there_is_no_form_of_is_never_chosen() -> None:
    loss = np.array([[5.0, 0.0], [5.0, 1.0]])
    cost = np.array([[1.0, np.inf], [1.0, 4.0]])
    assert choose(loss, cost, 10.0) == [0, 1]
    assert choose(loss, cost, 4.0) == [0, 0]
    assert choose(loss, cost, 1.0) is None


def test_losses_that_span_decades_are_told_apart() -> None:
    loss = np.array([[1e-2, 1e-9], [1e-8, 1e-9], [2e-8, 1e-9]])
    cost = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert choose(loss, cost, 5.0) == [1, 0, 1]


def test_many_layers_take_no_time() -> None:
    random = np.random.default_rng(0)
    cost = np.sort(random.integers(1, 10**6, (300, 3)), axis=1).astype(np.float64)
    loss = -np.sort(-random.lognormal(0, 5, (300, 3)), axis=1)
    budget = float(cost.sum(axis=0).mean())
    picked = choose(loss, cost, budget)
    assert picked is not None
    assert cost[range(300), picked].sum() <= budget
