from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.compress.masks import block_mask, group_mask, magnitude_mask, zeros_asked

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=4, max_side=6),
    elements=st.floats(-10, 10, width=32) | st.sampled_from([0.0, 1.0, -1.0]),
)


@given(WEIGHTS, st.floats(0, 1))
def test_as_many_weights_go_as_asked_and_they_are_the_smallest(
    weights: np.ndarray, sparsity: float
) -> None:
    mask = magnitude_mask(weights, sparsity)
    assert mask.shape == weights.shape
    assert np.count_nonzero(~mask) == zeros_asked(weights.size, sparsity)
    assert abs(np.count_nonzero(~mask) - weights.size * sparsity) <= 0.5
    if mask.any() and not mask.all():
        assert np.abs(weights[~mask]).max() <= np.abs(weights[mask]).min()


@given(WEIGHTS, st.floats(0, 1), st.floats(0, 1))
def test_removing_more_starts_with_what_went_before(
    weights: np.ndarray, one: float, two: float
) -> None:
    few, many = sorted((one, two))
    once = weights * magnitude_mask(weights, few)
    twice = once * magnitude_mask(once, many)
    zeros = np.count_nonzero(once == 0)
    assert np.count_nonzero(twice == 0) == max(zeros, zeros_asked(weights.size, many))


@given(WEIGHTS, st.integers(1, 3), st.sampled_from([2, 4]), st.data())
def test_groups_keep_their_largest_weights(
    weights: np.ndarray, n: int, m: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-weights.ndim, weights.ndim - 1))
    mask = group_mask(weights, n, m, axis)
    assert mask.shape == weights.shape
    rows = np.moveaxis(np.abs(weights), axis, -1).reshape(-1, weights.shape[axis])
    kept = np.moveaxis(mask, axis, -1).reshape(rows.shape)
    for row, keep in zip(rows, kept, strict=True):
        for start in range(0, len(row), m):
            group, left = row[start : start + m], keep[start : start + m]
            assert np.count_nonzero(left) == min(n, len(group))
            if not left.all():
                assert group[~left].max() <= group[left].min()


@given(WEIGHTS, st.floats(0, 1), st.data())
def test_blocks_go_whole_and_the_smallest_first(
    weights: np.ndarray, sparsity: float, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-weights.ndim, weights.ndim - 1))
    mask = block_mask(weights, sparsity, axis)
    rows = np.moveaxis(np.abs(weights), axis, -1).reshape(-1, weights.shape[axis])
    kept = np.moveaxis(mask, axis, -1).reshape(rows.shape)
    removed: list[float] = []
    left: list[float] = []
    for row, keep in zip(rows, kept, strict=True):
        for start in range(0, len(row), 4):
            block = keep[start : start + 4]
            assert block.all() or not block.any()
            (left if block.all() else removed).append(row[start : start + 4].mean())
    zeros, asked = np.count_nonzero(~mask), zeros_asked(weights.size, sparsity)
    assert asked <= zeros < asked + 4
    if removed and left:
        assert max(removed) <= min(left) * (1 + 1e-6)
