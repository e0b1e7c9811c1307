"""Rounds in between where TFLite's integer kernels do.

Convolutions and dense layers, which XNNPACK computes, round once. TFLite's own kernels multiply
32-bit sums as gemmlowp does: by a factor from 0.5 to 1, which is rounded, and by a power of two,
which is rounded again, halves away from zero. A product of two activations comes out a step away
from its one rounding in as many places as the first grid is finer: one in 256, where the power is
2^-7. A squared difference rounds its finer operand so, to a grid of the coarser one. Softmax and
layer normalizations behind them make steps of the output of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.export.onnx_graph import OnnxGraph

# Moves exact halves, which ONNX rounds to even, away from zero, and nothing else: more than the
# rounding of three float32 operations, less than the finer grid's distance from a half.
_AWAY = 1.0 + 2.0**-21
_FINEST = 10  # beyond this power of two another rounding changes next to nothing
_SHIFT = 6  # bits of which a squared difference has its operands finer than the coarser one's steps
_MOVES = ("Reshape", "Transpose")


def round_products(graph: OnnxGraph) -> None:
    """Rounds products of two activations on the grid that BATCH_MATMUL has before its last one."""
    for node in [n for n in graph.graph.node if n.op_type == "MatMul"]:
        scales = _scales(graph, node)
        quantize = graph.only_reader(node.output[0], "QuantizeLinear")
        parameters = graph.parameters(quantize) if quantize is not None else None
        if quantize is None or parameters is None or scales is None:
            continue
        step = parameters[0]
        _, power = math.frexp(math.prod(scales) / step)
        if not 0 < -power < _FINEST:
            continue
        grid = step * 2.0**power
        factors = [1 / grid, grid * _AWAY]
        quantize.input[0] = _scaled(graph, node.output[0], factors, before=quantize)
    graph.index()


def round_differences(graph: OnnxGraph) -> None:
    """Rounds the finer operand of a squared difference as SQUARED_DIFFERENCE does."""
    for node in [n for n in graph.graph.node if n.op_type == "Sub"]:
        readers = graph.readers.get(node.output[0], [])
        scales = _scales(graph, node)
        if scales is None or not _squares(readers):
            continue
        coarse = max(scales)
        for place, scale in enumerate(scales):
            if scale != coarse:
                _, power = math.frexp(scale / (2 * coarse))
                grid = coarse * 2.0**-_SHIFT
                factors = [2.0**-power / grid, 2.0**power * _AWAY, grid]
                node.input[place] = _scaled(graph, node.input[place], factors, before=node)
    graph.index()


def _squares(readers: Sequence[Any]) -> bool:
    """Whether a tensor is only multiplied by itself; the product is listed once a factor."""
    one, *others = readers or [None]
    return len(others) == 1 and others[0] is one and one.op_type == "Mul"


def _scales(graph: OnnxGraph, node: Any) -> list[float] | None:
    """Of the int8 activations that a node takes, if it takes nothing else."""
    found = [scale for name in node.input if (scale := _scale(graph, name)) is not None]
    return found if len(found) == len(node.input) else None


def _scale(graph: OnnxGraph, name: str) -> float | None:
    maker = graph.maker.get(name)
    while maker is not None and maker.op_type in _MOVES:
        maker = graph.maker.get(maker.input[0])
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] in graph.constants:
        return None
    parameters = graph.parameters(maker)
    return None if parameters is None else parameters[0]


def _scaled(graph: OnnxGraph, name: str, factors: Sequence[float], *, before: Any) -> str:
    """Reals times one factor after the other, rounded in between, made right before a node."""
    for number, factor in enumerate(factors):
        scaled, whole = (f"{before.output[0]}__{word}_{number}" for word in ("scaled", "whole"))
        constant = graph.constant(np.array(factor, np.float32), f"{scaled}_by")
        graph.insert_before(before, graph.node("Mul", [name, constant], scaled))
        name = scaled
        if number < len(factors) - 1:
            graph.insert_before(before, graph.node("Round", [scaled], whole))
            name = whole
    return name
