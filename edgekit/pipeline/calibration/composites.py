"""Composites: small random networks of the blocks that published families are made of.

They show operators in company, where fusion and caches decide; those that a fit leaves out say how
far its predictions are off. Deep ones have hundreds of small operators, whose code and weights no
cache keeps from run to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from edgekit.pipeline.calibration import blocks
from edgekit.pipeline.calibration.network import Network

_Builder = Callable[[Network, np.random.Generator], int]
_PREPARED = 0.4  # of the images are scaled and shifted by the network
_DEEP = (6, 16)  # blocks before the map is halved, and after it
_DEEP_SIDES = (14, 28, 40, 56)
_DEEP_IN_A_ROUND = 6


def composites(generator: np.random.Generator, rounds: int) -> Iterator[Network]:
    """`rounds` networks of each family, in turns."""
    for number in range(rounds):
        for family, build in _FAMILIES.items():
            side = int(generator.choice((64, 96, 144, 192, 256)))
            network = Network(f"{family}-{number}", (1, side, side, 3), family)
            _head(network, build(network, generator))
            yield network
        yield _tiny(number, generator)
        yield _autoencoder(number, generator)
        yield _transformer(number, generator)
        for index in range(_DEEP_IN_A_ROUND):
            yield _deep(_DEEP_IN_A_ROUND * number + index, generator)


def _head(network: Network, last: int) -> None:
    _, height, _, channels = network.shape(last)
    classes = 1000 if channels > 255 else 10
    if height > 1:
        scores = network.dense(network.global_mean(last), classes, "none")
    else:
        scores = network.reshape(network.conv(last, classes, 1, 1, "none"), (1, classes))
    network.unary("softmax", scores)


def _width(generator: np.random.Generator, low: int, high: int) -> int:
    return 8 * int(generator.integers(low // 8, high // 8 + 1))


def _image(network: Network, generator: np.random.Generator) -> int:
    """The image, or what factors and sums, of its channels or of all, make of it."""
    last = 0
    if generator.random() < _PREPARED:
        one = bool(generator.random() < 0.5)
        last = network.unary("scale", last, one_scale=one)
        last = network.unary("shift", last, one_scale=one) if generator.random() < 0.5 else last
    return last


def _vgg(network: Network, generator: np.random.Generator) -> int:
    last, channels = 0, _width(generator, 16, 48)
    for _ in range(3):
        last = network.conv(last, channels, 3)
        last = network.pool(network.conv(last, channels, 3), "max_pool")
        channels *= 2
    return last


def _mobilenet(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 8, 32)
    last = network.conv(_image(network, generator), channels, 3, 2, "relu6")
    for block in range(5):
        channels = channels if block % 2 else 2 * channels
        last = blocks.separable(network, last, channels, 1 if block % 2 else 2)
    return last


def _inverted(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 40)
    last = network.conv(_image(network, generator), channels, 3, 2, "relu6")
    for block in range(5):
        stride = 2 if block in (0, 2) else 1
        channels += _width(generator, 8, 32) if stride == 2 else 0
        last = blocks.inverted(network, last, channels, stride)
    return network.conv(last, 4 * channels, 1, 1, "relu6")


def _efficient(network: Network, generator: np.random.Generator) -> int:
    small, large = partial(blocks.efficient, kernel=3), partial(blocks.efficient, kernel=5)
    return _with_swish(network, generator, (small, small, large, large))


def _efficient_v2(network: Network, generator: np.random.Generator) -> int:
    last = _with_swish(network, generator, (blocks.fused_efficient,) * 3 + (blocks.efficient,))
    channels = 6 * network.shape(last)[-1]
    return blocks.swish(network, network.conv(last, channels, 1, 1, "none"))


def _with_swish(
    network: Network, generator: np.random.Generator, stages: Sequence[Callable[..., int]]
) -> int:
    """A first layer with swish, and blocks, of which every second halves the map."""
    channels = _width(generator, 16, 32)
    image = _image(network, generator)
    last = blocks.swish(network, network.conv(image, channels, 3, 2, "none"))
    for number, block in enumerate(stages):
        stride = 2 if number % 2 == 0 else 1
        channels += _width(generator, 8, 24) if stride == 2 else 0
        last = block(network, last, channels, stride)
    return last


def _mobilenet_v3(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 24)
    last = network.conv(_image(network, generator), channels, 3, 2, "none")
    last = network.unary("hard_swish", last)
    for block in range(5):
        stride = 2 if block in (0, 2) else 1
        channels += _width(generator, 8, 32) if stride == 2 else 0
        last = blocks.hard_swish_inverted(network, last, channels, stride)
    last = network.unary("hard_swish", network.conv(last, 6 * channels, 1, 1, "none"))
    last = network.conv(network.mean(last), _width(generator, 512, 1280), 1, 1, "none")
    return network.unary("hard_swish", last)


def _resnet(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 24, 64)
    last = network.pool(network.conv(0, channels, 7, 2), "max_pool", 3, 2)
    for stage in range(3):
        channels *= 2
        block = blocks.bottleneck if generator.random() < 0.5 else blocks.basic
        last = block(network, last, channels, 2 if stage else 1)
    return last


def _preactivated(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 24, 48)
    last = network.conv(network.pad(0, 3), channels, 7, 2, valid=True)
    for _ in range(3):
        channels *= 2
        last = blocks.preactivated(network, last, channels, 2)
    return blocks.normalized(network, last)


def _densenet(network: Network, generator: np.random.Generator) -> int:
    growth = _width(generator, 16, 32)
    last = network.pool(network.conv(0, 2 * growth, 7, 2), "max_pool", 3, 2)
    for _ in range(2):
        for _ in range(4):
            last = blocks.dense(network, last, growth)
        half = network.shape(last)[-1] // 2
        last = network.conv(blocks.normalized(network, last), half, 1)
        last = network.pool(last, "average_pool")
    return blocks.normalized(network, last)


def _inception(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 48)
    last = network.conv(network.conv(0, channels, 3, 2, valid=True), channels, 3)
    last = network.pool(last, "max_pool", 3, 2, valid=True)
    last = blocks.inception(network, last, channels, 5)
    return blocks.inception(network, last, channels, (1, 7))


def _nasnet(network: Network, generator: np.random.Generator) -> int:
    channels = 4 * int(generator.integers(3, 13))
    last = network.conv(0, channels, 3, 2, "none", valid=True)
    for block in range(3):
        last = blocks.cell(network, last, channels)
        if block < 2:
            last = blocks.halving(network, last, channels)
    return network.unary("relu", last)


def _convnext(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 24, 64)
    last = network.conv(_image(network, generator), channels, 4, 4, "none", valid=True)
    for _ in range(2):
        for _ in range(2):
            last = blocks.convnext(network, last, channels)
        channels *= 2
        last = network.conv(blocks.layer_norm(network, last), channels, 2, 2, "none", valid=True)
    return last


def _segmentation(network: Network, generator: np.random.Generator) -> int:
    last = _mobilenet(network, generator)
    for _ in range(2):
        last = network.resize(network.conv(last, _width(generator, 16, 64), 3))
    return last


def _deep(number: int, generator: np.random.Generator) -> Network:
    """Many blocks of one kind after each other, over small maps."""
    block = _DEEP_BLOCKS[number % len(_DEEP_BLOCKS)]
    step = 4 if block is blocks.cell else 8
    side = int(generator.choice(_DEEP_SIDES))
    channels = step * int(generator.integers(16 // step, 96 // step))
    network = Network(f"deep-{number}", (1, 4 * side, 4 * side, 3), "deep")
    last = network.conv(0, channels, 3, 2)
    for _ in range(2):
        last = network.conv(last, channels, 3, 2)
        for _ in range(int(generator.integers(*_DEEP))):
            last = block(network, last, channels)
        channels *= 2
    _head(network, last)
    return network


def _growing(network: Network, last: int, channels: int) -> int:
    return blocks.dense(network, last, 32 if channels > 32 else 16)


_DEEP_BLOCKS: tuple[Callable[[Network, int, int], int], ...] = (
    blocks.cell, blocks.efficient, blocks.bottleneck, blocks.hard_swish_inverted, _growing,
    blocks.inverted, blocks.separable, blocks.preactivated, blocks.convnext,
)  # fmt: skip


def _tiny(number: int, generator: np.random.Generator) -> Network:
    """Networks for microcontrollers: a few small layers, and a pool of the whole map."""
    channels = _width(generator, 8, 32)
    shape = [(1, 32, 32, 3), (1, 49, 10, 1)][number % 2]
    network = Network(f"tiny-{number}", shape, "tiny")
    last = network.conv(0, channels, 3 if number % 2 == 0 else (10, 4), 1 + number % 2)
    for block in range(3):
        if number % 2:
            last = network.conv(network.depthwise(last), 2 * channels)
        else:
            last = blocks.basic(network, last, channels << block, 2 if block else 1)
    _, height, width, channels = network.shape(last)
    last = network.pool(last, "average_pool", (height, width), 1, valid=True)
    flat = network.reshape(last, (1, channels))
    network.unary("softmax", network.dense(flat, 10, "none"))
    return network


def _autoencoder(number: int, generator: np.random.Generator) -> Network:
    width, features = _width(generator, 32, 512), _width(generator, 64, 1024)
    if number % 4 > 1:  # of whole vectors, as networks that are drawn up by hand
        width, features = 32 * round(width / 32), 64 * round(features / 64)
    network = Network(f"autoencoder-{number}", (1, features), "autoencoder")
    last = 0
    widths = [width] * int(generator.integers(2, 6))
    for channels in (*widths, 8, *widths):
        last = network.dense(last, channels, one_scale=number % 2 == 1)
    network.dense(last, features, "none", one_scale=number % 2 == 1)
    return network


def _transformer(number: int, generator: np.random.Generator) -> Network:
    heads, rows = int(generator.integers(2, 7)), int(generator.integers(48, 200))
    network = Network(f"transformer-{number}", (1, rows, 32 * heads), "transformer")
    last = 0
    for _ in range(2):
        last = blocks.attention(network, last, heads)
    return network


_FAMILIES: dict[str, _Builder] = {
    "mobilenet": _mobilenet,
    "inverted": _inverted,
    "resnet": _resnet,
    "densenet": _densenet,
    "efficient": _efficient,
    "efficient-v2": _efficient_v2,
    "inception": _inception,
    "vgg": _vgg,
    "nasnet": _nasnet,
    "mobilenet-v3": _mobilenet_v3,
    "preactivated": _preactivated,
    "convnext": _convnext,
    "segmentation": _segmentation,
}
