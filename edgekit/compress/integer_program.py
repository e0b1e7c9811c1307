"""One choice for each of several things, at the least loss within a budget."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.base.extras import require

Table = NDArray[np.float64]

_MOST_CUTS = 100


def choose(loss: Table, cost: Table, budget: float) -> list[int] | None:
    """Solves the multiple-choice knapsack problem exactly (by scipy's branch and bound, HiGHS).

    Args:
        loss: of shape (things, choices); their sum is minimised.
        cost: of the same shape, at least 0; their sum keeps to the budget. An infinite cost, or
            loss, is a choice that there is not.
        budget: the largest sum of costs.

    Returns:
        The number of the choice of each thing; None if nothing keeps to the budget.
    """
    possible = np.isfinite(loss) & np.isfinite(cost)
    cheapest = np.where(possible, cost, np.inf).min(axis=1, initial=np.inf)
    if not len(loss):
        return [] if budget >= 0 else None
    if cheapest.sum() > budget:
        return None
    optimize = require("scipy.optimize", purpose="to assign precisions")
    sparse = require("scipy.sparse", purpose="to assign precisions")
    things, choices = loss.shape
    one_each = sparse.kron(sparse.eye(things), np.ones((1, choices)))
    values, weights = np.where(possible, loss, 0.0).ravel(), np.where(possible, cost, 0.0).ravel()
    scale = max(budget, float(weights.max()), np.finfo(float).tiny)
    limits = [
        optimize.LinearConstraint(one_each, 1, 1),
        optimize.LinearConstraint(weights[None] / scale, -np.inf, budget / scale),
    ]
    for _ in range(_MOST_CUTS):
        found = optimize.milp(
            values / max(float(np.abs(values).max()), np.finfo(float).tiny),
            integrality=np.ones(len(values)),
            bounds=optimize.Bounds(0, possible.ravel().astype(float)),
            constraints=limits,
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            break
        picked = np.round(found.x).reshape(loss.shape).argmax(axis=1)
        if np.take_along_axis(cost, picked[:, None], 1).sum() <= budget:
            return [int(choice) for choice in picked]
        # It is over the budget by less than the solver's tolerance: that one is ruled out.
        cut = np.zeros(loss.shape)
        cut[np.arange(things), picked] = 1
        limits.append(optimize.LinearConstraint(cut.ravel()[None], 0, things - 1))
    return [int(choice) for choice in np.where(possible, cost, np.inf).argmin(axis=1)]
