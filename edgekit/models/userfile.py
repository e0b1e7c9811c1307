"""A model function in the user's own Python file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.base.errors import EdgekitError, ModelFileError, RecipeError, did_you_mean
from edgekit.models.files import as_functional

if TYPE_CHECKING:
    import keras


def load_function(path: Path, name: str, where: str) -> Callable[..., Any]:
    """Imports `path` and returns its function `name`; files beside it can be imported too.

    Raises:
        RecipeError: the file is missing or fails, with the line; or it has no such function.
    """
    if not path.is_file():
        raise RecipeError(f"the file {path} does not exist", where=where)
    spec = importlib.util.spec_from_file_location(f"edgekit_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} is not a Python file", where=where)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 the user's code can raise anything
        raise _fault(error, path) from None
    finally:
        sys.path.remove(str(path.parent))
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise RecipeError(
            f"{path.name} has no function '{name}'", where=where, hint=did_you_mean(name, public)
        )
    result: Callable[..., Any] = function
    return result


def call_user_function(
    function: Callable[..., Any], arguments: dict[str, Any], path: Path, where: str
) -> keras.Model:
    """Calls a user's function and returns its model.

    Raises:
        RecipeError: it raised, with the line in its file; or it returned no Keras model.
    """
    try:
        model = function(**arguments)
    except EdgekitError:
        raise
    except Exception as error:  # noqa: BLE001 the user's code can raise anything
        raise _fault(error, path) from None
    if not hasattr(model, "inputs"):
        raise RecipeError(
            f"{path.name} returned {type(model).__name__}, not a Keras model", where=where
        )
    try:
        return as_functional(model, where=where)
    except ModelFileError as error:
        raise RecipeError(error.message, where=where, hint=error.hint) from None


def _fault(error: Exception, path: Path) -> RecipeError:
    line: int | None = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path:
            line = frame.lineno
    place = f"{path}:{line}" if line else str(path)
    text = str(error).splitlines()[0] if str(error) else ""
    return RecipeError(f"{type(error).__name__}: {text}", where=place)
