from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import PreconditionError
from edgekit.compress.distributions import LEVELS, erdos_renyi, least_error

SHAPES = st.lists(
    st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6
)


@given(SHAPES, st.floats(0, 0.99))
def test_the_densities_are_those_of_the_papers_and_give_the_sparsity(
    shapes: list[tuple[int, ...]], sparsity: float
) -> None:
    densities = [1 - share for share in erdos_renyi(shapes, sparsity)]
    sizes = [math.prod(shape) for shape in shapes]
    left = sum(d * size for d, size in zip(densities, sizes, strict=True))
    assert left == pytest.approx((1 - sparsity) * sum(sizes), rel=1e-6, abs=1e-6)
    assert all(-1e-9 <= density <= 1 + 1e-9 for density in densities)
    formula = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    scales = [d / f for d, f in zip(densities, formula, strict=True) if d < 1 - 1e-9]
    if scales:
        assert max(scales) == pytest.approx(min(scales), rel=1e-6, abs=1e-9)
        for density, f in zip(densities, formula, strict=True):
            assert density >= 1 - 1e-6 or density == pytest.approx(scales[0] * f, rel=1e-5)
            # A dense kernel is one that the formula would make more than dense.
            assert density < 1 - 1e-9 or scales[0] * f >= 1 - 1e-6


def test_the_densities_of_lenet() -> None:
    """Fully connected layers of 784-300-100-10, by hand."""
    shapes = [(784, 300), (300, 100), (100, 10)]
    found = erdos_renyi(shapes, 0.9)
    # The last layer is dense; e (1084 + 400) = 26620 - 1000.
    scale = (0.1 * 266200 - 1000) / (1084 + 400)
    assert found == pytest.approx([1 - scale * 1084 / 235200, 1 - scale * 400 / 30000, 0.0])


ERRORS = st.lists(
    st.lists(st.floats(0, 5), min_size=len(LEVELS), max_size=len(LEVELS)), min_size=1, max_size=3
)


@given(ERRORS, st.data())
def test_the_assignment_gives_the_sparsity(errors: list[list[float]], data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(50, 5000), min_size=len(errors), max_size=len(errors)))
    sparsity = data.draw(st.floats(0, 0.97))
    found = least_error(errors, sizes, sparsity)
    total = sum(share * size for share, size in zip(found, sizes, strict=True))
    assert total == pytest.approx(sparsity * sum(sizes), rel=1e-6, abs=1e-6)
    assert all(-1e-9 <= share <= LEVELS[-1] + 1e-9 for share in found)


@given(st.integers(0, 1000))
def test_no_assignment_on_the_grid_has_less_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    errors = np.cumsum(random.random((2, len(LEVELS))) ** 4, axis=1)
    sizes, sparsity = random.integers(100, 1000, 2), 0.6
    grid = np.linspace(0, LEVELS[-1], 100)
    curves = [np.interp(grid, (0, *LEVELS), (0, *one)) for one in errors]
    best = min(
        curves[0][a] + curves[1][b]
        for a, b in itertools.product(range(100), repeat=2)
        if grid[a] * sizes[0] + grid[b] * sizes[1] >= sparsity * sizes.sum()
    )
    found = least_error(errors.tolist(), sizes.tolist(), sparsity)
    cost = sum(
        float(np.interp(share, (0, *LEVELS), (0, *one)))
        for share, one in zip(found, errors, strict=True)
    )
    assert cost <= best * (1 + 2e-3) + 1e-9


def test_more_than_the_scan_saw_is_refused() -> None:
    with pytest.raises(PreconditionError, match=r"goes to a sparsity of 97%, 98\.0% is asked"):
        least_error([[1.0] * len(LEVELS)], [10], 0.98)
