"""Inputs whose sizes a file leaves free: nothing that depends on them can be predicted."""

from __future__ import annotations

from edgekit.graph.types import Graph
from edgekit.profiling.rules.base import shape_text


def free_sizes(graph: Graph) -> str | None:
    """Which input has free sizes beside its batch, in words; None: there is none."""
    for port in graph.inputs:
        tensor = graph.tensors[port.tensor]
        if None in tensor.shape[1:]:
            return (
                f"input '{port.name}' is {shape_text(tensor)}: time and memory depend on sizes "
                "that are free; fix them before the export"
            )
    return None
