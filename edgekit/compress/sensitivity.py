"""How much the outputs suffer from each layer's quantization, one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgekit.base.errors import PreconditionError
from edgekit.base.progress import Progress, silent
from edgekit.compress.output_noise import Comparison, Noise, points_lost
from edgekit.compress.precision_graph import Assignment, Choice, Unit
from edgekit.compress.simulation import Simulation
from edgekit.data.dataset import Dataset, Split

if TYPE_CHECKING:
    import keras

Metric = Literal["sqnr", "kl", "accuracy"]
SAMPLES = 256


@dataclass(frozen=True)
class Sensitivity:
    """What each layer's quantization costs.

    Attributes:
        units: the layers, in the order in which they run.
        noises: of each layer, by precision, with all other layers in float.
        reference: the float network against itself: its metric.
    """

    units: tuple[Unit, ...]
    noises: tuple[dict[Choice, Noise], ...]
    reference: Noise

    def loss(self, index: int, choice: Choice, metric: Metric) -> float:
        """What a precision of a layer costs, at least 0; such figures of layers add up.

        sqnr: noise over signal, of independent rounding errors; kl: nats; accuracy: points lost
        (per cent of the mse where there are no classes).

        Raises:
            PreconditionError: there are no labels, or no classes, that the metric needs.
        """
        if choice == "fp32":
            return 0.0
        found = self.noises[index][choice]
        if metric == "sqnr":
            return found.noise
        if metric == "kl":
            if found.kl is None:
                raise PreconditionError(
                    "'kl' compares the probabilities of classes, and there are none",
                    hint="use metric: sqnr",
                )
            return found.kl
        if found.metric is None:
            raise PreconditionError("'accuracy' needs labelled samples", hint="use metric: sqnr")
        return max(points_lost(found, self.reference), 0.0)

    def rows(self) -> list[dict[str, Any]]:
        """A row a layer, JSON-able, the most sensitive to int8 first."""
        found = [
            {"layer": unit.label, "kind": unit.kind}
            | {choice: figures(noise, self.reference) for choice, noise in noises.items()}
            for unit, noises in zip(self.units, self.noises, strict=True)
        ]
        noisiest = {u.label: n for u, n in zip(self.units, self.noises, strict=True)}
        return sorted(found, key=lambda row: -_worst(noisiest[str(row["layer"])]))


def figures(noise: Noise, reference: Noise) -> dict[str, float]:
    """A `Noise` in words: `sqnr_db`, and `kl` and `drop` where there are classes and labels."""
    found = {"sqnr_db": noise.sqnr_db}
    if noise.kl is not None:
        found["kl"] = noise.kl
    if noise.metric is not None:
        found |= noise.metric | {"drop": points_lost(noise, reference)}
    return found


def scan(
    model: keras.Model,
    dataset: Dataset,
    *,
    candidates: Sequence[Choice] = ("int8", "int16x8"),
    samples: int | None = SAMPLES,
    progress: Progress = silent,
) -> Sensitivity:
    """Quantizes each layer of a model alone, in simulation, and compares the outputs.

    Args:
        model: a functional or Sequential model; it is not changed.
        dataset: the calibration split sets the ranges of activations; the validation split, or
            the calibration split where there is none, gives the samples to compare on.
        candidates: precisions to try.
        samples: how many to compare on; None: all.
        progress: is told the layer.

    Raises:
        PreconditionError: there are no calibration samples.
    """
    if not len(dataset.calibration):
        raise PreconditionError(
            "the ranges of activations need calibration samples",
            hint="give 100 or more preprocessed samples, with --data or the recipe's data",
        )
    simulation = Simulation(model, dataset.calibration)
    split = dataset.validation if len(dataset.validation) else dataset.calibration
    return scan_simulation(
        simulation, split, candidates=candidates, samples=samples, progress=progress
    )


def scan_simulation(
    simulation: Simulation,
    split: Split,
    *,
    candidates: Sequence[Choice],
    samples: int | None,
    progress: Progress,
) -> Sensitivity:
    """As `scan`, with a simulation that is there."""
    units = simulation.units
    tried: list[Choice] = [choice for choice in candidates if choice != "fp32"]
    found: list[dict[Choice, Comparison]] = [{c: Comparison() for c in tried} for _ in units]
    exact = Comparison()
    reached = [simulation.precisions.after(unit.label) for unit in units]
    plain = simulation.uniform("fp32")
    batches = simulation.batches(split, samples)
    done = 0
    for batch, y in zip(batches, _labels(simulation, split, batches), strict=True):
        # The float values of all layers: those that a layer has no part in stay as they are.
        values = simulation.run(batch, plain)
        wanted = simulation.results(values, plain)
        exact.add(wanted, wanted, y)
        for index, unit in enumerate(units):
            progress(f"sensitivity of {unit.label}", done, len(batches) * len(units))
            done += 1
            known = {v: tensor for v, tensor in values.items() if v not in reached[index]}
            for choice in tried:
                one = plain | {unit.label: choice}
                outputs = simulation.results(simulation.run(batch, one, known), one)
                found[index][choice].add(outputs, wanted, y)
    noises: list[dict[Choice, Noise]] = [{c: one.noise() for c, one in of.items()} for of in found]
    return Sensitivity(units, tuple(noises), exact.noise())


def measure(
    simulation: Simulation,
    split: Split,
    assignments: Sequence[Assignment],
    samples: int | None = None,
) -> list[Noise]:
    """The noise of whole assignments against float, on the first samples of a split.

    Args:
        simulation: of the model.
        split: samples, labelled or not.
        assignments: precisions by unit; int8 for those that one leaves out.
        samples: how many; None: all.

    Returns:
        One for each assignment, and the float network's own.
    """
    found = [Comparison() for _ in range(len(assignments) + 1)]
    plain = simulation.uniform("fp32")
    batches = simulation.batches(split, samples)
    for batch, y in zip(batches, _labels(simulation, split, batches), strict=True):
        wanted = simulation.results(simulation.run(batch, plain), plain)
        for comparison, one in zip(found, (*assignments, plain), strict=True):
            same = one is plain
            made = wanted if same else simulation.results(simulation.run(batch, one), one)
            comparison.add(made, wanted, y)
    return [comparison.noise() for comparison in found]


def _labels(simulation: Simulation, split: Split, batches: list[list[Any]]) -> list[Any]:
    """The labels of each batch; None where they are not of the first output."""
    sizes = [len(batch[0]) for batch in batches]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    if not _labelled(simulation, split):
        return [None] * len(sizes)
    return [split.y[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def _labelled(simulation: Simulation, split: Split) -> bool:
    shape = simulation.precisions.model.outputs[0].shape[1:]
    y = split.y
    if not y.size:
        return False
    if y.dtype.kind in "iu":
        return len(shape) == 1 and y.reshape(-1).shape[0] == len(split) and int(y.min()) >= 0
    return all(size is not None for size in shape) and y[0].size == _size(shape)


def _size(shape: Sequence[int | None]) -> int:
    total = 1
    for size in shape:
        total *= size or 1
    return total


def _worst(noises: dict[Choice, Noise]) -> float:
    return max((noise.noise for noise in noises.values()), default=0.0)
