"""What each layer costs in each precision: bytes of weights, bytes moved, or time on a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.base.errors import PreconditionError
from edgekit.compress.integer_program import Table
from edgekit.compress.precision_graph import Choice, Unit
from edgekit.models.graph import model_graph
from edgekit.profiling.profile import profile_graph
from edgekit.schema.results import Profile
from edgekit.schema.target import Target

if TYPE_CHECKING:
    import keras

# Bytes of a weight in a matrix, of one in a vector, and of an activation.
_WIDTHS: dict[Choice, tuple[int, int, int]] = {
    "int8": (1, 4, 1),
    "int16x8": (1, 8, 2),
    "fp32": (4, 4, 4),
}


@dataclass(frozen=True)
class Costs:
    """Costs by unit and candidate.

    Attributes:
        unit: "bytes" or "ms".
        table: of shape (units, candidates); infinite where there is no such form.
        rest: what the network costs besides.
        warnings: candidates that drop out, and why.
    """

    unit: str
    table: Table
    rest: float = 0.0
    warnings: tuple[str, ...] = ()


def weight_bytes(units: Sequence[Unit], candidates: Sequence[Choice]) -> Costs:
    """Bytes that the weights take in a file; scales and zero points are not counted."""
    rows = [
        [u.matrices * _WIDTHS[c][0] + u.vectors * _WIDTHS[c][1] for c in candidates] for u in units
    ]
    return Costs("bytes", np.array(rows, np.float64).reshape(len(units), len(candidates)))


def moved_bytes(units: Sequence[Unit], candidates: Sequence[Choice]) -> Costs:
    """Bytes of weights and of results of one inference."""
    results = [[u.results * _WIDTHS[c][2] for c in candidates] for u in units]
    table = np.array(results, np.float64).reshape(len(units), len(candidates))
    return Costs("bytes", weight_bytes(units, candidates).table + table)


def latencies(
    model: keras.Model, units: Sequence[Unit], candidates: Sequence[Choice], target: Target
) -> Costs:
    """Estimated milliseconds of each unit on a target, by its cost model.

    Raises:
        PreconditionError: the target has no costs of any of the candidates.
    """
    table = np.full((len(units), len(candidates)), np.inf)
    rest, warnings = 0.0, []
    for column, choice in enumerate(candidates):
        profile = profile_graph(model_graph(model, precision=choice), target, model.name)
        total = profile.latency_ms.value
        if total is None:
            warnings.append(
                f"no layer can be {choice} on {target.name}: {profile.latency_ms.reason}"
            )
            continue
        table[:, column] = [_time_of(profile, unit.label) for unit in units]
        rest = max(rest, total - float(table[:, column].sum()))
    if not np.isfinite(table).any():
        raise PreconditionError("; ".join(warnings), where=target.name)
    return Costs("ms", table, rest, tuple(warnings))


def latency(model: keras.Model, layers: dict[str, Choice], target: Target) -> float | None:
    """Estimated milliseconds of the whole mixed file, with its changes of precision, if known."""
    graph = model_graph(model, precision="mixed", layers={**layers})
    return profile_graph(graph, target, model.name).latency_ms.value


def _time_of(profile: Profile, label: str) -> float:
    return sum(
        row.latency_ms.value or 0.0
        for row in profile.layers
        if row.layer == label or row.layer.startswith(f"{label}/")
    )
