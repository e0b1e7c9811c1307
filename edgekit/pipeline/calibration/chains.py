"""Chains: networks of one operator, repeated, over the shapes that networks have.

A chain divides what an inference costs at all by many operators, and each finds its input where
the one before left it, as in a network. Convolutions go to and fro between two numbers of channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgekit.pipeline.calibration.network import Binary, LayerKind, Network, Pool

_SIDES = (224, 150, 112, 75, 56, 35, 28, 19, 14, 10, 7, 4)
_STEM_SIDES = (224, 160, 96, 299)
# Networks have about this many channels over the side of the map.
_CHANNELS_PER_SIDE = (600.0, 16000.0)
_ODD = 0.3  # of the convolutions have any number of channels
_MACS = (2e4, 2e9)  # of one operator
_CHAIN_MACS = 6e7
_LONGEST = 10
_TINY = 8
_MOST_WEIGHTS = 24e6  # values in a file
_POOLS: tuple[Pool, ...] = ("max_pool", "average_pool")
_BINARY: tuple[Binary, ...] = ("add", "mul", "sub", "squared_difference")
_UNARY: tuple[LayerKind, ...] = (
    "relu", "relu6", "hard_swish", "logistic", "tanh", "gelu", "softmax", "scale", "shift", "rsqrt",
)  # fmt: skip


def chains(generator: np.random.Generator) -> Iterator[Network]:
    """All chains, the most important first."""
    yield from _convolutions(generator, "pointwise", (1,), 72)
    yield from _convolutions(generator, "conv", (3, 3, 3, 5, 3, 7, (1, 7), 3, (7, 1), (1, 3)), 70)
    yield from _depthwise(generator, 72)
    yield from _dense(generator, 28)
    yield from _stems(generator)
    yield from _strided(generator, 16)
    yield from _expansions(generator)
    yield from _elementwise(generator)
    yield from _moving(generator)
    yield from _products(generator, 8)
    yield from _grouped(generator, 6)
    yield from _scores(generator)
    yield from _only_tflite(generator)
    yield from _single_rows(generator, 24)
    yield from _enlarging(generator)
    yield from _narrow(generator)


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(generator.uniform(math.log(low), math.log(high))))


def _width(generator: np.random.Generator, low: float = 8, high: float = 2048) -> int:
    """A number of channels; one in eight is any number, one in eight a multiple of four."""
    value = _log_uniform(generator, low, high)
    step = (1, 4, 8, 8, 8, 8, 8, 8)[int(8 * generator.random())]
    return max(1, round(value / step)) * step


def _side(generator: np.random.Generator) -> int:
    return int(generator.choice(_SIDES))


def _length(macs: float, weights: float) -> int:
    """Operators in a chain; an even number."""
    most = min(_CHAIN_MACS / max(macs, 1), _MOST_WEIGHTS / max(weights, 1), _LONGEST)
    return max(2, 2 * int(most / 2))


def _convolutions(
    generator: np.random.Generator,
    name: str,
    kernels: tuple[int | tuple[int, int], ...],
    count: int,
) -> Iterator[Network]:
    made = 0
    while made < count:
        kernel = kernels[made % len(kernels)]
        taps = kernel * kernel if isinstance(kernel, int) else kernel[0] * kernel[1]
        side = _side(generator)
        one, two = (
            _width(generator, *_usual(generator, side)),
            _width(generator, *_usual(generator, side)),
        )
        macs = side * side * taps * one * two
        if not _MACS[0] <= macs <= _MACS[1] or taps * one * two > _MOST_WEIGHTS / 2:
            continue
        network = Network(f"{name}-{made}", (1, side, side, one), name)
        last = 0
        for number in range(_length(macs, taps * one * two)):
            last = network.conv(last, one if number % 2 else two, kernel)
        made += 1
        yield network


def _usual(generator: np.random.Generator, side: int) -> tuple[float, float]:
    """Least and most channels of maps of a side."""
    if generator.random() < _ODD:
        return 8, 1024
    low, high = _CHANNELS_PER_SIDE
    return min(512, max(8, low / side)), min(2048, high / side)


def _depthwise(generator: np.random.Generator, count: int) -> Iterator[Network]:
    for made in range(count):
        kernel = (3, 5, 3, 3, 5, 3, 7)[made % 7]
        side = _side(generator)
        low, high = _usual(generator, side)
        channels = _width(generator, low, max(16, min(high, 2.5e6 / side**2)))
        network = Network(f"depthwise-{made}", (1, side, side, channels), "depthwise")
        last = 0
        for number in range(_length(16 * kernel**2 * side**2 * channels, 0)):
            stride = 2 if made % 4 == 1 and number == 0 else 1
            last = network.depthwise(last, kernel, stride)
        yield network


def _dense(generator: np.random.Generator, count: int) -> Iterator[Network]:
    for made in range(count):
        rows = 1 if made % 2 else round(_log_uniform(generator, 4, 1024))
        one, two = _width(generator, 16, 4096), _width(generator, 10, 4096)
        if rows * one * two > _MACS[1]:
            one, two = max(10, one // 4), max(10, two // 4)
        network = Network(f"dense-{made}", (rows, one), "dense")
        last = 0
        for number in range(min(_length(rows * one * two, one * two), 6)):
            last = network.dense(last, one if number % 2 else two)
        yield network
    for sort, least, most in (("tiny", 3, 64), ("few", 33, 128)):  # two threads share the latter
        for made in range(_TINY):
            one, two = _width(generator, 3, 64), _width(generator, least, most)
            network = Network(f"dense-{sort}-{made}", (1, one), "dense")
            last = 0
            for number in range(1 + made % 4):
                last = network.dense(last, one if number % 2 else two)
            yield network
    # Weights that no cache holds.
    network = Network("dense-huge", (1, 2048), "dense")
    last = network.dense(0, 4096)
    last = network.dense(last, 4096)
    network.dense(last, 1000)
    yield network


def _stems(generator: np.random.Generator) -> Iterator[Network]:
    """First layers: few channels in, and what scales and shifts these before."""
    for number, (kernel, stride, channels) in enumerate(
        [(3, 2, 3), (3, 2, 3), (7, 2, 3), (3, 1, 3), (4, 4, 3), (3, 1, 1), (5, 2, 1), (3, 2, 3)]
    ):
        side = _STEM_SIDES[number % len(_STEM_SIDES)] if channels > 1 else 49
        network = Network(f"stem-{number}", (1, side, side, channels), "stem")
        network.conv(0, _width(generator, 16, 64), kernel, stride, valid=stride == kernel)
        yield network
    for number in range(10):
        side, one = int(generator.integers(64, 300)), number % 4 > 1
        network = Network(f"colors-{number}", (1, side, side, 3), "colors")
        last = network.unary("scale", 0, one_scale=one)
        last = network.unary("shift", last, one_scale=one) if number % 2 else last
        network.conv(last, 8, 3, 2)
        yield network


def _strided(generator: np.random.Generator, count: int) -> Iterator[Network]:
    """Halving convolutions one after the other, and valid ones."""
    for made in range(count):
        kernel = (1, 3)[made % 2]
        side, channels = int(generator.choice((112, 56, 28))), _width(generator, 16, 256)
        network = Network(f"strided-{made}", (1, side, side, channels), "strided")
        last = 0
        for _ in range(2):
            channels *= 2
            last = network.conv(last, channels, kernel, 2, valid=made % 4 == 3)
        yield network


def _expansions(generator: np.random.Generator) -> Iterator[Network]:
    """Shallow pointwise convolutions to six times the channels, limited, and back."""
    for number, side in enumerate((112, 75, 56, 40, 28, 20, 14, 7)):
        channels = _width(generator, max(8, 600 / side), max(24, 1200 / side))
        network = Network(f"expansion-{number}", (1, side, side, channels), "expansion")
        last = 0
        for _ in range(2):
            last = network.conv(last, 6 * channels, 1, 1, "relu6")
            last = network.conv(last, channels, 1, 1, "none")
        yield network


def _grouped(generator: np.random.Generator, count: int) -> Iterator[Network]:
    for made in range(count):
        groups, side = int(generator.choice((2, 4, 8, 32))), _side(generator)
        channels = groups * max(1, round(_log_uniform(generator, 64, 512) / groups))
        network = Network(f"grouped-{made}", (1, side, side, channels), "grouped")
        last = 0
        for _ in range(2):
            last = network.conv(last, channels, 3, groups=groups)
        yield network


def _plane(generator: np.random.Generator) -> tuple[int, int]:
    """Side and channels of a tensor between 4 thousand and 1.5 million values."""
    side = _side(generator)
    wanted = _log_uniform(generator, 4e3, 1.5e6)
    step = (1, 4, 8, 8)[int(4 * generator.random())]
    channels = round(wanted / side**2 / step) * step
    return side, min(2048, max(8, channels))


def _laid_out(network: Network, last: int) -> int:
    """After a convolution: runtimes keep values in an order of their own between convolutions."""
    return network.depthwise(last, 3, 1, "none")


def _elementwise(generator: np.random.Generator) -> Iterator[Network]:
    for kind in _UNARY:
        for number in range(5):
            side, channels = _plane(generator)
            network = Network(f"{kind}-{number}", (1, side, side, channels), kind)
            last = 0
            for _ in range(4 if kind != "softmax" else 2):
                if kind == "rsqrt":  # of positive values
                    last = network.unary("logistic", last)
                last = network.unary(kind, last)
            yield network
    for number in range(5):
        side, channels = _plane(generator)
        network = Network(f"swish-{number}", (1, side, side, channels), "swish")
        last = 0
        for _ in range(4):
            last = _laid_out(network, last)
            last = network.binary("mul", last, network.unary("logistic", last))
        yield network
    for binary in _BINARY:
        for number in range(10 if binary in ("add", "mul") else 4):
            side, channels = _plane(generator)
            network = Network(f"{binary}-{number}", (1, side, side, channels), binary)
            first = last = _laid_out(network, 0)
            row = network.mean(first) if number % 2 else first
            inner = []
            for _ in range(4):
                inner.append(_laid_out(network, last))
                last = network.binary(binary, inner[-1], row)
            _laid_out(network, last)
            if number % 4 > 1:  # what others read too is not computed within a convolution
                network.concat(inner)
            yield network


def _moving(generator: np.random.Generator) -> Iterator[Network]:
    """Pools, means, and operators that move values."""
    for number in range(6):
        for kind in _POOLS:
            side, channels = _plane(generator)
            network = Network(f"{kind}-{number}", (1, side, side, channels), "pool")
            last = 0
            for window, stride in (((3, 1), (3, 1), (3, 2)), ((2, 2), (2, 2)))[number % 2]:
                last = network.pool(_laid_out(network, last), kind, window, stride)
            _laid_out(network, last)
            yield network
        side, channels = int(generator.choice((28, 14, 8, 7, 5))), _width(generator, 16, 1024)
        for kind in _POOLS:  # of a whole map
            network = Network(f"{kind}-all-{number}", (1, side, side, channels), "pool")
            network.pool(_laid_out(network, 0), kind, side, 1, valid=True)
            yield network
        side, channels = _plane(generator)
        network = Network(f"mean-{number}", (1, side, side, channels), "mean")
        first = _laid_out(network, 0)
        network.mean(network.binary("mul", _laid_out(network, first), network.mean(first)))
        yield network
        network = Network(f"mean-channels-{number}", (1, side, side, channels), "mean")
        last = _laid_out(network, 0)
        for _ in range(2):
            mean = network.mean_channels(last)
            last = network.binary("sub", last, mean)
        yield network
    for number in range(8):
        side, channels = _plane(generator)
        network = Network(f"concat-{number}", (1, side, side, channels), "concat")
        parts = [_laid_out(network, 0)]
        for _ in range(3):
            parts.append(_laid_out(network, network.concat([parts[-1], parts[0]])))
        yield network
        network = Network(f"pad-{number}", (1, side, side, channels), "pad")
        last = 0
        for _ in range(3):
            last = network.pad(last, 1 + number % 2)
        yield network
    for number in range(3):
        side = int(generator.choice((7, 14, 28)))
        channels = _width(generator, 8, 256)
        network = Network(f"resize-{number}", (1, side, side, channels), "resize")
        network.resize(_laid_out(network, network.resize(_laid_out(network, 0))))
        yield network
        network = Network(f"slice-{number}", (1, side * 4, side * 4, channels), "slice")
        network.slice(network.slice(0, max(4, channels // 2)), 4, step=2)
        yield network
        network = Network(f"transpose-{number}", (8, side * 4, channels), "transpose")
        network.transpose(network.transpose(0))
        yield network
        network = Network(f"transpose-conv-{number}", (1, side, side, channels), "transpose-conv")
        network.transpose_conv(0, _width(generator, 8, 64), (2, 3, 4)[number])
        yield network


def _scores(generator: np.random.Generator) -> Iterator[Network]:
    """The end of a classifier, and whole classifiers of a few values."""
    for number, classes in enumerate((10, 100, 1000)):
        network = Network(f"scores-{number}", (1, _width(generator, 32, 512)), "dense")
        network.unary("softmax", network.dense(0, classes, "none"))
        yield network
    for number, layers in enumerate((1, 1, 2, 3, 4, 6, 8, 12)):
        network = Network(f"scores-tiny-{number}", (1, _width(generator, 3, 64)), "dense")
        last, width = 0, round(_log_uniform(generator, 4, 64))
        for _ in range(layers):
            last = network.dense(last, width)
        classes = int(generator.integers(2, 11))
        network.unary("softmax", network.dense(last, classes, "none"))
        yield network


def _products(generator: np.random.Generator, count: int) -> Iterator[Network]:
    """Computed matrices: scores and sums of attention."""
    for made in range(count):
        heads, rows = int(generator.integers(1, 13)), int(generator.integers(32, 256))
        features = _width(generator, 16, 96)
        network = Network(f"matmul-{made}", (heads, rows, features), "matmul")
        scores = network.matmul(0, network.transpose(0))
        network.matmul(scores, 0)
        yield network


def _only_tflite(generator: np.random.Generator) -> Iterator[Network]:
    """Operators that are measured in .tflite files alone."""
    for number in range(12):
        steps, one, two = (round(_log_uniform(generator, 8, most)) for most in (64, 96, 96))
        network = Network(f"lstm-{number}", (1, steps, one), "lstm")
        last = network.lstm(0, two)
        if number % 2:
            network.lstm(last, two)
        yield network
    for number in range(8):
        side, channels = _plane(generator)
        parts = (2, 4, 8)[number % 3]
        if number % 2 == 0:
            side, channels = 8, parts * (1 + number % 4)
        network = Network(f"split-{number}", (1, side, side, channels), "split")
        last = network.split(0, parts)
        network.concat([network.split(network.concat([last, last]), 2), last])
        yield network


def _single_rows(generator: np.random.Generator, count: int) -> Iterator[Network]:
    """One row through layers whose weights caches keep; most of whole tiles, half of one scale."""
    for made in range(count):
        step = (1, 16, 32, 64)[made % 4]
        sizes = (round(_log_uniform(generator, 32, 1024) / step) for _ in range(2))
        one, two = (step * max(1, size) for size in sizes)
        network = Network(f"dense-row-{made}", (1, one), "dense")
        last = 0
        for number in range(int(generator.integers(2, 11))):
            last = network.dense(last, one if number % 2 else two, one_scale=made % 8 > 3)
        yield network


def _enlarging(generator: np.random.Generator) -> Iterator[Network]:
    """Resizes as segmentation ends with: of one value, and many times larger."""
    for number, (side, factor, most) in enumerate(((1, 28, 256), (33, 16, 24), (16, 8, 64))):
        channels = round(_log_uniform(generator, 8, most))
        network = Network(f"resize-large-{number}", (1, side, side, channels), "resize")
        network.resize(_laid_out(network, 0), factor)
        yield network


def _narrow(generator: np.random.Generator) -> Iterator[Network]:
    """Operators on few channels: values are moved one by one."""
    for number, side in enumerate((8, 14, 28, 40, 8, 8, 14, 20)):
        one, two = (int(generator.integers(1, 6)) for _ in range(2))
        network = Network(f"concat-narrow-{number}", (1, side, side, one), "concat")
        last = network.concat([0, network.slice(0, 1)] if number % 2 else [0] * (1 + two))
        for _ in range(3 if number < 4 else 0):
            last = network.concat([last, 0])
        yield network
    for number, parts in enumerate((2, 3, 4, 6, 8, 5, 6)):
        side = int(generator.choice((8, 14, 28)))
        network = Network(f"split-narrow-{number}", (1, side, side, parts), "split")
        last = network.split(0, parts)
        if number < 4:
            network.concat([last, 0])
            network.concat([network.split(0, parts), 0])
        yield network
    for number in range(4):
        steps, one, two = (round(_log_uniform(generator, 4, 40)) for _ in range(3))
        network = Network(f"lstm-narrow-{number}", (1, steps, one), "lstm")
        network.lstm(0, two)
        yield network
