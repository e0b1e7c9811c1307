"""The arithmetic of parity: properties, values known by hand, and every limit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgekit.base.errors import DataError
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization
from edgekit.schema.recipe import Limits
from edgekit.schema.results import VerifyResult
from edgekit.verify.parity import compare, snr_db

FLOAT = TensorInfo(name="y", shape=(None, 3), dtype="float32")
REALS = hnp.arrays(np.float32, (6, 3), elements=st.floats(-100, 100, width=32))
# Far from the smallest floats, where a change of the unit rounds.
SCALABLE = hnp.arrays(np.float32, (6, 3), elements=st.integers(-6400, 6400).map(lambda n: n / 64))
INT8 = hnp.arrays(np.int8, (6, 3))


def quantized(scale: float, zero_point: int = 0) -> TensorInfo:
    grid = Quantization(scale=(scale,), zero_point=(zero_point,))
    return TensorInfo(name="y", shape=(None, 3), dtype="int8", quantization=grid)


def parity(
    found: np.ndarray,
    wanted: np.ndarray,
    *,
    info: TensorInfo = FLOAT,
    other: TensorInfo | None = None,
    y: np.ndarray | None = None,
    **limits: float,
) -> VerifyResult:
    return compare(
        {"y": found},
        {"y": wanted},
        artifact="a.tflite",
        reference_name="reference",
        infos=(info,),
        reference_infos=() if other is None else (other,),
        y=y,
        limits=Limits.model_validate(limits),
    )


@given(REALS)
def test_a_model_equals_itself(values: np.ndarray) -> None:
    strict = {"max_abs_diff": 0, "min_snr_db": 300, "min_agreement": 1}
    result = parity(values, values.copy(), **strict)
    assert result.passed
    assert (result.max_abs_diff, result.snr_db, result.top1_agreement) == (0, None, 1)


@given(SCALABLE, SCALABLE, st.sampled_from([0.25, 2.0, 8.0]))
def test_snr_does_not_depend_on_the_unit(a: np.ndarray, b: np.ndarray, unit: float) -> None:
    plain, scaled = snr_db(a, b), snr_db(a * np.float32(unit), b * np.float32(unit))
    assert (plain is None) == (scaled is None)
    if plain is not None and scaled is not None:
        assert scaled == pytest.approx(plain, abs=1e-6)


@given(REALS, REALS)
def test_differences_are_symmetric(a: np.ndarray, b: np.ndarray) -> None:
    assert parity(a, b).max_abs_diff == parity(b, a).max_abs_diff


def test_snr_by_hand() -> None:
    assert snr_db(np.array([3.0, 4.0]), np.array([3.0, 3.5])) == pytest.approx(20.0)
    assert snr_db(np.zeros(2), np.ones(2)) == -1000


@given(INT8, INT8, st.integers(-10, 10))
def test_steps_count_integers(a: np.ndarray, b: np.ndarray, shift: int) -> None:
    """Zero points may differ: only what the integers stand for counts."""
    result = parity(a, b, info=quantized(0.125, 0), other=quantized(0.125, shift))
    difference = np.abs(a.astype(int) - (b.astype(int) - shift)).max(axis=1)
    assert result.max_step_diff == difference.max()
    assert result.within_one_step == pytest.approx(np.mean(difference <= 1))
    assert result.max_abs_diff == pytest.approx(difference.max() * 0.125, rel=1e-5)


def test_steps_are_not_counted_between_different_scales_or_floats() -> None:
    a = np.ones((2, 3), np.int8)
    assert parity(a, a, info=quantized(0.5), other=quantized(0.25)).max_step_diff is None
    assert parity(a, a.astype(np.float32), info=quantized(0.5)).max_step_diff is None
    assert parity(a, a, info=quantized(0.5)).max_step_diff == 0


REFERENCE = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
LABELS = np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("limit", "bad", "good", "words"),
    [
        ("max_abs_diff", 0.8, 0.95, "largest difference"),
        ("min_snr_db", 6.0, 5.0, "SNR"),
        ("min_agreement", 0.8, 0.75, "agreement"),
        ("max_accuracy_drop", 24.0, 25.0, "accuracy drops by 25.00"),
    ],
)
def test_each_limit_fails_and_passes(limit: str, bad: float, good: float, words: str) -> None:
    found = REFERENCE.copy()
    found[3] = [0.5, 0.9, 0]  # 1 of 4 changes its class
    broken = parity(found, REFERENCE, y=LABELS, **{limit: bad})
    assert not broken.passed
    assert len(broken.failures) == 1 and words in broken.failures[0]
    assert parity(found, REFERENCE, y=LABELS, **{limit: good}).passed
    assert broken.metrics == {"accuracy": 0.75} and broken.reference_metrics == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("max_steps", "share", "passes"), [(1, 0.5, True), (1, 0.6, False), (5, None, True)]
)
def test_step_limits(max_steps: int, share: float | None, passes: bool) -> None:
    wanted = np.zeros((2, 3), np.int8)
    found = wanted.copy()
    found[1, 2] = 5
    given_limits = {"max_step_diff": max_steps, "min_within_steps": share}
    result = compare(
        {"y": found},
        {"y": wanted},
        artifact="a",
        reference_name="b",
        infos=(quantized(0.5),),
        limits=Limits.model_validate(given_limits),
    )
    assert result.passed == passes
    assert (result.max_step_diff, result.within_one_step) == (5, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_fail_without_any_limit(value: float) -> None:
    found = REFERENCE.copy()
    found[0, 0] = value
    result = parity(found, REFERENCE)
    assert not result.passed and "NaN or infinite" in result.failures[0]
    VerifyResult.model_validate_json(result.model_dump_json())


def test_an_output_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match="shape"):
        parity(REFERENCE, REFERENCE[:, :2])
