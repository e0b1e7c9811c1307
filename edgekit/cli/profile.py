"""`edgekit profile`: what a model costs on targets, estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.completion import target_words
from edgekit.cli.output import JsonOption, Output, QuietOption, VerboseOption, examples

EXAMPLES = examples(
    "edgekit profile model.tflite --target raspberry-pi-4 --target coral-usb",
    "edgekit profile model.tflite -t drone-x500-cm4 --layers",
    "edgekit profile model.tflite -t pixel-3 --max-latency-ms 20 --max-mj 5 --max-kib 256",
    "edgekit profile model.tflite -t stm32-h7a3-cubeai --rate 0.1 --battery-wh 2.5 --sleep-mw 0.01",
    "edgekit profile large.tflite small.tflite -t drone-x500-cm4 --vehicle mass_g=1500",
)


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="A .tflite, .onnx or OpenVINO .xml file; others are compared with the first.",
        ),
    ],
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            autocompletion=target_words,
            help="Name or .yaml file; may be repeated.",
        ),
    ],
    layers: Annotated[bool, typer.Option("--layers", help="Show every operator.")] = False,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Budget of latency in milliseconds.")
    ] = None,
    max_mj: Annotated[
        float | None, typer.Option(help="Budget of energy an inference in millijoules.")
    ] = None,
    max_kib: Annotated[
        float | None, typer.Option(help="Budget of peak memory in units of 1024 bytes.")
    ] = None,
    inferences_per_day: Annotated[
        float | None, typer.Option(metavar="N", help="For energy a day and battery life.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="HZ", help="The same as inferences a second.")
    ] = None,
    battery_wh: Annotated[
        float | None, typer.Option(metavar="WH", help="Battery whose life is wanted.")
    ] = None,
    sleep_mw: Annotated[
        float | None, typer.Option(metavar="MW", help="Power between inferences, if it sleeps.")
    ] = None,
    vehicle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Of a drone: mass_g, computer_g, battery_wh, hover_w, flight_time_min, camera_hz, "
            "detection_m or braking_m_s2 in place of the target's; may be repeated.",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Estimate latency, energy, memory and flight of models on targets, side by side.

    Exits with 1 if a budget is not kept, or cannot be judged.
    """
    from edgekit.profiling.budgets import Limits
    from edgekit.profiling.sidebyside import Wanted, per_day, profile_files
    from edgekit.profiling.targets import load_target
    from edgekit.report.sidebyside import side_by_side

    output = Output(json=json, quiet=quiet, verbose=verbose)
    wanted = Wanted(
        limits=Limits(max_latency_ms, max_mj, max_kib),
        per_day=per_day(inferences=inferences_per_day, rate_hz=rate),
        battery_wh=battery_wh,
        sleep_mw=sleep_mw,
        vehicle=vehicle or (),
    )
    targets = [load_target(name) for name in target]
    with output.progress() as progress:
        report = profile_files(files, targets, wanted, progress=progress)
    output.result(report, lambda console: console.print(side_by_side(report, layers=layers)))
    if any(profile.verdict in ("over", "unknown") for profile in report.profiles):
        raise typer.Exit(1)
