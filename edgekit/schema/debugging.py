"""Results of looking inside model files: `edgekit debug --json` and `edgekit verify --layers`."""

from __future__ import annotations

from edgekit.schema.base import Document
from edgekit.schema.figure import Figure


class LayerDifference(Document):
    """One layer of the Keras model and the tensor that stands for it in a file.

    Attributes:
        layer: name of the layer; `outer/inner` within a nested model.
        kind: class of the layer.
        op: position of the operator in the file.
        operator: its name in the file's format.
        tensor: its name in the file.
        dtype: in the file.
        snr_db: 10 log10(sum reference^2 / sum difference^2); None if identical.
        input_snr_db: the lowest of the layers before it: noise that it was given.
        own_snr_db: the same of the layer's exact values rounded to this tensor's integers: noise
            that this tensor's quantization makes; None for a float tensor.
        low: smallest value of the layer on the samples.
        high: largest value.
        representable: the range that the tensor's integers reach; None for a float tensor.
    """

    layer: str
    kind: str
    op: int
    operator: str
    tensor: str
    dtype: str
    snr_db: float | None
    input_snr_db: float | None = None
    own_snr_db: float | None = None
    low: float
    high: float
    representable: tuple[float, float] | None = None


class Proposal(Document):
    """What to change.

    Attributes:
        text: in words.
        recipe: as YAML, where a recipe can say it.
        passes: as `edgekit compress --pass` takes them, where passes can do it.
    """

    text: str
    recipe: str | None = None
    passes: tuple[str, ...] = ()


class Cause(Document):
    """Why a file computes something else, or is slow.

    Attributes:
        name: of the rule that found it.
        explanation: what this kind of cause is.
        layer: where; None for the whole file.
        found: what was seen here, with its numbers.
        proposal: what to change.
    """

    name: str
    explanation: str
    layer: str | None = None
    found: str
    proposal: Proposal


class FileDebug(Document):
    """One file held against the Keras model.

    Attributes:
        artifact: the file.
        output_snr_db: of its outputs; None if identical.
        layers: the layers found in it, the worst first.
        unmatched: layers of the Keras model that no tensor stands for: joined with others, or of
            unknown name.
        causes: what is wrong, the first to look at first.
        latency_ms: on this machine, where it was measured.
    """

    artifact: str
    output_snr_db: float | None
    layers: tuple[LayerDifference, ...]
    unmatched: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    latency_ms: Figure | None = None


class Trial(Document):
    """A proposal that was tried: exported again with it, and held against the Keras model.

    Attributes:
        passes: that were run.
        precision: of the file made.
        snr_db_before: of the outputs of the file that it is for.
        snr_db: of the outputs of the new file; None if identical, or if there is none.
        bytes: of the new file.
        latency_ms_before: of the file that it is for, where it was measured.
        latency_ms: of the new file, where that of the other was measured.
        failure: why there is no new file.
    """

    passes: tuple[str, ...]
    causes: tuple[str, ...]
    precision: str
    snr_db_before: float | None
    snr_db: float | None = None
    bytes: int | None = None
    latency_ms_before: Figure | None = None
    latency_ms: Figure | None = None
    failure: str | None = None


class DebugReport(Document):
    """`edgekit debug --json`."""

    model: str
    samples: int
    files: tuple[FileDebug, ...]
    trials: tuple[Trial, ...] = ()
