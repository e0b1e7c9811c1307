"""The operators of recurrent layers, written out step by step, and of attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgekit.models.graph_layers import other
from edgekit.models.graph_site import Rule, Site, Tensors
from edgekit.models.graph_writer import Shape


def _product(site: Site, x: int, kernel: Any, bias: Any, shape: Shape) -> int:
    """A product with the weights of a cell; the gates lie side by side."""
    taken, made = site.size(kernel)
    inputs: tuple[int, ...] = (x, site.weights(kernel, (made, taken)))
    if bias is not None:
        inputs += (site.bias(bias, made),)
    return site.op("FULLY_CONNECTED", inputs, (*shape[:-1], made))


def _gru_step(site: Site, cell: Any, x: int, states: tuple[int, ...]) -> tuple[int, ...]:
    units = site.size(cell.recurrent_kernel)[0]
    shape = (1, units)
    ours = _product(site, x, cell.kernel, cell.bias, shape)
    ours = site.op("SPLIT", (site.writer.numbers(1), ours), (shape,) * 3, num_splits=3)
    if not states:
        update = site.op("LOGISTIC", (ours,), shape)
        candidate = site.op("TANH", (ours + 2,), shape)
        rest = site.op("SUB", (site.writer.numbers(1), update), shape)
        return (site.op("MUL", (rest, candidate), shape),)
    given = _product(site, states[0], cell.recurrent_kernel, cell.bias, shape)
    parts = []
    for _ in range(3):
        numbers = [site.writer.numbers(2) for _ in range(3)]
        parts.append(site.op("STRIDED_SLICE", (given, *numbers), shape))
    gates = [
        site.op("LOGISTIC", (site.op("ADD", (ours + gate, parts[gate]), shape),), shape)
        for gate in range(2)
    ]
    reset = site.op("MUL", (gates[1], parts[2]), shape)
    candidate = site.op("TANH", (site.op("ADD", (ours + 2, reset), shape),), shape)
    kept = site.op("MUL", (gates[0], states[0]), shape)
    rest = site.op("SUB", (site.writer.numbers(1), gates[0]), shape)
    return (site.op("ADD", (site.op("MUL", (rest, candidate), shape), kept), shape),)


def _lstm_step(site: Site, cell: Any, x: int, states: tuple[int, ...]) -> tuple[int, ...]:
    units = site.size(cell.recurrent_kernel)[0]
    shape, wide = (1, units), (1, 4 * (units or 1))
    if states:
        y = _product(site, x, cell.kernel, None, shape)
        given = _product(site, states[0], cell.recurrent_kernel, None, shape)
        y = site.op("ADD", (y, site.reshaped(given, wide[1:])), wide)
        if cell.bias is not None:
            y = site.op("ADD", (y, site.bias(cell.bias, wide[1])), wide)
    else:
        y = _product(site, x, cell.kernel, cell.bias, shape)
    y = site.op("SPLIT", (site.writer.numbers(1), y), (shape,) * 4, num_splits=4)
    take, candidate, give = (
        site.op(name, (y + gate,), shape)
        for gate, name in ((0, "LOGISTIC"), (2, "TANH"), (3, "LOGISTIC"))
    )
    carry = site.op("MUL", (take, candidate), shape)
    if states:
        keep = site.op("LOGISTIC", (y + 1,), shape)
        carry = site.op("ADD", (site.op("MUL", (keep, states[1]), shape), carry), shape)
    return site.op("MUL", (give, site.op("TANH", (carry,), shape)), shape), carry


def _plain_step(site: Site, cell: Any, x: int, states: tuple[int, ...]) -> tuple[int, ...]:
    shape = (1, site.size(cell.recurrent_kernel)[0])
    y = _product(site, x, cell.kernel, cell.bias, shape)
    if states:
        y = site.op(
            "ADD", (y, _product(site, states[0], cell.recurrent_kernel, None, shape)), shape
        )
    return (site.op("TANH", (y,), shape),)


_STEPS = {"GRU": _gru_step, "LSTM": _lstm_step, "SimpleRNN": _plain_step}


def _recurrent(site: Site) -> Tensors:
    """The layer, its steps written out: an initial state of zeros is not multiplied."""
    layer, step = site.layer, _STEPS[type(site.layer).__name__]
    _, count, features = site.writer.shape(site.inputs[0])
    if count is None:
        return other(site)
    x = site.reshaped(site.inputs[0], (count, 1, features))
    x = site.op("UNPACK", (x,), ((1, features),) * count, num=count)
    states = site.inputs[1:]
    made = []
    for index in range(count):
        states = step(site, layer.cell, x + index, states)
        made.append(states[0])
    last = states[0]
    if layer.return_sequences:
        units = site.writer.shape(last)[-1]
        last = site.op("PACK", tuple(made), (count, 1, units), values_count=count)
        last = site.reshaped(last, (1, count, units))
    return (last, *states) if layer.return_state else last


def _bidirectional(site: Site) -> Tensors:
    wrapper = site.layer
    directions = (wrapper.forward_layer, wrapper.backward_layer)
    if len(site.inputs) > 1 or any(one.return_state for one in directions):
        return other(site)
    found = [site.write(replace(site, layer=one)) for one in directions]
    ends = tuple(one if isinstance(one, int) else one[0] for one in found)
    if wrapper.merge_mode is None:
        return ends
    name = {"concat": "CONCATENATION", "mul": "MUL"}.get(wrapper.merge_mode, "ADD")
    return site.op(name, ends, site.shapes[0])


def _time_distributed(site: Site) -> int:
    """The inner layer once for all steps: they become the batch."""
    given, shape = site.writer.shape(site.inputs[0]), site.shapes[0]
    x = site.reshaped(site.inputs[0], given[1:])
    y = site.write(replace(site, layer=site.layer.layer, inputs=(x,), shapes=(shape[1:],)))
    return site.reshaped(y if isinstance(y, int) else y[0], shape)


def _attention(site: Site) -> Tensors:
    layer = site.layer
    if any(len(site.writer.shape(one)) != 3 for one in site.inputs) or len(site.shapes) > 1:
        return other(site)
    query, value = site.inputs[:2]
    key = site.inputs[2] if len(site.inputs) > 2 else value

    def projected(name: str, dense: Any, x: int, *axes: int) -> int:
        width, heads, size = site.size(dense.kernel)
        part = replace(site, label=f"{site.label}/{name}")
        rows, wide = site.writer.shape(x)[1], (heads or 1) * (size or 1)
        inputs: tuple[int, ...] = (x, part.weights(dense.kernel, (wide, width)))
        if dense.bias is not None:
            inputs += (part.bias(dense.bias, wide),)
        y = part.op("FULLY_CONNECTED", inputs, (1, rows, wide), keep_num_dims=True)
        return site.transposed(part.reshaped(y, (1, rows, heads, size)), *axes)

    keys = projected("key", layer.key_dense, key, 0, 2, 1, 3)
    queries = projected("query", layer.query_dense, query, 0, 2, 3, 1)
    _, heads, count, _ = site.writer.shape(keys)
    rows = site.writer.shape(queries)[-1]
    scores = site.op("BATCH_MATMUL", (keys, queries), (1, heads, count, rows))
    scores = site.transposed(scores, 0, 1, 3, 2)
    scores = site.op("SOFTMAX", (scores,), site.writer.shape(scores))
    values = projected("value", layer.value_dense, value, 0, 2, 1, 3)
    size = site.writer.shape(values)[-1]
    y = site.op("BATCH_MATMUL", (scores, values), (1, heads, rows, size))
    wide = (heads or 1) * (size or 1)
    y = site.reshaped(site.transposed(y, 0, 2, 1, 3), (1, rows, wide))
    out = replace(site, label=f"{site.label}/attention_output")
    dense = layer.output_dense
    made = site.size(dense.kernel)[-1]
    inputs: tuple[int, ...] = (y, out.weights(dense.kernel, (made, wide)))
    if dense.bias is not None:
        inputs += (out.bias(dense.bias, made),)
    return out.op("FULLY_CONNECTED", inputs, site.shapes[0], keep_num_dims=True)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_STEPS, _recurrent),
    "Bidirectional": _bidirectional,
    "MultiHeadAttention": _attention,
    "TimeDistributed": _time_distributed,
}
