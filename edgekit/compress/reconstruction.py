"""Layer by layer, weights go on the int8 grid so that each layer's output stays near the float one.

Each layer is fitted on the activations that the quantized layers before it give (Nagel et al.
2020, section 3.5), quantized themselves, towards what the float layer makes of the float ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgekit.base.errors import PostconditionError, PreconditionError
from edgekit.base.extras import require
from edgekit.compress.activations import Activations, input_batches
from edgekit.compress.channels import is_clustered, kind_of, why_not
from edgekit.compress.contract import Pass, PassContext, PassResult
from edgekit.compress.folding import fold_batch_norm
from edgekit.compress.grid import nearest, on_grid, quantized_activations
from edgekit.compress.kernels import find_kernels
from edgekit.compress.rebuild import rebuild
from edgekit.models.calls import Call, CallGraph, call_graph
from edgekit.models.ranges import Calibration
from edgekit.schema.base import Document

if TYPE_CHECKING:
    import keras

Values = NDArray[Any]


class ReconstructArgs(Document):
    """Arguments of the passes that put weights on the int8 grid."""

    samples: int = Field(256, ge=1, description="of the calibration split to fit on")
    calibration: Calibration = Field(
        "minmax", description="of the activations' ranges; give `quantize` the same"
    )
    percentile: float = Field(99.99, gt=50, le=100, description="of calibration: percentile")
    skip: tuple[str, ...] = Field((), description="layers to leave alone; * and ? match")
    strict: bool = Field(False, description="a layer that cannot be treated is an error")


R = TypeVar("R", bound=ReconstructArgs)


@dataclass(frozen=True)
class Problem:
    """One layer to fit.

    Attributes:
        layer: with float weights; its bias has the mean that fits the nearest grid points.
        kind: its class.
        inputs: batches of quantized activations.
        targets: batches of the float layer's results, before its activation.
        activate: the ReLU that ends the layer or follows it, or nothing.
        clustered: its weights share few values, which must stay few.
    """

    layer: Any
    kind: str
    inputs: Sequence[Any]
    targets: Sequence[Any]
    activate: Callable[[Any], Any]
    clustered: bool


class Reconstruct(Pass[R]):
    """A pass that puts weights on the int8 grid and corrects biases."""

    def requires(self, model: keras.Model, context: PassContext) -> None:
        """Checks that there are calibration samples, and `strict`."""
        super().requires(model, context)
        if context.dataset is None or not len(context.dataset.calibration):
            raise PreconditionError(
                f"'{self.name}' needs calibration samples",
                hint="give 100 or more preprocessed samples, with --data or the recipe's data",
            )
        untreated = [row for row in self._untreated(model) if not self._skipped(row["layer"])]
        if self.args.strict and untreated:
            listed = "; ".join(f"{row['layer']}: {row['reason']}" for row in untreated)
            raise PreconditionError(
                f"layers that cannot be treated: {listed}", hint="put them under 'skip'"
            )

    def apply(self, model: keras.Model, context: PassContext) -> PassResult:
        """Folds normalization into a copy, and fits its layers in the order they run."""
        assert context.dataset is not None
        clustered = {
            call.label
            for call in call_graph(model).calls
            if why_not(call.layer) is None and is_clustered(call.layer.kernel.numpy())
        }
        reference, _ = fold_batch_norm(model)
        copy = _with_biases(reference, self._treats)
        batches = input_batches(reference, context.dataset.calibration, self.args.samples)
        rows = self._fit(call_graph(reference), call_graph(copy), batches, clustered, context)
        report = {"layers": rows, "untreated": self._untreated(reference)}
        return PassResult(copy if rows else model, bool(rows), report)

    def ensures(self, before: keras.Model, result: PassResult, context: PassContext) -> None:
        """Checks that the weights of the treated layers lie on the grid."""
        super().ensures(before, result, context)
        treated = {row["layer"] for row in result.report["layers"]}
        for call in call_graph(result.model).calls:
            if call.label in treated and not on_grid(call.kind, call.layer.kernel.numpy()):
                raise PostconditionError("weights lie between int8 values", where=call.label)

    def rounded(self, problem: Problem, context: PassContext) -> Values:  # noqa: ARG002
        """The kernel of a layer on its grid."""
        return nearest(problem.kind, problem.layer.kernel.numpy())

    def _fit(
        self,
        reference: CallGraph,
        graph: CallGraph,
        batches: list[list[Any]],
        clustered: set[str],
        context: PassContext,
    ) -> list[dict[str, Any]]:
        exact, coded = Activations(reference, batches), Activations(graph, batches)
        following = graph.consumers()
        rows: list[dict[str, Any]] = []
        done: set[int] = set()
        for index, (was, call) in enumerate(zip(reference.calls, graph.calls, strict=True)):
            context.progress(f"{self.name} {call.label}", index, len(graph.calls))
            instead = {}
            kind = kind_of(call.layer)
            if kind is not None:
                value = call.inputs[0]
                instead[value] = quantized_activations(
                    coded[value],
                    exact[was.inputs[0]],
                    self.args.calibration,
                    self.args.percentile,
                )
                if id(call.layer) not in done and self._treats(call.label, call.layer):
                    done.add(id(call.layer))
                    with linear(was.layer):
                        targets = [was.layer(x) for x in exact[was.inputs[0]]]
                    problem = Problem(
                        call.layer,
                        kind,
                        instead[value],
                        targets,
                        _what_follows(call, following),
                        call.label in clustered,
                    )
                    rows.append(
                        {"layer": call.label, "kind": kind, **self._fit_one(problem, context)}
                    )
            exact.step(was)
            coded.step(call, instead)
        return rows

    def _fit_one(self, problem: Problem, context: PassContext) -> dict[str, Any]:
        layer = problem.layer
        kernel, bias = layer.kernel.numpy(), layer.bias.numpy()
        plain = nearest(problem.kind, kernel)
        layer.kernel.assign(plain)
        before = _snr(problem)
        _correct_mean(problem)
        layer.kernel.assign(kernel)
        layer.kernel.assign(self.rounded(problem, context))
        _correct_mean(problem)
        return {
            "snr_db_before": before,
            "snr_db": _snr(problem),
            "rounded_otherwise": float(np.mean(layer.kernel.numpy() != plain)),
            "largest_bias_shift": float(np.abs(layer.bias.numpy() - bias).max(initial=0)),
        }

    def _treats(self, label: str, layer: Any) -> bool:
        return why_not(layer) is None and not self._skipped(label)

    def _skipped(self, label: str) -> bool:
        return any(fnmatchcase(label, pattern) for pattern in self.args.skip)

    def _untreated(self, model: keras.Model) -> list[dict[str, str]]:
        layers = {call.label: call.layer for call in call_graph(model).calls}
        kernels, others = find_kernels(model)
        found = [(item.layer, item.kind, item.reason) for item in others]
        found += [(k.layer, k.kind, "it is no convolution or dense layer") for k in kernels]
        rows: dict[str, dict[str, str]] = {}
        for label, kind, known in found:
            reason: str | None = known
            if self._skipped(label):
                reason = "skipped as asked"
            elif label in layers and kind_of(layers[label]):
                reason = why_not(layers[label])
            if reason is not None:
                rows[label] = {"layer": label, "kind": kind, "reason": reason}
        return list(rows.values())


def linear_outputs(problem: Problem) -> list[Any]:
    """What the layer makes of its quantized inputs now, before its activation."""
    with linear(problem.layer):
        return [problem.layer(x) for x in problem.inputs]


@contextmanager
def linear(layer: Any) -> Iterator[None]:
    """Within it, the layer computes without its activation."""
    own = layer.activation
    layer.activation = require("keras", purpose="to compress models").activations.linear
    try:
        yield
    finally:
        layer.activation = own


def _correct_mean(problem: Problem) -> None:
    """Gives the bias what each channel's mean output lacks (Nagel et al. 2019, 4.2)."""
    found, wanted = linear_outputs(problem), problem.targets
    count = sum(int(np.prod(t.shape[:-1])) for t in wanted)
    lack = sum(
        np.sum(np.asarray(w, np.float64) - np.asarray(f, np.float64), axis=tuple(range(f.ndim - 1)))
        for w, f in zip(wanted, (np.asarray(f) for f in found), strict=True)
    )
    problem.layer.bias.assign_add((lack / count).astype(np.float32))


def _snr(problem: Problem) -> float:
    """Decibels of the layer's results over their difference from the float ones."""
    signal = noise = 0.0
    for found, wanted in zip(linear_outputs(problem), problem.targets, strict=True):
        want = np.asarray(wanted, np.float64)
        signal += float(np.sum(want**2))
        noise += float(np.sum((want - np.asarray(found)) ** 2))
    return float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)))


def _what_follows(call: Call, consumers: dict[int, list[Call | None]]) -> Callable[[Any], Any]:
    """The ReLU that runtimes fuse with the layer; for all else the linear results are to fit."""
    keras = require("keras", purpose="to compress models")
    own: Callable[[Any], Any] = call.layer.activation
    if own in (keras.activations.relu, keras.activations.relu6, keras.activations.leaky_relu):
        return own
    after = consumers[call.outputs[0]]
    fused = len(after) == 1 and after[0] is not None and own is keras.activations.linear
    if fused and after[0] is not None and type(after[0].layer) is keras.layers.ReLU:
        return after[0].layer  # type: ignore[no-any-return]
    return keras.activations.linear  # type: ignore[no-any-return]


def _with_biases(model: keras.Model, treats: Callable[[str, Any], bool]) -> keras.Model:
    """A copy in which each layer that is treated has a bias."""
    treated = {id(c.layer) for c in call_graph(model).calls if treats(c.label, c.layer)}

    def make(layer: Any) -> Any:
        config = layer.get_config()
        if id(layer) in treated:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    copy, pairs = rebuild(model, make)
    for old, new in pairs:
        if id(old) in treated and old.bias is None:
            new.kernel.assign(old.kernel)
        else:
            new.set_weights(old.get_weights())
    return copy
