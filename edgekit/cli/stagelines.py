"""One line a stage on standard error, while a recipe runs."""

from __future__ import annotations

from edgekit.cli.output import Output
from edgekit.pipeline.events import Event, Listener, StageFailed, StageFinished


def stage_lines(output: Output) -> Listener:
    """A listener that writes what became of each stage; of cached ones only when verbose."""

    def show(event: Event) -> None:
        if isinstance(event, StageFailed):
            output.message(f"  failed  {event.name}: {event.message}")
        elif isinstance(event, StageFinished):
            if event.origin == "now":
                output.message(f"{event.seconds:7.1f} s  {event.name:<24} {event.summary}".rstrip())
            elif output.verbose:
                output.message(f"   cached  {event.name:<24} {event.summary}".rstrip())

    return show
