"""The layer that an operator came from, read out of the names that a converter left behind.

The TensorFlow converter names a tensor after the graph node that made it,
`model/conv2d/BiasAdd`, and joins the names of nodes that it fused, with a number appended where a
name would occur twice: `model/relu/Relu;model/conv2d/BiasAdd;model/conv2d/Conv2D1`. A node whose
weights equal those of another may carry that other's name too. Converters to ONNX and OpenVINO
keep these names; PyTorch's ONNX exporter writes `/features/conv1/Conv`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from edgekit.graph.types import Op

Path = tuple[str, ...]

# Scopes that TensorFlow and Keras open inside a layer.
_INNER = re.compile(
    r"(BatchNorm(_Fold)?|BiasAdd|Cast|Conv2D|Gelu|MatMul|ReadVariableOp|Tensordot|batchnorm"
    r"|conv_transpose|convolution|depthwise_Fold|[Ee]insum|moments|mul|while)(_\d+)?"
)
_COUNTED = re.compile(r".+?(_\d+)")


def with_layers(ops: Sequence[Op], candidates: Sequence[Sequence[str]]) -> list[Op]:
    """The operators with their layers; see `layer_names` for the candidates.

    An activation whose names tell nothing ends the layer before it: the converter replaced its name
    by that of the graph's output. Else an operator's layer is its first candidate name.
    """
    made_by: dict[int, str] = {}
    named = []
    for op, names, found in zip(ops, candidates, layer_names(candidates), strict=True):
        layer = found
        if layer is None and op.kind == "activation" and op.inputs:
            layer = made_by.get(op.inputs[0])
        if layer is not None:
            made_by.update(dict.fromkeys(op.outputs, layer))
        named.append(replace(op, layer=layer or (names[0].partition(":")[0] if names else op.name)))
    return named


def layer_names(candidates: Sequence[Sequence[str]]) -> list[str | None]:
    """The layer of each operator of one graph.

    Args:
        candidates: for each operator the names of its first output and of its constant inputs; the
            first name that tells a layer is taken.

    Returns:
        `conv2d`, or `block/conv2d` for a layer of a nested model; None where no name tells.
    """
    paths = [next(filter(None, map(_layer_path, names)), ()) for names in candidates]
    known = [path for path in paths if path]
    nested = [path for path in known if len(path) > 1]
    scope = nested[0][0] if nested and all(path[0] == nested[0][0] for path in nested) else None
    trace = _trace_suffix(known)
    return [_spell(path, scope, trace) if path else None for path in paths]


def _layer_path(name: str) -> Path:
    """The path that most of the joined names agree on; of equals, the last (the first in time)."""
    candidates = [_cut(part) for part in name.split(";") if "/" in part]
    candidates = [path for path in candidates if path]
    votes = Counter(candidates)
    best: Path = ()
    for path in candidates:
        if votes[path] >= votes[best]:
            best = path
    return best


def _cut(name: str) -> Path:
    """The path without the node itself and without the scopes inside a layer."""
    parts = name.partition(":")[0].split("/")[:-1]
    for position in range(1, len(parts)):
        if _INNER.fullmatch(parts[position]):
            return tuple(parts[:position])
    return tuple(parts)


def _trace_suffix(paths: Sequence[Path]) -> str:
    """The number that a second trace of a Keras model appends to every scope, or ""."""
    suffixes = set()
    for part in {part for path in paths for part in path if part}:
        match = _COUNTED.fullmatch(part)
        suffixes.add(match[1] if match else "")
    return suffixes.pop() if len(suffixes) == 1 else ""


def _spell(path: Path, scope: str | None, trace: str) -> str:
    inner = path[1:] if len(path) > 1 and path[0] == scope else path
    return "/".join(part.removesuffix(trace) for part in inner)
