"""Rewrites of Keras models that fix what checks of their .tflite files find."""

from edgekit.base.registry import Registry
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Rewrite

KERAS_REWRITES: Registry[Rewrite] = Registry(
    "Keras rewrite",
    {
        "fold-scale": "edgekit.pipeline.rewrites.folding:fold_scale",
        "gelu": "edgekit.pipeline.rewrites.activations:gelu",
        "hard-swish": "edgekit.pipeline.rewrites.activations:hard_swish",
        "swish": "edgekit.pipeline.rewrites.activations:swish",
        "unroll": "edgekit.pipeline.rewrites.unrolling:unroll",
    },
    group="keras_rewrites",
)
"""Name to rewrite; those that answer a finding are tried in the order of their names."""

__all__ = ["Draft", "KERAS_REWRITES"]
