"""Recurrent layers, step by step."""

from __future__ import annotations

from edgekit.export.savedmodel import unrolled
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Change, RefusedError, Site
from edgekit.profiling.rewrites.base import rewrite


@rewrite(
    "operator", "control_shapes", "static_shapes", "eight_bit", "plain_lstm", "optimized_operator",
    "int8_only", "precision", "no_hybrid",
    ops="BIDIRECTIONAL_SEQUENCE_LSTM LSTM UNIDIRECTIONAL_SEQUENCE_LSTM UNIDIRECTIONAL_SEQUENCE_RNN "
    "WHILE",
)  # fmt: skip
def unroll(site: Site[Draft]) -> Change:
    """Unrolls recurrent layers (unroll=True): the same weights, no loop and no fused LSTM."""
    model = site.model.model
    try:
        steps = unrolled(model)
    except ValueError as error:
        raise RefusedError(f"it cannot be unrolled: {str(error).splitlines()[0]}") from None
    if steps is model:
        raise RefusedError("no recurrent layer is rolled up")
    site.model.model = steps
    return Change("recurrent layers step by step", "rounding")
