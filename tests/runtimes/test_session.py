"""Batches, quantization and names, on a session that is made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import DataError
from edgekit.runtimes.session import Arrays, Session, match_names, predict, run_raw, to_model
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization

GRID = Quantization(scale=(0.5,), zero_point=(-3,))


class Doubler(Session):
    """Doubles float samples; records the batches that it sees."""

    runtime, version = "made up", "1"

    def __init__(self, batch: int | None) -> None:
        info = TensorInfo(name="x", shape=(batch, 2), dtype="float32")
        self.inputs = (info,)
        self.outputs = (info.model_copy(update={"name": "y"}),)
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        self.batches.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}


@given(count=st.integers(1, 700), batch=st.sampled_from([None, 1, 3, 256]))
def test_any_number_of_samples_over_any_batch(count: int, batch: int | None) -> None:
    session = Doubler(batch)
    x = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(predict(session, {"x": x})["y"], x * 2)
    if batch is not None:
        assert set(session.batches) == {batch}


def test_no_samples_is_an_error() -> None:
    with pytest.raises(DataError, match="number of samples"):
        run_raw(Doubler(None), {"x": np.zeros((0, 2), np.float32)})


def test_integers_of_another_dtype_are_real_values() -> None:
    info = TensorInfo(name="x", shape=(None,), dtype="int8", quantization=GRID)
    pixels = np.array([0, 10, 60], np.uint8)
    np.testing.assert_array_equal(to_model(pixels, info), np.array([-3, 17, 117], np.int8))
    raw = np.array([5, -5], np.int8)
    np.testing.assert_array_equal(to_model(raw, info), raw)


def test_one_array_fits_one_input_of_any_name() -> None:
    assert list(match_names(("image",), {"x": np.zeros(1)})) == ["image"]
    with pytest.raises(DataError, match="'b'"):
        match_names(("a", "b"), {"a": np.zeros(1)})
