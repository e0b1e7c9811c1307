"""Powers by a constant, as multiplications and roots."""

from __future__ import annotations

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite

_ROOTS = {0.5: "SQRT", -0.5: "RSQRT"}
_MOST_FACTORS = 4


@rewrite("operator", "optimized_operator", "float_only", ops="POW SQUARE")
def power(site: Site[TFLiteEditor]) -> Change:
    """Writes a power of 2 to 4 as multiplications, one of 1/2 or -1/2 as SQRT or RSQRT."""
    edit, op = site.model, operator(site)
    source, result = int(op.inputs[0]), int(op.outputs[0])
    if edit.dtype(source) != "float32":
        raise RefusedError(f"there is no other form known for {edit.dtype(source)}")
    exponent = 2.0
    if edit.name(op) == "POW":
        values = edit.values(op.inputs[1])
        if values is None or values.size != 1:
            raise RefusedError("its exponent is not one constant")
        exponent = float(values.reshape(-1)[0])
    if exponent in _ROOTS:
        edit.replace(op, [edit.make(_ROOTS[exponent], [source], [result])])
        return Change(f"{_ROOTS[exponent]} for a power of {exponent:g}", "rounding")
    if exponent not in range(2, _MOST_FACTORS + 1):
        raise RefusedError(f"a power of {exponent:g} is no product of few factors")
    new, last = [], source
    for number in range(2, int(exponent) + 1):
        made = result
        if number < exponent:
            made = edit.add_tensor(
                edit.shape(source), "float32", f"{edit.label(result)}/{number}", like=source
            )
        new.append(edit.make("MUL", [last, source], [made], "MulOptions"))
        last = made
    edit.replace(op, new)
    return Change(f"{len(new)} MUL for a power of {exponent:g}", "rounding")
