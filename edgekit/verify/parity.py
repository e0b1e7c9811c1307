"""Parity: does a model file compute what its reference computes?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import Arrays, Session, match_names, run_raw, to_real
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.recipe import DEFAULT_LIMITS, Limits
from edgekit.schema.results import VerifyResult
from edgekit.verify.metrics import classification_metrics, is_classification, top1
from edgekit.verify.samples import RANDOM_WITHIN_STEPS

_WORST_DB = -1000.0
_MASTER_DB = 25.0
_COARSE = ("int8", "uint8")  # outputs whose steps are limited
_ROUNDING = 1e-9
_WITHIN_OF_SIMULATED = 0.995


def snr_db(reference: NDArray[Any], outputs: NDArray[Any]) -> float | None:
    """10 log10(sum reference^2 / sum (reference - outputs)^2) in dB; None if they are identical.

    Args:
        reference: floats of any shape.
        outputs: the same shape.

    Returns:
        At least -1000, which also stands for noise on a reference of zeros.
    """
    wanted, found = reference.astype(np.float64), outputs.astype(np.float64)
    noise = float(np.sum(np.square(wanted - found)))
    signal = float(np.sum(np.square(wanted)))
    if noise == 0:
        return None
    return max(_WORST_DB, 10 * float(np.log10(signal / noise))) if signal > 0 else _WORST_DB


def step_differences(
    outputs: NDArray[Any], info: TensorInfo, reference: NDArray[Any], other: TensorInfo
) -> NDArray[np.int64] | None:
    """The largest difference of each sample in steps (scales) of a quantized output.

    Args:
        outputs: integers of shape (n, ...), as `info` says.
        info: the artifact's output.
        reference: integers of shape (n, ...), as `other` says.
        other: the reference's output.

    Returns:
        int64 of shape (n,), or None where the two are not quantized with one scale.
    """
    mine, theirs = info.quantization, other.quantization
    integers = all(np.issubdtype(a.dtype, np.integer) for a in (outputs, reference))
    if mine is None or theirs is None or not integers:
        return None
    if mine.per_channel or mine.scale != theirs.scale:
        return None
    shift = mine.zero_point[0] - theirs.zero_point[0]
    difference = np.abs(outputs.astype(np.int64) - reference.astype(np.int64) - shift)
    return np.asarray(difference.reshape(len(difference), -1).max(axis=1, initial=0))


def simulated_steps(
    outputs: NDArray[Any], info: TensorInfo, reference: NDArray[Any]
) -> NDArray[np.int64] | None:
    """How many steps each output value is from what a fake-quantized Keras model computes.

    Args:
        outputs: reals of any shape, of a quantized output.
        info: the output.
        reference: reals of the same shape.

    Returns:
        int64 of shape (values,), or None where the output has no one scale.
    """
    if info.quantization is None or info.quantization.per_channel:
        return None
    apart = np.abs(outputs.astype(np.float64) - reference) / info.quantization.scale[0]
    steps: NDArray[np.int64] = np.rint(np.nan_to_num(apart.reshape(-1))).astype(np.int64)
    return steps


def simulated_limits(limits: Limits, *, random: bool) -> Limits:
    """The limits of an int8 file against a Keras model that brings its ranges.

    Args:
        limits: of int8; where the share within the limit of steps is at its default, this is for
            other references, and becomes that for simulated ones.
        random: the samples are made up.
    """
    if limits.min_within_steps != DEFAULT_LIMITS["int8"].min_within_steps:
        return limits
    share = RANDOM_WITHIN_STEPS if random else _WITHIN_OF_SIMULATED
    return limits.model_copy(update={"min_within_steps": share})


@dataclass(frozen=True)
class _Pair:
    """One output of both sides as finite reals, and its differences in steps."""

    found: NDArray[np.float32]
    wanted: NDArray[np.float32]
    steps: NDArray[np.int64] | None
    finite: bool


def compare(
    outputs: Arrays,
    reference: Arrays,
    *,
    artifact: str,
    reference_name: str,
    infos: tuple[TensorInfo, ...],
    y: NDArray[Any] | None = None,
    limits: Limits | None = None,
    reference_infos: tuple[TensorInfo, ...] = (),
    classifier: bool | None = None,
    simulated: bool = False,
) -> VerifyResult:
    """Compares outputs with reference outputs, by name.

    Args:
        outputs: of the artifact, of shape (n, ...), in its own dtypes or as reals.
        reference: the same of the reference; integers without `reference_infos` are taken as
            quantized like the artifact's output.
        artifact: name of the file, for the result.
        reference_name: what it is compared with, for the result.
        infos: the artifact's outputs.
        y: labels, for the accuracy of both; used where there is one output.
        limits: what must hold, of steps where all outputs are 8-bit integers; NaN and infinity
            fail without limits too.
        reference_infos: the reference's outputs; where both sides of an output have the same
            scale, differences are counted in steps too.
        classifier: whether the largest output means a class; by default as the labels say, else
            for outputs of shape (n, more than 1).
        simulated: the reference computes in float what the artifact computes in integers:
            differences are counted in steps, one for each output value and not for each sample.

    Raises:
        DataError: names or shapes do not fit.
    """
    matched = match_names(tuple(info.name for info in infos), reference)
    others = _others(infos, reference_infos)
    pairs = [
        _pair(outputs[info.name], info, matched[info.name], others[info.name], artifact, simulated)
        for info in infos
    ]
    found = np.concatenate([pair.found.reshape(-1) for pair in pairs])
    wanted = np.concatenate([pair.wanted.reshape(-1) for pair in pairs])
    counted = [pair.steps for pair in pairs if pair.steps is not None]
    join = np.concatenate if simulated else partial(np.max, axis=0)
    steps = join(counted) if counted else None
    labelled = y if len(pairs) == 1 else None
    result = VerifyResult(
        artifact=artifact,
        reference=reference_name,
        samples=len(pairs[0].found),
        max_abs_diff=float(np.max(np.abs(found.astype(np.float64) - wanted), initial=0)),
        max_step_diff=None if steps is None else float(steps.max(initial=0)),
        within_one_step=None if steps is None else float(np.mean(steps <= 1)),
        snr_db=snr_db(wanted, found),
        top1_agreement=_agreement(pairs, labelled, classifier),
        metrics={} if labelled is None else classification_metrics(pairs[0].found, labelled),
        reference_metrics={}
        if labelled is None
        else classification_metrics(pairs[0].wanted, labelled),
    )
    failures = [
        f"output '{info.name}' has NaN or infinite values"
        for info, pair in zip(infos, pairs, strict=True)
        if not pair.finite
    ]
    if limits is not None:
        coarse = all(info.dtype in _COARSE for info in infos)
        failures += [*_broken(result, limits), *_broken_steps(steps if coarse else None, limits)]
    return result.model_copy(update={"passed": not failures, "failures": tuple(failures)})


def master_limits(limits: Limits, outputs: tuple[TensorInfo, ...]) -> Limits:
    """What a derived file is held to against the .tflite file that it derives from.

    Args:
        limits: of the derived file against the Keras model.
        outputs: of the .tflite file. int8 outputs are held to the limits in steps; finer ones,
            where a step inside is many steps of the output, to an SNR.
    """
    if any(info.dtype not in _COARSE for info in outputs):
        return Limits(min_snr_db=_MASTER_DB)
    return Limits(max_step_diff=limits.max_step_diff, min_within_steps=limits.min_within_steps)


def verify_file(
    path: Path,
    reference: Session | Arrays,
    x: Arrays,
    y: NDArray[Any] | None = None,
    limits: Limits | None = None,
    *,
    reference_name: str | None = None,
    reference_infos: tuple[TensorInfo, ...] = (),
    threads: int = 1,
    runtime: str | None = None,
    simulated: bool = False,
) -> VerifyResult:
    """Runs a model file in its real runtime and compares it with a reference.

    Args:
        path: the model file.
        reference: a session to run on the same samples, or its recorded outputs.
        x: samples of shape (n, ...), by input name.
        y: labels, or None.
        limits: what must hold.
        reference_name: for the result.
        reference_infos: of recorded outputs that are quantized.
        threads: of the file's runtime.
        runtime: the file's runtime, if not the default.
        simulated: as for `compare`.
    """
    with open_session(path, threads=threads, runtime=runtime) as session:
        outputs, infos = run_raw(session, x), session.outputs
    name = reference_name or "recorded outputs"
    if isinstance(reference, Session):
        name = reference_name or reference.runtime
        reference_infos, reference = reference.outputs, run_raw(reference, x)
    autoencoder = len(outputs) == len(x) == 1 and (
        next(iter(outputs.values())).shape == next(iter(x.values())).shape
    )
    return compare(
        outputs,
        reference,
        artifact=str(path),
        reference_name=name,
        infos=infos,
        y=y,
        limits=limits,
        reference_infos=reference_infos,
        classifier=False if autoencoder else None,
        simulated=simulated,
    )


def _others(
    infos: tuple[TensorInfo, ...], reference_infos: tuple[TensorInfo, ...]
) -> dict[str, TensorInfo]:
    if len(infos) == len(reference_infos) == 1:
        return {infos[0].name: reference_infos[0]}
    named = {info.name: info for info in reference_infos}
    return {info.name: named.get(info.name, info) for info in infos}


def _pair(
    found: NDArray[Any],
    info: TensorInfo,
    wanted: NDArray[Any],
    other: TensorInfo,
    artifact: str,
    simulated: bool,
) -> _Pair:
    if len(found) != len(wanted) or found.size != wanted.size:
        raise DataError(
            f"output '{info.name}' has shape {found.shape}, the reference {wanted.shape}",
            where=artifact,
        )
    wanted = wanted.reshape(found.shape)
    real, real_wanted = to_real(found, info), to_real(wanted, other)
    return _Pair(
        found=np.nan_to_num(real),
        wanted=np.nan_to_num(real_wanted),
        steps=simulated_steps(real, info, real_wanted)
        if simulated
        else step_differences(found, info, wanted, other),
        finite=bool(np.isfinite(real).all()),
    )


def _agreement(pairs: list[_Pair], y: NDArray[Any] | None, classifier: bool | None) -> float | None:
    if classifier is None and y is not None:
        classifier = is_classification(pairs[0].found, y)
    shares = [
        float(np.mean(top1(pair.found) == top1(pair.wanted)))
        for pair in pairs
        if pair.found.ndim == 2 and (pair.found.shape[1] > 1 or classifier)
    ]
    return min(shares) if shares and classifier is not False else None


def _broken(result: VerifyResult, limits: Limits) -> Iterator[str]:
    if _over(result.max_abs_diff, limits.max_abs_diff):
        yield f"the largest difference, {result.max_abs_diff:.4g}, is over {limits.max_abs_diff:g}"
    if _over(limits.min_snr_db, result.snr_db):
        yield f"the SNR, {result.snr_db:.1f} dB, is under {limits.min_snr_db:g} dB"
    if _over(limits.min_agreement, result.top1_agreement):
        yield f"top-1 agreement, {result.top1_agreement:.4f}, is under {limits.min_agreement:g}"
    if "accuracy" in result.metrics:
        drop = 100 * (result.reference_metrics["accuracy"] - result.metrics["accuracy"])
        if _over(drop, limits.max_accuracy_drop):
            yield (
                f"accuracy drops by {drop:.2f} percentage points, "
                f"more than {limits.max_accuracy_drop:g}"
            )


def _over(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit + _ROUNDING


def _broken_steps(steps: NDArray[np.int64] | None, limits: Limits) -> Iterator[str]:
    """`min_within_steps` of the samples (default: all) must be within `max_step_diff` steps."""
    if steps is None or limits.max_step_diff is None:
        return
    needed = 1.0 if limits.min_within_steps is None else limits.min_within_steps
    within = float(np.mean(steps <= limits.max_step_diff))
    if within < needed - _ROUNDING:
        yield (
            f"{within:.4f} are within {limits.max_step_diff} output steps, "
            f"under {needed:g} (largest difference: {steps.max():d} steps)"
        )
