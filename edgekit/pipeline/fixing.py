"""`edgekit check --fix`: known rewrites, each proven by the model's runtime before it counts.

A check, then for each finding the rewrites that answer it, one after another, on a copy. A copy
takes the model's place if it computes what the rewrite promises, the finding is gone, and no other
rule is broken that was not before; then all begins anew.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.base.child import Worker
from edgekit.base.errors import EdgekitError, InputError
from edgekit.base.files import existing_file
from edgekit.base.progress import Progress, silent
from edgekit.pipeline.fixing_bench import Checked, Key, Workbench
from edgekit.profiling.rewrites import Change, RefusedError, Rewrite, Site, UnrelatedError
from edgekit.schema.fixing import (
    UNVARIED,
    AppliedRewrite,
    Difference,
    FindingFix,
    FixReport,
    Promise,
)
from edgekit.schema.results import Finding
from edgekit.schema.target import Target

TOLERANCE = 0.02
"""Largest relative difference of an approximate rewrite, unless another is asked for."""
_ROUNDING = 1e-5
_FOLLOWS = frozenset({"partition", "subgraph", "prediction"})
"""Rules that are broken by what other operators do."""
_RANKS = {"hint": 0, "slow": 1, "requantized": 1}
"""How grave a severity is; the others keep operators from running where they should."""
_GRAVE = 2
_MOST_REWRITES = 200


@dataclass(frozen=True)
class _Policy:
    allow_inexact: bool
    tolerance: float

    def limit(self, promises: Sequence[Promise]) -> float:
        """What a file with these changes is held to."""
        if "approximate" in promises:
            return self.tolerance
        return _ROUNDING if "rounding" in promises else 0.0


@dataclass
class _Outcome:
    state: Any
    checked: Checked
    applied: list[AppliedRewrite]
    why: dict[Key, str]
    fixed: dict[Key, str]


def fix_file(
    path: Path,
    target: Target,
    output: Path | None,
    *,
    data: Path | None = None,
    allow_inexact: bool = False,
    tolerance: float = TOLERANCE,
    samples: int = 32,
    seed: int = 0,
    progress: Progress = silent,
) -> FixReport:
    """Rewrites a model so that a target takes it.

    Args:
        path: a .tflite, .keras or .h5 file.
        target: of the check.
        output: file to write; None: only report what would be done.
        data: .npz of real samples by input name, compared beside the random ones.
        allow_inexact: take rewrites that change results by more than rounding, too.
        tolerance: what those are held to: the largest difference over the range of the outputs.
        samples: how many random ones.
        seed: of the random samples.
        progress: told which rewrite is tried.

    Returns:
        The checks before and after, the changes with their differences, and for each finding what
        fixed it or why it stands. Nothing is written if nothing could be changed.

    Raises:
        InputError: the file, the samples or the output cannot be used.
        ToolError: the file does not run, so that nothing can be proven.
    """
    existing_file(path, what="model file")
    wanted = ".keras" if _kind(path) == "keras" else path.suffix
    if output is not None and output.suffix != wanted:
        raise InputError(f"a fixed {path.suffix} file has the suffix {wanted}", where=str(output))
    if not 0 <= tolerance < math.inf:
        raise InputError(f"a tolerance is a number from zero on, not {tolerance:g}")
    with _workbench(path, target, data, samples, seed, progress) as bench:
        report, state = fix_model(
            bench, target, allow_inexact=allow_inexact, tolerance=tolerance, progress=progress
        )
        if output is None or not report.rewrites:
            return report
        bench.write(state, output)
        return report.model_copy(update={"output": str(output)})


def fix_model(
    bench: Workbench,
    target: Target,
    *,
    allow_inexact: bool = False,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> tuple[FixReport, Any]:
    """The report of `fix_file`, and the state of the model after it; writes nothing."""
    policy = _Policy(allow_inexact, tolerance)
    state = bench.start()
    before = bench.check(state)
    done = _Outcome(state, before, [], {}, {})
    while _pass(bench, target, policy, done, progress):
        pass
    found = before.keys | {k: f for k, f in done.checked.keys.items() if k not in before.keys}
    report = FixReport(
        artifact=before.report.artifact,
        target=target.name,
        output=None,
        checked=bench.basis,
        before=before.report,
        after=done.checked.report,
        rewrites=tuple(done.applied),
        findings=tuple(_fate(bench, done, key, finding) for key, finding in found.items()),
    )
    return report, done.state


def _fate(bench: Workbench, done: _Outcome, key: Key, finding: Finding) -> FindingFix:
    if key not in done.checked.keys:
        return FindingFix(finding=finding, rewrite=done.fixed[key])
    if name := bench.answered_later(finding):
        return FindingFix(finding=finding, why=f"{name} does it, by --fix of the exported .tflite")
    return FindingFix(finding=finding, why=done.why.get(key, _unanswered(finding)))


def _kind(path: Path) -> str:
    return "keras" if path.suffix in (".keras", ".h5", ".hdf5") else path.suffix


@contextmanager
def _workbench(
    path: Path, target: Target, data: Path | None, samples: int, seed: int, progress: Progress
) -> Iterator[Workbench]:
    from edgekit.data.samples import load_samples

    kind = _kind(path)
    if kind not in (".tflite", "keras"):
        raise InputError(
            f"'{path.suffix}' files are checked, but not rewritten",
            where=str(path),
            hint="fix the .keras or the .tflite file, and export it again",
        )
    given = load_samples(data)[0] if data is not None else None
    with tempfile.TemporaryDirectory(prefix="edgekit-fix-") as folder:
        scratch = Path(folder)
        if kind == ".tflite":
            from edgekit.pipeline.fixing_tflite import TFLiteBench
            from edgekit.pipeline.verify_files import open_safely

            open_safely((path,), progress)
            with Worker() as worker:
                yield TFLiteBench(path, target, given, samples, seed, scratch, worker)
            return
        from edgekit.pipeline.fixing_keras import KerasBench

        with Worker(preload=["tensorflow"]) as worker:
            worker.start()  # it loads TensorFlow beside this process
            yield KerasBench(path, target, given, samples, seed, scratch, worker)


def _pass(
    bench: Workbench, target: Target, policy: _Policy, done: _Outcome, progress: Progress
) -> bool:
    """Tries the rewrites for every finding; whether one succeeded, after which others may."""
    count = len(done.applied)
    for key in list(done.checked.keys):
        finding = done.checked.keys.get(key)
        if finding is None or finding.rule in _FOLLOWS:
            continue
        if len(done.applied) < _MOST_REWRITES:
            _answer(bench, target, policy, done, key, progress)
    return count < len(done.applied) < _MOST_REWRITES


def _answer(
    bench: Workbench,
    target: Target,
    policy: _Policy,
    done: _Outcome,
    key: Key,
    progress: Progress,
) -> None:
    """Tries the rewrites for one finding until one succeeds."""
    finding = done.checked.keys[key]
    reasons = []
    for name in bench.rewrites.names():
        rewrite = bench.rewrites.get(name)
        if not rewrite.answers(finding):
            continue
        progress(f"{name} for {finding.rule} of {finding.layer or finding.op or 'the file'}")
        try:
            _try(bench, target, policy, done, key, name, rewrite)
        except UnrelatedError:
            continue
        except RefusedError as refusal:
            reasons.append(f"{name}: {refusal}")
            continue
        return
    if reasons:
        done.why[key] = "; ".join(reasons)


def _try(
    bench: Workbench,
    target: Target,
    policy: _Policy,
    done: _Outcome,
    key: Key,
    name: str,
    rewrite: Rewrite,
) -> None:
    """Applies a rewrite for one finding.

    Raises:
        RefusedError: it does not apply, or its result does not hold.
    """
    finding = done.checked.keys[key]
    copy = bench.editable(done.state)
    change = rewrite.apply(Site(copy, finding, target, rewrite.rules[finding.rule]))
    if change.promise == "approximate" and not policy.allow_inexact:
        raise RefusedError(f"{change.words}: its results are near, not equal (--allow-inexact)")
    try:
        state = bench.finished(copy)
        checked = bench.check(state)
        _better(bench, done.checked, checked, key)
        measured = bench.compare(state)
    except EdgekitError as error:
        raise RefusedError(f"the result does not run: {error.message}") from None
    limit = policy.limit([change.promise, *(one.promise for one in done.applied)])
    if not measured.relative <= limit:
        raise RefusedError(
            f"{change.words}: results differ by {measured.max_abs:.3g}, "
            f"{measured.relative * 100:.3g}% of their range, over {limit * 100:.3g}%"
        )
    if change.promise == "approximate" and not measured.varied:
        raise RefusedError(f"{change.words}: {UNVARIED}, which proves nothing: give --data")
    for gone in done.checked.keys.keys() - checked.keys.keys():
        done.fixed[gone] = name
        done.why.pop(gone, None)
    done.applied.append(_record(change, name, finding, limit, measured))
    done.state, done.checked = state, checked


def _better(bench: Workbench, before: Checked, after: Checked, key: Key) -> None:
    """Refuses a change after which the finding stands, or another rule is broken more often."""
    old = before.keys[key]
    counts, now = _counts(bench, before), _counts(bench, after)
    if now[old.rule] >= counts[old.rule]:
        stands = next((f for k, f in after.keys.items() if f.rule == old.rule), old)
        raise RefusedError(f"the finding stands: {stands.found}")
    # A part of an operator may break what the whole broke, but for the rule that this is about.
    same = {finding.rule for finding in before.keys.values() if finding.index == old.index}
    for other, finding in after.keys.items():
        grown = now[finding.rule] > counts[finding.rule] and other not in before.keys
        if _rank(finding) < _rank(old):
            continue  # what did not run there at all may run there slowly
        if grown and finding.rule not in _FOLLOWS | same:
            place = f" of {finding.op} {finding.layer or ''}".rstrip() if finding.op else ""
            raise RefusedError(f"it breaks {finding.rule}{place}: {finding.found}")


def _rank(finding: Finding) -> int:
    return _RANKS.get(finding.severity, _GRAVE)


def _counts(bench: Workbench, checked: Checked) -> Counter[str]:
    standing = (one for one in checked.keys.values() if bench.answered_later(one) is None)
    return Counter(finding.rule for finding in standing)


def _record(
    change: Change, name: str, finding: Finding, limit: float, measured: Difference
) -> AppliedRewrite:
    return AppliedRewrite(
        rewrite=name,
        rule=finding.rule,
        op=finding.op,
        layer=finding.layer,
        change=change.words,
        promise=change.promise,
        tolerance=limit,
        difference=measured,
    )


def _unanswered(finding: Finding) -> str:
    if finding.rule in _FOLLOWS:
        return "follows from other operators"
    return "no rewrite is known"
