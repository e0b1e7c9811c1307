"""What the README shows must work."""

from __future__ import annotations

import re
import shlex

import jsonschema
import pytest

from edgekit.profiling.targets import all_targets
from edgekit.schema.documents import json_schema
from edgekit.schema.recipe import Recipe
from edgekit.schema.yamlfile import parse_yaml, validate
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PREDICTION = (ROOT / "docs" / "prediction.md").read_text(encoding="utf-8")


def test_its_recipe_is_valid_and_an_editor_agrees() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    source = parse_yaml(text, "README.md")
    assert validate(Recipe, source).name == "shapes"
    jsonschema.validate(source.data, json_schema("recipe"))


def test_predictions_of_every_fitted_target_are_in_the_docs() -> None:
    shown = set(re.findall(r"^\| ([a-z0-9-]+) [a-z]+ (?:int8|fp)", PREDICTION, re.MULTILINE))
    fitted = {t.name: t.error for t in all_targets() if t.fit and t.error}
    assert shown == {n for n, e in fitted.items() if any(one.models >= 4 for one in e.values())}


@pytest.mark.parametrize("line", re.findall(r"`edgekit ([a-z]+ [^`]*)`", README))
def test_its_commands_have_options_that_exist(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgekit.cli.main import run

    name, *words = shlex.split(line)
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in words:
        if word.startswith("-"):
            assert word in shown
