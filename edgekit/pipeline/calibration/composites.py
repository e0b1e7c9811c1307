"""Composites: small random networks of the blocks that published families are made of.

They show operators in company, where fusion and caches decide; those that a fit leaves out say how
far its predictions are off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from edgekit.pipeline.calibration.network import Network

_Builder = Callable[[Network, np.random.Generator], int]


def composites(generator: np.random.Generator, rounds: int) -> Iterator[Network]:
    """`rounds` networks of each family, in turns."""
    for number in range(rounds):
        for family, build in _FAMILIES.items():
            side = int(generator.choice((64, 96, 128, 160, 224)))
            network = Network(f"{family}-{number}", (1, side, side, 3), family)
            _head(network, build(network, generator))
            yield network
        yield _tiny(number, generator)
        yield _autoencoder(number, generator)
        yield _transformer(number, generator)


def _head(network: Network, last: int) -> None:
    classes = 1000 if network.shape(last)[-1] > 255 else 10
    network.unary("softmax", network.dense(network.global_mean(last), classes, "none"))


def _width(generator: np.random.Generator, low: int, high: int) -> int:
    return 8 * int(generator.integers(low // 8, high // 8 + 1))


def _vgg(network: Network, generator: np.random.Generator) -> int:
    last, channels = 0, _width(generator, 16, 48)
    for _ in range(3):
        last = network.conv(last, channels, 3)
        last = network.pool(network.conv(last, channels, 3), "max_pool")
        channels *= 2
    return last


def _mobilenet(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 8, 32)
    last = network.conv(0, channels, 3, 2, "relu6")
    for block in range(5):
        channels = channels if block % 2 else 2 * channels
        last = network.depthwise(last, 3, 1 if block % 2 else 2, "relu6")
        last = network.conv(last, channels, 1, 1, "relu6")
    return last


def _inverted(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 40)
    last = network.conv(0, channels, 3, 2, "relu6")
    for block in range(5):
        source, stride = last, 2 if block in (0, 2) else 1
        channels += _width(generator, 8, 32) if stride == 2 else 0
        last = network.conv(source, 6 * network.shape(source)[-1], 1, 1, "relu6")
        last = network.depthwise(last, 3, stride, "relu6")
        last = network.conv(last, channels, 1, 1, "none")
        if stride == 1:
            last = network.binary("add", last, source)
    return network.conv(last, 4 * channels, 1, 1, "relu6")


def _squeezed(network: Network, last: int, *, hard: bool) -> int:
    """Squeeze and excitation (Hu et al. 2018)."""
    channels = network.shape(last)[-1]
    gate = network.conv(network.mean(last), max(8, channels // 4), 1)
    if hard:
        gate = network.conv(gate, channels, 1, 1, "relu6")
    else:
        gate = network.unary("logistic", network.conv(gate, channels, 1, 1, "none"))
    return network.binary("mul", last, gate)


def _efficient(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 32)
    last = _swish(network, network.conv(0, channels, 3, 2, "none"))
    for block in range(4):
        source, stride = last, 2 if block % 2 == 0 else 1
        channels += _width(generator, 8, 24) if stride == 2 else 0
        last = _swish(network, network.conv(source, 6 * network.shape(source)[-1], 1, 1, "none"))
        last = _swish(network, network.depthwise(last, 5 if block > 1 else 3, stride, "none"))
        last = network.conv(_squeezed(network, last, hard=False), channels, 1, 1, "none")
        if stride == 1:
            last = network.binary("add", last, source)
    return last


def _swish(network: Network, last: int) -> int:
    return network.binary("mul", last, network.unary("logistic", last))


def _mobilenet_v3(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 24)
    last = network.unary("hard_swish", network.conv(0, channels, 3, 2, "none"))
    for block in range(5):
        source, stride = last, 2 if block in (0, 2) else 1
        channels += _width(generator, 8, 32) if stride == 2 else 0
        last = network.conv(source, 4 * network.shape(source)[-1], 1, 1, "none")
        last = network.unary("hard_swish", last)
        last = network.unary("hard_swish", network.depthwise(last, 5, stride, "none"))
        last = network.conv(_squeezed(network, last, hard=True), channels, 1, 1, "none")
        if stride == 1:
            last = network.binary("add", last, source)
    return last


def _resnet(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 24, 64)
    last = network.pool(network.conv(0, channels, 7, 2), "max_pool", 3, 2)
    for stage in range(3):
        bottleneck, stride = bool(generator.random() < 0.5), 2 if stage else 1
        shortcut = network.conv(last, 2 * channels, 1, stride, "none")
        if bottleneck:
            inner = network.conv(network.conv(last, channels // 2, 1, stride), channels // 2, 3)
            inner = network.conv(inner, 2 * channels, 1, 1, "none")
        else:
            inner = network.conv(
                network.conv(last, 2 * channels, 3, stride), 2 * channels, 3, 1, "none"
            )
        last = network.binary("add", shortcut, inner, "relu")
        channels *= 2
    return last


def _preactivated(network: Network, generator: np.random.Generator) -> int:
    """Residual blocks that pad, normalize and activate before they convolve."""
    channels = _width(generator, 24, 48)
    last = network.conv(network.pad(0, 3), channels, 7, 2, valid=True)
    for _ in range(3):
        ready = _normalized(network, last)
        inner = network.conv(ready, channels // 2, 1)
        inner = network.conv(network.pad(inner), channels // 2, 3, 2, valid=True)
        inner = network.conv(inner, 2 * channels, 1, 1, "none")
        shortcut = network.conv(network.pool(ready, "max_pool", 1, 2), 2 * channels, 1, 1, "none")
        last = network.binary("add", shortcut, inner)
        channels *= 2
    return _normalized(network, last)


def _normalized(network: Network, last: int) -> int:
    return network.unary("relu", network.unary("shift", network.unary("scale", last)))


def _densenet(network: Network, generator: np.random.Generator) -> int:
    growth = _width(generator, 16, 32)
    last = network.pool(network.conv(0, 2 * growth, 7, 2), "max_pool", 3, 2)
    for _ in range(2):
        for _ in range(4):
            new = network.conv(_normalized(network, last), 4 * growth, 1)
            last = network.concat([last, network.conv(new, growth, 3, 1, "none")])
        half = network.shape(last)[-1] // 2
        last = network.pool(network.conv(_normalized(network, last), half, 1), "average_pool")
    return _normalized(network, last)


def _inception(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 48)
    last = network.conv(network.conv(0, channels, 3, 2, valid=True), channels, 3)
    last = network.pool(last, "max_pool", 3, 2, valid=True)
    for block in range(2):
        large: int | tuple[int, int] = 5 if block == 0 else (1, 7)
        parts = [network.conv(last, 2 * channels, 1)]
        deep = network.conv(network.conv(last, channels, 1), 2 * channels, large)
        parts.append(deep if block == 0 else network.conv(deep, 2 * channels, (7, 1)))
        double = network.conv(network.conv(last, channels, 1), 2 * channels, 3)
        parts.append(network.conv(double, 2 * channels, 3))
        parts.append(network.conv(network.pool(last, "average_pool", 3, 1), channels, 1))
        last = network.concat(parts)
    return last


def _nasnet(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 16, 48)
    last = network.conv(0, channels, 3, 2, "none", valid=True)
    for block in range(3):
        ready = network.conv(network.unary("relu", last), channels, 1, 1, "none")
        parts = []
        for kernel in (3, 5):
            one = network.depthwise(network.unary("relu", ready), kernel, 1, "none")
            one = network.unary("relu", network.conv(one, channels, 1, 1, "none"))
            two = network.conv(network.depthwise(one, kernel, 1, "none"), channels, 1, 1, "none")
            parts.append(network.binary("add", two, ready))
        pooled = network.pool(ready, "average_pool", 3, 1)
        parts += [network.binary("add", pooled, ready), ready]
        last = network.concat(parts)
        if block < 2:
            last = network.pool(last, "max_pool", 3, 2)
    return network.unary("relu", last)


def _convnext(network: Network, generator: np.random.Generator) -> int:
    channels = _width(generator, 24, 64)
    last = network.conv(0, channels, 4, 4, "none", valid=True)
    for _ in range(2):
        for _ in range(2):
            inner = _layer_norm(network, network.depthwise(last, 7, 1, "none"))
            inner = network.unary("gelu", network.dense(inner, 4 * channels, "none"))
            inner = network.unary("scale", network.dense(inner, channels, "none"))
            last = network.binary("add", inner, last)
        channels *= 2
        last = network.conv(_layer_norm(network, last), channels, 2, 2, "none", valid=True)
    return last


def _layer_norm(network: Network, last: int) -> int:
    mean = network.mean_channels(last)
    variance = network.mean_channels(network.binary("squared_difference", last, mean))
    scaled = network.binary("mul", last, network.unary("rsqrt", variance))
    return network.unary("shift", network.unary("scale", scaled))


def _segmentation(network: Network, generator: np.random.Generator) -> int:
    last = _mobilenet(network, generator)
    for _ in range(2):
        last = network.resize(network.conv(last, _width(generator, 16, 64), 3))
    return last


def _tiny(number: int, generator: np.random.Generator) -> Network:
    """Networks for microcontrollers: a few small layers, and a pool of the whole map."""
    channels = _width(generator, 8, 32)
    shape = [(1, 32, 32, 3), (1, 49, 10, 1)][number % 2]
    network = Network(f"tiny-{number}", shape, "tiny")
    last = network.conv(0, channels, 3 if number % 2 == 0 else (10, 4), 1 + number % 2)
    for block in range(3):
        if number % 2:
            last = network.conv(network.depthwise(last), 2 * channels)
            continue
        stride = 2 if block else 1
        inner = network.conv(network.conv(last, channels << block, 3, stride), channels << block, 3)
        shortcut = network.conv(last, channels << block, 1, stride, "none")
        last = network.binary("add", inner, shortcut, "relu")
    _, height, width, channels = network.shape(last)
    last = network.pool(last, "average_pool", (height, width), 1, valid=True)
    flat = network.reshape(last, (1, channels))
    network.unary("softmax", network.dense(flat, 10, "none"))
    return network


def _autoencoder(number: int, generator: np.random.Generator) -> Network:
    width, features = _width(generator, 32, 512), _width(generator, 64, 1024)
    network = Network(f"autoencoder-{number}", (1, features), "autoencoder")
    last = 0
    for channels in (width, width, 8, width, width):
        last = network.dense(last, channels)
    network.dense(last, features, "none")
    return network


def _transformer(number: int, generator: np.random.Generator) -> Network:
    heads, rows = int(generator.integers(2, 7)), int(generator.integers(48, 200))
    features = 32 * heads
    network = Network(f"transformer-{number}", (1, rows, features), "transformer")
    last = 0
    for _ in range(2):
        ready = _layer_norm(network, last)
        parts = [
            network.reshape(network.dense(ready, features, "none"), (heads, rows, 32))
            for _ in range(3)
        ]
        scores = network.unary("softmax", network.matmul(parts[0], network.transpose(parts[1])))
        mixed = network.reshape(network.matmul(scores, parts[2]), (1, rows, features))
        last = network.binary("add", network.dense(mixed, features, "none"), last)
        inner = network.dense(_layer_norm(network, last), 4 * features, "none")
        inner = network.dense(network.unary("gelu", inner), features, "none")
        last = network.binary("add", inner, last)
    return network


_FAMILIES: dict[str, _Builder] = {
    "mobilenet": _mobilenet,
    "inverted": _inverted,
    "resnet": _resnet,
    "densenet": _densenet,
    "efficient": _efficient,
    "inception": _inception,
    "vgg": _vgg,
    "nasnet": _nasnet,
    "mobilenet-v3": _mobilenet_v3,
    "preactivated": _preactivated,
    "convnext": _convnext,
    "segmentation": _segmentation,
}
