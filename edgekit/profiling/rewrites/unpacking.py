"""The steps of a sequence, each taken out by itself."""

from __future__ import annotations

import numpy as np

from edgekit.graph.tflite_edit import TFLiteEditor
from edgekit.profiling.rewrites.base import Change, RefusedError, Site, operator, rewrite
from edgekit.profiling.rewrites.forms import reshape_to


@rewrite("operator", ops="UNPACK")
def unpack(site: Site[TFLiteEditor]) -> Change:
    """Takes the parts of an UNPACK, with which unrolled layers begin, by SLICE and RESHAPE."""
    edit, op = site.model, operator(site)
    source = int(op.inputs[0])
    shape = list(edit.shape(source))
    axis = op.builtinOptions.axis % len(shape)
    if edit.free(source):
        raise RefusedError("its batch is not fixed")
    size = [1 if one == axis else count for one, count in enumerate(shape)]
    sizes = edit.add_constant(np.array(size, np.int32), f"{edit.label(source)}/part")
    new = []
    for number, result in enumerate(int(index) for index in op.outputs):
        begin = np.zeros(len(shape), np.int32)
        begin[axis] = number
        name = f"{edit.label(result)}/slice"
        part = edit.add_tensor(
            size, edit.dtype(result), name, edit.quantization(result), like=result
        )
        begins = edit.add_constant(begin, f"{name}/begin")
        new.append(edit.make("SLICE", [source, begins, sizes], [part], "SliceOptions"))
        new.append(reshape_to(edit, part, result))
    edit.replace(op, new)
    return Change(f"{len(op.outputs)} slices for UNPACK", "bits")
