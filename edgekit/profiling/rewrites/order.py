"""The order of execution: another one may need less memory."""

from __future__ import annotations

from edgekit.graph.tflite import read_buffer
from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.memory.arena import plan
from edgekit.profiling.memory.need import runtime_of, scratch_of
from edgekit.profiling.memory.order import best_order
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, rewrite


@rewrite("ram")
def reorder(site: Site[TFLiteEditor]) -> Change:
    """Writes the operators in an order whose arena is smaller; what they compute stays."""
    edit = site.model
    graph = read_buffer(edit.content())
    runtime = runtime_of(site.target)
    scratch = [(one[0], one[1]) for one in scratch_of(graph, runtime)]
    now = plan(graph, planner=runtime.planner, scratch=scratch).arena_bytes
    found = best_order(graph, planner=runtime.planner, scratch=scratch)
    if found.arena_bytes >= now:
        proof = "no order of its operators" if found.exact else "no order that was found"
        raise RefusedError(f"{proof} needs less than its arena of {now:,} bytes")
    edit.ops[:] = [edit.ops[index] for index in found.ops]
    return Change(f"another order: an arena of {found.arena_bytes:,} bytes, not {now:,}", "bits")
