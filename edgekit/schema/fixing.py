"""What `edgekit check --fix` reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.results import CheckReport, Finding

Promise = Literal[
    "bits",  # the same bits
    "rounding",  # the same up to the rounding of float32
    "approximate",  # other numbers, near the old ones
]
"""How near the results of a rewritten model are to those before."""
UNVARIED = "the outputs are the same on all samples"


class Difference(Document):
    """How far outputs are from those of the original file, on the same samples.

    Attributes:
        max_abs: largest absolute difference, of values in real units.
        relative: `max_abs` over the range of the original's values.
        max_steps: largest difference in steps of the output's quantization; None for floats.
        samples: how many were compared.
        varied: whether the original's outputs are not the same on all of them, which would prove
            little.
        kernels: the kernels that ran them, such as `litert with XNNPACK`.
    """

    max_abs: float
    relative: float
    max_steps: int | None = None
    samples: int
    varied: bool = True
    kernels: tuple[str, ...]


class AppliedRewrite(Document):
    """One change of the file.

    Attributes:
        change: what stands where now.
        promise: what the rewrite promises, and the tolerance that it was held to.
        tolerance: largest `Difference.relative`; 0: bit-equal.
        difference: to the original file, with all changes up to this one.
    """

    rewrite: str
    rule: str
    op: str | None
    layer: str | None
    change: str
    promise: Promise
    tolerance: float
    difference: Difference


class FindingFix(Document):
    """What became of one finding.

    Attributes:
        rewrite: that fixed it; None: it stands.
        why: why it stands.
    """

    finding: Finding
    rewrite: str | None = None
    why: str | None = None

    @property
    def fixed(self) -> bool:
        """Whether the finding is gone."""
        return self.rewrite is not None


class FixReport(Document):
    """`edgekit check --fix --json`.

    Attributes:
        output: the file written; None if nothing was to be written.
        checked: what was checked: the file, or what a Keras model becomes.
        before: the check of the original file.
        after: the check of the fixed file.
        rewrites: the changes, in order.
        findings: each finding of `before`, and what became of it; then those of what stands in the
            place of operators now.
    """

    artifact: str
    target: str
    output: str | None
    checked: str
    before: CheckReport
    after: CheckReport
    rewrites: tuple[AppliedRewrite, ...] = ()
    findings: tuple[FindingFix, ...] = Field(default=())
