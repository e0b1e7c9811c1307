"""The recipe: what to build, from which data, and for which targets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from edgekit.base.errors import RecipeError
from edgekit.schema.artifact import Preprocessing
from edgekit.schema.base import Document
from edgekit.schema.names import Format, Precision
from edgekit.schema.yamlfile import YamlSource, parse_yaml, read_yaml, validate

Fraction = float


class Splits(Document):
    """Shares of the samples; the four splits are disjoint and seeded."""

    train: Fraction = Field(0.6, gt=0, lt=1)
    validation: Fraction = Field(0.1, gt=0, lt=1)
    calibration: Fraction = Field(0.1, gt=0, lt=1)
    test: Fraction = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _sum(self) -> Splits:
        total = self.train + self.validation + self.calibration + self.test
        if total > 1 + 1e-9:
            raise ValueError(f"the splits add up to {total:g}, more than 1")
        return self


class DataSpec(Document):
    """Where the samples come from and what is done to them."""

    source: str = Field(
        description="digits | npz:FILE | csv:FILE | image_folder:DIR | keras:NAME | "
        "made by edgekit: shapes | keywords | motion | machine (paths are relative to the recipe)"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the source, such as label: class"
    )
    splits: Splits = Splits()
    preprocess: Preprocessing = Preprocessing()
    labels: tuple[str, ...] | None = Field(None, description="names of the classes, in order")
    limit: int | None = Field(None, ge=1, description="use at most this many samples")


class ModelSpec(Document):
    """A built-in family with arguments, a function in a Python file, or a .keras file."""

    name: str = Field(description="family | FILE.py:FUNCTION | FILE.keras")
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class OptimizerSpec(Document):
    """A Keras optimizer by name."""

    name: Literal["adam", "adamw", "sgd", "rmsprop", "lion"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    momentum: float | None = Field(None, ge=0, lt=1)
    clipnorm: float | None = Field(None, gt=0)


class ScheduleSpec(Document):
    """How the learning rate changes over the training."""

    name: Literal["constant", "cosine", "exponential", "step"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0)
    final_fraction: float = Field(
        0.01, ge=0, le=1, description="cosine, exponential: share of the rate left at the end"
    )
    step_epochs: tuple[int, ...] = Field((), description="step: epochs at which the rate drops")
    step_factor: float = Field(0.1, gt=0, lt=1)


class EarlyStoppingSpec(Document):
    """Stops when a quantity no longer improves, and takes back the best weights."""

    monitor: str = "val_loss"
    patience: int = Field(10, ge=1)
    min_delta: float = Field(0.0, ge=0)


class AugmentSpec(Document):
    """Random changes of training images; each is off unless given."""

    translate: float = Field(0.0, ge=0, lt=1, description="share of height and width")
    rotate: float = Field(0.0, ge=0, le=0.5, description="share of a full turn")
    zoom: float = Field(0.0, ge=0, lt=1)
    flip: Literal["horizontal", "vertical", "both"] | None = None
    contrast: float = Field(0.0, ge=0, lt=1)
    noise: float = Field(0.0, ge=0, description="standard deviation of added Gaussian noise")


class TrainSpec(Document):
    """How the model is trained."""

    epochs: int = Field(10, ge=0)
    batch_size: int = Field(32, ge=1)
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    loss: str | None = Field(None, description="a Keras loss; by default found from the model")
    metrics: tuple[str, ...] = ("accuracy",)
    early_stopping: EarlyStoppingSpec | None = None
    augment: AugmentSpec | None = None
    class_weights: Literal["balanced"] | dict[int, float] | None = None
    tensorboard: bool = False


class PassSpec(Document):
    """One compression pass: its name and its arguments. Written `- prune: {sparsity: 0.5}`."""

    name: str
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1 and "name" not in value:
            ((name, args),) = value.items()
            return {"name": name, "args": {} if args is None else args}
        if isinstance(value, dict) and "name" not in value:
            raise ValueError("is not one pass; a pass is written NAME or NAME: {argument: value}")
        return value


class ExportSpec(Document):
    """One model file, or one a precision."""

    format: Format
    precision: tuple[Precision, ...] = Field(("fp32",), min_length=1)
    opset: int | None = Field(None, ge=13, le=23, description="onnx only")
    target: str | None = Field(None, description="vela only: the target to compile for")

    @model_validator(mode="before")
    @classmethod
    def _compiled_is_int8(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("format") == "vela":
            return {"precision": "int8", **value}
        return value

    @field_validator(
        "precision", mode="before", json_schema_input_type=Precision | tuple[Precision, ...]
    )
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _opset_of_onnx(self) -> ExportSpec:
        if self.opset is not None and self.format != "onnx":
            raise ValueError(f"'opset' is for onnx only (found format {self.format})")
        return self

    @model_validator(mode="after")
    def _target_of_compiler(self) -> ExportSpec:
        if (self.format == "vela") != (self.target is not None):
            raise ValueError("'target' is what format vela compiles for, and for no other format")
        if self.format == "vela" and self.precision != ("int8",):
            raise ValueError("format vela is made in int8 only")
        return self


class Limits(Document):
    """What parity with the reference must reach; None is not checked.

    Attributes:
        max_abs_diff: largest absolute difference of any output value.
        min_snr_db: signal to noise ratio of all outputs together, in dB.
        min_agreement: share of samples with the same top-1 class.
        max_step_diff: for a file derived from a quantized master: steps of the quantized output...
        min_within_steps: ...and the share of samples that must stay within them.
        max_accuracy_drop: percentage points lost against the reference.
    """

    max_abs_diff: float | None = Field(None, ge=0)
    min_snr_db: float | None = None
    min_agreement: float | None = Field(None, ge=0, le=1)
    max_step_diff: int | None = Field(None, ge=0)
    min_within_steps: float | None = Field(None, ge=0, le=1)
    max_accuracy_drop: float | None = Field(None, ge=0)


DEFAULT_LIMITS: dict[str, Limits] = {
    "fp32": Limits(min_snr_db=60, min_agreement=0.999, max_accuracy_drop=0.1),
    "fp16": Limits(min_snr_db=30, min_agreement=0.99, max_accuracy_drop=0.5),
    "int8-dynamic": Limits(min_snr_db=15, min_agreement=0.97, max_accuracy_drop=1.0),
    "int8": Limits(
        min_snr_db=10,
        min_agreement=0.95,
        max_step_diff=1,
        min_within_steps=0.99,
        max_accuracy_drop=1.0,
    ),
    "int16x8": Limits(min_snr_db=20, min_agreement=0.97, max_accuracy_drop=1.0),
    "int4-weight": Limits(min_snr_db=5, min_agreement=0.9, max_accuracy_drop=3.0),
    "mixed": Limits(
        min_snr_db=10,
        min_agreement=0.95,
        max_step_diff=1,
        min_within_steps=0.99,
        max_accuracy_drop=1.0,
    ),
}


class VerifySpec(Document):
    """Limits of parity by precision; what is not given is at its default."""

    limits: dict[Precision, Limits] = Field(default_factory=dict)

    def limits_for(self, precision: str) -> Limits:
        """The limits of one precision: the defaults, with what the recipe gives on top."""
        given = self.limits.get(precision)  # type: ignore[call-overload]
        base = DEFAULT_LIMITS[precision]
        return base.model_copy(update=given.model_dump(exclude_unset=True)) if given else base


class BenchSpec(Document):
    """The measurement on this machine."""

    enabled: bool = True
    threads: int = Field(1, ge=1)
    max_seconds: float = Field(2.0, gt=0, description="longest time for one artifact")


Metric = Literal[
    "accuracy",
    "accuracy_drop",
    "bytes",
    "latency_ms",
    "energy_mj",
    "peak_memory_bytes",
    "snr_db",
    "top1_agreement",
    "max_step_diff",
]


class Budget(Document):
    """One limit that a release must keep.

    Attributes:
        metric: what is limited.
        max: largest allowed value.
        min: smallest allowed value.
        artifact: file name pattern of the artifacts that it holds for.
        target: for latency, energy and memory: the target; "host" is the measurement here.
    """

    metric: Metric
    max: float | None = None
    min: float | None = None
    artifact: str = "*"
    target: str | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Budget:
        if (self.max is None) == (self.min is None):
            raise ValueError("give either 'max' or 'min'")
        return self


_ShortPass = dict[str, dict[str, Any] | None]


def _written_as(kind: Any) -> BeforeValidator:
    """Tells the JSON Schema of the short forms that a model's own validator takes."""
    return BeforeValidator(lambda value: value, json_schema_input_type=kind)


class Recipe(Document):
    """Everything that `edgekit run` needs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**31)
    data: DataSpec
    model: Annotated[ModelSpec, _written_as(ModelSpec | str)]
    train: TrainSpec = TrainSpec()
    compress: tuple[Annotated[PassSpec, _written_as(PassSpec | str | _ShortPass)], ...] = ()
    export: tuple[ExportSpec, ...] = Field(
        (ExportSpec(format="tflite", precision=("fp32", "int8")),), min_length=1
    )
    verify: VerifySpec = VerifySpec()
    targets: tuple[str, ...] = ()
    bench: BenchSpec = BenchSpec()
    budgets: tuple[Budget, ...] = ()

    @field_validator("export")
    @classmethod
    def _each_file_once(cls, value: tuple[ExportSpec, ...]) -> tuple[ExportSpec, ...]:
        opsets: dict[tuple[str, str], int | None] = {}
        for spec in value:
            for precision in spec.precision:
                if opsets.setdefault((spec.format, precision), spec.opset) != spec.opset:
                    raise ValueError(f"asks for {spec.format} {precision} with two opsets")
        return value


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> tuple[Recipe, YamlSource]:
    """Reads and validates a recipe; the source tells where each value stands.

    Args:
        path: the YAML file.
        overrides: `a.b=c` settings that replace values of the file; `c` is read as YAML.

    Raises:
        RecipeError: it is missing, not YAML, or does not fit the schema.
    """
    source = read_yaml(path, RecipeError)
    if not isinstance(source.data, dict):
        raise RecipeError("a recipe is a mapping of keys to values", where=source.where())
    for override in overrides:
        source = _with_override(source, override)
    return validate(Recipe, source, RecipeError), source


def _with_override(source: YamlSource, override: str) -> YamlSource:
    dotted, equals, text = override.partition("=")
    where = f"--set {override}"
    if not equals or not dotted:
        raise RecipeError("an override is written a.b=c", where=where)
    value = parse_yaml(text, where, RecipeError).data if text else None
    try:
        return source.with_override(dotted, value, where)
    except KeyError as fault:
        part = fault.args[0]
        raise RecipeError(
            f"'{part}' is not a key of a mapping or an index of a list", where=where
        ) from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every value spelled out: `recipe.lock.yaml`."""
    plain = recipe.model_dump(mode="json")
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
