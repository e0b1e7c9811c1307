"""Recurrent layers as their steps, with quantized cells: the form in which they are exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require
from edgekit.compress.kernels import Untreated
from edgekit.models.calls import Call, call_graph

if TYPE_CHECKING:
    import keras


def quantizable_recurrent(model: keras.Model) -> tuple[set[str], list[Untreated]]:
    """The labels of the recurrent layers that have a quantized form, and the others."""
    labels, untreated = set(), []
    for calls in call_graph(model).calls_of().values():
        if cells_of(calls[0].layer) is None:
            continue
        label, kind = calls[0].label, calls[0].kind
        reason = next((why for call in calls if (why := _reason(call))), None)
        if reason:
            untreated.append(Untreated(label, kind, reason))
        else:
            labels.add(label)
    return labels, untreated


def cells_of(layer: Any) -> list[Any] | None:
    """The cells of a recurrent layer, in a fixed order; None for other layers."""
    from edgekit.models.fakequant_cells import QuantizedBidirectional

    layers = require("keras", purpose="to compress models").layers
    if type(layer) in (layers.Bidirectional, QuantizedBidirectional):
        both = [cells_of(one) for one in (layer.forward_layer, layer.backward_layer)]
        return None if None in both else [cell for cells in both for cell in cells or ()]
    if type(layer) in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        return [layer.cell]
    if type(layer) is layers.RNN:
        stacked = type(layer.cell) is layers.StackedRNNCells
        return list(layer.cell.cells) if stacked else [layer.cell]
    return None


def _reason(call: Call) -> str | None:
    """Why there is no quantized form of a recurrent layer as it is called here, or None."""
    from edgekit.models.fakequant_cells import QUANTIZED_CELLS

    other = next((c for c in cells_of(call.layer) or () if type(c) not in QUANTIZED_CELLS), None)
    if other is not None:
        return f"there is no quantized form of {type(other).__name__}"
    if call.layer.stateful:
        return "it keeps its state from one call to the next"
    if call.shapes[0][1] is None:
        return "the number of its steps is not fixed"
    given = call._arguments.keras_tensors
    if any(getattr(tensor, "_keras_mask", None) is not None for tensor in given):
        return "it is called with a mask, which steps that are unrolled choose by"
    return None


def needs_range(layer: Any) -> bool:
    """Whether the results of a recurrent layer are not yet rounded as its cells leave them."""
    return getattr(layer, "merge_mode", None) is not None and not _joined(layer)


def _joined(layer: Any) -> bool:
    """Whether the directions of a bidirectional layer are put together, and can be in one scale."""
    from edgekit.models.fakequant_cells import last_cell

    one, other = (last_cell(way) for way in (layer.forward_layer, layer.backward_layer))
    alike = type(one) is type(other) and one.activation == other.activation
    return alike and layer.merge_mode == "concat"


def quantized_recurrent(
    layer: Any, name: str, settings: dict[str, Any], *, slot: int | None = None
) -> Any:
    """A recurrent layer of quantized cells, unrolled.

    Args:
        layer: a layer of `quantizable_recurrent`.
        name: of the new one.
        settings: arguments of the quantized cells.
        slot: of the range of its results, if that is given by the layer around it.
    """
    from edgekit.models.fakequant_cells import QuantizedBidirectional

    layers = require("keras", purpose="to compress models").layers
    if type(layer) is layers.Bidirectional:
        slots = (0, 1) if _joined(layer) else (None, None)
        ways = (layer.forward_layer, layer.backward_layer)
        forward, backward = (
            quantized_recurrent(way, way.name, settings, slot=one)
            for way, one in zip(ways, slots, strict=True)
        )
        return QuantizedBidirectional(
            forward, layer.merge_mode, backward_layer=backward, name=name, dtype=layer.dtype_policy
        )
    *inner, last = cells_of(layer) or [layer.cell]
    cells = [_quantized_cell(cell, settings) for cell in inner]
    cells.append(_quantized_cell(last, {**settings, "slot": slot}))
    kept = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask")
    return layers.RNN(
        cells if type(getattr(layer, "cell", None)) is layers.StackedRNNCells else cells[0],
        **{key: getattr(layer, key) for key in kept if getattr(layer, key, None) is not None},
        unroll=True,
        name=name,
        dtype=layer.dtype_policy,
    )


def _quantized_cell(cell: Any, settings: dict[str, Any]) -> Any:
    from edgekit.models.fakequant_cells import QUANTIZED_CELLS

    made: Any = QUANTIZED_CELLS[type(cell)]
    return made.from_config({**cell.get_config(), **settings})
