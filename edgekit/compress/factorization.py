"""`factorize`: dense and convolution layers as products of thin ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.compress.constraints import constraints_of
from edgekit.compress.contract import Pass, PassContext, PassResult, copy_of, run_alone
from edgekit.compress.factorizable import Factorizable, find_factorizable, model_macs
from edgekit.compress.finetuning import (
    TuneArgs,
    check_data,
    check_patterns,
    check_strict,
    gzip_bytes,
    tune,
    untreated_rows,
)
from edgekit.compress.kernels import Untreated
from edgekit.compress.lowrank import Factorization, Ranks, Svd, Tucker, kept_energy
from edgekit.compress.rebuild import rebuild
from edgekit.data.dataset import Dataset
from edgekit.models.calls import call_graph

if TYPE_CHECKING:
    import keras

Share = float

_ENERGY = 0.9
_HALVINGS = 20  # of the interval in which the energy of a budget is sought


class FactorizeArgs(TuneArgs):
    """Arguments of `factorize`."""

    energy: Share | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the sum of squared weights that each layer keeps; "
        f"{_ENERGY} unless there is a budget",
    )
    parameters: Share | None = Field(
        None, gt=0, lt=1, description="budget: share of the model's parameters that is left"
    )
    macs: Share | None = Field(
        None,
        gt=0,
        lt=1,
        description="budget: share of the model's multiply-accumulate operations that is left",
    )
    method: Literal["auto", "svd", "tucker"] = Field(
        "auto", description="tucker: spatial convolutions only; auto: what comes out smaller"
    )
    layers: dict[str, Share] = Field(
        default_factory=dict, description="energy by layer name; * and ? match"
    )

    @field_validator("layers")
    @classmethod
    def _shares(cls, value: dict[str, Share]) -> dict[str, Share]:
        for name, share in value.items():
            if not 0 < share <= 1:
                raise ValueError(f"'{name}' must be greater than 0 and at most 1")
        return value

    @model_validator(mode="after")
    def _one_aim(self) -> FactorizeArgs:
        given = [name for name in ("energy", "parameters", "macs") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"'{given[0]}' and '{given[1]}' are two aims; give one")
        return self


@dataclass(frozen=True)
class _Choice:
    """What becomes of a layer: factors, or None where they would not pay."""

    way: Factorization | None
    ranks: Ranks
    weights: int
    macs: int


class Factorize(Pass[FactorizeArgs]):
    """Replaces dense and convolution layers by two or three thin ones, where that pays.

    The last of them has the name, the bias and the activation of the layer. Layers that an earlier
    pass pruned or clustered stay, as their factors would have neither zeros nor few values.
    """

    name = "factorize"
    Args = FactorizeArgs

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that named layers exist, and that there is data if fine-tuning is asked for."""
        super().requires(model, context)
        layers, untreated = find_factorizable(model, self._ways)
        names = {one.label for one in layers} | {one.layer for one in untreated}
        check_patterns((*self.args.layers, *self.args.skip), names)
        check_strict(self.args, untreated, "factorized")
        check_data(self.args, context, "factorize in one shot")

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Factorizes a copy of the model."""
        copy = copy_of(model)  # whose layers are called in no other model
        found, untreated = find_factorizable(copy, self._ways)
        layers = [one for one in found if not self.args.skips(one.label)]
        choices = self._choices(copy, layers)
        paid = [(one, choice) for one, choice in zip(layers, choices, strict=True) if choice.way]
        for one, choice in zip(layers, choices, strict=True):
            if choice.way is None:
                reason = (
                    f"at the ranks that keep its energy, {_by(choice.ranks)}, its factors would "
                    f"have {choice.weights:,} weights and {choice.macs:,} MACs, instead of "
                    f"{one.kernel.size:,} and {one.macs:,}"
                )
                untreated.append(Untreated(one.label, type(one.layer).__name__, reason))
        result = model
        rows: list[dict[str, Any]] = []
        history: dict[str, list[float]] = {}
        if paid:
            result, rows = _factorized(copy, paid)
            history = tune(result, self.args, context, [constraints_of(result).callback()])
        report = {
            "layers": rows,
            "untreated": untreated_rows(self.args, untreated, (one.label for one in found)),
            "parameters_before": model.count_params(),
            "parameters": result.count_params(),
            "gzip_bytes_before": gzip_bytes(model),
            "gzip_bytes": gzip_bytes(result),
            "history": history,
        }
        return PassResult(result, bool(paid), report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that there are fewer parameters, and that zeros and clusters are kept."""
        super().ensures(before, result, context)
        if result.modified and result.model.count_params() >= before.count_params():
            raise PostconditionError("the model has no fewer parameters than before")
        budget = self.args.parameters
        if budget and result.model.count_params() > budget * before.count_params():
            raise PostconditionError(
                f"{result.model.count_params()} parameters are left, more than {budget:.1%} of "
                f"{before.count_params()}"
            )
        constraints_of(before).check(result.model)

    def _ways(self, kernel: Any) -> tuple[Factorization, ...]:
        """The factorizations of a kernel that may be used."""
        spatial = kernel.ndim > 2 and kernel.size > kernel.shape[-1] * kernel.shape[-2]
        ways: list[Factorization] = []
        if self.args.method != "tucker" or not spatial:
            ways.append(Svd(kernel))
        if self.args.method != "svd" and spatial:
            ways.append(Tucker(kernel))
        return tuple(ways)

    def _choices(self, model: keras.Model, layers: list[Factorizable]) -> list[_Choice]:
        """What becomes of each layer: at the energy asked for, or at the most for the budget."""
        share = self.args.parameters or self.args.macs
        if share is None:
            return self._at(layers, self.args.energy or _ENERGY)
        before, all_of = (
            (model.count_params(), _weights) if self.args.parameters else (model_macs(model), _work)
        )
        fixed = before - sum(one.macs if self.args.macs else one.kernel.size for one in layers)

        def left(energy: float) -> int:
            return fixed + all_of(layers, self._at(layers, energy))

        if left(0.0) > share * before:
            what = "parameters" if self.args.parameters else "MACs"
            raise PreconditionError(
                f"at rank 1 everywhere {left(0.0) / before:.1%} of the {what} are left, more than "
                f"{share:.1%}",
                hint="the rest are in layers that cannot be factorized",
            )
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) <= share * before else (low, middle)
        return self._at(layers, low)

    def _at(self, layers: list[Factorizable], energy: float) -> list[_Choice]:
        named = self.args.layers.items()
        return [
            self._choice(one, next((e for p, e in named if fnmatchcase(one.label, p)), energy))
            for one in layers
        ]

    def _choice(self, one: Factorizable, energy: float) -> _Choice:
        choices = []
        for way in one.ways:
            ranks = way.ranks(energy)
            work = sum(way.macs(ranks, places) for places in one.calls)
            choices.append(_Choice(way, ranks, way.weights(ranks), work))
        best = min(choices, key=lambda c: c.macs if self.args.macs else c.weights)
        pays = best.weights < one.kernel.size and best.macs <= one.macs
        return best if pays else _Choice(None, best.ranks, best.weights, best.macs)


def _weights(layers: list[Factorizable], choices: list[_Choice]) -> int:
    pairs = zip(layers, choices, strict=True)
    return sum(choice.weights if choice.way else one.kernel.size for one, choice in pairs)


def _work(layers: list[Factorizable], choices: list[_Choice]) -> int:
    pairs = zip(layers, choices, strict=True)
    return sum(choice.macs if choice.way else one.macs for one, choice in pairs)


def _factorized(
    model: keras.Model, chosen: list[tuple[Factorizable, _Choice]]
) -> tuple[keras.Model, list[dict[str, Any]]]:
    """A copy of the model with factors in place of layers, and the rows of the report."""
    names = {call.layer.name for call in call_graph(model).calls}
    factors = {id(one.layer): c.way.factors(c.ranks) for one, c in chosen if c.way}
    parts: dict[int, list[Any]] = {}

    def make(layer: Any) -> Any:
        if id(layer) not in factors:
            return layer.__class__.from_config(layer.get_config())
        parts[id(layer)] = _parts(layer, factors[id(layer)], names)
        return parts[id(layer)][-1]

    def call_of(key: int) -> Callable[..., Any]:
        def call(last: Any, x: Any) -> Any:
            for part in parts[key][:-1]:
                x = part(x)
            return last(x)

        return call

    copy, pairs = rebuild(model, make, {key: call_of(key) for key in factors})
    for old, new in pairs:
        if id(old) not in factors:
            new.set_weights(old.get_weights())
            continue
        for part, values in zip(parts[id(old)], factors[id(old)], strict=True):
            part.kernel.assign(values)
        if old.use_bias:
            new.bias.assign(old.bias)
    rows = [
        {
            "layer": one.label,
            "kind": type(one.layer).__name__,
            "method": choice.way.method,
            "ranks": _by(choice.ranks),
            "energy": kept_energy(one.kernel, factors[id(one.layer)]),
            "weights_before": int(one.kernel.size),
            "weights": choice.weights,
            "macs_before": one.macs,
            "macs": choice.macs,
        }
        for one, choice in chosen
        if choice.way
    ]
    return copy, rows


def _parts(layer: Any, factors: list[Any], names: set[str]) -> list[Any]:
    """Layers that hold the factors; the last one has the name, bias and activation of `layer`."""
    parts = []
    for number, factor in enumerate(factors):
        config = layer.get_config()
        last = number == len(factors) - 1
        plain: dict[str, Any] = {"kernel_regularizer": None, "kernel_constraint": None}
        if not last:
            plain |= {"activation": "linear", "use_bias": False, "activity_regularizer": None}
            config["name"] = _free(f"{layer.name}_{('in', 'core')[number]}", names)
        if "filters" in config:
            spatial = factor.shape[:-2]
            plain |= {"filters": factor.shape[-1], "kernel_size": spatial}
            if spatial != tuple(layer.kernel_size) or (last and len(factors) == 2):
                ones = (1,) * len(spatial)
                plain |= {"strides": ones, "dilation_rate": ones, "padding": "valid"}
        else:
            plain |= {"units": factor.shape[-1]}
        parts.append(layer.__class__.from_config({**config, **plain}))
    return parts


def _free(name: str, names: set[str]) -> str:
    """The name, with a number where another layer has it."""
    free, number = name, 1
    while free in names:
        free, number = f"{name}_{number}", number + 1
    names.add(free)
    return free


def _by(ranks: Ranks) -> str:
    return "x".join(str(rank) for rank in ranks)


def factorize(model: keras.Model, dataset: Dataset | None = None, **options: Any) -> PassResult:
    """Factorizes the dense and convolution layers of a copy of `model`.

    Args:
        model: a functional or Sequential model.
        dataset: to fine-tune on; in one shot without.
        options: the fields of `FactorizeArgs`, and those of `PassContext` such as `train`.

    Raises:
        InputError: an argument that does not exist or does not fit.
        PreconditionError: the model, the data or the budget do not allow what is asked.
    """
    return run_alone(Factorize, model, dataset, options)
