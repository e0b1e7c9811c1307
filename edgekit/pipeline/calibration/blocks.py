"""The blocks that published families of networks are made of, each one round of a network.

Each takes the number of the layer that it reads and returns that of the layer that it ends with.
"""

from __future__ import annotations

from edgekit.pipeline.calibration.network import Network


def separable(network: Network, last: int, channels: int, stride: int = 1) -> int:
    """Depthwise and pointwise convolution (Howard et al. 2017)."""
    last = network.depthwise(last, 3, stride, "relu6")
    return network.conv(last, channels, 1, 1, "relu6")


def inverted(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Inverted residual (Sandler et al. 2018)."""
    last = network.conv(source, 6 * network.shape(source)[-1], 1, 1, "relu6")
    last = network.depthwise(last, 3, stride, "relu6")
    return _with(network, source, network.conv(last, channels, 1, 1, "none"))


def efficient(
    network: Network, source: int, channels: int, stride: int = 1, kernel: int = 3
) -> int:
    """Inverted residual with squeeze, excitation and swish (Tan and Le 2019)."""
    last = swish(network, network.conv(source, 6 * network.shape(source)[-1], 1, 1, "none"))
    last = swish(network, network.depthwise(last, kernel, stride, "none"))
    last = _squeezed(network, last, hard=False)
    return _with(network, source, network.conv(last, channels, 1, 1, "none"))


def fused_efficient(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Inverted residual whose first two convolutions are one (Tan and Le 2021)."""
    inner = network.conv(source, 4 * network.shape(source)[-1], 3, stride, "none")
    last = network.conv(swish(network, inner), channels, 1, 1, "none")
    return _with(network, source, last)


def hard_swish_inverted(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Inverted residual with squeeze, excitation and hard swish (Howard et al. 2019)."""
    last = network.conv(source, 4 * network.shape(source)[-1], 1, 1, "none")
    last = network.unary("hard_swish", last)
    last = network.unary("hard_swish", network.depthwise(last, 5, stride, "none"))
    last = _squeezed(network, last, hard=True)
    return _with(network, source, network.conv(last, channels, 1, 1, "none"))


def swish(network: Network, last: int) -> int:
    """Values times their logistic function."""
    return network.binary("mul", last, network.unary("logistic", last))


def basic(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Two convolutions beside a shortcut (He et al. 2015)."""
    inner = network.conv(source, channels, 3, stride)
    inner = network.conv(inner, channels, 3, 1, "none")
    return _beside_shortcut(network, source, inner, stride)


def bottleneck(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Three convolutions, the middle one over a quarter of the channels, beside a shortcut."""
    inner = network.conv(network.conv(source, channels // 4, 1, stride), channels // 4, 3)
    inner = network.conv(inner, channels, 1, 1, "none")
    return _beside_shortcut(network, source, inner, stride)


def preactivated(network: Network, source: int, channels: int, stride: int = 1) -> int:
    """Residual block that pads, normalizes and activates before it convolves (He et al. 2016)."""
    ready = normalized(network, source)
    inner = network.conv(ready, channels // 4, 1)
    inner = network.conv(network.pad(inner), channels // 4, 3, stride, valid=True)
    inner = network.conv(inner, channels, 1, 1, "none")
    if network.shape(source)[-1] == channels and stride == 1:
        return network.binary("add", source, inner)
    shortcut = network.pool(ready, "max_pool", 1, stride) if stride > 1 else ready
    return network.binary("add", network.conv(shortcut, channels, 1, 1, "none"), inner)


def normalized(network: Network, last: int) -> int:
    """Factors and sums of channels, and a ReLU."""
    return network.unary("shift", network.unary("scale", last), "relu")


def dense(network: Network, last: int, growth: int) -> int:
    """A layer beside all earlier ones (Huang et al. 2017)."""
    new = network.conv(normalized(network, last), 4 * growth, 1)
    return network.concat([last, network.conv(new, growth, 3, 1, "none")])


def inception(network: Network, last: int, channels: int, large: int | tuple[int, int]) -> int:
    """Four branches side by side (Szegedy et al. 2016)."""
    parts = [network.conv(last, 2 * channels, 1)]
    deep = network.conv(network.conv(last, channels, 1), 2 * channels, large)
    across = large[::-1] if isinstance(large, tuple) else None
    parts.append(network.conv(deep, 2 * channels, across) if across else deep)
    double = network.conv(network.conv(last, channels, 1), 2 * channels, 3)
    parts.append(network.conv(double, 2 * channels, 3))
    parts.append(network.conv(network.pool(last, "average_pool", 3, 1), channels, 1))
    return network.concat(parts)


def cell(network: Network, last: int, channels: int) -> int:
    """A cell of separable convolutions and pools (Zoph et al. 2018)."""
    ready = network.conv(network.unary("relu", last), channels, 1, 1, "none")
    parts = []
    for kernel in (3, 5):
        one = network.depthwise(network.unary("relu", ready), kernel, 1, "none")
        one = network.conv(one, channels, 1, 1, "relu")
        two = network.conv(network.depthwise(one, kernel, 1, "none"), channels, 1, 1, "none")
        parts.append(network.binary("add", two, ready))
    pooled = network.pool(ready, "average_pool", 3, 1)
    parts += [network.binary("add", pooled, ready), ready]
    return network.concat(parts)


def halving(network: Network, last: int, channels: int) -> int:
    """Half the rows and columns, from the first and from the second on (Zoph et al. 2018)."""
    last = network.unary("relu", last)
    moved = network.slice(network.pad(last), network.shape(last)[-1], begin=2)
    halves = (network.pool(one, "average_pool", 1, 2) for one in (last, moved))
    return network.concat([network.conv(one, channels // 2, 1, 1, "none") for one in halves])


def convnext(network: Network, last: int, channels: int) -> int:
    """Depthwise convolution and a dense network of each place (Liu et al. 2022)."""
    inner = layer_norm(network, network.depthwise(last, 7, 1, "none"))
    inner = network.unary("gelu", network.dense(inner, 4 * channels, "none"))
    inner = network.unary("scale", network.dense(inner, channels, "none"))
    return network.binary("add", inner, last)


def attention(network: Network, last: int, heads: int) -> int:
    """Attention and a dense network of each row (Vaswani et al. 2017)."""
    _, rows, features = network.shape(last)
    ready = layer_norm(network, last)
    parts = [
        network.reshape(network.dense(ready, features, "none"), (heads, rows, features // heads))
        for _ in range(3)
    ]
    scores = network.unary("softmax", network.matmul(parts[0], network.transpose(parts[1])))
    mixed = network.reshape(network.matmul(scores, parts[2]), (1, rows, features))
    last = network.binary("add", network.dense(mixed, features, "none"), last)
    inner = network.dense(layer_norm(network, last), 4 * features, "none")
    inner = network.dense(network.unary("gelu", inner), features, "none")
    return network.binary("add", inner, last)


def layer_norm(network: Network, last: int) -> int:
    """Each row's mean made zero and its variance one, then factors and sums (Ba et al. 2016)."""
    mean = network.mean_channels(last)
    variance = network.mean_channels(network.binary("squared_difference", last, mean))
    scaled = network.binary("mul", last, network.unary("rsqrt", variance))
    return network.unary("shift", network.unary("scale", scaled))


def _squeezed(network: Network, last: int, *, hard: bool) -> int:
    """Squeeze and excitation (Hu et al. 2018)."""
    channels = network.shape(last)[-1]
    gate = network.conv(network.mean(last), max(8, channels // 4), 1)
    if hard:
        gate = network.conv(gate, channels, 1, 1, "relu6")
    else:
        gate = network.unary("logistic", network.conv(gate, channels, 1, 1, "none"))
    return network.binary("mul", last, gate)


def _with(network: Network, source: int, last: int) -> int:
    """The sum with what a block read, where it has the same shape."""
    if network.shape(source) != network.shape(last):
        return last
    return network.binary("add", last, source)


def _beside_shortcut(network: Network, source: int, inner: int, stride: int) -> int:
    channels = network.shape(inner)[-1]
    if network.shape(source) != network.shape(inner):
        source = network.conv(source, channels, 1, stride, "none")
    return network.binary("add", source, inner, "relu")
