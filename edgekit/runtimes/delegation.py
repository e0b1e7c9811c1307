"""Which operators of a `.tflite` file LiteRT gives to its optimized kernels, XNNPACK's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.base.errors import EdgekitError
from edgekit.runtimes.litert import LiteRTSession


def unoptimized_operators(path: Path) -> tuple[int, ...] | None:
    """Positions of the operators that no delegate takes: TFLite's own kernels run them.

    Each of them also splits what is left for the delegate, at the cost of a call.

    Args:
        path: a .tflite file.

    Returns:
        Positions in the file, or None where the runtime does not tell: of another format, or a
        version without its list of operators, which it does not promise to keep.
    """
    if path.suffix != ".tflite":
        return None
    try:
        session = LiteRTSession(path)
        with session:
            listed = session.operators()
    except EdgekitError:
        return None
    return None if listed is None else _left(listed)


def _left(listed: list[dict[str, Any]]) -> tuple[int, ...]:
    """The operators that lie in no delegate: it takes all between its inputs and its outputs."""
    delegates = [one for one in listed if one["op_name"] == "DELEGATE"]
    plain = {n: one for n, one in enumerate(listed) if one["op_name"] != "DELEGATE"}
    makers = {int(index): n for n, one in plain.items() for index in one["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        given = {int(index) for index in delegate["inputs"]}
        waiting = [int(index) for index in delegate["outputs"]]
        while waiting:
            index = waiting.pop()
            if index in given or makers.get(index, -1) in {-1, *taken}:
                continue
            taken.add(makers[index])
            waiting += [int(one) for one in plain[makers[index]]["inputs"]]
    return tuple(n for n in plain if n not in taken)
