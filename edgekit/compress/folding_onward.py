"""Batch normalization folded into the layers behind it, where that is exact.

y = a x + b per channel goes into the next kernel: its input channels are scaled by a, and what b
adds goes into its bias. With zero padding b would also fill the border, so only layers that pad
nothing take an offset.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compress.channels import by_output, input_factors, kind_of, why_not
from edgekit.compress.folding import (
    BY_BATCH,
    dropped,
    factor_and_offset,
    fold_batch_norm,
    is_exactly,
    rebuild_folded,
)
from edgekit.models.calls import Call, call_graph

if TYPE_CHECKING:
    import keras

Values = NDArray[Any]

_LINEAR = (
    *("Identity", "Dropout", "Flatten"),
    *(f"SpatialDropout{n}D" for n in (1, 2, 3)),
    *(f"GlobalAveragePooling{n}D" for n in (1, 2, 3)),
    *(f"UpSampling{n}D" for n in (1, 2, 3)),
    *(f"Cropping{n}D" for n in (1, 2, 3)),
)


@dataclass(frozen=True)
class _Fold:
    norm: Any
    label: str
    into: tuple[Call, ...]


def fold_all(
    model: keras.Model, *, skip: Container[str] = ()
) -> tuple[keras.Model, dict[str, Any]]:
    """Folds each BatchNormalization into the layer before it, or else into all those behind it.

    Args, results and report are those of `fold_onward`; a reason tells why it goes neither way.
    """
    folded, first = fold_batch_norm(model, skip=skip)
    folded, second = fold_onward(folded, skip=skip)
    reasons = {row["layer"]: row["reason"] for row in first["untreated"]}
    untreated = [
        {**row, "reason": "; ".join(dict.fromkeys((reasons[row["layer"]], row["reason"])))}
        for row in second["untreated"]
    ]
    return folded, {"layers": first["layers"] + second["layers"], "untreated": untreated}


def fold_onward(
    model: keras.Model, *, skip: Container[str] = ()
) -> tuple[keras.Model, dict[str, Any]]:
    """Folds each BatchNormalization into all of the convolution and dense layers behind it.

    Args:
        model: a functional or Sequential model; it is not changed.
        skip: labels (`outer/inner` within nested models) of layers whose kernels must stay.

    Returns:
        A model that computes the same in inference (the given one if there is nothing to fold),
        and a report: `layers` folded (`layer`, `kind`, `into`) and `untreated` (`layer`, `kind`,
        `reason`), JSON-able.
    """
    graph = call_graph(model)
    consumers, calls_of = graph.consumers(), graph.calls_of()
    folds: list[_Fold] = []
    untreated: list[dict[str, str]] = []
    taken: set[int] = set()
    for call in graph.calls:
        if not is_exactly(call.layer, "BatchNormalization"):
            continue
        reason: str | None = None
        into: list[Call] = []
        if call.training:
            reason = BY_BATCH
        elif call.label in skip:
            reason = "skipped as asked"
        elif len(calls_of[id(call.layer)]) > 1:
            reason = "it is shared: called more than once"
        elif call.layer.axis % len(call.shapes[0]) != len(call.shapes[0]) - 1:
            reason = f"it normalizes axis {call.layer.axis}, not the last"
        else:
            found = _behind(call, consumers)
            into, reason = (found, None) if isinstance(found, list) else ([], found)
        _, offset = factor_and_offset(call.layer)
        for after in into:
            reason = reason or _why_not(after, calls_of, skip, taken, bool(np.any(offset)))
        if reason is None:
            folds.append(_Fold(call.layer, call.label, tuple(into)))
            taken |= {id(after.layer) for after in into}
        else:
            untreated.append({"layer": call.label, "kind": call.kind, "reason": reason})
    report = {
        "layers": [
            {
                "layer": fold.label,
                "kind": "BatchNormalization",
                "into": ", ".join(call.label for call in fold.into),
            }
            for fold in folds
        ],
        "untreated": untreated,
    }
    return (_folded(model, folds) if folds else model), report


def _behind(call: Call, consumers: dict[int, list[Call | None]]) -> list[Call] | str:
    """The layers with kernels that take a normalization's output, or what stands in between."""
    found: list[Call] = []
    waiting = [call.outputs[0]]
    while waiting:
        for after in consumers[waiting.pop()]:
            if after is None:
                return "it leads to an output of the model"
            if kind_of(after.layer) is not None:
                found.append(after)
            elif _is_linear(after):
                waiting.append(after.outputs[0])
            else:
                return f"'{after.label}' ({after.kind}) behind it has no kernel to scale"
    return found or "nothing takes its output"


def _is_linear(call: Call) -> bool:
    """Whether an affine function of each channel may as well be applied after the call."""
    layer = call.layer
    if call.training or getattr(layer, "data_format", None) == "channels_first":
        return False
    if any(is_exactly(layer, f"AveragePooling{n}D") for n in (1, 2, 3)):
        return bool(layer.padding == "valid")
    return len(call.inputs) == 1 and any(is_exactly(layer, kind) for kind in _LINEAR)


def _why_not(
    call: Call,
    calls_of: dict[int, list[Call]],
    skip: Container[str],
    taken: set[int],
    offset: bool,
) -> str | None:
    where = f"'{call.label}' behind it"
    reason = why_not(call.layer)
    if reason is not None:
        return f"{where}: {reason}"
    if len(calls_of[id(call.layer)]) > 1:
        return f"{where} is shared with other places"
    if call.label in skip:
        return f"{where} is to keep its weights"
    if id(call.layer) in taken:
        return f"{where} takes another normalization already"
    kind = str(kind_of(call.layer))
    if not offset or kind == "Dense":
        return None
    if kind.endswith("Transpose"):
        return f"{where} spreads an offset unevenly over its outputs"
    pads = call.layer.padding != "valid" and any(size > 1 for size in call.layer.kernel_size)
    return f"{where} pads with zeros, where the offset would be missing" if pads else None


def _folded(model: keras.Model, folds: list[_Fold]) -> keras.Model:
    by_layer = {id(call.layer): fold for fold in folds for call in fold.into}

    def fill(old: Any, new: Any) -> None:
        kernel, bias = _weights(old, by_layer[id(old)].norm)
        new.kernel.assign(kernel)
        new.bias.assign(bias)

    norms = {id(fold.norm): dropped for fold in folds}
    return rebuild_folded(model, norms, by_layer, fill)


def _weights(layer: Any, norm: Any) -> tuple[Values, Values]:
    """Kernel and bias of a layer with the normalization before it folded in; float32."""
    kind = str(kind_of(layer))
    kernel = layer.kernel.numpy().astype(np.float64)
    factor, offset = factor_and_offset(norm)
    bias = layer.bias.numpy() if layer.bias is not None else 0.0
    added = np.zeros(1)
    if np.any(offset):
        added = by_output(kind, kernel * input_factors(kind, kernel, offset)).sum(axis=0)
    scaled = kernel * input_factors(kind, kernel, factor)
    size = by_output(kind, kernel).shape[1]
    total = np.broadcast_to(bias + added, (size,))
    return scaled.astype(np.float32), total.astype(np.float32)
