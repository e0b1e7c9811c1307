"""Writes a commented recipe to start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from edgekit.base.errors import InputError, RecipeError
from edgekit.base.files import write_text
from edgekit.schema.recipe import Recipe
from edgekit.schema.yamlfile import parse_yaml, validate

_TEMPLATE = """\
# yaml-language-server: $schema=recipe.schema.json
# Made by `edgekit init`. Help in the editor: edgekit schema recipe > recipe.schema.json
name: {name}
seed: 0 # two runs with one seed give the same weights

data:
  # digits | npz:FILE | csv:FILE | image_folder:DIR | keras:NAME; paths start from this file
  # made by edgekit: shapes (images) | keywords (audio) | motion (sensors) | machine (sound)
  source: {data}
  splits: {{train: 0.6, validation: 0.1, calibration: 0.1, test: 0.2}}
  # What the device must repeat: value = (raw * scale - mean) / std, after an optional resize.
  preprocess: {{scale: {scale}}}

model:
  # a family (mlp, cnn, resnet8, mobilenet_v1, dscnn, ...) | FILE.py:FUNCTION | FILE.keras
  name: {model}

train:
  epochs: 20
  batch_size: 32
  optimizer: {{name: adam, learning_rate: 0.001}}
  schedule: {{name: cosine, warmup_epochs: 1}}
  early_stopping: {{monitor: val_loss, patience: 10}}

# Passes, in this order; unstructured zeros make files compress better, not run faster.
# compress:
#   - prune: {{sparsity: 0.5, epochs: 5}}

export: # the int8 TFLite file is the master: ONNX and OpenVINO int8 derive from it
  - {{format: tflite, precision: {precisions}}}

# edgekit targets: all names; figures for them are estimates and say so
targets: {targets}

# edgekit gate and edgekit run fail (exit 1) when one of these is broken.
budgets:
  - {{metric: accuracy_drop, max: 1.0}} # percentage points below the float model
"""

# Of the sources whose raw values are not 0 to 255.
_SCALES = {"digits": 0.0625, "keywords": 1.0, "machine": 1.0, "motion": 1.0}


@dataclass(frozen=True)
class Answers:
    """What a new recipe is made from."""

    name: str = "recipe"
    data: str = "digits"
    model: str = "cnn"
    targets: tuple[str, ...] = ("raspberry-pi-4",)
    precisions: tuple[str, ...] = ("fp32", "int8")


def write_recipe(path: Path, answers: Answers, *, overwrite: bool = False) -> Recipe:
    """Writes a commented recipe and returns it.

    Raises:
        InputError: the file exists and may not be overwritten, or there is no such data source.
        DataError: what the data source takes is not given.
        RecipeError: an answer does not fit the schema.
    """
    from edgekit.data.sources import find_source

    if path.exists() and not overwrite:
        raise InputError("the file exists", where=str(path), hint="use --force to overwrite it")
    find_source(answers.data, "--data")
    text = _TEMPLATE.format(
        name=answers.name,
        data=_inline(answers.data),
        scale=_SCALES.get(answers.data, "0.00392156862745098 # 1/255"),
        model=_inline(answers.model),
        precisions=_inline(list(answers.precisions)),
        targets=_inline(list(answers.targets)),
    ).replace("0.00392156862745098 # 1/255}", "0.00392156862745098} # 1/255")
    recipe = validate(Recipe, parse_yaml(text, str(path), RecipeError), RecipeError)
    write_text(path, text)
    return recipe


def _inline(value: str | list[str]) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
