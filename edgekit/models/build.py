"""From a recipe's `model:` to a Keras model."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, create_model

from edgekit.base.errors import EdgekitError, RecipeError
from edgekit.base.extras import require
from edgekit.base.registry import Registry
from edgekit.models.files import load_model
from edgekit.models.userfile import call_user_function, load_function
from edgekit.schema.recipe import ModelSpec
from edgekit.schema.yamlfile import YamlSource, validate_data

if TYPE_CHECKING:
    import keras

Shapes = dict[str, tuple[int, ...]]

_FOLDER = "edgekit.models.families"
FAMILIES: Registry[Callable[..., Any]] = Registry(
    "model family",
    {
        "autoencoder": f"{_FOLDER}.autoencoder:autoencoder",
        "cnn": f"{_FOLDER}.cnn:cnn",
        "dscnn": f"{_FOLDER}.dscnn:dscnn",
        "mlp": f"{_FOLDER}.mlp:mlp",
        "mobilenet_v1": f"{_FOLDER}.mobilenet_v1:mobilenet_v1",
        "resnet8": f"{_FOLDER}.resnet8:resnet8",
        "rnn": f"{_FOLDER}.rnn:rnn",
        "vit": f"{_FOLDER}.vit:vit",
    },
    group="families",
)

# What a family or a user's function may ask for by these names; all else is an argument.
_GIVEN = ("input_shape", "input_shapes", "input_name", "classes")


def build_model(
    spec: ModelSpec,
    *,
    input_shapes: Shapes,
    classes: int | None,
    root: Path,
    seed: int = 0,
    source: YamlSource | None = None,
) -> keras.Model:
    """Builds or loads the model that a recipe names.

    A family, and a function of a Python file alike, get those of `input_shape` (of one sample),
    `input_shapes` (by input name), `input_name` and `classes` that they have as parameters.

    Args:
        spec: the recipe's `model:`.
        input_shapes: shape of one sample by input name.
        classes: how many; None if the model predicts values.
        root: folder that relative paths start from.
        seed: of the initial weights; sets the seed of Python, NumPy and Keras.
        source: the recipe's text, to name the place of a fault.

    Returns:
        A functional model, not compiled, whose inputs fit `input_shapes`.

    Raises:
        RecipeError: an unknown family or argument, an error in the user's file, or a model that
            does not fit the data.
        ModelFileError: a .keras file that cannot be read.
    """
    keras = require("keras", purpose="to build models")
    where = source.where(("model", "name")) if source else f"model {spec.name}"
    keras.utils.set_random_seed(seed)
    if spec.name.endswith((".keras", ".h5", ".hdf5")):
        if spec.args:
            raise RecipeError("a model file takes no arguments", where=where)
        model = load_model(root / spec.name)
    else:
        given = _given(input_shapes, classes)
        model = _from_function(spec, given, root, where, source)
    _check_fits(model, input_shapes, classes, where)
    return model


def _from_function(
    spec: ModelSpec, given: dict[str, Any], root: Path, where: str, source: YamlSource | None
) -> keras.Model:
    path, colon, name = spec.name.rpartition(":")
    own = bool(colon)
    if own:
        function = load_function(root / path, name, where)
    elif spec.name.endswith(".py"):
        raise RecipeError(
            "a Python file needs the name of a function", where=where, hint=f"{spec.name}:build"
        )
    else:
        function = FAMILIES.get(spec.name, where=where)
    parameters = inspect.signature(function).parameters
    accepted = {key: value for key, value in given.items() if key in parameters}
    if "input_shape" in parameters and "input_shape" not in accepted:
        raise RecipeError(
            f"takes one input, the data has {len(given['input_shapes'])}: "
            f"{', '.join(given['input_shapes'])}",
            where=where,
        )
    args = _checked_args(function, spec, own=own, source=source)
    if own:
        return call_user_function(function, accepted | args, root / path, where)
    try:
        model: keras.Model = function(**accepted, **args)
    except EdgekitError as error:
        raise RecipeError(error.message, where=error.where or where, hint=error.hint) from None
    except ValueError as error:  # Keras refuses a shape, such as a kernel larger than its image
        raise RecipeError(
            f"the model cannot be built: {str(error).splitlines()[0]}", where=where
        ) from None
    return model


def _given(input_shapes: Shapes, classes: int | None) -> dict[str, Any]:
    given: dict[str, Any] = {"input_shapes": dict(input_shapes), "classes": classes}
    if len(input_shapes) == 1:
        ((name, shape),) = input_shapes.items()
        given |= {"input_shape": shape, "input_name": name}
    return given


def _checked_args(
    function: Callable[..., Any], spec: ModelSpec, *, own: bool, source: YamlSource | None
) -> dict[str, Any]:
    """The arguments, checked against the function's signature and, for families, its types."""
    parameters = inspect.signature(function).parameters.values()
    keras = require("keras", purpose="to build models")
    hints = {} if own else typing.get_type_hints(function, localns={"keras": keras})
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    fields: dict[str, Any] = {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in parameters
        if parameter.name not in _GIVEN
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    config = ConfigDict(extra="allow" if open_ended else "forbid", frozen=True)
    model = create_model("Args", __config__=config, **fields)
    text = source or YamlSource("model.args", spec.args)
    at = ("model", "args") if source else ()
    checked = validate_data(model, spec.args, text, RecipeError, at)
    return {name: getattr(checked, name) for name in spec.args}


def _check_fits(model: keras.Model, shapes: Shapes, classes: int | None, where: str) -> None:
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
    alone = len(found) == len(shapes) == 1
    pairs = (
        [(next(iter(found.values())), next(iter(shapes.values())))]
        if alone
        else [(found.get(name), shape) for name, shape in shapes.items()]
    )
    if len(found) != len(shapes) or not all(_fits(*pair) for pair in pairs):
        raise RecipeError(
            f"the model's inputs {found} do not fit the data's {dict(shapes)}", where=where
        )
    if classes and len(model.outputs) == 1 and len(model.outputs[0].shape) == 2:
        width = model.outputs[0].shape[-1]
        if width != classes and (width, classes) != (1, 2):
            raise RecipeError(
                f"the model has {width} outputs, the data has {classes} classes",
                where=where,
                hint="an autoencoder needs its input as the target: data.options.target: input",
            )


def _fits(found: tuple[int | None, ...] | None, shape: tuple[int, ...]) -> bool:
    if found is None or len(found) != len(shape):
        return False
    return all(want in (None, have) for want, have in zip(found, shape, strict=True))
