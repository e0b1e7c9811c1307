"""Which removals bring a cost into a budget: arithmetic, without a model."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.coupling import Ids
from edgekit.compress.network import Group
from edgekit.compress.removal import Room, by_cost, order_removals


class Chain:
    """The multiplications of a chain of dense layers, whose widths are the groups' channels."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.total = self.without(np.empty(0, np.int64))

    def without(self, gone: Ids) -> float:
        widths = [int((~np.isin(group.roots, gone)).sum()) for group in self.groups]
        return float(sum(prod(pair) for pair in pairwise([5, *widths, 3])))


def grouped(widths: list[int]) -> list[Group]:
    ends = np.cumsum(widths)
    return [
        Group(((f"layer{end}", "units"),), np.arange(end - width, end))
        for end, width in zip(ends, widths, strict=True)
    ]


def kept(group: Group, gone: Ids) -> int:
    return int((~np.isin(group.roots, gone)).sum())


@given(
    widths=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    multiple=st.sampled_from([1, 4, 8, 16]),
    share=st.floats(0.05, 1.0),
    by_importance=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_budget_is_met_and_not_one_block_more_could_stay(
    widths: list[int], multiple: int, share: float, by_importance: bool, seed: int
) -> None:
    groups = grouped(widths)
    scores = np.random.default_rng(seed).random(sum(widths))
    rooms = [Room(width, 0.9, multiple, 1) for width in widths]
    removals = order_removals(groups, rooms, scores, by_importance=by_importance)
    cost = Chain(groups)
    goal = share * cost.total
    gone = by_cost(removals, cost, goal)
    if gone is None:
        everything = np.concatenate([np.empty(0, np.int64), *(one.roots for one in removals)])
        assert cost.without(everything) > goal
        return
    assert cost.without(gone) <= goal
    for group, width in zip(groups, widths, strict=True):
        lost = group.roots[np.isin(group.roots, gone)]
        stays = kept(group, gone)
        assert stays == width or stays % multiple == 0
        if not len(lost):
            continue
        # The least important went; with the next block of the others, the budget is exceeded.
        stay = np.setdiff1d(group.roots, lost)
        assert scores[lost].max() <= scores[stay].min()
        more = min(width, (stays // multiple + 1) * multiple)
        ranked = lost[np.argsort(scores[lost])]
        assert cost.without(np.setdiff1d(gone, ranked[len(lost) - (more - stays) :])) > goal


def test_blocks_go_back_to_whom_they_are_worth_most() -> None:
    # With half of each width 128 of 384 multiplications stay. One group can have its block of 8
    # back within 240, either of them, but not both.
    groups = grouped([16, 16])
    cost = Chain(groups)
    rooms = [Room(16, 0.5, 8, 1) for _ in groups]
    even = np.r_[np.arange(16.0), np.arange(16.0)]
    for steep, expected in ((0, [16, 8]), (1, [8, 16])):
        scores = even.copy()
        scores[16 * steep : 16 * steep + 8] = 7.5  # as much as what stays: half of its worth
        removals = order_removals(groups, rooms, scores, by_importance=False)
        gone = by_cost(removals, cost, 240)
        assert gone is not None
        assert [kept(group, gone) for group in groups] == expected


def test_the_order_that_uses_more_of_the_budget_is_taken() -> None:
    class Weighed(Chain):
        """Channels of the second group cost three times as much."""

        def without(self, gone: Ids) -> float:
            return float(sum((1, 3)[i] * kept(g, gone) for i, g in enumerate(self.groups)))

    groups = grouped([16, 16])
    rooms = [Room(16, 0.5, 8, 1) for _ in groups]
    scores = np.r_[np.full(8, 0.9), np.ones(8), np.ones(16)]
    removals = order_removals(groups, rooms, scores, by_importance=False)
    # 32 stay at least. For its cost the first group's block is worth most, and takes 8 of the 24.
    for goal, expected in ((32 + 24, [8, 16]), (32 + 23, [16, 8])):
        gone = by_cost(removals, Weighed(groups), goal)
        assert gone is not None
        assert [kept(group, gone) for group in groups] == expected


def test_what_saves_nothing_stays() -> None:
    class Padded(Chain):
        """A cost that only knows multiples of eight."""

        def without(self, gone: Ids) -> float:
            return float(sum(-(-kept(group, gone) // 8) for group in self.groups))

    groups = grouped([16, 16])
    removals = order_removals(
        groups, [Room(16, 0.9, 1, 1)] * 2, np.arange(32.0), by_importance=False
    )
    gone = by_cost(removals, Padded(groups), 3)
    assert gone is not None
    assert sorted(kept(group, gone) for group in groups) == [8, 16]


def test_a_goal_out_of_reach_is_told() -> None:
    groups = grouped([16])
    removals = order_removals(groups, [Room(16, 0.5, 8, 1)], np.arange(16.0), by_importance=False)
    cost = Chain(groups)
    assert by_cost(removals, cost, 0.49 * cost.total) is None
    assert by_cost(removals, cost, cost.total) is not None


@pytest.mark.parametrize("by_importance", [True, False])
def test_the_order_is_kept_within_each_group(by_importance: bool) -> None:
    groups = grouped([6, 9])
    scores = np.random.default_rng(0).random(15)
    rooms = [Room(6, 0.9, 2, 1), Room(9, 0.5, 1, 1)]
    removals = order_removals(groups, rooms, scores, by_importance=by_importance)
    assert [one.key for one in removals] == sorted(one.key for one in removals)
    for index, group in enumerate(groups):
        own = np.concatenate([one.roots for one in removals if one.group == index])
        assert (np.diff(scores[own]) >= 0).all()
        assert set(own) <= set(group.roots)
