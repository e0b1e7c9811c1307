import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.base.errors import RecipeError
from edgekit.schema.recipe import EarlyStoppingSpec
from edgekit.training.stopping import best_epoch, should_stop


def test_loss_falls_and_accuracy_rises():
    history = {"val_loss": [3.0, 1.0, 2.0], "val_accuracy": [0.1, 0.2, 0.3]}
    assert best_epoch(history, EarlyStoppingSpec(monitor="val_loss")) == 1
    assert best_epoch(history, EarlyStoppingSpec(monitor="val_accuracy")) == 2


def test_an_improvement_must_be_large_enough():
    history = {"val_loss": [1.0, 0.95, 0.85]}
    assert best_epoch(history, EarlyStoppingSpec(min_delta=0.1)) == 2
    assert best_epoch(history, EarlyStoppingSpec(min_delta=0.2)) == 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(1, 10))
def test_it_stops_where_keras_would(values, patience):
    """The rule of keras.callbacks.EarlyStopping: `patience` epochs in a row without a new best."""
    spec = EarlyStoppingSpec(patience=patience)
    best, wait, stopped = float("inf"), 0, None
    for epoch, value in enumerate(values):
        wait += 1
        if value < best:
            best, wait = value, 0
        if wait >= patience and stopped is None:
            stopped = epoch
    ours = [n for n in range(len(values)) if should_stop({"val_loss": values[: n + 1]}, spec)]
    assert (ours[0] if ours else None) == stopped


def test_an_unknown_quantity():
    with pytest.raises(RecipeError) as caught:
        best_epoch({"val_loss": [1.0]}, EarlyStoppingSpec(monitor="val_los"))
    assert "did you mean 'val_loss'" in (caught.value.hint or "")
