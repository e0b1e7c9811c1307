"""Results that commands print with `--json` and runs store, in the shapes of the CLI contract."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edgekit.schema.base import Document
from edgekit.schema.debugging import LayerDifference
from edgekit.schema.figure import Figure
from edgekit.schema.memory import MemoryReport
from edgekit.schema.names import Format, Precision


class VerifyResult(Document):
    """One artifact compared with one reference on the same samples.

    Attributes:
        artifact: the file.
        reference: what it was compared with.
        samples: how many.
        max_abs_diff: largest absolute difference of dequantized outputs.
        max_step_diff: largest difference in steps of the quantized output; None for float outputs.
        within_one_step: share of samples whose outputs all stay within one step; None for float.
        snr_db: 10 log10(sum reference^2 / sum difference^2); None if identical.
        top1_agreement: share of samples with the same largest output; None if not a classifier.
        metrics: of the artifact against the labels, such as accuracy (0 to 1).
        reference_metrics: the same of the reference.
        passed: whether all limits hold.
        failures: the limits that do not, in words.
        layers: layer by layer, in the model's order, where it was asked for.
    """

    artifact: str
    reference: str
    samples: int
    max_abs_diff: float
    max_step_diff: float | None = None
    within_one_step: float | None = None
    snr_db: float | None = None
    top1_agreement: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    reference_metrics: dict[str, float] = Field(default_factory=dict)
    passed: bool = True
    failures: tuple[str, ...] = ()
    layers: tuple[LayerDifference, ...] = ()


class VerifyReport(Document):
    """`edgekit verify --json`."""

    results: tuple[VerifyResult, ...]


class LayerProfile(Document):
    """One operator of an artifact.

    Attributes:
        index: position in the file.
        op: name of the operator in the file's format.
        layer: name of the layer that it came from, as far as the file tells.
        macs: multiply-accumulate operations.
        bytes: bytes read and written.
        where: the processor that runs it.
    """

    index: int
    op: str
    layer: str
    macs: int
    bytes: int
    where: str | None = None
    latency_ms: Figure


class Placement(Document):
    """How many operators run where.

    Attributes:
        accelerator_ops: on the accelerator.
        fallback_ops: on another processor than the target's first.
        unplaced_ops: on none of the target's processors.
    """

    accelerator_ops: int
    fallback_ops: int
    unplaced_ops: int = 0


class Usage(Document):
    """What running a model at a rate, all day, takes.

    Attributes:
        inferences_per_day: that were asked for.
        average_power_w: inference, and idling or sleeping between.
        energy_per_day_j: the same in joules a day.
        battery_h: hours that a battery lasts; None: no battery was given.
        battery_wh: energy of that battery.
    """

    inferences_per_day: float
    average_power_w: Figure
    energy_per_day_j: Figure
    battery_h: Figure | None = None
    battery_wh: float | None = None


class FlightProfile(Document):
    """What inference costs a drone in flight; see `edgekit.profiling.flight` for the formulas.

    Attributes:
        inference_w: average power of continuous inference above idle.
        hover_share_pct: the same in percent of the power that hovering takes.
        seconds_lost: of flight a battery, to inference.
        computer_seconds_lost: of flight a battery, to carrying the computer and to its idle power.
        flight_min: hovering time with the computer at work.
        max_speed_m_s: highest ground speed at which a detection leaves room to stop.
    """

    inference_w: Figure
    hover_share_pct: Figure
    seconds_lost: Figure
    computer_seconds_lost: Figure
    flight_min: Figure
    max_speed_m_s: Figure


Verdict = Literal["ok", "over", "unknown"]


class BudgetVerdict(Document):
    """One figure of a profile held against its budget.

    Attributes:
        budget: the figure's name: latency_ms | energy_mj | peak_memory_kib | memory.
        limit: at most, in the figure's unit; None: what the target has.
        value: found; None: unknown.
        verdict: by the value; unknown without one.
        reason: why it is unknown, or that the figure's interval crosses the limit.
    """

    budget: str
    limit: float | None
    value: float | None
    verdict: Verdict
    reason: str | None = None


class Profile(Document):
    """Latency, energy and memory of one artifact on one target.

    Attributes:
        artifact: the file.
        target: name of the target, or None for a measurement on a device.
        device: the device measured, or the one that the target describes.
        power_w: average over an inference.
        flight_s_per_h: for a drone: seconds of flight lost per hour of continuous inference.
        flight: for a drone: what inference costs in flight.
        usage: energy a day and battery life, where a rate was asked for.
        verdict: over all budgets; None: none were given.
        budgets: each of them.
        shortages: memories of the target that are too small, a line each; among the warnings too.
        details: conditions of a measurement, parameters of an estimate.
    """

    artifact: str
    target: str | None = None
    device: str
    latency_ms: Figure
    energy_mj: Figure
    peak_memory_bytes: Figure
    power_w: Figure | None = None
    flight_s_per_h: Figure | None = None
    flight: FlightProfile | None = None
    usage: Usage | None = None
    verdict: Verdict | None = None
    budgets: tuple[BudgetVerdict, ...] = ()
    placement: Placement | None = None
    layers: tuple[LayerProfile, ...] = ()
    warnings: tuple[str, ...] = ()
    shortages: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it holds, in one word: the target, or "host" for a measurement where it ran."""
        return self.target or "host"


class Comparison(Document):
    """One artifact against the first one, on one target; a ratio below 1 is a gain.

    Attributes:
        artifact: the file.
        baseline: the first file.
        latency_ratio: its latency over the baseline's.
        energy_ratio: of energy.
        memory_ratio: of peak memory.
        faster_m_s: for a drone: ground speed gained.
        longer_s: for a drone: flight a battery gained, in seconds.
        lighter_g: for a drone: payload that the saved power could carry at the same flight time.
    """

    target: str
    artifact: str
    baseline: str
    latency_ratio: Figure
    energy_ratio: Figure
    memory_ratio: Figure
    faster_m_s: Figure | None = None
    longer_s: Figure | None = None
    lighter_g: Figure | None = None


class ProfileReport(Document):
    """`edgekit profile --json` and `edgekit bench --json`."""

    profiles: tuple[Profile, ...]
    comparisons: tuple[Comparison, ...] = ()


class RankedTarget(Document):
    """One target of a ranking.

    Attributes:
        rank: from 1; None: it does not fit, or is unknown.
        verdict: whether it keeps the budgets and the model fits its memories.
        reason: why it is not ok.
    """

    rank: int | None
    target: str
    title: str
    device_class: str
    verdict: Verdict
    reason: str | None
    latency_ms: Figure
    energy_mj: Figure
    peak_memory_bytes: Figure
    placement: Placement | None


class Ranking(Document):
    """`edgekit targets rank --json`: those that fit first, then those that do not, then unknown."""

    artifact: str
    by: str
    targets: tuple[RankedTarget, ...]


Severity = Literal[
    "blocks",  # the processor does not take the operator; said of a processor, before placement
    "fallback",  # the operator runs, on a lesser processor
    "slow",  # the operator runs where it should, on a slower kernel than others have
    "requantized",  # the operator runs after the vendor's tools quantized it anew: outputs differ
    "unsupported",  # the operator, or the file, runs nowhere on the target
    "does_not_fit",  # a memory of the target is too small
    "hint",  # the model runs as it is, and could do with less
]
"""What a finding means for the model; a report never says `blocks`."""


class Finding(Document):
    """One broken rule: what was found, what is allowed, and the fix.

    Attributes:
        rule: id of the rule, as `edgekit targets rules` lists it.
        op: name of the operator in its format; None for a fault of the whole file.
        index: position of the operator in the file.
        layer: the Keras layer that the operator came from, as far as the file tells.
    """

    rule: str
    found: str
    allowed: str
    severity: Severity
    fix: str
    op: str | None = None
    index: int | None = None
    layer: str | None = None


class OpCheck(Document):
    """Where one operator runs on a target, and why not elsewhere."""

    index: int
    op: str
    layer: str
    where: str
    findings: tuple[Finding, ...] = ()


class CheckReport(Document):
    """`edgekit check --json`: one artifact on one target.

    Attributes:
        verdict: ok | fallback | unsupported | does_not_fit.
        findings: faults of the whole file, such as its format or its precision.
        memory: needed and available bytes of each memory, as figures.
    """

    artifact: str
    target: str
    verdict: str
    ops: tuple[OpCheck, ...] = ()
    findings: tuple[Finding, ...] = ()
    memory: dict[str, Figure] = Field(default_factory=dict)


class ArtifactResult(Document):
    """One artifact of a run.

    Attributes:
        metrics: on the test split.
        parity: with the Keras model, on the test split.
        master_parity: of an int8 file with the int8 TFLite file that it derives from.
    """

    path: str
    format: Format
    precision: Precision
    bytes: int
    sha256: str
    metrics: dict[str, float] = Field(default_factory=dict)
    parity: VerifyResult | None = None
    master_parity: VerifyResult | None = None

    @property
    def proven(self) -> bool:
        """Whether no parity check failed."""
        checks = (self.parity, self.master_parity)
        return all(check is None or check.passed for check in checks)


class BudgetResult(Document):
    """One budget, held against one value."""

    budget: str
    artifact: str
    value: float | None
    limit: str
    passed: bool
    reason: str | None = None


class GateReport(Document):
    """`edgekit gate --json`."""

    passed: bool
    results: tuple[BudgetResult, ...]


class StageResult(Document):
    """One stage of a run."""

    name: str
    key: str
    cached: bool
    seconds: float
    result: dict[str, Any] = Field(default_factory=dict)


class StageFailure(Document):
    """A stage that failed; those that need it were left out."""

    stage: str
    error: dict[str, str | None]


class RunReport(Document):
    """`run.json` and `edgekit run --json`: everything about one run in one document.

    Attributes:
        run: the run directory; the paths of artifacts, bundle and report are relative to it.
        memory: of each file the plan over time, once for all targets whose runtimes plan alike.
        reference_metrics: of the trained float model on the test split.
        passed: whether every stage, every parity check and every budget did.
    """

    recipe: str
    run: str
    artifacts: tuple[ArtifactResult, ...]
    profiles: tuple[Profile, ...] = ()
    checks: tuple[CheckReport, ...] = ()
    memory: tuple[MemoryReport, ...] = ()
    gate: GateReport | None = None
    reference_metrics: dict[str, float] = Field(default_factory=dict)
    stages: tuple[StageResult, ...] = ()
    failures: tuple[StageFailure, ...] = ()
    passed: bool = True
    bundle: str | None = None
    report: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
