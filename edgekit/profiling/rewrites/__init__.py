"""Rewrites of .tflite files that fix what checks find: one file a rewrite or a small group."""

from edgekit.base.registry import Registry
from edgekit.profiling.rewrites.base import Change, RefusedError, Rewrite, Site, UnrelatedError

REWRITES: Registry[Rewrite] = Registry(
    "rewrite",
    {
        "activation-apart": "edgekit.profiling.rewrites.forms:activation_apart",
        "concatenate-in-steps": "edgekit.profiling.rewrites.forms:concatenate_in_steps",
        "dense-convolution": "edgekit.profiling.rewrites.dense:dense_convolution",
        "dilation": "edgekit.profiling.rewrites.dilation:dilation",
        "fix-batch": "edgekit.profiling.rewrites.batch:fix_batch",
        "flat-mean": "edgekit.profiling.rewrites.channel_means:flat_mean",
        "fold-scale": "edgekit.profiling.rewrites.scales:fold_scale",
        "fold-scale-onward": "edgekit.profiling.rewrites.scales_onward:fold_scale_onward",
        "gelu": "edgekit.profiling.rewrites.activations:gelu",
        "hard-swish": "edgekit.profiling.rewrites.activations:hard_swish",
        "layer-norm": "edgekit.profiling.rewrites.normalization:layer_norm",
        "leaky-relu": "edgekit.profiling.rewrites.activations:leaky_relu",
        "mean-convolution": "edgekit.profiling.rewrites.channel_means:mean_convolution",
        "negation": "edgekit.profiling.rewrites.negation:negation",
        "pad-channels": "edgekit.profiling.rewrites.channels:pad_channels",
        "pool-mean": "edgekit.profiling.rewrites.means:pool_mean",
        "power": "edgekit.profiling.rewrites.powers:power",
        "reorder": "edgekit.profiling.rewrites.order:reorder",
        "reshape": "edgekit.profiling.rewrites.forms:reshape",
        "resize-mode": "edgekit.profiling.rewrites.resizes:resize_mode",
        "resize-steps": "edgekit.profiling.rewrites.resizes:resize_steps",
        "slice-and-reshape": "edgekit.profiling.rewrites.forms:slice_and_reshape",
        "split-mean": "edgekit.profiling.rewrites.means:split_mean",
        "squared-difference": "edgekit.profiling.rewrites.activations:squared_difference",
        "strip-islands": "edgekit.profiling.rewrites.islands:strip_islands",
        "unpack": "edgekit.profiling.rewrites.unpacking:unpack",
        "zero-channels": "edgekit.profiling.rewrites.zero_channels:remove_zero_channels",
    },
    group="rewrites",
)
"""Name to rewrite; those that answer a finding are tried in the order of their names."""

__all__ = ["Change", "REWRITES", "RefusedError", "Rewrite", "Site", "UnrelatedError"]
