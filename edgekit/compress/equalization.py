"""`equalize`: cross-layer equalization (Nagel et al. 2019, 4.1).

Where only functions f with f(s x) = s f(x), s > 0, lie between two layers, a channel between them
may be divided by s in the first and multiplied by s in the second, and the model computes the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.compress.activations import input_batches
from edgekit.compress.channel_noise import (
    ChannelStatistics,
    best_strength,
    channel_statistics,
)
from edgekit.compress.channels import (
    by_output,
    input_factors,
    input_ranges,
    is_clustered,
    kind_of,
    output_factors,
    why_not,
)
from edgekit.compress.contract import Pass, PassContext, PassResult, copy_of, run_alone
from edgekit.compress.folding import fold_batch_norm
from edgekit.compress.rebuild import rebuild
from edgekit.data.dataset import Dataset
from edgekit.models.calls import Call, CallGraph, call_graph
from edgekit.models.files import as_functional
from edgekit.schema.base import Document

if TYPE_CHECKING:
    import keras

_HOMOGENEOUS = ("linear", "relu", "leaky_relu")
_CHANNELWISE = (
    *("Identity", "ReLU", "LeakyReLU", "PReLU", "Activation", "Dropout", "Flatten"),
    *(f"SpatialDropout{n}D" for n in (1, 2, 3)),
    *(f"{name}Pooling{n}D" for name in ("Max", "Average") for n in (1, 2, 3)),
    *(f"Global{name}Pooling{n}D" for name in ("Max", "Average") for n in (1, 2, 3)),
    *(f"{name}{n}D" for name in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)),
)
_SWEEPS = 40
_SETTLED = 1e-3
_LARGEST_FACTOR = 1e6
_MEASURED_SAMPLES = 256
_CHECKED_SAMPLES = 32
_LARGEST_CHANGE = 1e-3  # of the outputs' largest magnitude; float32 rounding stays far below


class EqualizeArgs(Document):
    """Arguments of `equalize`."""

    replace_relu6: bool = Field(
        False, description="make ReLU6 a ReLU, so that it can be equalized; changes the function"
    )
    skip: tuple[str, ...] = Field((), description="layers to leave alone; * and ? match")
    strict: bool = Field(False, description="a layer that cannot be treated is an error")


@dataclass(frozen=True)
class _Pair:
    first: Call
    second: Call
    between: int  # the value that the second layer takes

    @property
    def channels(self) -> int:
        kernel = self.first.layer.kernel.numpy()
        return int(by_output(str(kind_of(self.first.layer)), kernel).shape[1])


class Equalize(Pass[EqualizeArgs]):
    """Makes the ranges of channels alike; the model computes what it did."""

    name = "equalize"
    Args = EqualizeArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks `strict`."""
        super().requires(model, context)
        if self.args.strict:
            _, untreated, _ = self._prepared(model)
            if untreated:
                listed = "; ".join(f"{row['layer']}: {row['reason']}" for row in untreated)
                raise PreconditionError(
                    f"layers that cannot be equalized: {listed}", hint="put them under 'skip'"
                )

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Folds normalization, and scales the channels between pairs of layers in a copy.

        Calibration samples tell how far: full equalization costs a well scaled network accuracy.
        """
        copy, untreated, replaced = self._prepared(model)
        graph = call_graph(copy)
        pairs, _ = self._pairs(graph)
        spread = [_spread(pair) for pair in pairs]
        kernels = [pair.second.layer.kernel.numpy() for pair in pairs]
        statistics = _statistics(copy, graph, pairs, context)
        factors = _equalized(pairs)
        strengths = [1.0] * len(pairs)
        if statistics:
            for index, (pair, kernel) in enumerate(zip(pairs, kernels, strict=True)):
                kind = str(kind_of(pair.second.layer))
                strength = best_strength(kind, kernel, factors[index], statistics[pair.between])
                _scale(pair, factors[index] ** (strength - 1))
                factors[index], strengths[index] = factors[index] ** strength, strength
        rows = [
            {
                "layer": pair.first.label,
                "kind": pair.first.kind,
                "with": pair.second.label,
                "channels": pair.channels,
                "strength": strength,
                "largest_factor": float(max(factor.max(), 1 / factor.min())),
                "weight_spread_before": before,
                "weight_spread": _spread(pair),
            }
            for pair, factor, strength, before in zip(
                pairs, factors, strengths, spread, strict=True
            )
        ]
        modified = bool(pairs) or bool(replaced)
        warnings = [f"'{name}' was ReLU6 and is ReLU now" for name in replaced]
        report = {"layers": rows, "untreated": untreated, "warnings": warnings}
        return PassResult(copy if modified else model, modified, report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks on calibration samples, if there are any, that the outputs stay."""
        super().ensures(before, result, context)
        samples = _samples(context)
        if samples is None or not result.modified or result.report["warnings"]:
            return
        from edgekit.training.evaluate import record_outputs

        x = samples.take(_CHECKED_SAMPLES).x
        changed = record_outputs(result.model, x)
        for name, old in record_outputs(as_functional(before), x).items():
            new = changed[name]
            if np.abs(new - old).max() > _LARGEST_CHANGE * max(np.abs(old).max(), 1e-6):
                raise PostconditionError("the output changed", where=name)

    def _prepared(self, model: keras.Model) -> tuple[Any, list[dict[str, str]], list[str]]:
        """A copy with normalization folded (and ReLU6 replaced), what stays, what was replaced."""
        kept = {
            call.label
            for call in call_graph(model).calls
            if why_not(call.layer) is None
            and (self._skipped(call.label) or is_clustered(call.layer.kernel.numpy()))
        }
        folded, _ = fold_batch_norm(model, skip=kept)
        copy, replaced = _without_relu6(folded) if self.args.replace_relu6 else (folded, [])
        if copy is model:
            copy = copy_of(model)
        return copy, self._pairs(call_graph(copy))[1], replaced

    def _pairs(self, graph: CallGraph) -> tuple[list[_Pair], list[dict[str, str]]]:
        consumers, calls_of = graph.consumers(), graph.calls_of()
        once = {key for key, calls in calls_of.items() if len(calls) == 1}
        pairs, reasons = [], {}
        for call in graph.calls:
            if kind_of(call.layer) is None:
                continue
            found = self._second(call, consumers, once)
            if isinstance(found, _Pair):
                pairs.append(found)
            else:
                reasons[call.label] = (call.kind, found)
        treated = {one.label for pair in pairs for one in (pair.first, pair.second)}
        untreated = [
            {"layer": label, "kind": kind, "reason": reason}
            for label, (kind, reason) in reasons.items()
            if label not in treated and reason
        ]
        return pairs, untreated

    def _second(self, call: Call, consumers: dict[int, Any], once: set[int]) -> _Pair | str:
        """The pair that a layer begins, or why it begins none."""
        reason = self._why_not(call, once)
        activation = _activation(call.layer)
        if reason or activation not in _HOMOGENEOUS:
            return reason or f"its activation {activation} does not scale with its input"
        value = call.outputs[0]
        while True:
            following = consumers[value]
            if None in following:
                return "it leads to an output of the model"
            if len(following) != 1:
                return "its output is used in several places"
            after = following[0]
            if kind_of(after.layer) is not None:
                reason = self._why_not(after, once)
                if reason:
                    return f"'{after.label}' behind it: {reason}"
                return _Pair(call, after, value)
            if not _keeps_channels(after.layer):
                return f"'{after.label}' ({after.kind}) behind it does not scale with its input"
            value = after.outputs[0]

    def _why_not(self, call: Call, once: set[int]) -> str:
        if self._skipped(call.label):
            return "skipped as asked"
        if id(call.layer) not in once:
            return "it is shared: called more than once"
        reason = why_not(call.layer)
        if reason is None and is_clustered(call.layer.kernel.numpy()):
            reason = "its weights are clustered, and would not be any more"
        return reason or ""

    def _skipped(self, label: str) -> bool:
        return any(fnmatchcase(label, pattern) for pattern in self.args.skip)


def _samples(context: PassContext) -> Any:
    found = context.dataset.calibration if context.dataset else None
    return found if found is not None and len(found) else None


def _activation(layer: Any) -> str:
    serialize = require("keras", purpose="to compress models").activations.serialize
    name = serialize(layer.activation)
    return name if isinstance(name, str) else "of its own"


def _keeps_channels(layer: Any) -> bool:
    """Whether f(s x) = s f(x) for s > 0 that differ by channel, and channels stay in order."""
    layers = require("keras", purpose="to compress models").layers
    if not any(type(layer) is getattr(layers, kind) for kind in _CHANNELWISE):
        return False
    if isinstance(layer, layers.Activation):
        return _activation(layer) in _HOMOGENEOUS
    if isinstance(layer, layers.ReLU):
        return layer.max_value is None and not layer.threshold
    return getattr(layer, "data_format", None) != "channels_first"


def _without_relu6(model: keras.Model) -> tuple[Any, list[str]]:
    """A copy with ReLU instead of each ReLU6, and the names of the layers that had one."""
    layers = require("keras", purpose="to compress models").layers
    replaced: list[str] = []

    def make(layer: Any) -> Any:
        config = layer.get_config()
        if config.get("activation") == "relu6":
            config["activation"] = "relu"
            replaced.append(layer.name)
        elif type(layer) is layers.ReLU and config["max_value"] == 6:
            config["max_value"] = None
            replaced.append(layer.name)
        return layer.__class__.from_config(config)

    copy, pairs = rebuild(model, make)
    for old, new in pairs:
        new.set_weights(old.get_weights())
    return (copy, replaced) if replaced else (model, [])


def _equalized(pairs: list[_Pair]) -> list[NDArray[Any]]:
    """Scales the weights of all pairs until they settle; returns the factors of each pair.

    With `r1` the range of a channel before and `r2` behind, s = sqrt(r1 / r2) makes both equal.
    """
    total = [np.ones(pair.channels) for pair in pairs]
    for _ in range(_SWEEPS):
        largest = 0.0
        for index, pair in enumerate(pairs):
            first, second = pair.first.layer, pair.second.layer
            kinds = str(kind_of(first)), str(kind_of(second))
            kernels = first.kernel.numpy(), second.kernel.numpy()
            r2 = input_ranges(kinds[1], kernels[1], pair.channels).astype(np.float64)
            r1 = np.abs(by_output(kinds[0], kernels[0])).max(axis=0).astype(np.float64)
            live = (r1 > 0) & (r2 > 0)
            factor = np.where(live, np.sqrt(np.where(live, r1, 1) / np.where(live, r2, 1)), 1)
            factor = np.clip(total[index] * factor, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
            factor, total[index] = factor / total[index], factor
            _scale(pair, factor)
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _SETTLED:
            break
    return total


def _scale(pair: _Pair, factor: NDArray[Any]) -> None:
    """Divides the channels of the first layer, multiplies those that the second one takes."""
    first, second = pair.first.layer, pair.second.layer
    kernel = first.kernel.numpy()
    first.kernel.assign(kernel / output_factors(str(kind_of(first)), kernel, factor))
    if first.bias is not None:
        first.bias.assign(first.bias.numpy() / factor)
    kernel = second.kernel.numpy()
    second.kernel.assign(kernel * input_factors(str(kind_of(second)), kernel, factor))


def _statistics(
    model: keras.Model, graph: CallGraph, pairs: list[_Pair], context: PassContext
) -> dict[int, ChannelStatistics]:
    samples = _samples(context)
    if samples is None:
        return {}
    batches = input_batches(model, samples, _MEASURED_SAMPLES)
    return channel_statistics(graph, batches, {pair.between: pair.channels for pair in pairs})


def _spread(pair: _Pair) -> float:
    """Largest by smallest range of the second layer's weights over the channels that it takes."""
    kernel = pair.second.layer.kernel.numpy()
    found = input_ranges(str(kind_of(pair.second.layer)), kernel, pair.channels)
    live = found[found > 0]
    return float(live.max() / live.min()) if live.size else 1.0


def equalize(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Equalizes the ranges of channels across the layers of a copy of `model`.

    Args:
        model: a functional or Sequential model.
        dataset: its calibration split tells how far to equalize each pair, and whether the outputs
            stay; without it all are equalized in full.
        options: the fields of `EqualizeArgs`, and those of `PassContext`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model or the data do not allow what is asked.
    """
    return run_alone(Equalize, model, dataset, options)
