"""`edgekit verify`: does a model file compute what its reference computes?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

if TYPE_CHECKING:
    from rich.console import Console

    from edgekit.schema.results import VerifyReport

EXAMPLES = examples(
    "edgekit verify model-int8.tflite --reference model.keras --data test.npz",
    "edgekit verify model.onnx model.xml --reference model-int8.tflite --json",
    "edgekit verify model-int8.tflite --reference model.keras --data test.npz --layers",
    "edgekit verify model-fp16.onnx --reference outputs.npz --data test.npz --min-snr-db 40",
)


def command(
    files: Annotated[list[Path], typer.Argument(help=".tflite, .onnx and .xml files.")],
    reference: Annotated[
        Path,
        typer.Option(help=".keras, .h5, .tflite, .onnx, .xml, or .npz of recorded outputs."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help='.npz of samples by input name, labels as "y"; default: random ones.'),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many random samples.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random samples.")] = 0,
    min_snr_db: Annotated[float | None, typer.Option(help="Smallest SNR, in dB.")] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Smallest share of equal top-1 classes.")
    ] = None,
    max_abs_diff: Annotated[
        float | None, typer.Option(min=0, help="Largest difference of an output value.")
    ] = None,
    max_step_diff: Annotated[
        int | None, typer.Option(min=0, help="Steps of a quantized output that may differ...")
    ] = None,
    min_within_steps: Annotated[
        float | None, typer.Option(min=0, max=1, help="...for at least this share of samples.")
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(min=0, help="Percentage points; needs labels.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Layer by layer too, against a Keras model.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of the runtimes.")] = 1,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare model files with a reference on their real runtimes. Exit 1 past a limit.

    Limits that are not given are those of the file's precision.
    """
    from edgekit.pipeline.verify_files import verify_files

    output = Output(json=json, quiet=quiet, verbose=verbose)
    if data is None:
        output.message(f"no --data: {samples} random samples over the input's range, seed {seed}")
    with output.progress() as progress:
        report = verify_files(
            files,
            reference,
            data=data,
            samples=samples,
            seed=seed,
            limits={
                "min_snr_db": min_snr_db,
                "min_agreement": min_agreement,
                "max_abs_diff": max_abs_diff,
                "max_step_diff": max_step_diff,
                "min_within_steps": min_within_steps,
                "max_accuracy_drop": max_accuracy_drop,
            },
            threads=threads,
            layers=layers,
            progress=progress,
        )
    output.result(report, lambda console: _render(report, console))
    if not all(result.passed for result in report.results):
        raise typer.Exit(1)


def _render(report: VerifyReport, console: Console) -> None:
    from rich.table import Table

    from edgekit.report.debugging import LayerTable

    heads = ("file", "samples", "max diff", "steps", "SNR dB", "agreement", "accuracy", "verdict")
    table = Table(*heads, box=None)
    for result in report.results:
        metrics = [
            f"{name} {value:.4f} ({result.reference_metrics[name]:.4f})"
            for name, value in result.metrics.items()
        ]
        table.add_row(
            Path(result.artifact).name,
            str(result.samples),
            f"{result.max_abs_diff:.3g}",
            "-" if result.max_step_diff is None else f"{result.max_step_diff:g}",
            "identical" if result.snr_db is None else f"{result.snr_db:.1f}",
            "-" if result.top1_agreement is None else f"{result.top1_agreement:.4f}",
            ", ".join(metrics) or "-",
            "passed" if result.passed else "FAILED",
        )
    console.print(table)
    for result in report.results:
        if result.layers:
            console.print(f"\n{Path(result.artifact).name}, layer by layer", highlight=False)
            console.print(LayerTable(result.layers))
    for result in report.results:
        for failure in result.failures:
            console.print(f"{Path(result.artifact).name}: {failure}", highlight=False)
