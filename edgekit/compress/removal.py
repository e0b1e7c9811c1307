"""Which channels go: one order of removals for a whole model, and how far to follow it.

Channels go in blocks, so the last block may take more than a budget asks for; what the budget has
room for is given back then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from edgekit.compress.cost import Cost
from edgekit.compress.coupling import Ids
from edgekit.compress.importance import Scores
from edgekit.compress.network import Group


@dataclass(frozen=True)
class Room:
    """How much of a group may go.

    Attributes:
        original: channels before the first removal.
        share: of the original channels that may go at most, 0 to 1.
        multiple: of which the number that stays is one, unless it is the original one.
        fewest: channels that stay at least.
    """

    original: int
    share: float
    multiple: int
    fewest: int


@dataclass(frozen=True)
class Removal:
    """Channels of one group that go in one step, from one allowed number to the next.

    Attributes:
        roots: what goes.
        key: removals happen in the order of their keys.
        group: whose channels they are, by its index.
        worth: how much they matter; comparable between groups.
    """

    roots: Ids
    key: float
    group: int
    worth: float


def order_removals(
    groups: Sequence[Group], rooms: Sequence[Room], scores: Scores, *, by_importance: bool
) -> list[Removal]:
    """All removals that are allowed, the first ones first.

    Args:
        groups: of the network.
        rooms: of each group.
        scores: by id; the least important channels of a group go first.
        by_importance: compares all channels of the model by their scores; else all groups lose
            the same part of their share (a key of 1 is all of it), and channels are worth what
            they are to their group.
    """
    removals: list[tuple[float, int, Removal]] = []
    for index, (group, room) in enumerate(zip(groups, rooms, strict=True)):
        whole = 1.0 if by_importance else float(scores[group.roots].sum()) or 1.0
        ranked = group.roots[np.argsort(scores[group.roots], kind="stable")]
        have = len(ranked)
        key = 0.0
        for keep in _levels(have, room):
            part = ranked[len(ranked) - have : len(ranked) - keep]
            if by_importance:
                key = max(key, float(scores[part].mean()))
            else:
                key = (1 - keep / room.original) / room.share
            worth = float(scores[part].sum()) / whole
            removals.append((key, -keep, Removal(part, key, index, worth)))
            have = keep
    return [removal for *_, removal in sorted(removals, key=lambda one: one[:2])]


def _levels(have: int, room: Room) -> list[int]:
    """The numbers of channels that may stay, falling."""
    # 0.1 of 10 channels is one channel, whatever floats make of it.
    least = max(room.fewest, int(np.ceil(room.original * (1 - room.share) - 1e-9)), 1)
    return [keep for keep in range(have - 1, least - 1, -1) if keep % room.multiple == 0]


def by_share(removals: Sequence[Removal], part: float) -> Ids:
    """What goes if each group loses `part` of its share."""
    return _joined([removal for removal in removals if removal.key <= part + 1e-9])


def by_count(removals: Sequence[Removal], most: int) -> Ids:
    """What goes if at most that many channels go, in order."""
    counts = np.cumsum([len(removal.roots) for removal in removals])
    return _joined(removals[: int(np.searchsorted(counts, most, side="right"))])


def by_cost(removals: Sequence[Removal], cost: Cost, goal: float) -> Ids | None:
    """What goes to bring the cost to the goal; None if all removals do not.

    The fewest removals, in order, with those of the same key, but without those that the goal has
    room for: of what goes, not one block more could stay. What is worth most goes back first, or
    what is worth most for what it costs, whichever uses more of the goal.
    """
    order = range(len(removals) + 1)
    count = bisect_left(order, -goal, key=lambda first: -cost.without(_joined(removals[:first])))
    if count > len(removals):
        return None
    last = removals[count - 1].key if count else -inf
    chosen = [one for one in removals if one.key <= last]
    # Neither order always uses a budget better; blocks are large beside it.
    found = [_joined(_needed(chosen, cost, goal, per_cost=each)) for each in (True, False)]
    return max(found, key=cost.without)


def _needed(
    removals: Sequence[Removal], cost: Cost, goal: float, *, per_cost: bool
) -> Sequence[Removal]:
    """Gives removals back while the goal is met, those of the greatest worth first."""
    stays = list(removals)
    while True:
        now = cost.without(_joined(stays))
        fitting: list[tuple[float, Removal]] = []
        # A group gets back what it lost last.
        for last in {removal.group: removal for removal in stays}.values():
            then = cost.without(_joined([one for one in stays if one is not last]))
            if then <= goal:
                saved = then - now if per_cost else 1.0
                fitting.append((last.worth / saved if saved > 0 else inf, last))
        if not fitting:
            return stays
        back = max(fitting, key=lambda one: one[0])[1]
        stays = [one for one in stays if one is not back]


def _joined(removals: Sequence[Removal]) -> Ids:
    return np.concatenate([np.empty(0, np.int64), *(removal.roots for removal in removals)])
