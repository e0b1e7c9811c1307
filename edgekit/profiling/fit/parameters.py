"""Parameter sets: which terms of the cost model share a fitted cost.

A target names a family of sets in its `fit`, richest first. With half as many models again as costs
the fit takes the first; with fewer, the one that predicts best when each model is left out in turn,
so that few measurements get few costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.schema.target import Term

Parameter = Term | Literal["link"]
"""A term of the kernels' costs, or bytes over the processor's link."""


@dataclass(frozen=True)
class Tie:
    """What is known of two costs before any measurement: one is about so many times the other.

    It weighs so little that measurements of both decide, and decides where one was not measured.

    Attributes:
        term: names the group of one cost.
        other: names the group of the other.
        ratio: of the one to the other.
    """

    term: Parameter
    other: Parameter
    ratio: float


@dataclass(frozen=True)
class ParameterSet:
    """Groups of terms; the terms of a group share one cost.

    Attributes:
        groups: terms by group.
        ties: between groups of multiply-accumulates.
        robust: whether the fit has the least absolute instead of the least squared relative error,
            for measurements with outliers that no set explains.
        repeats: relative error that measurements repeat within; smaller ones are squared in a
            robust fit, too.
        own: terms that name groups which each board has costs of its own for. With any, boards
            have the other costs in common: it is the same processor behind another link.
        pull: weight, beside a measurement, of the share of the time that all boards together give
            to a group; with it the prior's measurements do not join the fit themselves.
    """

    groups: tuple[tuple[Parameter, ...], ...]
    robust: bool = False
    repeats: float = 0.02
    ties: tuple[Tie, ...] = ()
    own: tuple[Parameter, ...] = ()
    pull: float = 0.0

    @property
    def terms(self) -> frozenset[Parameter]:
        """All terms that have a cost."""
        return frozenset(term for group in self.groups for term in group)

    @property
    def size(self) -> int:
        """How many costs are free."""
        return len(self.groups) - len(self.ties)

    def group(self, term: Parameter) -> int:
        """The number of a term's group."""
        return next(number for number, group in enumerate(self.groups) if term in group)


_Groups = tuple[tuple[Parameter, ...], ...]
_CONV: tuple[Parameter, ...] = ("mac.conv", "mac.conv_shallow")
_MATRIX: tuple[Parameter, ...] = (*_CONV, "mac.winograd", "mac.pointwise", "mac.dense")
_LARGER: tuple[Parameter, ...] = (*_CONV, "mac.winograd")
_OUTPUTS: tuple[Parameter, ...] = ("conv_output", "pointwise_output", "dense_output")
_DEPTHWISE: tuple[Parameter, ...] = ("mac.depthwise", "mac.depthwise_large")
_ALL_MACS: tuple[Parameter, ...] = (*_MATRIX, *_DEPTHWISE)
_MEMORY: _Groups = (("activation_byte",), ("weight_byte",), ("op",), ("inference",))

# Rounds of MLPerf on one board repeat within 5%, and their means hold runs at another clock or
# beside other programs, up to 45 times the median: errors above 5% are not squared. A share of the
# time is alike on other boards to a tenth of it, so it weighs half as much as a measurement.
_REPEATS = 0.05
_PULL = 0.5

# All matrix products run in one kernel. Where the only larger convolution is a network's first, as
# in MobileNets, a rate of its own for it would be far off for a ResNet; what is particular to it is
# the patches and the outputs. Dense layers are too small a part for a rate of their own. Depthwise
# kernels are bound by what they write as much as by what they multiply.
_KERNELS: _Groups = (
    _MATRIX, _DEPTHWISE, ("patch",), ("conv_output",), ("depthwise_output",), *_MEMORY,
)  # fmt: skip
# Kernel libraries for integers have a faster depthwise kernel for 3x3 than for larger ones.
# Elementwise operators and those that move data use one thread in TensorFlow Lite, and integers
# have to be brought to one scale first, so their bytes take longer.
_INTEGER_KERNELS: _Groups = (
    _MATRIX, ("mac.depthwise",), ("mac.depthwise_large",), ("patch",), ("conv_output",),
    ("depthwise_output",), *_MEMORY,
)  # fmt: skip
# ruy shares products among threads tile by tile: of small ones, some threads wait for others. To
# take a tile costs time, too, up to half a microsecond, which shows in floats: of larger values,
# tiles for the same cache are smaller and more. What a convolution writes costs nothing apart then.
_TILE_KERNELS: _Groups = (("tile_mac",), *_INTEGER_KERNELS[1:])
_FLOAT_TILE_KERNELS: _Groups = (
    ("tile_mac",), ("tile",), _DEPTHWISE, ("patch",), ("depthwise_output",), *_MEMORY,
)  # fmt: skip
_VECTOR: tuple[Parameter, ...] = ("vector_byte",)
_UNFUSED: tuple[Parameter, ...] = (*_VECTOR, "unfused_byte")
_GEMM: _Groups = ((*_CONV, "mac.pointwise", "mac.dense"), ("mac.winograd",), _DEPTHWISE)
_FEW: tuple[ParameterSet, ...] = (
    ParameterSet((_MATRIX, _DEPTHWISE, *_MEMORY)),
    ParameterSet((_ALL_MACS, ("activation_byte",), ("inference",))),
    ParameterSet((_ALL_MACS, ("op",))),
    ParameterSet((_ALL_MACS,)),
)


def _pulled(groups: _Groups, vector: tuple[Parameter, ...]) -> ParameterSet:
    return ParameterSet((*groups, vector), robust=True, repeats=_REPEATS, pull=_PULL)


def _hexagon(*ports: Parameter) -> tuple[ParameterSet, ...]:
    products: tuple[Parameter, ...] = (*_MATRIX, "mac.matmul")
    all_products: tuple[Parameter, ...] = (*_ALL_MACS, "mac.matmul")
    return (
        ParameterSet(
            (
                products, _DEPTHWISE, ("reorder_byte",), ("statistic_op",), ("offchip_byte",),
                ports, ("inference",),
            ),
            robust=True,
            ties=(Tie("mac.depthwise", "mac.conv", 8.0),),
            own=("reorder_byte", *ports[:1], "inference"),
        ),
        ParameterSet((all_products, ("input_value",), ("op",), ("inference",)), robust=True),
        ParameterSet((("op",), ("inference",)), robust=True),
    )  # fmt: skip


PARAMETERS: Mapping[str, tuple[ParameterSet, ...]] = {
    # Kernel after kernel: CPUs, and GPUs through OpenCL or Vulkan.
    "cpu": (ParameterSet(_KERNELS, pull=_PULL), *_FEW),
    # TensorFlow Lite with ruy, on several threads, with a ResNet among the measurements. Rows of
    # its patches are long: where memory is fast, to begin a copy takes more than to go on, so that
    # a first layer's patches cost more by value.
    "cpu-tiles": (ParameterSet((*_FLOAT_TILE_KERNELS, ("patch_row",)), pull=_PULL), *_FEW),
    # The same on cores of two kinds: all wait for the last tile of a slow one.
    "cpu-tiles-uneven": (
        ParameterSet((*_FLOAT_TILE_KERNELS, ("patch_row",), ("last_tile_mac",)), pull=_PULL),
        *_FEW,
    ),
    # A board with few measurements: those of the prior join its fit.
    "cpu-joined": (ParameterSet(_KERNELS), *_FEW),
    "cpu-int8": (_pulled(_INTEGER_KERNELS, _VECTOR), *_FEW),
    # TensorFlow Lite with ruy, on several threads.
    "cpu-int8-tiles": (_pulled(_TILE_KERNELS, _VECTOR), *_FEW),
    # With pools and activations like elementwise operators: on one thread beside convolutions on
    # several (TensorFlow Lite of 2019), or without vector instructions (integers on x86).
    "cpu-unfused": (_pulled(_KERNELS, _UNFUSED), *_FEW),
    "cpu-tiles-unfused": (_pulled(_FLOAT_TILE_KERNELS, _UNFUSED), *_FEW),
    "cpu-int8-unfused": (_pulled(_INTEGER_KERNELS, _UNFUSED), *_FEW),
    # Libraries with Winograd's algorithm, measured with networks that have such convolutions: ncnn.
    "cpu-winograd": (ParameterSet((*_GEMM, ("patch",), ("conv_output",), *_MEMORY)), *_FEW),
    "gpu": (ParameterSet((*_GEMM, *_MEMORY)), *_FEW),
    # Microcontrollers: four MLPerf Tiny networks, with `prior` those of other boards too.
    "mcu": (
        ParameterSet(
            (
                ("mac.conv", "mac.winograd"),
                ("mac.conv_shallow",),
                ("mac.pointwise", *_DEPTHWISE),
                ("mac.dense",),
            )
        ),
        ParameterSet((_MATRIX, _DEPTHWISE)),
        ParameterSet((_ALL_MACS,)),
    ),
    # Reference kernels: one product after the other, and a dispatch. The softmax at the end takes
    # an exponential of each value, as long as some thirty products of floats.
    "mcu-reference": (
        ParameterSet((_ALL_MACS, ("op",), ("output_value",))),
        ParameterSet((_ALL_MACS, ("op",))),
        ParameterSet((_ALL_MACS,)),
    ),
    # The same with kernels for Cortex-M's instructions on two 16-bit values. Each output costs as
    # much as many products: it is rescaled and rounded. CMSIS-NN's kernel of convolutions
    # multiplies two rows by two columns: 6 loads (of two cycles), 4 instructions to widen weights
    # and 8 double products for 16 products; that of dense layers a vector by two columns: 3 loads,
    # 6 to widen and 4 double products for 8. That is 16 / 8 against 24 / 16 cycles a product.
    "mcu-simd": (
        ParameterSet(
            (("mac.pointwise",), _LARGER, ("mac.dense",), _OUTPUTS, _DEPTHWISE),
            ties=(
                Tie("mac.conv", "mac.pointwise", 1.0),
                Tie("mac.dense", "mac.pointwise", 4 / 3),
            ),
        ),
        ParameterSet((_MATRIX, _DEPTHWISE)),
        ParameterSet((_ALL_MACS,)),
    ),
    # An array of 64 x 64 with activations on the chip: arithmetic costs lanes, idle or not;
    # elementwise operators and concatenations pass the bytes by; the rest is the link to the host.
    "edgetpu": (
        ParameterSet(
            (("lane_mac",), ("vector_byte",), ("link",), ("inference",)),
            robust=True,
            own=("link", "inference"),
        ),
        ParameterSet(
            (("lane_mac",), ("link",), ("inference",)), robust=True, own=("link", "inference")
        ),
    ),
    # All layers at once, each in a part of the chip (Hailo): images come at the pace of a pipeline.
    # A network too large for that is loaded part by part: its weights, and what parts leave for
    # later ones, come over the link, and that takes time by layer, most by normalizations.
    "dataflow": (
        ParameterSet(
            (("pipeline_cycle",), ("switched_op",), ("switched_norm",), ("link",)),
            robust=True,
            repeats=_REPEATS,
        ),
        ParameterSet((("pipeline_cycle",), ("switched_op",), ("link",)), robust=True),
        ParameterSet((("pipeline_cycle",), ("link",)), robust=True),
        ParameterSet((("pipeline_cycle",),)),
    ),
    # A DPU computes from on-chip memory what it loads over the bus: bytes cost as much whatever
    # they are, and depthwise convolutions run on an engine of their own. Its sizes differ in the
    # array: B1600 multiplies 800 times a cycle, B4096 2048 times (PG338).
    "dpu": (
        ParameterSet(
            (_MATRIX, _DEPTHWISE, ("activation_byte", "weight_byte"), ("op",)), own=("mac.conv",)
        ),
        ParameterSet((_MATRIX, _DEPTHWISE, ("op",))),
        ParameterSet((_ALL_MACS, ("op",))),
        ParameterSet((_ALL_MACS,)),
    ),
    # Layer after layer through the host's memory, each started by a driver (Rockchip): activations
    # pass it, weights are a small part of that.
    "layers": (
        ParameterSet(((*_MATRIX, "mac.matmul"), _DEPTHWISE, ("activation_byte",), ("op",))),
        ParameterSet(((*_ALL_MACS, "mac.matmul"), ("activation_byte",), ("op",))),
        ParameterSet(((*_ALL_MACS, "mac.matmul"),)),
    ),
    # Weights come from a flash at every inference, and activations from a memory off the array.
    "streaming": (
        ParameterSet((_ALL_MACS, ("weight_byte",), ("activation_byte",))),
        ParameterSet((_ALL_MACS, ("weight_byte",))),
    ),
    # A matrix unit beside vector units (Hexagon). Inputs are brought into the order of its kernels
    # first and outputs out of it. Weights, and activations larger than the memory at the processor
    # holds beside others, pass the bus to the RAM. Depthwise convolutions run on the vector units;
    # a product takes eight times as long there (fitted in fp16, a tie in int8, where few networks
    # with such layers were measured). Operators that move values to other lanes cost rows of them.
    # The network is compiled into one program, so that no layer has to be started, but what needs
    # many values for each, such as the mean in squeeze-and-excitation, waits for the layer before
    # to end. Other runtimes on the same chip have the same kernels, and orders of their own.
    "hexagon": _hexagon("input_value", "output_value"),
    "hexagon-int8": _hexagon("input_value"),  # outputs stay integers
    # Arithmetic so fast that weights and activations are waited for (TensorRT).
    "bandwidth": (
        ParameterSet(
            (_ALL_MACS, ("activation_byte",), ("weight_byte",), ("inference",)), robust=True
        ),
        ParameterSet((_ALL_MACS, ("weight_byte",), ("inference",)), robust=True),
        ParameterSet((_ALL_MACS, ("inference",)), robust=True),
        ParameterSet((_ALL_MACS,)),
    ),
}
