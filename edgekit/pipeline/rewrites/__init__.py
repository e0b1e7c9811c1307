"""Rewrites of Keras models that fix what checks of their .tflite files find."""

from edgekit.base.registry import Registry
from edgekit.pipeline.rewrites.base import Draft
from edgekit.profiling.rewrites import Rewrite

KERAS_REWRITES: Registry[Rewrite] = Registry(
    "Keras rewrite",
    {
        "dense-convolution": "edgekit.pipeline.rewrites.dense:dense_convolution",
        "fold-scale": "edgekit.pipeline.rewrites.folding:fold_scale",
        "gelu": "edgekit.pipeline.rewrites.activations:gelu",
        "hard-swish": "edgekit.pipeline.rewrites.activations:hard_swish",
        "layer-norm": "edgekit.pipeline.rewrites.normalization:layer_norm",
        "layer-norm-apart": "edgekit.pipeline.rewrites.normalization:layer_norm_apart",
        "leaky-relu": "edgekit.pipeline.rewrites.activations:leaky_relu",
        "pad-channels": "edgekit.pipeline.rewrites.channels:pad_channels",
        "resize-doubling": "edgekit.pipeline.rewrites.resizes:resize_doubling",
        "resize-mode": "edgekit.pipeline.rewrites.resizes:resize_mode",
        "resize-nearest": "edgekit.pipeline.rewrites.resizes:resize_nearest",
        "split-mean": "edgekit.pipeline.rewrites.means:split_mean",
        "swish": "edgekit.pipeline.rewrites.activations:swish",
        "unroll": "edgekit.pipeline.rewrites.unrolling:unroll",
    },
    group="keras_rewrites",
)
"""Name to rewrite; those that answer a finding are tried in the order of their names."""

__all__ = ["Draft", "KERAS_REWRITES"]
