"""What the stages of one run share within the process: loaded once, when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.base.child import Worker
from edgekit.schema.recipe import Recipe
from edgekit.schema.target import Target
from edgekit.schema.yamlfile import YamlSource

if TYPE_CHECKING:
    from edgekit.data.dataset import Dataset

_CONVERSION_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Resources:
    """Shared objects of one run.

    Attributes:
        recipe: the resolved recipe.
        source: its text, to name the place of a fault.
        root: folder that relative paths of the recipe start from.
        data_directory: where the data stage's files are, or will be.
        targets: the recipe's targets, loaded.
    """

    recipe: Recipe
    source: YamlSource
    root: Path
    data_directory: Path
    targets: tuple[Target, ...]

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset as the data stage left it."""
        from edgekit.data.dataset import load_saved

        return load_saved(self.data_directory)

    @cached_property
    def worker(self) -> Worker:
        """The child process that converts models."""
        return Worker(timeout_s=_CONVERSION_TIMEOUT_S, preload=["tensorflow"])

    def close(self) -> None:
        """Ends the child process, if there is one."""
        if "worker" in self.__dict__:
            self.worker.close()
