from __future__ import annotations

import fractions
import json
from importlib.metadata import EntryPoint

import pytest

from edgekit.base import registry
from edgekit.base.errors import InputError
from edgekit.base.registry import Registry

PLACES = {"loads": "json:loads", "absent": "no_such_module:thing"}


def test_an_entry_is_imported_only_when_asked_for() -> None:
    entries: Registry[object] = Registry("parser", PLACES, group="none")
    assert entries.names() == ["absent", "loads"]  # looking at names imports nothing
    assert entries.get("loads") is json.loads
    with pytest.raises(ModuleNotFoundError):
        entries.get("absent")


def test_an_unknown_name_is_an_error_with_the_nearest() -> None:
    entries: Registry[object] = Registry("parser", PLACES, group="none")
    with pytest.raises(InputError) as caught:
        entries.get("load", where="recipe.yaml:3:5")
    assert caught.value.message == "unknown parser 'load'"
    assert caught.value.where == "recipe.yaml:3:5"
    assert "did you mean 'loads'?" in str(caught.value)


def test_other_packages_add_entries_and_cannot_replace_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def plugins(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [
            EntryPoint("fraction", "fractions:Fraction", group),
            EntryPoint("loads", "fractions:Fraction", group),
        ]

    monkeypatch.setattr(registry, "entry_points", plugins)
    entries: Registry[object] = Registry("parser", PLACES, group="parsers")
    assert entries.get("loads") is json.loads
    assert asked == []  # a built-in entry does not pay for the search
    assert entries.get("fraction") is fractions.Fraction
    assert entries.names() == ["absent", "fraction", "loads"]
    assert asked == ["edgekit.parsers"]
