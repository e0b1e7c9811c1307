"""YAML documents validated by pydantic, with errors that name file, line and column.

Only plain data is read (a safe loader); duplicate keys are errors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edgekit.base.errors import InputError, did_you_mean
from edgekit.base.files import existing_file

M = TypeVar("M", bound=BaseModel)
Location = tuple[str | int, ...]
Words = tuple[str, ...]

_MOST_VALUES = 100_000


@dataclass(frozen=True)
class YamlSource:
    """A parsed YAML file that still knows where each value stood.

    Attributes:
        path: the file, for messages.
        data: the plain values.
        positions: location of a value ("train", "epochs") to its line and column, from 1.
        overrides: location of a value that did not come from the file to where it came from.
    """

    path: str
    data: Any
    positions: dict[Words, tuple[int, int]] = field(default_factory=dict)
    overrides: dict[Words, str] = field(default_factory=dict)

    def where(self, location: Location = ()) -> str:
        """`file:line:column` of the value at `location`, or of its nearest known parent."""
        words = tuple(str(part) for part in location)
        parents = [words[:length] for length in range(len(words), -1, -1)]
        for place in parents:
            if place in self.overrides:
                return self.overrides[place]
        if not self.positions:  # values that no file holds, such as the arguments of a call
            return ".".join((self.path, *words))
        line, column = next((self.positions[p] for p in parents if p in self.positions), (1, 1))
        return f"{self.path}:{line}:{column}"

    def with_override(self, dotted: str, value: Any, where: str) -> YamlSource:
        """This source with another value at the place `a.b.0.c`; mappings are made as needed.

        Raises:
            KeyError: a part of the place is neither a key of a mapping nor an index of a list.
        """
        words = tuple(dotted.split("."))
        kept = {
            place: text for place, text in self.overrides.items() if place[: len(words)] != words
        }
        data = _put(self.data, words, value)
        return replace(self, data=data, overrides={**kept, words: where})


def _put(node: Any, words: Words, value: Any) -> Any:
    """A copy of `node` with `value` at a place below; what aliases share elsewhere stays."""
    if not words:
        return value
    word, below = words[0], words[1:]
    if isinstance(node, list) and word.isdecimal() and int(word) < len(node):
        index = int(word)
        return [*node[:index], _put(node[index], below, value), *node[index + 1 :]]
    if node is None or isinstance(node, dict):
        mapping = node or {}
        key = next((key for key in mapping if str(key) == word), word)
        return {**mapping, key: _put(mapping.get(key), below, value)}
    raise KeyError(word)


class _Loader(yaml.SafeLoader):
    """The safe loader, whose errors for a value that does not fit its tag are YAML errors too."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):  # of `!!bool maybe`, `2024-99-99`
            problem = f"{_short(node.value)} is not a {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


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
    positions: dict[Words, tuple[int, int]] = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), positions, path, error)
        positions.setdefault((), (1, 1))
        data = loader.construct_document(node) if node is not None else {}
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        raise error(f"is not valid YAML: {fault.problem}", where=where) from None
    except RecursionError:
        raise error("is nested too deeply, or contains itself", where=path) from None
    except yaml.YAMLError as fault:
        raise error(f"is not valid YAML: {fault}", where=path) from None
    return YamlSource(path, data, positions)


def _walk(
    node: yaml.Node,
    location: Words,
    positions: dict[Words, tuple[int, int]],
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
            _walk(item, (*location, str(index)), positions, path, error)


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
        faults = [_explain(model, data, detail) for detail in _causes(fault.errors())]
        location, message, hint = faults[0]
        others = [f"{source.where((*at, *place))}: {text}" for place, text, _ in faults[1:]]
        lines = [line for line in (hint, *others) if line]
        raise error(
            message, where=source.where((*at, *location)), hint="\n  ".join(lines) or None
        ) from None


def _causes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the complaint that a list became too short because its items were refused."""

    def follows(detail: ErrorDetails) -> bool:
        place = detail["loc"]
        return detail["type"] == "too_short" and any(
            other["loc"][: len(place)] == place
            for other in details
            if len(other["loc"]) > len(place)
        )

    return [detail for detail in details if not follows(detail)]


def _explain(
    model: type[BaseModel], data: Any, detail: ErrorDetails
) -> tuple[Location, str, str | None]:
    """Where a fault is in `data`, what it is, and what to do."""
    kind, found = detail["type"], detail.get("input")
    location = _in_data(detail["loc"], data)
    if kind == "missing":
        location = (*location, detail["loc"][-1])
    key = ".".join(str(part) for part in location)
    if kind == "missing":
        return location, f"key '{key}' is missing", None
    if kind == "extra_forbidden":
        allowed = _keys_at(model, detail["loc"][:-1])
        hint = did_you_mean(str(location[-1]), allowed) if allowed else None
        return location, f"unknown key '{key}'", hint
    if kind == "literal_error":
        expected = str(detail.get("ctx", {}).get("expected", ""))
        words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
        return location, f"'{key}' is {_short(found)}", did_you_mean(str(found), words)
    text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind in ("model_type", "dict_type"):
        text = "should be a mapping of keys to values"
    return location, f"'{key}' {text} (found {_short(found)})" if key else text, None


def _in_data(location: Location, data: Any) -> Location:
    """The parts of pydantic's location that are keys and indices; it also names types there."""
    places: list[str | int] = []
    for part in location:
        is_list = isinstance(data, list | tuple)
        if part in (range(len(data)) if is_list else data if isinstance(data, dict) else ()):
            data = data[part]
            places.append(part)
    return tuple(places)


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
