"""Fits kernels to what was measured, and finds how far such fits are off for other networks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgekit.base.errors import ToolError
from edgekit.base.progress import Progress, silent
from edgekit.pipeline.calibration.journal import Setting
from edgekit.pipeline.calibration.series import Series
from edgekit.profiling.fit.costs import prediction_error
from edgekit.profiling.fit.factors import Scales
from edgekit.profiling.fit.kernels import fit_kernels, predict_seconds
from edgekit.profiling.fit.residuals import ROUNDS, Residual, rule
from edgekit.schema.names import Precision
from edgekit.schema.target import KernelCosts, PredictionError

Fit = tuple[KernelCosts, PredictionError | None]

SOURCE = "calibration"
"""Id of the source of fitted costs."""

_FOLDS = 4
_LEAST_COMPOSITES = 8
_METHOD = (
    "measured over predicted, a quarter of the small composite networks left out of the fit in "
    "turn; {rule}"
)


def fits(series: Sequence[Series], *, progress: Progress = silent) -> dict[Setting, Fit]:
    """Costs of each setting, and their error on composite networks that were left out.

    The error is that of composites of which others like them stay in the fit, a quarter left out in
    turn; where whole families are left out, it is that of networks unlike those measured.

    Args:
        series: what was measured.
        progress: receives what is fitted, and how many of its steps are done.

    Raises:
        ToolError: a runtime ran none of the networks.
        MissingDependencyError: SciPy is not installed.
    """
    groups: dict[tuple[str, Precision], list[Series]] = {}
    for one in sorted(series, key=lambda each: each.setting.threads):
        groups.setdefault((one.setting.runtime, one.setting.precision), []).append(one)
    found: dict[Setting, Fit] = {}
    steps = 3 * len(groups)
    for done, (name, group) in enumerate(groups.items()):
        what = f"fitting {' '.join(name)}"
        progress(what, 3 * done, steps)
        fitted = _together(group, [{}] * len(group))
        scales = [own for _, own in fitted]
        progress(f"{what}, networks left out", 3 * done + 1, steps)
        by_network = _residuals(group, scales, _quarters(group, by_family=False))
        progress(f"{what}, families left out", 3 * done + 2, steps)
        by_family = _residuals(group, scales, _quarters(group, by_family=True))
        for one, (costs, _), *residuals in zip(group, fitted, by_network, by_family, strict=True):
            found[one.setting] = costs, _error(*residuals)
    return found


def _together(
    group: Sequence[Series], scales: Sequence[Scales], out: Collection[str] = ()
) -> list[tuple[KernelCosts, Scales]]:
    """Fits of a runtime's numbers of threads: what the fewest take tells of what more take.

    Args:
        group: by threads, the fewest first.
        scales: of each; none: to be found.
        out: names of networks left out.
    """
    found: list[tuple[KernelCosts, Scales]] = []
    for one, known in zip(group, scales, strict=True):
        kept = [each for each in one.observations if each.name not in out]
        if not kept:
            reason = next(iter(one.failed.values()), "no network was measured")
            raise ToolError(f"{one.setting.key}: nothing could be measured", hint=reason)
        base = found[0][0] if found else None
        found.append(fit_kernels(kept, source=SOURCE, scales=known or None, base=base))
    return found


def _quarters(group: Sequence[Series], *, by_family: bool) -> list[set[str]]:
    """Names of composites to leave out together: of every fourth one, or of every fourth family."""
    families = {
        one.name: one.family
        for each in group
        for one in each.observations
        if one.name in each.composites
    }
    names = sorted(families, key=lambda name: (families[name], name))
    apart = sorted(set(families.values())) if by_family else names
    if len(apart) < _FOLDS:
        return []
    quarters = [set(apart[fold::_FOLDS]) for fold in range(_FOLDS)]
    return [{name for name in names if {name, families[name]} & quarter} for quarter in quarters]


def _residuals(
    group: Sequence[Series], scales: Sequence[Scales], quarters: Sequence[Collection[str]]
) -> list[list[Residual]]:
    """Of each number of threads' composites, those of a quarter left out in turn."""
    found: list[list[Residual]] = [[] for _ in group]
    for out in quarters:
        fitted = _together(group, scales, out)
        for residuals, one, (costs, _) in zip(found, group, fitted, strict=True):
            residuals += [
                Residual(each.name, each.family, each.seconds / predict_seconds(each, costs))
                for each in one.observations
                if each.name in out
            ]
    return found


def _error(by_network: Sequence[Residual], by_family: Sequence[Residual]) -> PredictionError | None:
    if len(by_network) < _LEAST_COMPOSITES:
        return None
    error = prediction_error(by_network, by_family)
    method = _METHOD.format(rule=rule(len(by_network), rounds=ROUNDS))
    return error and error.model_copy(update={"method": method})
