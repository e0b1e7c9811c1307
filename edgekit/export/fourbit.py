"""int4 weights in a float .tflite file, by ai-edge-quantizer. Activations stay float.

Each output channel of a weight has a scale of its own. Depthwise kernels, for which the runtime
has no 4-bit form, become int8.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ConversionError
from edgekit.base.extras import require
from edgekit.graph.tflite import constant_values, read_buffer

Values = NDArray[Any]

_WHERE = "tflite int4-weight"
_LARGEST = 7  # of a symmetric 4-bit integer
_WEIGHT = 1  # position of the weights among an operator's inputs
_NAMES = ("CONV_2D", "FULLY_CONNECTED")


def narrow_weights(content: bytes) -> bytes:
    """Stores the weights of a float .tflite file in 4 bits.

    The ranges of a layer's channels are clipped (OCTAV, Sakr et al. 2022) where that makes its
    rounding error smaller. Weights that lie on 4-bit steps already, as quantization-aware training
    leaves them, keep their values.

    Args:
        content: of a float file with the TensorFlow converter's builtin operators.

    Raises:
        ConversionError: it has no weights that 4 bits are known for, or the quantizer failed.
    """
    weights = _weights(content)
    if not weights:
        raise ConversionError(
            "the model has no convolution or dense layer whose weights could be int4", where=_WHERE
        )
    clipped = _quantize(content, exact={})
    found = _weights(clipped)
    exact = {
        name: kind
        for name, (kind, values) in weights.items()
        if not _error(values, found[name][1]) < _error(values, _rounded(values))
    }
    return _quantize(content, exact=exact) if exact else clipped


def _quantize(content: bytes, *, exact: Mapping[str, str]) -> bytes:
    """Operators of `exact`, kinds by the name of their output, keep the largest magnitudes."""
    quantizers = require("ai_edge_quantizer.quantizer", purpose="to make int4 weights")
    kinds = require("ai_edge_quantizer.qtyping", purpose="to make int4 weights").TFLOperationName
    algorithms = require("ai_edge_quantizer.algorithm_manager", purpose="to make int4 weights")
    plain, clipping = (
        algorithms.AlgorithmName.MIN_MAX_UNIFORM_QUANT,
        algorithms.AlgorithmName.OCTAV,
    )
    quantizer = quantizers.Quantizer(bytearray(content))
    quantizer.add_weight_only_config(".*", kinds.ALL_SUPPORTED, 4, algorithm_key=clipping)
    quantizer.add_weight_only_config(".*", kinds.DEPTHWISE_CONV_2D, 8, algorithm_key=plain)
    for name, kind in exact.items():
        scope = f"^{re.escape(name)}"
        quantizer.add_weight_only_config(scope, kinds(kind), 4, algorithm_key=plain)
    try:
        with np.errstate(all="ignore"):  # channels of zeros have no range
            made = quantizer.quantize(enable_progress_report=False)
    except Exception as error:  # noqa: BLE001 the quantizer raises anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConversionError(f"ai-edge-quantizer failed: {reason}", where=_WHERE) from None
    return bytes(made.quantized_model)


def _weights(content: bytes) -> dict[str, tuple[str, Values]]:
    """Kind and real weights of the operators that take them in 4 bits, by their output's name."""
    graph = read_buffer(content)
    makers = {index: op for op in graph.ops for index in op.outputs}
    found = {}
    for op in graph.ops:
        if op.name not in _NAMES or len(op.inputs) <= _WEIGHT:
            continue
        index = op.inputs[_WEIGHT]
        if index in makers and makers[index].name == "DEQUANTIZE":
            index = makers[index].inputs[0]
        tensor = graph.tensors[index]
        if not tensor.constant or tensor.dtype not in ("float32", "int4"):
            continue
        values = constant_values(content, index)
        if tensor.quantization is not None:
            values = tensor.quantization.dequantize(values)
        found[graph.tensors[op.outputs[0]].name] = (op.name, values)
    return found


def _rounded(weights: Values) -> Values:
    """Each output channel in whole multiples of a seventh of its largest magnitude."""
    largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    steps = np.where(largest > 0, largest / _LARGEST, 1.0)
    return np.round(weights / steps) * steps


def _error(weights: Values, others: Values) -> float:
    return float(np.square(weights.astype(np.float64) - others).sum())
