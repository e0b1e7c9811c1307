import pytest

from edgekit.base import errors
from edgekit.base.errors import EdgekitError, did_you_mean, nearest

CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, EdgekitError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_where_and_what_to_do(kind: type[EdgekitError]) -> None:
    error = kind("two inputs, one expected", where="model.keras", hint="name one")
    assert str(error) == "model.keras: two inputs, one expected\n  name one"
    assert error.to_dict() == {
        "type": kind.__name__,
        "message": "two inputs, one expected",
        "where": "model.keras",
        "hint": "name one",
    }
    assert error.exit_code in (1, 2, 3, 4)


def test_an_error_without_place_or_hint_is_its_message() -> None:
    assert str(EdgekitError("failed")) == "failed"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ParityError, 1),
        (errors.RecipeError, 2),
        (errors.ModelFileError, 2),
        (errors.RunLockedError, 2),
        (errors.MissingDependencyError, 3),
        (errors.ConversionError, 4),
        (errors.StorageError, 4),
    ],
)
def test_exit_codes_follow_the_contract(kind: type[EdgekitError], code: int) -> None:
    assert kind.exit_code == code


@pytest.mark.parametrize(
    ("word", "close"), [("epoch", "epochs"), ("batchsize", "batch_size"), ("zebra", None)]
)
def test_nearest_word(word: str, close: str | None) -> None:
    assert nearest(word, ["epochs", "batch_size", "loss"]) == close


def test_hint_lists_all_words_even_if_none_is_close() -> None:
    assert did_you_mean("zebra", ["loss", "epochs"]) == "allowed: epochs, loss"
    assert did_you_mean("los", ["loss", "epochs"]) == "did you mean 'loss'? allowed: epochs, loss"
