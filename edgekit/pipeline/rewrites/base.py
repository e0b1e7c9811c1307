"""What rewrites of Keras models change, and how they put layers in the place of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.compress.rebuild import rebuild
from edgekit.models.calls import Call, call_graph

if TYPE_CHECKING:
    import keras

Form = Callable[..., Any]
"""What stands for the call of a layer: a function of the layer, or of a copy, and its arguments."""


@dataclass
class Draft:
    """A model that a rewrite puts another in the place of; it never changes the model itself."""

    model: keras.Model

    def replace(
        self,
        forms: Mapping[int, Form],
        make: Callable[[Any], Any] | None = None,
        *,
        keep: bool = False,
    ) -> None:
        """Puts other calls in the place of those of some layers or operations.

        Args:
            forms: by the layer's `id`. A shared layer's form is called once for each of its calls.
            make: the layer that a form is given; by default a copy. Operations are always copied.
            keep: what `make` makes has the weights of the layer that it stands for.
        """

        def copied(layer: Any) -> Any:
            if make is not None and id(layer) in forms:
                return make(layer)
            return type(layer).from_config(layer.get_config())

        copy, pairs = rebuild(self.model, copied, forms)
        for old, new in pairs:
            if keep or make is None or id(old) not in forms:
                new.set_weights(old.get_weights())
        self.model = copy


def called(draft: Draft, label: str | None, *kinds: str) -> list[Call]:
    """The calls of the layer that an operator of the converted file comes from, if any.

    Converters name operators by their layer, with a number behind where they have the name twice.

    Args:
        draft: the model.
        label: the operator's layer, such as `block/norm_1/mul`.
        kinds: classes of layers; none: all.
    """
    parts = (label or "").split("/")
    calls = [c for c in call_graph(draft.model).calls if not kinds or c.kind in kinds]
    exact = [call for call in calls if call.layer.name in parts]
    return exact or [
        call for call in calls if any(_numbered(part, call.layer.name) for part in parts)
    ]


def _numbered(part: str, name: str) -> bool:
    return part.startswith(f"{name}_") and part[len(name) + 1 :].isdigit()


def renamed(tensor: Any, name: str) -> Any:
    """A Keras tensor whose operation has another name: Keras' own may be taken already."""
    tensor._keras_history.operation.name = name  # there is no public way
    return tensor
