from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.calibration import check_calibration, count_duplicates
from edgekit.data.dataset import Split

FLOATS = {"x": "float32"}


def split_of(values: np.ndarray, y: np.ndarray | None = None) -> Split:
    labels = np.arange(len(values), dtype=np.int32) % 3 if y is None else y
    return Split({"x": values}, labels)


def normal(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


LABELS = ("a", "b", "c")
TRAIN = split_of(normal(500))


def warnings_of(calibration: Split, rest: Split = TRAIN, dtypes: dict[str, str] = FLOATS) -> str:
    return "\n".join(check_calibration(calibration, rest, dtypes=dtypes, labels=LABELS)[1])


def test_a_fair_sample_gives_no_warning() -> None:
    figures, warnings = check_calibration(
        split_of(normal(200, 1)), TRAIN, dtypes=FLOATS, labels=LABELS
    )
    assert warnings == []
    assert figures["samples"] == 200
    assert figures["classes"] == {"a": 67, "b": 67, "c": 66}
    assert figures["inputs"]["x"]["outside"] < 0.01


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (split_of(normal(20)), "20 calibration samples are few"),
        (split_of(normal(200) * 255), "were they preprocessed alike?"),
        (split_of(normal(200) / 10), "of its values would saturate"),
        (split_of(normal(200) * 0.9 + 1.0), "standard deviations from that of the training"),
        (split_of(np.zeros((200, 6), np.float32)), "'x' is 0 everywhere"),
        (split_of(np.tile(normal(20), (10, 1))), "180 of 200 calibration samples repeat others"),
        (split_of(normal(200), np.zeros(200, np.int32)), "shows the class b, c"),
        (split_of(np.full((200, 6), 7, np.uint8)), "'x' holds uint8, the model takes float32"),
    ],
)
def test_each_fault_is_named(calibration: Split, words: str) -> None:
    assert words in warnings_of(calibration)


def test_without_other_data_there_is_nothing_to_compare_with() -> None:
    assert warnings_of(split_of(normal(200) * 255), split_of(normal(0))) == ""


def test_one_input_fits_an_array_of_any_name() -> None:
    words = warnings_of(split_of(np.ones((200, 6), np.uint8)), dtypes={"image": "float32"})
    assert "holds uint8, the model takes float32" in words


@given(st.integers(1, 30), st.lists(st.integers(0, 29), max_size=20))
def test_duplicates_are_counted(distinct: int, repeated: list[int]) -> None:
    values = normal(30)[:distinct]
    again = values[[index % distinct for index in repeated]]
    joined = np.concatenate([values, again.reshape(-1, 6)])
    assert count_duplicates(split_of(joined)) == len(repeated)
