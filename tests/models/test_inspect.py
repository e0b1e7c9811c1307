from __future__ import annotations

import pytest

from edgekit.models.inspect import macs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("use_bias", [True, False])
def test_attention_counts_its_projections_not_their_biases(use_bias: bool) -> None:
    import keras

    given = keras.Input((6, 8))
    layer = keras.layers.MultiHeadAttention(4, 3, use_bias=use_bias)
    layer(given, given)
    projections = 4 * 6 * 8 * (4 * 3)  # query, key, value, output
    scores_and_sum = 6 * 6 * 4 * (3 + 3)
    assert macs(layer) == projections + scores_and_sum
