"""Why a quantized file is slower than the float file of the same model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from edgekit.graph.types import COMPUTING, Graph, Op
from edgekit.schema.debugging import Proposal
from edgekit.schema.figure import Figure
from edgekit.schema.results import Profile
from edgekit.schema.units import show_figure

SPEED_PROPOSAL = Proposal(
    text="run the float file here, or int8-dynamic, which keeps activations in float",
    recipe="export:\n- {format: tflite, precision: int8-dynamic}\n",
    passes=("quantize(precision='int8-dynamic')",),
)

_DOT_PRODUCT = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_FLOAT = ("float32", "float16")
_MARGIN = 1.1  # beyond what two measurements of one file differ
_MANY = 0.25  # of the operators
_MOST_MACS = 0.5
_COMMON_KINDS = 4


def slower_than_float(
    graph: Graph,
    latency: Figure,
    float_latency: Figure,
    features: Collection[str] = (),
    *,
    unoptimized: Sequence[int] | None = None,
) -> str | None:
    """The quantized file is slower on this machine than the float file.

    Integer kernels gain where the processor multiplies 8-bit values in dot products and where the
    whole chain of operators stays in integers; each change between float and integer costs a pass
    over the data, and operators without an optimized integer kernel run on slow ones.

    Args:
        graph: of the quantized file.
        latency: of the quantized file, in ms.
        float_latency: of the float file in the same format, in ms.
        features: instruction sets of the processor, as Linux names them.
        unoptimized: positions of operators for which the runtime has no optimized kernel, where it
            tells; of those that it has no optimized kernel for in the float file either, none.
    """
    if not surely_slower(latency, float_latency):
        return None
    reasons = list(_reasons(graph, features, unoptimized or ()))
    return _told(latency, float_latency, reasons or ["its integer kernels are not faster here"])


def slower_on_target(profile: Profile, float_profile: Profile) -> str | None:
    """By its cost model the target runs the quantized file slower than the float file.

    A target without 8-bit kernels, or with slow ones for the operators of this model, gains
    nothing from int8 but size.

    Args:
        profile: of the quantized file on the target, estimated.
        float_profile: of the float file in the same format on the same target.
    """
    latency, other = profile.latency_ms, float_profile.latency_ms
    if latency.value is None and other.value is not None:
        return f"{profile.target} does not run it: {latency.reason}"
    if not surely_slower(latency, other):
        return None
    times, float_times = _by_operator(profile), _by_operator(float_profile)
    added = {name: time - float_times.get(name, 0.0) for name, time in times.items()}
    total = sum(value for value in added.values() if value > 0)
    worst = sorted(added.items(), key=lambda item: -item[1])[:_COMMON_KINDS]
    least = _MANY * total / _COMMON_KINDS
    slow = [f"{name} {value:+.3g} ms" for name, value in worst if value > least]
    reasons = [f"more time than in float goes into {', '.join(slow)}"] if slow else []
    fallbacks = [p.fallback_ops if p else 0 for p in (profile.placement, float_profile.placement)]
    if fallbacks[0] > fallbacks[1]:
        reasons.append(f"{fallbacks[0]} operators fall back to the CPU")
    return f"on {profile.target}, estimated: {_told(latency, other, reasons or ['no gain'])}"


def surely_slower(latency: Figure, other: Figure) -> bool:
    """Whether a latency is above another by more than the noise of both."""
    slow, fast = latency.value, other.value
    if slow is None or fast is None:
        return False
    apart = (latency.low or slow) > (other.high or fast)
    return apart and slow > _MARGIN * fast


def _told(latency: Figure, other: Figure, reasons: Iterable[str]) -> str:
    slow, fast = (show_figure(figure, interval=False) for figure in (latency, other))
    return f"{slow}, the float file {fast}: {'; '.join(reasons)}"


def _reasons(graph: Graph, features: Collection[str], unoptimized: Sequence[int]) -> Iterator[str]:
    computing = [op for op in graph.ops if op.kind in COMPUTING]
    if any(graph.tensors[i].dtype == "int16" for op in computing for i in op.outputs):
        yield "its activations are int16, for which the runtime has reference kernels only"
    if any(graph.tensors[i].dtype in ("int4", "uint4") for op in computing for i in op.inputs):
        yield "its weights are int4, which are widened before use"
    left = [op for op in graph.ops if op.kind != "quantize" and _in_float(graph, op)]
    if left and graph.format == "tflite" and len(left) < len(graph.ops):
        yield f"{len(left)} of {len(graph.ops)} operators stayed in float ({_counted(left)})"
    changes = sum(op.kind == "quantize" for op in graph.ops)
    if graph.format == "tflite" and (changes > _MANY * len(graph.ops) or (left and changes)):
        yield f"{changes} of {len(graph.ops)} operators only change scale or dtype"
    slow = [op for op in graph.ops if op.index in unoptimized]
    if len(slow) > 1:
        yield (
            f"{len(slow)} of {len(graph.ops)} operators have no optimized kernel for integers "
            f"({_counted(slow)})"
        )
    if not any(feature in _DOT_PRODUCT for feature in features):
        yield "this processor has no 8-bit dot product instructions"
    depthwise = sum(op.macs for op in graph.ops if op.kind == "depthwise")
    if graph.macs and depthwise > _MOST_MACS * graph.macs:
        yield "depthwise convolutions do most of its work, where 8-bit dot products do not apply"


def _counted(ops: Iterable[Op]) -> str:
    common = Counter(op.name for op in ops).most_common()
    shown = ", ".join(f"{count} {name}" for name, count in common[:_COMMON_KINDS])
    rest = sum(count for _, count in common[_COMMON_KINDS:])
    return f"{shown}, {rest} others" if rest else shown


def _by_operator(profile: Profile) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for layer in profile.layers or ():
        found[layer.op] += layer.latency_ms.value or 0.0
    return found


def _in_float(graph: Graph, op: Op) -> bool:
    return all(graph.tensors[index].dtype in _FLOAT for index in op.outputs)
