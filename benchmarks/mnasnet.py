"""MnasNet-A1, the network that was searched for on a phone, layer by layer."""

from __future__ import annotations

from layers import Layers

from edgekit.graph.types import Graph

_STAGES = (  # kernel, expansion, channels, repeats, stride, whether channels are weighed
    (3, 1, 16, 1, 1, False), (3, 6, 24, 2, 2, False), (5, 3, 40, 3, 2, True),
    (3, 6, 80, 4, 2, False), (3, 6, 112, 2, 1, True), (5, 6, 160, 3, 2, True),
    (3, 6, 320, 1, 1, False),
)  # fmt: skip


def mnasnet_a1(alpha: str, size: str) -> Graph:
    """MnasNet-A1 (Tan et al. 2019) as tensorflow/tpu has it.

    Channels are weighed through a quarter as many as a block takes in. Stem and stages are `alpha`
    times as wide, the head is not.
    """
    net = Layers()

    def wide(channels: int) -> int:
        wanted = channels * float(alpha)
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    x = net.conv(net.input(int(size), int(size), 3), wide(32), 3, 2)
    for kernel, expand, channels, repeats, first_stride, weighed in _STAGES:
        for repeat in range(repeats):
            stride, before = 1 if repeat else first_stride, x
            if expand > 1:
                x = net.conv(x, expand * net.channels(x), 1)
            x = net.depthwise(x, kernel, stride)
            if weighed:
                fewer = net.conv(net.mean(x), max(1, net.channels(before) // 4), 1)
                weights = net.conv(fewer, net.channels(x), 1, act="linear")
                x = net.mul(x, net.act(weights, "sigmoid"))
            x = net.conv(x, wide(channels), 1, act="linear")
            if stride == 1 and net.channels(before) == net.channels(x):
                x = net.add(before, x)
    return net.classifier(net.conv(x, 1280, 1))
