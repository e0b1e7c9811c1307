from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import InputError, PreconditionError
from edgekit.compress.passes import PASSES, parse_pass, prepare_passes
from edgekit.schema.plan import QuantizationPlan
from edgekit.schema.recipe import PassSpec
from edgekit.schema.yamlfile import YamlSource, parse_yaml

LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip


def specs_of(text: str) -> tuple[list[PassSpec], YamlSource]:
    source = parse_yaml(text, "r.yaml")
    return [PassSpec.model_validate(item) for item in source.data["compress"]], source


@given(st.dictionaries(st.sampled_from(["sparsity", "skip", "a1"]), LITERALS))
def test_a_call_is_read_back(args: dict[str, Any]) -> None:
    text = f"prune({', '.join(f'{key}={value!r}' for key, value in args.items())})"
    assert parse_pass(text) == PassSpec(name="prune", args=args)


def test_words_need_no_quotes() -> None:
    read = parse_pass("shrink(budget={macs: 0.5}, scope=model, skip=[head])")
    assert read.args == {"budget": {"macs": 0.5}, "scope": "model", "skip": ["head"]}


def test_a_name_alone_is_a_pass() -> None:
    assert parse_pass(" quantize ") == parse_pass("quantize()") == PassSpec(name="quantize")


@given(st.text(max_size=40))
def test_any_text_is_a_pass_or_one_clear_error(text: str) -> None:
    try:
        spec = parse_pass(text)
    except InputError as error:
        fault = error
    else:
        # Python reads names in normal form KC.
        assert unicodedata.normalize("NFKC", text.strip()).startswith(spec.name)
        return
    assert fault.where == f"--pass {text}"


@pytest.mark.parametrize(
    "text",
    [
        "prune(0.5)",
        "prune(",
        "prune(sparsity=open('x'))",
        "prune(**{'sparsity': 0.5})",
        "os.system(command='true')",
        "prune(sparsity=0.5); quantize()",
        "lambda: 0",
        "(" * 1000,
    ],
)
def test_nothing_but_literals_is_read(text: str) -> None:
    with pytest.raises(InputError, match="is not a pass with its arguments"):
        parse_pass(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("quantize(skip=[*head*])", "*head*"),
        ("prune(sparsity=0.5, skip=[conv-1, other])", "conv-1"),
        ("quantize(skip=['a b', block?/conv])", "block?/conv"),
        ("adaround(steps=-1e-3, skip=[1st])", "1st"),
    ],
)
def test_a_word_that_needs_quotes_is_named(text: str, word: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_pass(text)
    assert f"'{word}'" in (caught.value.hint or "")
    assert "quote" in (caught.value.hint or "")
    quoted = parse_pass(text.replace(word, repr(word)))
    assert word in quoted.args["skip"]


def test_every_registered_pass_keeps_the_form_of_one() -> None:
    for name in PASSES.names():
        kind = PASSES.get(name)
        assert kind.name == name
        assert callable(kind.function())
        assert kind.function().__name__ == name
        assert kind.Args.model_json_schema()["additionalProperties"] is False


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("- prume", "2:3", "unknown pass 'prume'\n  did you mean 'prune'?"),
        ("- prune: {sparsity: 0.5, epoch: 3}", "2:26", "did you mean 'epochs'?"),
        ("- prune:\n    sparsity: 1.5", "3:5", "'sparsity' should be less than 1 (found 1.5)"),
        ("- prune\n- {name: prune, args: {sparsty: 1}}", "3:24", "did you mean 'sparsity'?"),
        ("- prune: {begin: 0.5, end: 0.5}", "2:23", "must be greater than 'begin'"),
        ("- prune: {layers: {conv1: 1}}", "2:11", "'conv1' must be at least 0"),
        ("- quantize: {precision: int9}", "2:14", "did you mean 'int8'?"),
        ("- distill: {alpha: 0.5}", "2:3", "key 'teacher' is missing"),
        ("- quantize\n- prune", "3:3", "changes weights after 'int8' quantization was planned"),
    ],
)
def test_a_fault_in_a_recipe_names_line_and_column(text: str, where: str, words: str) -> None:
    specs, source = specs_of(f"compress:\n{text}")
    with pytest.raises(InputError) as caught:
        prepare_passes(specs, source)
    assert str(caught.value.where).startswith(f"r.yaml:{where}")
    assert words in str(caught.value)


def test_the_first_of_some_passes_has_its_own_place() -> None:
    specs, source = specs_of("compress:\n- prune\n- prune: {sparsity: 2}")
    with pytest.raises(InputError) as caught:
        prepare_passes(specs[1:], source, first=1)
    assert caught.value.where == "r.yaml:3:11"


def test_an_override_is_named_as_the_place() -> None:
    specs, source = specs_of("compress:\n- prune: {sparsity: 0.5}")
    changed = source.with_override("compress.0.prune.sparsity", 2, "--set ...=2")
    specs = [PassSpec.model_validate(item) for item in changed.data["compress"]]
    with pytest.raises(InputError) as caught:
        prepare_passes(specs, changed)
    assert caught.value.where == "--set ...=2"


def test_weights_do_not_change_after_their_quantization_is_planned() -> None:
    prune, quantize = PassSpec(name="prune"), PassSpec(name="quantize")
    assert [type(one).__name__ for one in prepare_passes([prune, quantize])] == [
        "Prune",
        "Quantize",
    ]
    plan = QuantizationPlan(precision="int8")
    with pytest.raises(PreconditionError, match="put 'quantize' last"):
        prepare_passes([prune], plan=plan)
