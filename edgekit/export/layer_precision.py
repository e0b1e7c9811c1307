"""Which Keras layers the operators of a .tflite file come from, and the precision of each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from edgekit.base.errors import InputError, did_you_mean
from edgekit.graph.layers import layer_names
from edgekit.graph.types import Graph, Op
from edgekit.profiling.links import WEIGHTED
from edgekit.profiling.view import GraphView
from edgekit.schema.names import Precision

CONVERSIONS = frozenset({"DEQUANTIZE", "QUANTIZE"})
_KERNEL_RANK = 2
_NUMBER = re.compile(r"_\d+$")
_VALUES = frozenset({"float16", "float32", "int16", "int8", "uint8"})


def op_layers(graph: Graph, known: Collection[str] = ()) -> list[frozenset[str]]:
    """The layers of each operator: several where the converter fused them, none if no name tells.

    The names of a fused operator's nodes are joined in that of its output; a kernel's name tells
    where the output's name was replaced by that of the graph's output.

    Args:
        graph: of a .tflite file.
        known: names of the model's layers, `outer/inner` for one in another; without them, names
            are taken as they are, but for numbers that all of them end in.
    """
    parts: list[tuple[int, str]] = []
    for op in graph.ops:
        names = [graph.tensors[index].name for index in op.outputs[:1]]
        if op.kind in WEIGHTED:
            kernels = (graph.tensors[index] for index in op.inputs)
            names += [t.name for t in kernels if t.constant and len(t.shape) >= _KERNEL_RANK]
        parts += [(op.index, part) for name in names for part in name.split(";") if "/" in part]
    texts = [part for _, part in parts]
    told = _resolve(texts, known) if known else layer_names([[text] for text in texts])
    found: dict[int, set[str]] = {op.index: set() for op in graph.ops}
    for (index, _), name in zip(parts, told, strict=True):
        found[index] |= {name} if name else set()
    makers = {index: op.index for op in graph.ops for index in op.outputs}
    for op in graph.ops:  # an activation that lost its name ends the layer before it
        if not found[op.index] and op.kind == "activation" and op.inputs[0] in makers:
            found[op.index] = found[makers[op.inputs[0]]]
    return [frozenset(found[op.index]) for op in graph.ops]


def _resolve(texts: Sequence[str], known: Collection[str]) -> list[str | None]:
    """The layer that each name of a graph node tells, of those that are known.

    TensorFlow numbers a scope that is entered again. All may carry a number then, so that
    `conv_1` is `conv` or `conv_1`: what explains more of the names is right.
    """
    names = {path.rpartition("/")[2] for path in known}
    scopes = [scope for text in texts for scope in text.split("/")[:-1]]
    numbered = sum(_NUMBER.sub("", scope) in names for scope in scopes if _NUMBER.search(scope))
    prefer_shorter = numbered > sum(scope in names for scope in scopes)
    resolved: list[str | None] = []
    for text in texts:
        path = ""
        for scope in text.split("/")[:-1]:
            forms = sorted({scope, _NUMBER.sub("", scope)}, key=len, reverse=not prefer_shorter)
            longer = [f"{path}/{form}" if path else form for form in forms]
            here = next((candidate for candidate in longer if candidate in known), None)
            if here is None and path:
                break  # a scope within the layer
            path = here or path
        resolved.append(path or None)
    return resolved


def planned_ops(
    graph: Graph, layers: Mapping[str, Precision], known: Collection[str] = (), *, where: str
) -> dict[int, str]:
    """The planned precision of operators, by their index; those of no planned layer are left out.

    Args:
        graph: of a .tflite file as the converter makes it.
        layers: precision by Keras layer; a layer stands for the layers within it too.
        known: see `op_layers`.
        where: for errors.

    A layer that is known may have no operator: it vanished, or lost its name to an output of the
    graph. An operator without a name is then such a layer's, if what makes its inputs is planned
    alike.

    Raises:
        InputError: a layer is not known and has no operator, or there are two precisions for one
            operator.
    """
    of_ops = op_layers(graph, known)
    there = set[str]().union(*of_ops)
    planned: dict[int, str] = {}
    reasons: dict[int, str] = {}
    missing: set[str] = set()
    for name, precision in layers.items():
        ours = {layer for layer in there if layer == name or layer.startswith(f"{name}/")}
        if not ours and name in known:
            missing.add(precision)
        elif not ours:
            raise InputError(
                f"no operator of the file comes from a layer '{name}'",
                where=where,
                hint=did_you_mean(name, there),
            )
        for op in (op for op in graph.ops if of_ops[op.index] & ours):
            if planned.get(op.index, precision) != precision:
                raise InputError(
                    f"'{name}' is planned in {precision} and '{reasons[op.index]}' in "
                    f"{planned[op.index]}, and both are one {op.name}",
                    where=where,
                    hint="plan one precision for layers that are fused",
                )
            planned[op.index], reasons[op.index] = precision, name
    makers = {index: op.index for op in graph.ops for index in op.outputs}
    for op in (op for op in graph.ops if not of_ops[op.index]):
        before = {planned.get(makers[index], "int8") for index in op.inputs if index in makers}
        if len(found := before & missing) == 1:
            planned[op.index] = found.pop()
    return planned


def read_precision(view: GraphView, op: Op) -> str | None:
    """The precision that an operator of a .tflite file has; None if it handles no values.

    A `Precision`, or the dtypes of its activations or kernel where they make none.
    """
    around = [*view.activations_in(op), *view.tensors(op.outputs)]
    dtypes = {tensor.dtype for tensor in around if tensor.dtype in _VALUES}
    if not dtypes:
        return None
    if len(dtypes) > 1:
        return " and ".join(sorted(dtypes))
    if op.kind in WEIGHTED and dtypes & {"int16", "int8"}:
        kernels = {t.dtype for t in view.weights_in(op) if len(t.shape) >= _KERNEL_RANK}
        if kernels - {"int8"}:
            return f"{dtypes.pop()} with weights in {' and '.join(sorted(kernels))}"
    return view.op_precision(op)


def layer_precisions(graph: Graph, known: Collection[str] = ()) -> dict[str, str]:
    """The precision of each layer of a .tflite file, by name; for `known`, see `op_layers`.

    Where operators of one layer differ, all of their precisions, joined by "+".
    """
    view = GraphView(graph)
    found: dict[str, set[str]] = {}
    for op, layers in zip(graph.ops, op_layers(graph, known), strict=True):
        precision = None if op.name in CONVERSIONS else read_precision(view, op)
        for layer in layers if precision else ():
            found.setdefault(layer, set()).add(str(precision))
    return {layer: "+".join(sorted(precisions)) for layer, precisions in found.items()}


def is_mixed(graph: Graph) -> bool:
    """Whether a .tflite file has layers in integers, and layers in another precision."""
    view = GraphView(graph)
    heavy = [op for op in graph.ops if op.kind in WEIGHTED and view.weights_in(op)]
    found = {view.op_precision(op) for op in heavy}
    return len(found) > 1 and bool(found & {"int8", "int16x8"})
