"""The graph that the exported .tflite file of a model will have, without exporting it.

What the converter fuses is fused: batch norms and activations. Costs are those that profiling
would find in the file; that is what the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.graph.types import Graph
from edgekit.models import graph_layers, graph_sequences
from edgekit.models.calls import Call, CallGraph, call_graph
from edgekit.models.graph_site import Site, Tensors
from edgekit.models.graph_writer import GraphWriter, Shape
from edgekit.schema.names import Precision

if TYPE_CHECKING:
    import keras

_RULES = {**graph_layers.RULES, **graph_sequences.RULES}


@dataclass(frozen=True)
class Sizes:
    """Shapes other than those of the model, of a model with fewer channels.

    Attributes:
        values: by value of the call graph, with the batch.
        variables: by the `id` of the Keras variable.
    """

    values: Mapping[int, Shape] = field(default_factory=dict)
    variables: Mapping[int, Shape] = field(default_factory=dict)

    def of(self, variable: Any) -> Shape:
        """The shape of a variable."""
        return self.variables.get(id(variable), tuple(variable.shape))


def model_graph(
    model: keras.Model,
    *,
    precision: Precision = "fp32",
    layers: Mapping[str, Precision] | None = None,
    dense_one_scale: bool = False,
) -> Graph:
    """The graph of the .tflite file with batch 1 that a model would be exported to.

    It holds operators with their layers, shapes, dtypes and multiply-accumulates, but no values,
    and of scales only how many there are. `Op.layer` is the name of the Keras layer with the
    weights, `outer/inner` within a nested model. Recurrent layers are written out step by step, as
    they are exported.

    Args:
        model: a functional or Sequential model.
        precision: of the file; `mixed` is int8 but for `layers`.
        layers: precision by layer name, where it differs from the file's.
        dense_one_scale: as `edgekit.export.base.ExportJob` has it.

    Raises:
        InputError: a precision that no file has.
    """
    return sized_graph(
        model, call_graph(model), Sizes(), precision=precision, layers=layers,
        dense_one_scale=dense_one_scale,
    )  # fmt: skip


def sized_graph(
    model: keras.Model,
    calls: CallGraph,
    sizes: Sizes,
    *,
    precision: Precision,
    layers: Mapping[str, Precision] | None = None,
    dense_one_scale: bool = False,
) -> Graph:
    """As `model_graph`, of a model whose calls are known, in other sizes."""
    writer = GraphWriter(precision, layers or {}, dense_one_scale=dense_one_scale)
    readers = {value: len(found) for value, found in calls.consumers().items()}
    tensors: dict[int, int] = {}
    inputs: dict[str, int] = {}
    for value, given in zip(calls.inputs, model.inputs, strict=True):
        tensors[value] = inputs[given.name] = writer.input(
            given.name, _one(sizes.values.get(value, tuple(given.shape))), given.dtype
        )
    for call in calls.calls:
        made = _write(_site(call, tensors, readers, sizes, writer))
        found = (made,) if isinstance(made, int) else made
        tensors |= dict(zip(call.outputs, found, strict=False))
    names = zip(model.output_names, calls.outputs, strict=True)
    return writer.graph(model.name, inputs, {name: tensors[value] for name, value in names})


def _site(
    call: Call, tensors: Mapping[int, int], readers: Mapping[int, int], sizes: Sizes, writer: Any
) -> Site:
    shapes = zip(call.outputs, call.output_shapes, strict=True)
    return Site(
        call=call,
        layer=call.layer,
        label=call.label,
        inputs=tuple(tensors[value] for value in call.inputs),
        shapes=tuple(_one(sizes.values.get(value, shape)) for value, shape in shapes),
        alone=bool(call.inputs) and readers.get(call.inputs[0], 0) == 1,
        size=sizes.of,
        writer=writer,
        write=_write,
    )


def _write(site: Site) -> Tensors:
    return _RULES.get(type(site.layer).__name__, graph_layers.other)(site)


def _one(shape: Shape) -> Shape:
    """With a batch of 1."""
    return (1, *shape[1:])
