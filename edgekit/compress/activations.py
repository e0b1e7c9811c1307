"""The values of a model's layer calls on samples, one call after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require
from edgekit.data.dataset import Split
from edgekit.models.calls import Call, CallGraph
from edgekit.runtimes.session import match_names

if TYPE_CHECKING:
    import keras

_BATCH = 64


class Activations:
    """Values of a call graph, in batches; each is freed after its last use."""

    def __init__(self, graph: CallGraph, batches: Sequence[Sequence[Any]]) -> None:
        self._values = {
            value: [batch[index] for batch in batches] for index, value in enumerate(graph.inputs)
        }
        self._uses = Counter(value for call in graph.calls for value in call.inputs)

    def __getitem__(self, value: int) -> list[Any]:
        """The tensors of a value, a batch each."""
        return self._values[value]

    def step(self, call: Call, instead: Mapping[int, list[Any]] | None = None) -> None:
        """Runs a call on all batches; calls come in the order of their graph.

        Args:
            call: of the graph.
            instead: values to give it in the place of its inputs.
        """
        given = {value: (instead or {}).get(value, self._values[value]) for value in call.inputs}
        made = [
            call.run({value: tensors[index] for value, tensors in given.items()})
            for index in range(len(next(iter(given.values()))))
        ]
        for value in call.outputs:
            self._values[value] = [result[value] for result in made]
        for value in call.inputs:
            self._uses[value] -= 1
            if not self._uses[value]:
                del self._values[value]


def input_batches(model: keras.Model, split: Split, samples: int | None = None) -> list[list[Any]]:
    """The first samples of a split as batches of tensors in the order of the model's inputs.

    Raises:
        DataError: the arrays do not fit the inputs by their names.
    """
    ops = require("keras", purpose="to run Keras models").ops
    arrays = match_names(tuple(tensor.name for tensor in model.inputs), split.x)
    count = min(samples or len(split), len(split))
    return [
        [
            ops.convert_to_tensor(arrays[t.name][start : min(start + _BATCH, count)], dtype=t.dtype)
            for t in model.inputs
        ]
        for start in range(0, count, _BATCH)
    ]
