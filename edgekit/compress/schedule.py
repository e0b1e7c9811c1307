"""The pruning schedule of Zhu and Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PolynomialSchedule:
    """How the sparsity rises over the training steps; equation 1 of the paper.

    `s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3` for `t = t_0, t_0 + dt, ..., t_0 + n dt`.

    Attributes:
        begin: t_0, the first step at which weights are removed.
        frequency: dt, steps between two removals.
        updates: n.
        exponent: 3 in the paper.
    """

    begin: int
    frequency: int
    updates: int
    exponent: float = 3.0

    @classmethod
    def over(
        cls,
        steps: int,
        *,
        begin: float,
        end: float,
        frequency: int | None,
        exponent: float,
    ) -> PolynomialSchedule:
        """A schedule from share `begin` to share `end` of a training of `steps` steps.

        Without a `frequency`, weights are removed at every step of short trainings, and about
        `_UPDATES` times in longer ones.
        """
        first, last = int(begin * steps), int(end * steps)
        every = frequency or max(1, (last - first) // _UPDATES)
        return cls(first, every, max(1, (last - first) // every), exponent)

    @property
    def end(self) -> int:
        """The step from which on the final sparsity holds."""
        return self.begin + self.updates * self.frequency

    def is_update(self, step: int) -> bool:
        """Whether weights are removed before this step."""
        return self.begin <= step <= self.end and (step - self.begin) % self.frequency == 0

    def sparsity(self, step: int, *, initial: float, final: float) -> float:
        """The share of zeros (0 to 1) that holds at `step`; the last removal before it counts."""
        if step < self.begin:
            return 0.0
        done = min((step - self.begin) // self.frequency, self.updates)
        left = 1.0 - done / self.updates
        return float(final + (initial - final) * left**self.exponent)


_UPDATES = 50
