"""How a sparsity for all kernels together is spread over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import PreconditionError
from edgekit.base.extras import require
from edgekit.base.progress import Progress
from edgekit.compress.kernels import Kernel
from edgekit.compress.masks import Pattern, pattern_mask
from edgekit.data.dataset import Split
from edgekit.runtimes.session import match_names

if TYPE_CHECKING:
    import keras

Distribution = Literal["uniform", "erdos_renyi", "sensitivity"]

LEVELS = (0.25, 0.5, 0.75, 0.9, 0.97)  # sparsities of the scan
_SAMPLES = 256
_STEPS = 100  # sparsities between which an assignment chooses: 0, 1/100, ...
_GAP = 1e-3  # relative, to the best assignment


def erdos_renyi(shapes: Sequence[tuple[int, ...]], sparsity: float) -> list[float]:
    """Sparsities of kernels: a density that falls with their size (Mocanu et al. 2018).

    In the form for convolutions of Evci et al. 2020 (arXiv 1911.11134), the density of a kernel of
    shape (d1, d2, ...) is `e (d1 + d2 + ...) / (d1 d2 ...)`, at most 1, with `e` such that the
    kernels have the sparsity together.

    Args:
        shapes: of the kernels.
        sparsity: share of all weights to remove, 0 to 1.

    Returns:
        A sparsity for each kernel.
    """
    sizes = [math.prod(shape) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    dense: set[int] = set()
    while True:
        left = (1 - sparsity) * sum(sizes) - sum(sizes[i] for i in dense)
        spread = sum(raw[i] * sizes[i] for i in range(len(raw)) if i not in dense)
        scale = left / spread if spread else 0.0
        # A kernel that would be more than dense leaves more to the others, never less.
        full = {i for i, density in enumerate(raw) if i not in dense and scale * density > 1}
        if not full:
            break
        dense |= full
    return [0.0 if i in dense else 1 - scale * density for i, density in enumerate(raw)]


def scan(
    model: keras.Model,
    kernels: Sequence[Kernel],
    split: Split,
    pattern: Pattern,
    progress: Progress,
) -> list[list[float]]:
    """What the removal of weights from one kernel alone does to the outputs.

    Args:
        model: has the weights that it was given afterwards.
        kernels: of the model.
        split: samples; at most 256 are used, no labels.
        pattern: of the removed weights.
        progress: told after each kernel.

    Returns:
        For each kernel the error at each of `LEVELS`: the mean squared change of the outputs over
        their variance, summed up over the outputs.
    """
    from edgekit.training.evaluate import compiled

    names = tuple(tensor.name for tensor in model.inputs)
    inputs = [array[:_SAMPLES] for array in match_names(names, split.x).values()]
    run = compiled(model)

    def outputs() -> list[NDArray[Any]]:
        return [np.asarray(output, np.float64) for output in run(*inputs)]

    reference = outputs()
    errors: list[list[float]] = []
    for number, kernel in enumerate(kernels):
        values = kernel.values
        errors.append([])
        for level in LEVELS:
            kernel.variable.assign(values * pattern_mask(kernel, values, level, pattern))
            errors[-1].append(_error(outputs(), reference))
        kernel.variable.assign(values)
        progress(f"sensitivity of {kernel.layer}", number + 1, len(kernels))
    return errors


def _error(outputs: list[NDArray[Any]], reference: list[NDArray[Any]]) -> float:
    return sum(
        float(np.mean((output - one) ** 2) / (np.var(one) or 1.0))
        for output, one in zip(outputs, reference, strict=True)
    )


def least_error(
    errors: Sequence[Sequence[float]], sizes: Sequence[int], sparsity: float
) -> list[float]:
    """The sparsities of kernels with the least sum of errors that have a sparsity together.

    An integer program, solved by HiGHS: one of 100 sparsities for each kernel. Errors between the
    levels of the scan are interpolated, and never fall with the sparsity.

    Args:
        errors: of each kernel, at each of `LEVELS`.
        sizes: of the kernels.
        sparsity: share of all weights to remove, 0 to 1.

    Returns:
        A sparsity for each kernel, at most the last of `LEVELS`.

    Raises:
        PreconditionError: the sparsity is higher than the scan went.
    """
    if sparsity > LEVELS[-1]:
        raise PreconditionError(
            f"the sensitivity scan goes to a sparsity of {LEVELS[-1]:.0%}, {sparsity:.1%} is asked",
            hint="take another distribution",
        )
    optimize = require("scipy.optimize", purpose="to spread sparsity")
    grid = np.linspace(0, LEVELS[-1], _STEPS)
    costs = np.stack(
        [np.interp(grid, (0, *LEVELS), np.maximum.accumulate([0, *one])) for one in errors]
    )
    zeros = np.outer(sizes, grid)
    wanted = sparsity * sum(sizes)
    one_each = np.kron(np.eye(len(sizes)), np.ones(_STEPS))
    found = optimize.milp(
        costs.ravel(),
        integrality=np.ones(costs.size),
        bounds=optimize.Bounds(0, 1),
        constraints=[
            optimize.LinearConstraint(one_each, 1, 1),
            optimize.LinearConstraint(zeros.reshape(1, -1), wanted * (1 - 1e-9), np.inf),
        ],
        options={"mip_rel_gap": _GAP},
    )
    if found.x is None:
        raise PreconditionError(f"no assignment of sparsities was found: {found.message}")
    chosen = grid[found.x.reshape(costs.shape).argmax(axis=1)]
    # What the grid gives more than asked is given back.
    over = float(chosen @ np.asarray(sizes)) - wanted
    for index in np.argsort(-chosen * sizes):
        back = min(over, chosen[index] * sizes[index])
        chosen[index] -= back / sizes[index]
        over -= back
    return [float(one) for one in chosen]
