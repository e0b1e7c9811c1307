"""YAML documents validated by pydantic, with errors that name file, line and column.

Only plain data is read (a safe loader); duplicate keys are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgekit.base.errors import InputError, nearest
from edgekit.base.files import existing_file

M = TypeVar("M", bound=BaseModel)
Location = tuple[str | int, ...]

_MOST_VALUES = 100_000


@dataclass(frozen=True)
class YamlSource:
    """A parsed YAML file that still knows where each value stood.

    Attributes:
        path: the file, for messages.
        data: the plain values.
        positions: location of a value ("train", "epochs") to its line and column, from 1.
    """

    path: str
    data: Any
    positions: dict[Location, tuple[int, int]] = field(default_factory=dict)

    def where(self, location: Sequence[str | int] = ()) -> str:
        """`file:line:column` of the value at `location`, or of its nearest known parent."""
        place = tuple(location)
        while place and place not in self.positions:
            place = place[:-1]
        line, column = self.positions.get(place, (1, 1))
        return f"{self.path}:{line}:{column}"


def read_yaml(path: Path, error: type[InputError] = InputError) -> YamlSource:
    """Reads a YAML file.

    Raises:
        InputError: (or the given subclass) the file is missing or is not YAML.
    """
    existing_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        raise error(f"is not UTF-8 text ({fault.reason})", where=str(path)) from None
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, path: str, error: type[InputError] = InputError) -> YamlSource:
    """Parses YAML text; `path` is for messages."""
    positions: dict[Location, tuple[int, int]] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), positions, path, error)
        data = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise error(f"is not valid YAML: {fault.problem}", where=where) from None
    except (yaml.YAMLError, ValueError, RecursionError) as fault:
        raise error(f"is not valid YAML: {fault}", where=path) from None
    return YamlSource(path, data, positions)


def _walk(
    node: yaml.Node,
    location: Location,
    positions: dict[Location, tuple[int, int]],
    path: str,
    error: type[InputError],
) -> None:
    if len(positions) > _MOST_VALUES:  # aliases can make a small file expand without end
        raise error(f"holds more than {_MOST_VALUES} values", where=path)
    positions[location] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            word = str(getattr(key, "value", key))
            mark = key.start_mark
            if word in seen:
                where = f"{path}:{mark.line + 1}:{mark.column + 1}"
                raise error(f"key '{word}' is given twice", where=where)
            seen.add(word)
            _walk(value, (*location, word), positions, path, error)
            # A fault in a mapping is best shown at its key.
            positions[(*location, word)] = (mark.line + 1, mark.column + 1)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*location, index), positions, path, error)


def validate(model: type[M], source: YamlSource, error: type[InputError] = InputError) -> M:
    """Builds `model` from a YAML source.

    Raises:
        InputError: (or the given subclass) for the first fault, with its place, what was found,
            what is allowed and the nearest valid word; the hint lists any further faults.
    """
    return validate_data(model, source.data, source, error)


def validate_data(
    model: type[M],
    data: Any,
    source: YamlSource,
    error: type[InputError] = InputError,
    at: Location = (),
) -> M:
    """Builds `model` from `data`, which stood at `at` in `source`."""
    try:
        return model.model_validate(data)
    except ValidationError as fault:
        details = fault.errors()
        first = details[0]
        message, hint = _explain(model, first)
        others = [
            f"{source.where((*at, *other['loc']))}: {_explain(model, other)[0]}"
            for other in details[1:]
        ]
        lines = [line for line in (hint, *others) if line]
        raise error(
            message, where=source.where((*at, *first["loc"])), hint="\n  ".join(lines) or None
        ) from None


def _explain(model: type[BaseModel], detail: ErrorDetails) -> tuple[str, str | None]:
    location = detail["loc"]
    key = ".".join(str(part) for part in location)
    found = detail.get("input")
    if detail["type"] == "extra_forbidden":
        allowed = _keys_at(model, location[:-1])
        close = nearest(str(location[-1]), allowed)
        hint = f"did you mean '{close}'? " if close else ""
        return f"unknown key '{key}'", f"{hint}allowed: {', '.join(allowed)}" if allowed else None
    if detail["type"] == "missing":
        return f"key '{key}' is missing", None
    if detail["type"] == "literal_error":
        expected = str(detail.get("ctx", {}).get("expected", ""))
        words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
        close = nearest(str(found), words)
        hint = f"did you mean '{close}'? " if close else ""
        return f"'{key}' is {found!r}", f"{hint}allowed: {', '.join(words)}"
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"'{key}' {text} (found {_short(found)})" if key else f"{text}", None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that `model` allows at `location`, followed through nested models and lists."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    nodes = [schema]
    for part in location:
        step: list[dict[str, Any]] = []
        for node in _expand(nodes, definitions):
            if isinstance(part, int):
                step += [node["items"]] if isinstance(node.get("items"), dict) else []
            elif part in node.get("properties", {}):
                step.append(node["properties"][part])
            elif isinstance(node.get("additionalProperties"), dict):
                step.append(node["additionalProperties"])
        # Discriminator tags and model names in a location have no node of their own.
        nodes = step or nodes
    return sorted(
        {key for node in _expand(nodes, definitions) for key in node.get("properties", {})}
    )


def _expand(nodes: list[dict[str, Any]], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if "$ref" in node:
            todo.append(definitions[node["$ref"].rsplit("/", 1)[-1]])
        for word in ("anyOf", "oneOf", "allOf"):
            todo += node.get(word, [])
        found.append(node)
    return found
