"""The target: hardware and its runtime, what they take, and what an operator costs on them.

Every number names its source; a number that nobody has published is listed under `assumed` with
the reason for it. The parameters of `costs` come from the target's own reference measurements.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from edgekit.base.errors import TargetError
from edgekit.schema.base import Document
from edgekit.schema.compiler import CompilerSpec
from edgekit.schema.fitting import Cores, DerivedSpec, FitSpec, Reference
from edgekit.schema.kernels import KernelTable
from edgekit.schema.names import Format, Origin, Precision
from edgekit.schema.power import PowerSpec, Vehicle
from edgekit.schema.target_faults import refuse_faults
from edgekit.schema.yamlfile import parse_yaml, read_yaml, validate

DeviceClass = Literal[
    "phone", "sbc_cpu", "x86_cpu", "edgetpu", "mcu", "mcu_npu", "npu", "gpu", "dsp", "fpga", "drone"
]
Term = Literal[
    "mac.conv",
    "mac.conv_shallow",  # of fewer than four input channels, such as a network's first
    "mac.winograd",  # convolutions that Winograd's algorithm suits: 3x3, stride 1, many channels
    "mac.pointwise",
    "mac.depthwise",  # kernels of up to 3x3
    "mac.depthwise_large",  # larger kernels
    "mac.dense",
    "mac.matmul",
    "mac.recurrent",
    "patch",  # values of a larger convolution's input laid out as a matrix (im2col)
    "patch_row",  # copies that begin for it: one a row of the kernel
    "conv_output",  # values that a larger convolution writes
    "pointwise_output",  # values that a 1x1 convolution writes
    "depthwise_output",  # values that a depthwise convolution writes
    "dense_output",  # values that a dense layer writes
    "lane_mac",  # multiply-accumulates of a 64 x 64 array, those of idle lanes too, for all "mac."
    "pipeline_cycle",  # from image to image, where all layers compute at once
    "tile_mac",  # of tiles that threads take of a product, those of waiting threads too
    "tile",  # one such tile
    "last_tile_mac",  # of one tile of each product, where a slow core computes it
    "activation_byte",  # read or written
    "vector_byte",  # read or written by elementwise operators and those that only move data
    "unfused_byte",  # read or written by pools, means and activations that stand alone
    "reorder_byte",  # read or written by transposition, slices and splits, with those of full rows
    "weight_byte",  # read
    "offchip_byte",  # of weights, and of activations larger than the processor keeps on its chip
    "statistic_op",  # one operator of whose inputs many make each output: means, softmax
    "op",  # one operator
    "switched_op",  # one operator of a network that is loaded part by part
    "switched_norm",  # one layer normalization of such a network
    "input_value",  # of the network's inputs, once an inference
    "output_value",  # of its outputs
    "inference",  # one inference
]
"""What the time of kernels is proportional to."""

MicroKernels = Literal["reference", "cmsis-nn", "cmsis-nn-dsp", "cmsis-nn-mve"]
"""The kernels that TensorFlow Lite Micro is built with."""


class Source(Document):
    """Where a number was published."""

    id: str
    title: str
    url: str


class RuntimeSpec(Document):
    """The software that runs the model; it matters as much as the silicon."""

    name: str
    version: str | None = None
    threads: int | None = Field(None, ge=1)
    formats: tuple[Format, ...] = Field(min_length=1)
    kernels: MicroKernels = Field(
        "reference",
        description="of TensorFlow Lite Micro; CMSIS-NN's need buffers that depend on "
        "the core: -dsp (Cortex-M4, M7, M33), -mve (Cortex-M55, M85), or neither",
    )


class KernelCosts(Document):
    """What the kernels of one precision cost on one processor, beyond the memory's limit.

    The time of an operator is the sum over its terms of amount times cost.
    """

    origin: Origin
    source: str | None = Field(None, description="id of a source")
    measurements: int = Field(0, ge=0, description="how many measurements the fit used")
    ns: dict[Term, float] = Field(default_factory=dict, description="nanoseconds a unit")
    seen: tuple[str, ...] = Field((), description="operator classes that the fit saw")
    seen_macs: tuple[int, int] | None = Field(
        None, description="multiply-accumulates of the smallest and the largest network of the fit"
    )
    cores: Cores | None = Field(None, description="that tiles are counted for; None: one thread")
    kernels: KernelTable | None = Field(
        None,
        description="factors on these costs by the shape of the kernel; the memory's limit is "
        "then in them (edgekit calibrate)",
    )

    @field_validator("ns")
    @classmethod
    def _not_negative(cls, value: dict[Term, float]) -> dict[Term, float]:
        if any(number < 0 for number in value.values()):
            raise ValueError("must not be negative")
        return value


class SystolicArray(Document):
    """A grid of multiply-accumulate units that holds weights and streams activations."""

    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    clock_mhz: float = Field(gt=0)
    dataflow: Literal["weight_stationary"] = "weight_stationary"


class Pipeline(Document):
    """A processor whose layers compute at once, each with a share of it.

    What it cannot hold of a network, it loads part by part: with weights beyond its parameter
    cache, or with attention, all weights are streamed.
    """

    layers: int = Field(ge=1, description="most that it holds: each has a controller of its own")
    macs: float = Field(gt=0, description="multiply-accumulates of all of it a cycle")
    values: float = Field(gt=0, description="that one layer writes a cycle")
    port_values: float = Field(gt=0, description="that come in a cycle, or go out")
    streamed_share: float = Field(
        1.0, gt=0, le=1, description="of weights' bytes that the link carries, compressed"
    )
    operator_bytes: int = Field(
        0, ge=0, description="what each operator takes of the parameter cache beside its weights"
    )


class Link(Document):
    """The connection that tensors cross to reach a processor and to come back."""

    name: str
    gb_per_s: float = Field(gt=0)
    most_gb_per_s: float | None = Field(
        None, gt=0, description="by its standard: a fit expects four fifths of it"
    )
    us_per_transfer: float = Field(0.0, ge=0)
    source: str | None = None


class Processor(Document):
    """One processor; those named first are preferred."""

    name: str
    kind: Literal["cpu", "npu", "gpu", "dsp", "fpga"]
    rules: str = Field(description="name of the rule set that says which operators it takes")
    costs: dict[Precision, KernelCosts] = Field(
        default_factory=dict,
        description="none: a compiler says how long it takes, or nobody has published it",
    )
    array: SystolicArray | None = None
    parameter_cache_bytes: int | None = Field(
        None, ge=0, description="weights beyond it are streamed over the link at every inference"
    )
    pipeline: Pipeline | None = None
    resident_bytes: int | None = Field(
        None, gt=0, description="the largest activation that it keeps on the chip"
    )
    link: Link | None = None

    @model_validator(mode="after")
    def _pipeline_holds_so_much(self) -> Processor:
        if self.pipeline and not self.parameter_cache_bytes:
            raise ValueError("a pipeline needs parameter_cache_bytes")
        return self


class MemorySpec(Document):
    """Memories and the bandwidth that no kernel can exceed."""

    ram_bytes: int | None = Field(gt=0, description="null: unknown, and nothing is held to it")
    flash_bytes: int | None = Field(
        None, gt=0, description="where weights stay; None: they are loaded into RAM"
    )
    arena_bytes: int | None = Field(None, gt=0, description="most that activations may take")
    cache_bytes: int = Field(0, ge=0, description="operators within it do not wait for the RAM")
    bandwidth_gb_s: float = Field(gt=0)
    source: str | None = None


class Published(Document):
    """A published measurement of the target."""

    model: str
    precision: Precision
    threads: int | None = None
    latency_ms: float = Field(gt=0)
    energy_mj: float | None = Field(None, gt=0)
    source: str


class PredictionError(Document):
    """How far predictions were from measurements that the fit had not seen.

    Attributes:
        median_pct: median of |predicted / measured - 1|, each model left out in turn.
        p90_pct: 90th percentile of the same.
        low: measured over predicted lies below it for one model in ten.
        high: measured over predicted lies above it for one model in ten.
        coverage_pct: share of models within an interval that was made without them.
        family_median_pct: median with all models of a family left out in turn; None: one family.
        family_p90_pct: 90th percentile of the same.
        unseen_low: as `low`, for networks with operators that the fit never saw.
        unseen_high: as `high`, for the same.
        source_median_pct: median for another source's or round's measurements of the same hardware
            and runtime, which no fit saw; None: there are none.
        source_p90_pct: 90th percentile of the same.
        elsewhere_median_pct: median for models left out here, but known from other boards of the
            same runtime; None: no other board was used.
        elsewhere_p90_pct: 90th percentile of the same.
        models: how many.
        method: how the interval was made.
    """

    median_pct: float = Field(ge=0)
    p90_pct: float = Field(ge=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    coverage_pct: float = Field(ge=0, le=100)
    family_median_pct: float | None = Field(None, ge=0)
    family_p90_pct: float | None = Field(None, ge=0)
    unseen_low: float = Field(gt=0)
    unseen_high: float = Field(gt=0)
    source_median_pct: float | None = Field(None, ge=0)
    source_p90_pct: float | None = Field(None, ge=0)
    elsewhere_median_pct: float | None = Field(None, ge=0)
    elsewhere_p90_pct: float | None = Field(None, ge=0)
    models: int = Field(ge=1)
    method: str


class Zeros(Document):
    """What the target makes of weights that are zero."""

    effect: Literal["none", "smaller_file", "faster"]
    why: str
    channels: Literal["computed", "removed"] = Field(
        "computed",
        description="what becomes of channels that are zero whatever the input, because all "
        "weights of the filters that make them are zero",
    )


class Variant(Document):
    """The same hardware with another runtime, or with another number of threads."""

    runtime: RuntimeSpec
    rules: str = Field(description="name of the rule set of the target's first processor")
    costs: dict[Precision, KernelCosts]
    error: dict[Precision, PredictionError] | None = None


class Target(Document):
    """Hardware with its runtime, as predictions and checks see it."""

    edgekit_target: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    device_class: DeviceClass
    reference: tuple[Reference, ...] = ()
    unseen: tuple[Reference, ...] = Field(
        (),
        description="other measurements of the same hardware and runtime: never fitted, only "
        "compared with (benchmarks/prediction.py)",
    )
    fit: tuple[FitSpec, ...] = Field(
        (), description="how the costs are fitted (benchmarks/fit_targets.py)"
    )
    derived: tuple[DerivedSpec, ...] = Field(
        (), description="costs that fit_targets.py takes from another target"
    )
    sources: tuple[Source, ...] = ()
    runtime: RuntimeSpec
    precisions: dict[Precision, Precision | None] = Field(
        description="precisions of the files that it takes, each with the precision whose costs it "
        "is charged by; null: it runs, but nobody has measured how fast"
    )
    processors: tuple[Processor, ...] = Field(min_length=1)
    compiler: CompilerSpec | None = Field(
        None, description="whose answer, where it is installed, takes the place of estimates"
    )
    variants: tuple[Variant, ...] = Field(
        (), description="for files in formats that `runtime` does not take, and other threads"
    )
    memory: MemorySpec
    power: PowerSpec | None = None
    vehicle: Vehicle | None = None
    zeros: Zeros
    channel_multiple: int = Field(1, ge=1, description="channels that fill the kernel's tiles")
    measurements: tuple[Published, ...] = ()
    error: dict[Precision, PredictionError] | None = Field(
        None, description="of latency; None: not compared with measurements"
    )
    energy_error: dict[Precision, PredictionError] | None = Field(
        None, description="of energy; None: not compared with measurements"
    )
    assumed: dict[str, str] = Field(
        default_factory=dict, description="key of an unpublished figure, and the reason for it"
    )

    def running(self, kind: Format, threads: int | None = None) -> Target:
        """The target with the runtime that takes a format, and with a number of threads.

        Itself, if its runtime does or if no variant fits: whoever asks sees that it does not.
        """
        wanted = self.runtime.threads if threads is None else threads
        if kind in self.runtime.formats and wanted == self.runtime.threads:
            return self
        for variant in self.variants:
            if kind in variant.runtime.formats and variant.runtime.threads == wanted:
                first = {"rules": variant.rules, "costs": variant.costs}
                processor = self.processors[0].model_copy(update=first)
                changes = {
                    "runtime": variant.runtime,
                    "processors": (processor, *self.processors[1:]),
                    "error": variant.error,
                }
                return self.model_copy(update=changes)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Target:
        refuse_faults(self)
        return self


def read_target(path: Path) -> Target:
    """Reads a target file.

    Raises:
        TargetError: it cannot be used; the place names file, line and column.
    """
    return validate(Target, read_yaml(path, TargetError), TargetError)


def parse_target(text: str, path: str) -> Target:
    """Builds a target from YAML text; `path` is for messages.

    Raises:
        TargetError: it cannot be used.
    """
    return validate(Target, parse_yaml(text, path, TargetError), TargetError)
