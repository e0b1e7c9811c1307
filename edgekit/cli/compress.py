"""`edgekit compress`: compression passes on a Keras model, or those of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.pipeline.compress_file import CompressReport

EXAMPLES = examples(
    'edgekit compress model.keras --pass "prune(sparsity=0.5)" --data data.npz -o small.keras',
    """edgekit compress model.keras --pass "quantize(precision='int8')" --data x.npz -o m.tflite""",
    """edgekit compress model.keras --pass "distill(teacher='big.keras')" --pass prune \\""",
    "    --data data.npz -o small.keras --target pixel-3",
    "edgekit compress recipe.yaml    # the passes of a recipe; resumable",
)


def command(
    model: Annotated[Path, typer.Argument(help="A .keras file, or a recipe (.yaml).")],
    passes: Annotated[
        list[str] | None,
        typer.Option("--pass", metavar="NAME(ARG=VALUE, ...)", help="A pass; repeat for more."),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write: .keras, .tflite, .onnx or .xml."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Samples: .npz with arrays by input name, and labels y to fine-tune."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="A target: what does it make of zero weights? Repeat for more."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="With a recipe: replace a value of it."),
    ] = None,
    runs_dir: Annotated[Path, typer.Option(help="With a recipe: where runs are.")] = Path("runs"),
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compress a Keras model: prune, distill, quantize."""
    from edgekit.base.errors import InputError

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if model.suffix in (".yaml", ".yml"):
        _recipe(model, tuple(overrides or ()), runs_dir, output)
        return
    if not passes or output_file is None:
        missing = "--output" if passes else "--pass"
        raise InputError(
            f"{missing} is needed with a model file", hint=EXAMPLES.splitlines()[2].strip()
        )

    from edgekit.pipeline.compress_file import compress_file

    with output.progress() as progress:
        report = compress_file(
            model,
            passes,
            output_file,
            data=data,
            targets=target or (),
            seed=seed,
            progress=progress,
            tell=output.message,
        )
    output.result(report, lambda console: _render(report, console))


def _recipe(path: Path, overrides: tuple[str, ...], runs_dir: Path, output: Output) -> None:
    from edgekit.cli.stagelines import stage_lines
    from edgekit.pipeline.run import run_recipe
    from edgekit.report.tables import run_view

    with output.progress() as progress:
        report = run_recipe(
            path,
            overrides=overrides,
            until="compress",
            runs_dir=runs_dir,
            progress=progress,
            listen=stage_lines(output),
        )
    output.result(report, lambda console: console.print(run_view(report)))
    if not report.passed:
        raise typer.Exit(1)


def _render(report: CompressReport, console: Console) -> None:
    from edgekit.report.compression import compression_view

    console.print(compression_view(report.passes))
    console.print(
        f"{report.output}: {report.bytes:,} bytes ({report.model}: {report.bytes_before:,})"
    )
