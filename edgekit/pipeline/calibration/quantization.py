"""Scales of measuring networks' tensors, chosen as a converter chooses them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgekit.pipeline.calibration.network import Layer, Network
from edgekit.pipeline.calibration.weights import SCALE_VARIATION


@dataclass(frozen=True)
class Quantization:
    """Of a tensor of int8."""

    scale: float
    zero_point: int

    @property
    def rectifies(self) -> bool:
        """Whether the lowest integer is zero: no value below it is kept."""
        return self.zero_point == -128


ACTIVATION = Quantization(0.05, 0)
# An activation needs no operator of its own where the integers end where it does.
_RECTIFIED = {"relu": Quantization(0.025, -128), "relu6": Quantization(6 / 255, -128)}
_FIXED = {  # that TFLite demands of these operators
    "logistic": Quantization(1 / 256, -128),
    "softmax": Quantization(1 / 256, -128),
    "tanh": Quantization(1 / 128, 0),
}
_FARTHEST = 40  # zero point of values on both sides of zero
_SYMMETRIC = 0.3  # of these have none
_SAME = {
    "max_pool", "average_pool", "concat", "pad", "slice", "transpose", "reshape", "resize", "split",
}  # fmt: skip


def quantizations(network: Network) -> list[Quantization]:
    """The quantization of each layer's tensor.

    Operators that only choose or move values keep their input's; what a concatenation joins has one
    for all. No two others have the same, as in a converter's files: OpenVINO compiles a kernel for
    each, and one for all where they are alike.
    """
    groups = list(range(len(network.layers)))

    def root(number: int) -> int:
        while groups[number] != number:
            number = groups[number]
        return number

    for number, layer in enumerate(network.layers):
        if layer.kind in _SAME:
            for source in layer.inputs:
                groups[root(source)] = root(number)
    made: dict[int, list[int]] = {}
    for number, layer in enumerate(network.layers):
        if layer.kind not in _SAME:
            made.setdefault(root(number), []).append(number)
    chosen: dict[int, Quantization] = {}
    for group, members in made.items():
        usual = {_own(network.layers[number]) for number in members}
        first = network.layers[members[0]]
        if len(usual) == 1 and first.kind == "relu":
            chosen[group] = _positive(chosen[root(first.inputs[0])])
        else:
            own = usual.pop() if len(usual) == 1 else ACTIVATION
            chosen[group] = _varied(own, [*network.name.encode(), group])
    return [chosen[root(number)] for number in range(len(network.layers))]


def _own(layer: Layer) -> Quantization:
    if layer.kind in _FIXED:
        return _FIXED[layer.kind]
    word = layer.kind if layer.kind in _RECTIFIED else layer.activation
    return _RECTIFIED.get(word, ACTIVATION)


def _positive(of: Quantization) -> Quantization:
    """The range of another from zero on."""
    return Quantization(of.scale * (127 - of.zero_point) / 255, -128)


def _varied(usual: Quantization, seed: list[int]) -> Quantization:
    """One of another range, but where the operator says which."""
    if usual in _FIXED.values() or usual == _RECTIFIED["relu6"]:
        return usual
    generator = np.random.default_rng(seed)
    scale = usual.scale * math.exp(generator.uniform(-SCALE_VARIATION, SCALE_VARIATION))
    if usual.rectifies:
        return Quantization(scale, usual.zero_point)
    zero_point = int(generator.integers(-_FARTHEST, _FARTHEST + 1))
    return Quantization(scale, zero_point if generator.random() > _SYMMETRIC else 0)
