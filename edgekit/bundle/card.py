"""The model card of a bundle (after Mitchell et al. 2019, "Model Cards for Model Reporting")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from edgekit.schema.artifact import Preprocessing, Sidecar, TensorInfo
from edgekit.schema.manifest import LABELS
from edgekit.schema.recipe import Recipe
from edgekit.schema.results import ArtifactResult, RunReport
from edgekit.schema.units import NOTHING, show_bytes, show_figure, show_number, show_share


def model_card(report: RunReport, sidecars: Sequence[Sidecar], recipe: Recipe | None) -> str:
    """The card as Markdown.

    Args:
        report: metrics, parity and profiles of the artifacts.
        sidecars: of the artifacts, with their inputs, outputs and preprocessing.
        recipe: what they were made from, if they come from a recipe.
    """
    parts = [f"# {report.recipe}", *_description(recipe), *_files(report, sidecars)]
    if recipe is not None:
        parts += _making(recipe)
    parts += [*_speed(report), *_use(sidecars), *_limits(report, recipe)]
    return "\n\n".join(parts) + "\n"


def _description(recipe: Recipe | None) -> list[str]:
    return [recipe.description] if recipe is not None and recipe.description else []


def _files(report: RunReport, sidecars: Sequence[Sidecar]) -> list[str]:
    results = {PurePath(artifact.path).name: artifact for artifact in report.artifacts}
    rows = [_file_row(sidecar, results.get(sidecar.file)) for sidecar in sidecars]
    header = ("file", "format", "precision", "size", "metrics", "parity with its reference")
    text = "Metrics are measured on the test split, on the format's own runtime."
    if report.reference_metrics:
        text += f" The trained float model: {_metrics(report.reference_metrics)}."
    return ["## Files", _table(header, rows), text]


def _file_row(sidecar: Sidecar, result: ArtifactResult | None) -> tuple[str, ...]:
    size = show_bytes(sidecar.bytes)
    start = (f"`artifacts/{sidecar.file}`", sidecar.format, sidecar.precision, size)
    if result is None:
        return (*start, NOTHING, NOTHING)
    parity = result.parity
    words = []
    if parity is not None:
        if parity.top1_agreement is not None:
            words.append(f"{show_share(parity.top1_agreement)} same class")
        if parity.snr_db is not None:
            words.append(f"SNR {parity.snr_db:.1f} dB")
        words.append(f"largest difference {show_number(parity.max_abs_diff)}")
        words.append(f"{parity.samples} samples")
    return (*start, _metrics(result.metrics), ", ".join(words) or NOTHING)


def _making(recipe: Recipe) -> list[str]:
    data, train = recipe.data, recipe.train
    splits = data.splits
    passes = [f"`{one.name}`{_arguments(one.args)}" for one in recipe.compress]
    steps = "\n".join(f"{number}. {text}" for number, text in enumerate(passes, 1))
    return [
        "## Data",
        f"Source `{data.source}`, split with seed {recipe.seed}: {show_share(splits.train)} "
        f"training, {show_share(splits.validation)} validation, {show_share(splits.calibration)} "
        f"calibration, {show_share(splits.test)} test; disjoint.",
        "## Training",
        f"Model `{recipe.model.name}`{_arguments(recipe.model.args)}; at most {train.epochs} "
        f"epochs with batches of {train.batch_size}, optimizer {train.optimizer.name} at "
        f"learning rate {train.optimizer.learning_rate:g} ({train.schedule.name}), "
        f"seed {recipe.seed}. All settings are in `recipe.lock.yaml`.",
        "## Compression",
        steps or "None before export; see the precision of each file.",
    ]


def _speed(report: RunReport) -> list[str]:
    if not report.profiles:
        return []
    rows = [
        (
            f"`{PurePath(profile.artifact).name}`",
            profile.place,
            show_figure(profile.latency_ms),
            show_figure(profile.energy_mj),
            show_figure(profile.peak_memory_bytes),
        )
        for profile in report.profiles
    ]
    methods = _unique(
        f"{profile.place}, {what}: {figure.method}"
        for profile in report.profiles
        for what, figure in (("latency", profile.latency_ms), ("energy", profile.energy_mj))
        if figure.method
    )
    header = ("file", "on", "latency", "energy", "peak memory")
    parts = [
        "## Latency, energy, memory",
        _table(header, rows),
        "One inference of one sample. `~` marks an estimate or a compiler's figure, everything "
        "else was measured; intervals are in brackets.",
    ]
    return [*parts, "\n".join(f"- {method}" for method in methods)] if methods else parts


def _use(sidecars: Sequence[Sidecar]) -> list[str]:
    first = sidecars[0]
    parts = [
        "## How to run it",
        "1. Prepare each raw sample:\n\n" + _preparation(first.preprocessing),
    ]
    lines = [f"2. Feed it by name; `real` is the prepared value ({first.file} as the example):"]
    lines += [f"   - {_input(info)}" for info in first.inputs]
    lines += ["3. Read the answer:"]
    lines += [f"   - {_output(info)}" for info in first.outputs]
    if first.labels:
        lines.append(f"   The classes are in `{LABELS}`, in the order of the last axis.")
    lines += [
        "4. Each file's sidecar `<file>.json` holds the same for that file. `golden/`, where "
        "present, holds prepared inputs and the float model's answers: compare before you ship.",
        "",
        "With edgekit installed, steps 2 and 3 are (`samples`: prepared arrays by input name):",
        "",
        "```python",
        "from pathlib import Path",
        "from edgekit.runtimes.open import open_session",
        "from edgekit.runtimes.session import predict",
        "",
        f'with open_session(Path("artifacts/{first.file}")) as session:',
        "    answers = predict(session, samples)",
        "```",
    ]
    return [*parts, "\n".join(lines)]


def _preparation(steps: Preprocessing | None) -> str:
    if steps is None:
        return "   Not recorded."
    lines = []
    if steps.resize is not None:
        height, width = steps.resize
        lines.append(f"   - resize to {height} x {width} pixels ({steps.resize_method})")
    lines.append(f"   - `value = (raw * {steps.scale!r} - {steps.mean!r}) / {steps.std!r}`")
    lines.append(f"   - cast to {steps.dtype}; images are {steps.layout}")
    return "\n".join(lines)


def _input(info: TensorInfo) -> str:
    text = f"`{info.name}`: {info.dtype} {_shape(info)}"
    if info.quantization is None or info.quantization.per_channel:
        return text
    scale, zero = info.quantization.scale[0], info.quantization.zero_point[0]
    return f"{text}, `clip(round(real / {scale!r}) + {zero})`"


def _output(info: TensorInfo) -> str:
    text = f"`{info.name}`: {info.dtype} {_shape(info)}"
    if info.quantization is None or info.quantization.per_channel:
        return text
    scale, zero = info.quantization.scale[0], info.quantization.zero_point[0]
    return f"{text}, `real = (value - {zero}) * {scale!r}`"


def _limits(report: RunReport, recipe: Recipe | None) -> list[str]:
    lines = []
    if recipe is not None:
        lines.append(
            f"The metrics hold for data like `{recipe.data.source}`; nothing is known about others."
        )
    if any(profile.latency_ms.origin == "estimated" for profile in report.profiles):
        lines.append("Estimates are no measurements: measure on the device before you rely on one.")
    missing = _unique(
        f"{profile.place}: no {what} figure: {figure.reason}"
        for profile in report.profiles
        for what, figure in (
            ("latency", profile.latency_ms),
            ("energy", profile.energy_mj),
            ("memory", profile.peak_memory_bytes),
        )
        if figure.value is None and figure.reason
    )
    warned = _unique(
        f"{profile.place}: {warning}" for profile in report.profiles for warning in profile.warnings
    )
    lines += [*missing, *warned]
    if not report.artifacts or not any(artifact.metrics for artifact in report.artifacts):
        lines.append("No metrics were measured on these files.")
    return ["## Limits", "\n".join(f"- {line}" for line in lines)] if lines else []


def _metrics(metrics: dict[str, float]) -> str:
    words = [
        f"{name} {show_share(value) if name == 'accuracy' else show_number(value)}"
        for name, value in sorted(metrics.items())
    ]
    return ", ".join(words) or NOTHING


def _shape(info: TensorInfo) -> str:
    return "x".join("?" if size is None else str(size) for size in info.shape) or "scalar"


def _arguments(args: dict[str, Any]) -> str:
    return f" ({', '.join(f'{name}: {value}' for name, value in args.items())})" if args else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _unique(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
