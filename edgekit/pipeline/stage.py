"""A stage: one step of a run, with what its result depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.base.progress import Progress

if TYPE_CHECKING:
    from edgekit.pipeline.resources import Resources

Result = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A finished stage: its directory and its JSON-able result."""

    directory: Path
    result: Result


@dataclass(frozen=True)
class StageContext:
    """What a stage works with.

    Attributes:
        directory: where it writes; becomes visible to later stages only when it is whole.
        inputs: the finished stages that it depends on, by name.
        resources: what stages share within one process: the dataset, the converter child.
        progress: for the user.
    """

    directory: Path
    inputs: Mapping[str, Done]
    resources: Resources
    progress: Progress


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: unique in a run, and the name of its directory.
        group: the word for `--until`: data, train, compress, export, verify, ...
        inputs: names of the stages that it reads.
        settings: all else that its result depends on, JSON-able; goes into the cache key.
        libraries: distributions whose versions its result depends on.
        function: does the work, writes into `context.directory`, returns the result.
        resumable: whether what an interrupted try left in the directory is kept for the next.
    """

    name: str
    group: str
    function: Callable[[StageContext], Result]
    inputs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    resumable: bool = False
