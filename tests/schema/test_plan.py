from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.errors import InputError
from edgekit.schema.names import PRECISIONS
from edgekit.schema.plan import QuantizationPlan, load_plan, plan_path, save_plan


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(PRECISIONS), st.none() | st.integers(1, 10**6))
def test_a_plan_is_kept_beside_its_model(tmp_path: Path, precision: str, samples: int) -> None:
    plan = QuantizationPlan(precision=precision, calibration_samples=samples)  # type: ignore[arg-type]
    model = tmp_path / "small.keras"
    assert save_plan(plan, model) == tmp_path / "small.keras.plan.json" == plan_path(model)
    assert load_plan(model) == plan


def test_no_plan_is_none(tmp_path: Path) -> None:
    assert load_plan(tmp_path / "small.keras") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"precision": "int9"}', "did you mean 'int8'"),
        ('{"precision": "int8",\n "sample": 3}', "plan.json:2:2: unknown key 'sample'"),
        ('{"precision": "int8"', "is not valid YAML"),
        ("", "key 'precision' is missing"),
    ],
)
def test_a_damaged_plan_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "small.keras.plan.json").write_text(text)
    with pytest.raises(InputError) as caught:
        load_plan(tmp_path / "small.keras")
    assert words in str(caught.value)
