"""What `edgekit check --fix` works on: one kind of model file, and how far outputs are apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.base.errors import DataError
from edgekit.base.registry import Registry
from edgekit.profiling.rewrites import RefusedError, Rewrite
from edgekit.runtimes.session import Arrays
from edgekit.schema.fixing import Difference
from edgekit.schema.results import CheckReport, Finding

Key = tuple[str, str, int]
"""Of a finding: rule, name of the operator's first output, number among those of that name."""


@dataclass(frozen=True)
class Checked:
    """A check of one state of a model.

    Attributes:
        report: the check.
        keys: what tells each of its findings from the others, whatever happens to positions.
    """

    report: CheckReport
    keys: dict[Key, Finding]


class Workbench(ABC):
    """One kind of model file: how it is changed, checked, run and written.

    A state is the model between two rewrites.
    """

    rewrites: Registry[Rewrite]
    later: ClassVar[Mapping[str, Rewrite]] = {}
    """Rewrites of the file that the model becomes; what they answer does not stand in the way."""

    def answered_later(self, finding: Finding) -> str | None:
        """The name of the rewrite of the file that answers a finding, if one does."""
        return next((name for name, one in self.later.items() if one.answers(finding)), None)

    @property
    @abstractmethod
    def basis(self) -> str:
        """What is checked, in words; known after a check."""

    @abstractmethod
    def start(self) -> Any:
        """The state of the file itself."""

    @abstractmethod
    def editable(self, state: Any) -> Any:
        """A copy of a state that rewrites may change."""

    @abstractmethod
    def finished(self, copy: Any) -> Any:
        """The state that a changed copy is."""

    @abstractmethod
    def check(self, state: Any) -> Checked:
        """Checks a state against the target."""

    @abstractmethod
    def compare(self, state: Any) -> Difference:
        """Runs a state and compares it with the file itself."""

    @abstractmethod
    def write(self, state: Any, path: Path) -> None:
        """Writes a state to a file, whole or not at all."""


def with_real(made_up: Arrays, real: Arrays) -> Arrays:
    """Random and real samples together, in the dtypes of the random ones.

    Raises:
        DataError: the real ones do not fit the inputs.
    """
    for name, values in made_up.items():
        if values.shape[1:] != real[name].shape[1:]:
            raise DataError(
                f"input '{name}' has samples of shape {values.shape[1:]}, "
                f"got {real[name].shape[1:]}"
            )
    return {
        name: np.concatenate([values, real[name].astype(values.dtype)])
        for name, values in made_up.items()
    }


def difference(found: Arrays, wanted: Arrays, real: tuple[Arrays, Arrays]) -> Difference:
    """How far outputs are from others.

    Args:
        found: outputs by name, in the model's dtypes.
        wanted: the same of the reference.
        real: both as the values that they stand for.
    """
    largest = relative = 0.0
    steps: int | None = None
    for name, other in wanted.items():
        one, two = real[0][name].astype(np.float64), real[1][name].astype(np.float64)
        if one.shape != two.shape:
            raise RefusedError(f"output '{name}' has shape {one.shape}, before {two.shape}")
        if np.array_equal(found[name], other):
            continue
        both = np.isfinite(one) == np.isfinite(two)
        gap = float(np.abs(np.nan_to_num(one) - np.nan_to_num(two)).max()) if both.all() else np.inf
        finite = two[np.isfinite(two)]
        span = float(np.ptp(finite)) if finite.size else 0.0
        size = max(span, float(np.abs(finite).max()) if finite.size else 0.0, 1e-30)
        largest, relative = max(largest, gap), max(relative, gap / size)
        if np.issubdtype(other.dtype, np.integer) and found[name].dtype == other.dtype:
            apart = np.abs(found[name].astype(np.int64) - other.astype(np.int64)).max()
            steps = max(steps or 0, int(apart))
    if steps is None and all(np.issubdtype(a.dtype, np.integer) for a in wanted.values()):
        steps = 0
    count = len(next(iter(wanted.values())))
    varied = any((array != array[:1]).any() for array in wanted.values())
    return Difference(
        max_abs=largest, relative=relative, max_steps=steps, samples=count, varied=varied,
        kernels=(),
    )  # fmt: skip
