"""Registries: a name and the place of its implementation, imported when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from edgekit.base.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Named implementations of one kind.

    Built-in entries are given as `module:attribute`, so that looking at the names imports nothing.
    Other packages add entries through the entry point group `edgekit.<group>`.

    Args:
        kind: what the entries are, in words for error messages: "pass", "exporter".
        builtin: name to `module:attribute`.
        group: suffix of the entry point group, for example "passes".
    """

    def __init__(self, kind: str, builtin: Mapping[str, str], *, group: str) -> None:
        self.kind = kind
        self._places = dict(builtin)
        self._group = f"edgekit.{group}"
        self._plugins_read = False

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._read_plugins()
        return sorted(self._places)

    def get(self, name: str, *, where: str | None = None) -> T:
        """The implementation registered as `name`.

        Raises:
            InputError: there is none; the message names the nearest word.
        """
        if name not in self._places:
            self._read_plugins()
        if name not in self._places:
            raise InputError(
                f"unknown {self.kind} '{name}'", where=where, hint=did_you_mean(name, self._places)
            )
        module, _, attribute = self._places[name].partition(":")
        return cast("T", getattr(importlib.import_module(module), attribute))

    def _read_plugins(self) -> None:
        if not self._plugins_read:
            for point in entry_points(group=self._group):
                self._places.setdefault(point.name, point.value)
            self._plugins_read = True
