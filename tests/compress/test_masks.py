from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.compress.masks import magnitude_mask, zeros_asked

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
