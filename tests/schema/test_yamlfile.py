from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from edgekit.base.errors import InputError, RecipeError
from edgekit.schema.base import Document
from edgekit.schema.yamlfile import YamlSource, parse_yaml, read_yaml, validate, validate_data

WORDS = st.text("abcdefgh", min_size=1, max_size=4)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


class Wheel(Document):
    inches: float
    spokes: int = 32


class Bike(Document):
    kind: Literal["road", "gravel"]
    wheels: tuple[Wheel, ...] = ()
    names: dict[int, str] = Field(default_factory=dict)
    bell: Literal["brass"] | dict[int, float] | None = None


def fault_of(text: str) -> InputError:
    with pytest.raises(RecipeError) as caught:
        validate(Bike, parse_yaml(text, "bike.yaml"), RecipeError)
    return caught.value


@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value), "x.yaml").data == value


@settings(deadline=None)
@given(st.text(max_size=80) | st.text("[]{}&*!?:-,'\"#%@ \n\tab<|>", max_size=60))
@example("!!bool maybe")
@example("!!int ''")
@example("!!timestamp soon")
@example("a: 2024-99-99")
@example("9" * 6000)
@example("a: &a [*a]")
@example("[" * 5000)
@example("!!python/object/apply:os.system [true]")
@example("&a !!str {a: *a}")
@example("\x00")
@example("--- a\n--- b")
def test_any_text_gives_plain_data_or_one_of_our_errors(text: str) -> None:
    fault = None
    try:
        parse_yaml(text, "x.yaml", RecipeError)
    except RecipeError as error:
        fault = error
    assert fault is None or str(fault.where).startswith("x.yaml")


@given(st.dictionaries(WORDS, st.dictionaries(WORDS, st.integers(), min_size=1), min_size=1))
def test_every_value_is_found_where_it_stands(value: dict[str, dict[str, int]]) -> None:
    text = yaml.safe_dump(value, default_flow_style=False)
    source = parse_yaml(text, "x.yaml")
    lines = text.splitlines()
    for outer, inner in value.items():
        for key, number in inner.items():
            _, line, column = source.where((outer, key)).split(":")
            assert lines[int(line) - 1][int(column) - 1 :] == f"{key}: {number}"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: [1, 2\nb: 3", "2:2", "expected ',' or ']'"),
        ("a: 1\na: 2", "2:1", "key 'a' is given twice"),
        ("a: {b: 1, b: 2}", "1:11", "key 'b' is given twice"),
        ("a: !!python/name:os.system x", "1:4", "could not determine a constructor"),
        ("n:\n  - !!bool maybe", "2:5", "'maybe' is not a bool"),
        ("day: 2024-99-99", "1:6", "'2024-99-99' is not a timestamp"),
        ("a: *b", "1:4", "undefined alias"),
    ],
)
def test_a_fault_of_the_text_is_named_with_its_place(text: str, where: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x.yaml")
    assert caught.value.where == f"x.yaml:{where}"
    assert words in caught.value.message


@pytest.mark.timeout(60)
def test_aliases_that_expand_without_end_are_refused_at_once() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(levels)  # 10^12 values
    with pytest.raises(InputError, match="more than 100000 values"):
        parse_yaml(bomb, "bomb.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "[" * 5000])
def test_a_document_without_bottom_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="nested too deeply, or contains itself"):
        parse_yaml(text, "x.yaml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(RecipeError, match="is not UTF-8 text") as caught:
        read_yaml(tmp_path / "binary.yaml", RecipeError)
    assert caught.value.where == str(tmp_path / "binary.yaml")


def test_a_valid_document() -> None:
    text = "kind: road\nwheels: [{inches: 28}]\nnames: {1: one}\nbell: {2: 0.5}"
    bike = validate(Bike, parse_yaml(text, "bike.yaml"))
    assert bike == Bike(kind="road", wheels=(Wheel(inches=28),), names={1: "one"}, bell={2: 0.5})


@pytest.mark.parametrize(
    ("text", "where", "message", "hint"),
    [
        ("wheels: []", "1:1", "key 'kind' is missing", None),
        ("", "1:1", "key 'kind' is missing", None),
        (
            "kind: raod",
            "1:1",
            "'kind' is 'raod'",
            "did you mean 'road'? allowed: gravel, road",
        ),
        (
            "kind: road\nwheels:\n  - inches: 28\n  - inches: 28\n    spoke: 3",
            "5:5",
            "unknown key 'wheels.1.spoke'",
            "did you mean 'spokes'? allowed: inches, spokes",
        ),
        (
            "kind: road\nwheels: [{inches: wide}]",
            "2:11",
            "'wheels.0.inches' should be a valid number, unable to parse string as a number "
            "(found 'wide')",
            None,
        ),
        ("kind: road\nwheels: [3]", "2:10", "'wheels.0' should be a mapping of keys", None),
        ("kind: road\nnames:\n  7: [x]", "3:3", "'names.7' should be a valid string", None),
        ("[1, 2]", "1:1", "should be a mapping of keys to values", None),
    ],
)
def test_a_fault_is_named_with_its_place_what_was_found_and_what_is_allowed(
    text: str, where: str, message: str, hint: str | None
) -> None:
    fault = fault_of(text)
    assert fault.where == f"bike.yaml:{where}"
    assert fault.message.startswith(message)
    assert fault.hint == hint


def test_all_faults_are_listed() -> None:
    fault = fault_of("kind: road\nwheels:\n  - {inches: wide}\nbels: 3")
    assert fault.where == "bike.yaml:3:6"
    assert "bike.yaml:4:1: unknown key 'bels'" in str(fault.hint)


def test_alternatives_are_named_without_the_names_of_types() -> None:
    fault = fault_of("kind: road\nbell: {1: loud}")
    assert "literal" not in str(fault)
    assert "bike.yaml:2:8: 'bell.1' should be a valid number" in str(fault.hint)


def test_part_of_a_document_is_validated_at_its_place() -> None:
    source = parse_yaml("passes:\n  - paint:\n      inches: 28\n      spoke: 1", "x.yaml")
    with pytest.raises(InputError) as caught:
        validate_data(Wheel, source.data["passes"][0]["paint"], source, at=("passes", 0, "paint"))
    assert caught.value.where == "x.yaml:4:7"
    assert caught.value.message == "unknown key 'spoke'"


@given(PLAIN, PLAIN)
def test_an_override_changes_its_place_and_nothing_else(value: Any, other: Any) -> None:
    source = parse_yaml("a: &shared {b: 1, c: [1, 2]}\nd: *shared", "x.yaml")
    changed = source.with_override("a.c.1", value, "--set").with_override("a.e.f", other, "--set")
    assert changed.data == {
        "a": {"b": 1, "c": [1, value], "e": {"f": other}},
        "d": {"b": 1, "c": [1, 2]},  # what the alias shares is not changed with it
    }
    assert source.data["a"] == {"b": 1, "c": [1, 2]}


def test_a_fault_of_an_override_is_named_as_such() -> None:
    source = parse_yaml("kind: road\nwheels: [{inches: 28}]", "x.yaml")
    changed = source.with_override("wheels.0.inches", "wide", "--set wheels.0.inches=wide")
    with pytest.raises(InputError) as caught:
        validate(Bike, changed)
    assert caught.value.where == "--set wheels.0.inches=wide"


@pytest.mark.parametrize(
    "place", ["wheels.1.inches", "wheels.x", "kind.a", "wheels.-1", "wheels.²"]
)
def test_an_override_of_no_place_is_refused(place: str) -> None:
    source = parse_yaml("kind: road\nwheels: [{inches: 28}]", "x.yaml")
    with pytest.raises(KeyError):
        source.with_override(place, 1, "--set")


def test_values_that_no_file_holds_are_named_by_their_key() -> None:
    with pytest.raises(InputError) as caught:
        validate(Wheel, YamlSource("paint()", {"inches": "wide"}))
    assert caught.value.where == "paint().inches"
