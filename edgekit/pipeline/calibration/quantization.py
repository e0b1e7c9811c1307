"""Scales of measuring networks' tensors, chosen as a converter chooses them."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.pipeline.calibration.network import Layer, Network


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
_SAME = {
    "max_pool", "average_pool", "concat", "pad", "slice", "transpose", "reshape", "resize", "split",
}  # fmt: skip


def quantizations(network: Network) -> list[Quantization]:
    """The quantization of each layer's tensor.

    Operators that only choose or move values keep their input's; what a concatenation joins has one
    for all.
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
    made: dict[int, set[Quantization]] = {}
    for number, layer in enumerate(network.layers):
        if layer.kind not in _SAME:
            made.setdefault(root(number), set()).add(_own(layer))
    chosen = {
        group: next(iter(own)) if len(own) == 1 else ACTIVATION for group, own in made.items()
    }
    return [chosen[root(number)] for number in range(len(network.layers))]


def _own(layer: Layer) -> Quantization:
    if layer.kind in _FIXED:
        return _FIXED[layer.kind]
    word = layer.kind if layer.kind in _RECTIFIED else layer.activation
    return _RECTIFIED.get(word, ACTIVATION)
