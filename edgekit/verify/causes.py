"""Why a file computes something else than its model: one function a cause.

The docstring of a cause is the explanation that users read. It returns what was found here, in
words with numbers, or None where the cause is absent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.types import COMPUTING, Graph, Op
from edgekit.runtimes.session import Arrays
from edgekit.schema.debugging import Cause, Proposal
from edgekit.verify.layerwise import Match
from edgekit.verify.parity import snr_db
from edgekit.verify.recording import Recording, representable

_POOR_DB = 20.0  # of one part of a tensor after the tensor's own rounding
_POOR_BESIDE_DB = 25.0  # of the channels beside an outlier
_RATIO = 8.0  # between largest magnitudes
_FEW = 0.25  # of the channels
_FEWEST_CHANNELS = 4
_SATURATED = 1e-3  # of the values
_CUT_DB = 3.0  # cutting off then costs as much as rounding
_OUTSIDE = 1e-2
_UNUSED = 4.0
_FINE_DB = 60.0  # a tensor that is this good has no cause to look for
_SHOWN = 3
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Evidence:
    """What a cause is looked for in.

    Attributes:
        match: a layer and its tensor.
        recording: the file that it is of.
        calibration_differs: whether the file's inputs saturate on the samples already.
    """

    match: Match
    recording: Recording
    calibration_differs: bool = False


Rule = Callable[[Evidence], str | None]

_SIXTEEN = "export:\n- {format: tflite, precision: int16x8}\n"
_AGAIN = "compress:\n- quantize: {precision: int8}\n"


def shared_scale(evidence: Evidence) -> str | None:
    """One scale is shared by values of different range, such as boxes and scores in one tensor.

    The scale follows the part with the largest values; the other part is left with few steps.
    """
    match = evidence.match
    values = match.layer.values
    again = _stepped(match)
    if again is None:
        return None
    if len(match.layer.widths) > 1:
        ends = np.cumsum(match.layer.widths)
        parts = np.split(np.arange(values.shape[-1]), ends[:-1])
    elif match.layer.output is not None and not _probabilities(match):
        parts = _two_kinds(values)
    else:
        return None
    sizes = [float(np.abs(values[..., part]).max(initial=0)) for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        snr = snr_db(values[..., part], again[..., part])
        if size > 0 and size * _RATIO <= max(sizes) and snr is not None and snr < _POOR_DB:
            return (
                f"channels {_span(part)} reach {size:.3g}, others of the same tensor "
                f"{max(sizes):.3g}: with one scale they keep {snr:.1f} dB"
            )
    return None


def outlier_channel(evidence: Evidence) -> str | None:
    """A few channels of an activation reach far beyond the others.

    All channels of an activation share one scale, which follows the largest; the others are left
    with few steps. Scaling the channels alike before quantization repairs it without training.
    """
    match = evidence.match
    values = match.layer.values
    again = _stepped(match)
    channels = values.shape[-1]
    if again is None or match.layer.widths or channels < _FEWEST_CHANNELS or _probabilities(match):
        return None
    sizes = np.abs(values).reshape(-1, channels).max(axis=0)
    outliers = sizes > _RATIO * np.median(sizes)
    if not outliers.any() or outliers.sum() > _FEW * channels:
        return None
    snr = snr_db(values[..., ~outliers], again[..., ~outliers])
    if snr is None or snr >= _POOR_BESIDE_DB:
        return None
    return (
        f"channel {_span(np.flatnonzero(outliers))} of {channels} reaches "
        f"{sizes.max():.3g}, the median channel {np.median(sizes):.3g}: the others keep "
        f"{snr:.1f} dB"
    )


def saturating_activation(evidence: Evidence) -> str | None:
    """Values of an activation lie beyond the range that calibration found, and are cut off.

    Too few calibration samples miss the largest values; a range by percentile cuts them off.
    """
    limits = representable(evidence.match.tensor)
    if limits is None or evidence.calibration_differs:
        return None
    values = evidence.match.layer.values
    low, high = limits
    step = _step(evidence.match)
    share = float(np.mean((values < low - 1.5 * step) | (values > high + 1.5 * step)))
    stepped, kept = _stepped(evidence.match), evidence.match.own_snr
    whole = None if stepped is None else snr_db(values, stepped)
    if share < _SATURATED or kept is None or (whole is not None and kept > whole - _CUT_DB):
        return None  # cutting off a few costs less than wider steps for all would
    return (
        f"{share:.1%} of the values lie beyond {low:.3g} to {high:.3g}; "
        f"they reach from {values.min():.3g} to {values.max():.3g}"
    )


def batch_norm_not_folded(evidence: Evidence) -> str | None:
    """A BatchNormalization runs as operators of its own, with roundings of their own.

    Converters fold it into the convolution or dense layer before it, where that is linear and has
    no other consumer; the pass `fold` folds it into the layers behind it too, where that is exact.
    """
    match = evidence.match
    if match.tensor.quantization is None or match.norm is None:
        return None
    if not _is_alone(match.tensor.op, evidence.recording.graph):
        return None
    why = match.norm.unfoldable or "the converter has not folded it, the pass `fold` can"
    return f"operator {match.tensor.op.index}, {match.tensor.op.name}, is its own: {why}"


CALIBRATION_PROPOSAL = Proposal(
    text="calibrate with samples like these, preprocessed as in training",
    recipe=_AGAIN,
    passes=("quantize(precision='int8')",),
)

UNFOLDABLE_PROPOSAL = Proposal(
    text="put the normalization between a linear convolution and its activation, and train "
    "again; or keep activations in 16 bits",
    recipe=_SIXTEEN,
    passes=("quantize(precision='int16x8')",),
)

RULES: dict[Rule, Proposal] = {
    batch_norm_not_folded: Proposal(
        text="fold the normalization into the layers beside it before quantizing",
        recipe="compress:\n- fold\n- quantize: {precision: int8}\n",
        passes=("fold", "quantize(precision='int8')"),
    ),
    shared_scale: Proposal(
        text="give the parts as separate outputs; or keep activations in 16 bits",
        recipe=_SIXTEEN,
        passes=("quantize(precision='int16x8')",),
    ),
    outlier_channel: Proposal(
        text="equalize the channels before quantizing",
        recipe="compress:\n- equalize\n- quantize: {precision: int8}\n",
        passes=("equalize", "quantize(precision='int8')"),
    ),
    saturating_activation: Proposal(
        text="calibrate with more samples that show the largest values",
        recipe=_AGAIN,
        passes=("quantize(precision='int8')",),
    ),
}


def calibration_unlike_data(recording: Recording, samples: Arrays) -> str | None:
    """The samples that the file was calibrated with were unlike these.

    Calibration sets the range of each tensor. Samples preprocessed in another way, or of another
    kind, give ranges that cut off real values or leave most steps unused.
    """
    for info in recording.inputs:
        values = samples[info.name] if len(samples) > 1 else next(iter(samples.values()))
        quantization = info.quantization
        if quantization is None or quantization.per_channel:
            continue
        limits = np.iinfo(info.dtype)
        low, high = quantization.dequantize(np.array([limits.min, limits.max]))
        step = quantization.scale[0]
        outside = float(np.mean((values < low - 1.5 * step) | (values > high + 1.5 * step)))
        spread = float(values.max()) - float(values.min())
        text = (
            f"input '{info.name}' was calibrated from {low:.3g} to {high:.3g}, the samples reach "
            f"from {values.min():.3g} to {values.max():.3g}"
        )
        if outside > _OUTSIDE:
            return f"{text}: {outside:.0%} of their values are cut off"
        if 0 < spread * _UNUSED < high - low:
            return f"{text}: most of the steps are unused"
    return None


def find_causes(recording: Recording, matches: Sequence[Match], samples: Arrays) -> list[Cause]:
    """The causes that are present in a file, those that explain others first.

    Args:
        recording: of the file on the samples.
        matches: of its tensors with the model's layers.
        samples: by input name.
    """
    causes = []
    calibration = calibration_unlike_data(recording, samples)
    if calibration is not None:
        causes.append(cause_of(calibration_unlike_data, None, calibration, CALIBRATION_PROPOSAL))
    noisy = [one for one in matches if one.snr is not None and one.snr < _FINE_DB]
    for rule, proposal in RULES.items():
        found = [
            (match, text)
            for match in noisy
            if (text := rule(Evidence(match, recording, calibration is not None)))
        ]
        for match, text in found:
            about = match.norm if rule is batch_norm_not_folded and match.norm else match.layer
            given = proposal if about.unfoldable is None else UNFOLDABLE_PROPOSAL
            causes.append(cause_of(rule, about.name, text, given))
    return causes


def cause_of(
    rule: Callable[..., str | None], layer: str | None, found: str, proposal: Proposal
) -> Cause:
    """A cause, explained by the docstring of the rule that found it."""
    return Cause(
        name=getattr(rule, "__name__", ""),
        explanation=" ".join((inspect.getdoc(rule) or "").split("Args:")[0].split()),
        layer=layer,
        found=found,
        proposal=proposal,
    )


def _two_kinds(values: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Channels on the two sides of the widest gap between their magnitudes."""
    sizes = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
    order = np.argsort(sizes)
    known = np.log(np.maximum(sizes[order], 1e-12))
    if len(order) < _FEWEST_CHANNELS or not sizes[order[0]]:
        return [np.arange(len(order))]
    cut = int(np.argmax(np.diff(known))) + 1
    apart = known[cut] - known[cut - 1] >= np.log(_RATIO)
    if not apart or min(cut, len(order) - cut) < 2:  # one channel is an outlier, not a kind
        return [np.arange(len(order))]
    return [np.sort(order[:cut]), np.sort(order[cut:])]


def _is_alone(op: Op, graph: Graph) -> bool:
    """Whether an operator scales or shifts by itself, and is not the bias of one that computes."""
    if op.kind not in ("elementwise", "normalization"):
        return False
    makers = {index: one for one in graph.ops for index in one.outputs}
    while op.kind in ("elementwise", "quantize"):
        taken = [index for index in op.inputs if index in makers]
        if not taken or (op.kind == "elementwise" and "mul" in op.name.lower()):
            return True
        op = makers[taken[0]]
    return op.kind not in COMPUTING


def _probabilities(match: Match) -> bool:
    """Whether values are of one kind, however small some are: outputs or shares from 0 to 1."""
    values = match.layer.values
    if values.min() < 0 or values.max() > 1 + _ROUNDING:
        return False
    return match.layer.output is not None or bool(np.allclose(values.sum(axis=-1), 1, atol=1e-3))


def _stepped(match: Match) -> NDArray[Any] | None:
    """The layer's values in whole steps of its tensor, none cut off; None for a float tensor."""
    step = _step(match)
    return np.round(match.layer.values / step) * step if step else None


def _step(match: Match) -> float:
    quantization = match.tensor.quantization
    return quantization.scale[0] if quantization is not None else 0.0


def _span(channels: NDArray[Any]) -> str:
    numbers = [int(channel) for channel in channels]
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    shown = ", ".join(map(str, numbers[:_SHOWN]))
    return shown if len(numbers) <= _SHOWN else f"{shown}, ... ({len(numbers)})"
