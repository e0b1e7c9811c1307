"""Why a quantized file is slower than the float file of the same model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from edgekit.graph.types import Graph, Op
from edgekit.schema.debugging import Proposal
from edgekit.schema.figure import Figure

SPEED_PROPOSAL = Proposal(
    text="run the float file on this machine, or int8-dynamic, which keeps activations in float",
    recipe="export:\n- {format: tflite, precision: int8-dynamic}\n",
)

_DOT_PRODUCT = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_FLOAT = ("float32", "float16")
_COMPUTING = ("conv", "pointwise", "depthwise", "dense", "matmul")
_MANY = 0.25  # of the operators
_MOST_MACS = 0.5
_COMMON_KINDS = 3


def slower_than_float(
    graph: Graph, latency: Figure, float_latency: Figure, features: Collection[str]
) -> str | None:
    """The quantized file is slower on this machine than the float file.

    Integer kernels gain where the processor multiplies 8-bit values in dot products and where the
    whole chain of operators stays in integers; each change between float and integer costs a pass
    over the data, and kernels for 16-bit activations or 4-bit weights are often not optimized.

    Args:
        graph: of the quantized file.
        latency: of the quantized file, in ms.
        float_latency: of the float file in the same format, in ms.
        features: instruction sets of the processor, as Linux names them.
    """
    slow, fast = latency.value, float_latency.value
    surely = (latency.low or slow or 0) > (float_latency.high or fast or 0)
    if slow is None or fast is None or not surely:
        return None
    reasons = list(_reasons(graph, features)) or ["its integer kernels are not faster here"]
    return f"{slow:.3g} ms, the float file {fast:.3g} ms: {'; '.join(reasons)}"


def _reasons(graph: Graph, features: Collection[str]) -> Iterator[str]:
    computing = [op for op in graph.ops if op.kind in _COMPUTING]
    if any(graph.tensors[i].dtype == "int16" for op in computing for i in op.outputs):
        yield "its activations are int16, for which the runtime has reference kernels only"
    if any(graph.tensors[i].dtype in ("int4", "uint4") for op in computing for i in op.inputs):
        yield "its weights are int4, which are widened before use"
    left = [op for op in computing if _in_float(graph, op)]
    if left and graph.format == "tflite" and len(left) < len(computing):
        counted = Counter(op.name for op in left).most_common(_COMMON_KINDS)
        names = ", ".join(f"{count} {name}" for name, count in counted)
        yield f"{len(left)} of {len(computing)} computing operators stayed in float ({names})"
    changes = sum(op.kind == "quantize" for op in graph.ops)
    if graph.format == "tflite" and changes > _MANY * len(graph.ops):
        yield f"{changes} of {len(graph.ops)} operators only change scale or dtype"
    if not any(feature in _DOT_PRODUCT for feature in features):
        yield "this processor has no 8-bit dot product instructions"
    depthwise = sum(op.macs for op in graph.ops if op.kind == "depthwise")
    if graph.macs and depthwise > _MOST_MACS * graph.macs:
        yield "depthwise convolutions do most of its work, where 8-bit dot products do not apply"


def _in_float(graph: Graph, op: Op) -> bool:
    return all(graph.tensors[index].dtype in _FLOAT for index in op.outputs)
