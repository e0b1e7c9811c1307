from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit import compress
from edgekit.compress.kernels import Axes, find_kernels, register_kernels
from edgekit.data.dataset import Dataset, Split
from edgekit.schema.artifact import Preprocessing

pytestmark = pytest.mark.slow


def gated() -> tuple[type, Any]:
    """A layer class of one's own, and a model with it."""
    import keras

    class Gated(keras.layers.Layer):
        def __init__(self, units: int, **settings: Any) -> None:
            super().__init__(**settings)
            self.units = units

        def build(self, shape: Any) -> None:
            self.own = self.add_weight(shape=(shape[-1], self.units), name="own")
            self.gate = self.add_weight(shape=(shape[-1], self.units), name="gate")

        def call(self, x: Any) -> Any:
            return (x @ self.own) * keras.ops.sigmoid(x @ self.gate)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "units": self.units}

    given = keras.Input((6,), name="x")
    hidden = Gated(16, name="gated")(given)
    return Gated, keras.Model(given, keras.layers.Dense(3, name="last")(hidden))


def test_a_rule_lets_a_layer_of_ones_own_take_part() -> None:
    kind, model = gated()
    assert [row.layer for row in find_kernels(model)[1]] == ["gated"]
    register_kernels(kind, {"own": Axes(), "gate": Axes()})
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    split = Split({"x": x}, np.arange(64, dtype=np.int32) % 3)
    data = Dataset(split, split, split, split, ("a", "b", "c"), Preprocessing())
    sparse = compress.prune(model, data, sparsity=0.5, epochs=0).model
    few = compress.cluster(sparse, data, clusters=4, epochs=0).model
    for name in ("own", "gate"):
        values = getattr(few.get_layer("gated"), name).numpy()
        assert (values == 0).mean() >= 0.5
        assert len(np.unique(values[values != 0])) <= 4
    aware = compress.qat(few, data, epochs=0)
    assert "gated" not in [row["layer"] for row in aware.report["untreated"]]
    new = aware.model.get_layer("gated")
    own, gate = (rounded(getattr(new, name).numpy()) for name in ("own", "gate"))
    wanted = (x @ own) / (1 + np.exp(-(x @ gate)))
    np.testing.assert_allclose(np.asarray(new(x)), wanted, atol=1e-5)


def rounded(kernel: np.ndarray) -> np.ndarray:
    """To int8, symmetric, per channel (Jacob et al. 2018)."""
    step = np.maximum(np.abs(kernel).max(axis=0), 1e-8) / 127
    return np.asarray(np.round(kernel / step) * step)
