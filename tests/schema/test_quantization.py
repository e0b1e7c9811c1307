from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter, ValidationError

from edgekit.schema.quantization import Quantization

SCALES = st.floats(1e-6, 1e3)
DTYPES = st.sampled_from(["int8", "uint8", "int16", "int32"])


def test_the_formula_of_the_specification() -> None:
    quantization = Quantization((0.5,), (-3,))
    real = np.array([-62.5, -1.0, 0.0, 0.26, 1.0, 65.0, 1e9, -1e9], np.float32)
    np.testing.assert_array_equal(
        quantization.quantize(real, "int8"), np.array([-128, -5, -3, -2, -1, 127, 127, -128])
    )
    np.testing.assert_array_equal(
        quantization.dequantize(np.array([-128, -3, 127], np.int8)), [-62.5, 0.0, 65.0]
    )


@given(SCALES, st.integers(-128, 127), hnp.arrays(np.int8, hnp.array_shapes(max_dims=3)))
def test_integers_come_back_exactly(scale: float, zero: int, integers: np.ndarray) -> None:
    quantization = Quantization((scale,), (zero,))
    real = quantization.dequantize(integers)
    assert real.dtype == np.float32
    assert real.shape == integers.shape
    np.testing.assert_array_equal(quantization.quantize(real, "int8"), integers)


@given(DTYPES, SCALES, st.floats(-1, 1))
def test_the_error_is_at_most_half_a_step_inside_the_range(
    dtype: str, scale: float, share: float
) -> None:
    quantization = Quantization((scale,), (0,))
    limits = np.iinfo(dtype)
    middle, half = (limits.max + limits.min) / 2, (limits.max - limits.min) / 2
    real = np.array([(middle + share * half) * scale])
    steps = quantization.quantize(real, dtype).astype(np.float64)
    assert abs(steps * scale - real).item() <= scale * (0.5 + 1e-6)


@given(st.integers(0, 2), st.data())
def test_each_channel_has_its_own_parameters(axis: int, data: st.DataObject) -> None:
    integers = data.draw(hnp.arrays(np.int8, (2, 3, 4)))
    count = integers.shape[axis]
    scales = data.draw(st.tuples(*[SCALES] * count))
    zeros = data.draw(st.tuples(*[st.integers(-128, 127)] * count))
    together = Quantization(scales, zeros, axis).dequantize(integers)
    for channel in range(count):
        alone = Quantization((scales[channel],), (zeros[channel],))
        np.testing.assert_array_equal(
            np.take(together, channel, axis), alone.dequantize(np.take(integers, channel, axis))
        )
    again = Quantization(scales, zeros, axis).quantize(together, "int8")
    np.testing.assert_array_equal(again, integers)


@pytest.mark.parametrize(
    ("scale", "zero_point", "axis"),
    [((), (), None), ((0.1,), (1, 2), None), ((0.1, 0.2), (1,), 0), ((0.1, 0.2), (1, 2), None)],
)
def test_parameters_that_do_not_fit_together_are_refused(
    scale: tuple[float, ...], zero_point: tuple[int, ...], axis: int | None
) -> None:
    with pytest.raises(ValueError, match=r"do not match|need a channel axis"):
        Quantization(scale, zero_point, axis)
    read = {"scale": scale, "zero_point": zero_point, "axis": axis}
    with pytest.raises(ValidationError):  # the same where a sidecar is read
        TypeAdapter(Quantization).validate_python(read)
