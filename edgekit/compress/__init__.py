"""Compression passes: Keras model in, Keras model out.

Each registered pass is also a function here, imported when it is first used::

    import edgekit.compress
    result = edgekit.compress.prune(model, dataset, sparsity=0.8)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.compress.accuracy_control import fallback as fallback
    from edgekit.compress.adaptive_rounding import adaround as adaround
    from edgekit.compress.assignment import mixed_precision as mixed_precision
    from edgekit.compress.bias_correction import correct_bias as correct_bias
    from edgekit.compress.clustering import cluster as cluster
    from edgekit.compress.distillation import distill as distill
    from edgekit.compress.equalization import equalize as equalize
    from edgekit.compress.factorization import factorize as factorize
    from edgekit.compress.folding_pass import fold as fold
    from edgekit.compress.pruning import prune as prune
    from edgekit.compress.quantization import quantize as quantize
    from edgekit.compress.quantization_aware import qat as qat
    from edgekit.compress.shrinking import shrink as shrink


def __getattr__(name: str) -> Any:
    from edgekit.compress.passes import PASSES

    if name.startswith("_") or name not in PASSES.names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return PASSES.get(name).function()


def __dir__() -> list[str]:
    from edgekit.compress.passes import PASSES

    return [*globals(), *PASSES.names()]
