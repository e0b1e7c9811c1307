"""Which operators a compiler that makes one subgraph takes, by the rules of TFLite's partitioner.

The Edge TPU compiler is a TFLite delegate ("Restored original execution plan after delegate
application failure" is its own message), so the partitions are those of TFLite's
`PartitionGraphIntoIndependentNodeSubsets` (tensorflow/lite/graph_info.cc): epochs of operators of
one kind, taken and not taken in turn, each as large as the tensors that are ready allow. The first
operator says of which kind the first epoch is.

Of these the compiler keeps the first that it takes, however small: compiler 15 maps one QUANTIZE
of YOLOv5s and leaves 293 operators behind it, most of them supported, to the CPU with "More than
one subgraph is not supported" (google-coral/edgetpu issues 342, 433 and 461 show the same).
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profiling.view import GraphView


def first_subgraph(view: GraphView, taken: Sequence[bool]) -> frozenset[int]:
    """The operators of the first subgraph.

    What the CPU does before it, such as the conversion of a float input, breaks nothing; what
    lies beside a refused operator and does not depend on it is part of the subgraph.

    Args:
        view: the graph, its operators in execution order.
        taken: for each operator, whether the compiler takes it by itself.
    """
    waiting = [op for op in view.graph.ops if op.index not in view.free]
    missing = {index for op in waiting for index in op.outputs}
    while waiting:
        kind = taken[waiting[0].index]  # its inputs are ready: what makes them comes before it
        left, epoch = [], set()
        for op in waiting:
            if taken[op.index] == kind and not missing.intersection(op.inputs):
                epoch.add(op.index)
                missing.difference_update(op.outputs)
            else:
                left.append(op)
        if kind:
            return frozenset(epoch)
        if len(left) == len(waiting):
            break  # the file's order is not one that can be executed
        waiting = left
    return frozenset()
