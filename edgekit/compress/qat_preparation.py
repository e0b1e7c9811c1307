"""What `qat` makes of a model before it is rewritten: composite layers apart, norms folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.compress.constraints import Constraints, constraints_of
from edgekit.compress.decomposition import decompose, may_be_taken_apart
from edgekit.compress.folding import fold_batch_norm
from edgekit.compress.kernels import Untreated, find_kernels
from edgekit.compress.recurrent import quantizable_recurrent
from edgekit.models.calls import call_graph

if TYPE_CHECKING:
    import keras

_NO_FORM = "there is no quantized form of it; the converter quantizes it by calibration"


@dataclass(frozen=True)
class Prepared:
    """A model whose layers are ready to be rewritten, one by one.

    Attributes:
        model: with composite layers taken apart and normalizations folded.
        skip: labels of layers whose kernels stay float.
        origins: what new layers were, by label.
        folded: rows of the report.
        untreated: layers that stay as they are.
        constraints: what the kernels keep, before the normalizations were folded.
        norms: by label, layers before a normalization was folded into them, and that.
    """

    model: keras.Model
    skip: frozenset[str]
    origins: dict[str, str]
    folded: list[dict[str, Any]]
    untreated: list[Untreated]
    constraints: Constraints
    norms: dict[str, tuple[Any, Any]]


def prepare(model: keras.Model, skipped: set[str]) -> Prepared:
    """Takes composite layers apart and folds normalizations, but for layers that are skipped."""
    skip = with_outer(skipped)
    apart, origins, composite = decompose(model, skip=skip)
    folded, folding = fold_batch_norm(apart)
    flat, scales, norms = decompose(folded, skip=skip, norms=True)
    recurrent, loops = quantizable_recurrent(flat)
    known = {one.layer: one for one in (*composite, *norms, *loops)}
    layers = {call.label: call.layer for call in call_graph(apart).calls}
    return Prepared(
        model=flat,
        skip=skip,
        origins={**origins, **{new: origins.get(old, old) for new, old in scales.items()}},
        folded=folding["layers"],
        untreated=_untreated(flat, recurrent, known),
        constraints=constraints_of(apart),
        norms={
            row["into"]: (layers[row["into"]], layers[row["layer"]]) for row in folding["layers"]
        },
    )


def with_outer(skipped: set[str]) -> frozenset[str]:
    """Labels and those around them: a layer stays as it is if one within it is skipped."""
    return frozenset("/".join(label.split("/")[:depth + 1])
                     for label in skipped for depth in range(label.count("/") + 1))  # fmt: skip


def treatable(model: keras.Model) -> set[str]:
    """The labels of the layers that are trained as quantized, and of those around their kernels."""
    names = {kernel.layer for kernel in find_kernels(model)[0]}
    calls = {call.label for call in call_graph(model).calls}
    around = {"/".join(n.split("/")[:depth]) for n in names for depth in range(1, n.count("/") + 1)}
    return names | (around & calls) | may_be_taken_apart(model)


def _untreated(
    model: keras.Model, recurrent: set[str], known: dict[str, Untreated]
) -> list[Untreated]:
    """The layers whose weights stay float in training, and why.

    Args:
        model: as it is about to be rewritten.
        recurrent: labels of the recurrent layers that have a quantized form.
        known: layers that are known to have none, by label.
    """
    from edgekit.models.fakequant import quantized_class

    kernels, others = find_kernels(model)
    treated = {c.label for c in call_graph(model).calls if quantized_class(type(c.layer))}
    # The rows of an embedding are values that are looked up: the range of the result is theirs.
    looked_up = {other.layer for other in others if other.kind == "Embedding"}
    found = dict(known)
    weighty = {**{k.layer: k.kind for k in kernels}, **{o.layer: o.kind for o in others}}
    for label, kind in weighty.items():
        folders = label.split("/")
        around = {"/".join(folders[:depth]) for depth in range(1, len(folders) + 1)}
        if label not in treated | looked_up and not around & (recurrent | set(known)):
            found[label] = Untreated(label, kind, _NO_FORM)
    return list(found.values())
