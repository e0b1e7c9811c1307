"""Steps counted against a Keras model that computes in float what an int8 file computes."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.schema.artifact import Quantization, TensorInfo
from edgekit.schema.recipe import DEFAULT_LIMITS
from edgekit.verify.parity import compare, simulated_limits

SCALE = 0.125
INFO = TensorInfo(
    name="y",
    shape=(None, 10),
    dtype="int8",
    quantization=Quantization(scale=[SCALE], zero_point=[3]),
)


@pytest.mark.parametrize(("further", "passes"), [(5, True), (6, False)])
def test_half_a_percent_of_the_values_may_be_further_off_than_a_step(
    further: int, passes: bool
) -> None:
    wanted = np.random.default_rng(0).integers(-100, 100, (100, 10))
    found = wanted.copy()
    found[:, 0] += 1
    found.reshape(-1)[1 : 1 + further] += 2  # all in one sample: values count, not samples
    result = compare(
        {"y": found.astype(np.int8)},
        {"y": (SCALE * (wanted - 3)).astype(np.float32)},
        artifact="a",
        reference_name="r",
        infos=(INFO,),
        limits=simulated_limits(DEFAULT_LIMITS["int8"], random=False),
        classifier=False,
        simulated=True,
    )
    assert result.max_step_diff == 2
    assert result.within_one_step == 1 - further / 1000
    assert result.passed == passes
    assert passes or "output steps" in result.failures[0]


def test_limits_that_were_given_stay() -> None:
    given = DEFAULT_LIMITS["int8"].model_copy(update={"min_within_steps": 0.5})
    assert simulated_limits(given, random=False) == given
    assert simulated_limits(DEFAULT_LIMITS["int8"], random=True).min_within_steps == 0.95
