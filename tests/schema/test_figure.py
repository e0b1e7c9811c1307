import pytest
from pydantic import ValidationError

from edgekit.schema.figure import Figure


def test_a_figure_has_a_value_or_a_reason() -> None:
    assert Figure(value=1.9, unit="ms", origin="measured").reason is None
    assert Figure.missing("no power meter").value is None
    with pytest.raises(ValidationError, match="gives the reason"):
        Figure(unit="ms")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_number(value: float) -> None:
    with pytest.raises(ValidationError):
        Figure(value=value, unit="ms")
