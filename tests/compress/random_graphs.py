"""Random networks, step by step, with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

SIDE = 4
STEPS = 5


def randomized(model: Any, seed: int = 0) -> Any:
    """Weights, and statistics of batch normalization, that keep activations near one."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        fan_in = max(int(np.prod(weight.shape[:-1])), 1)
        values = random.normal(0, 1 / np.sqrt(fan_in), weight.shape)
        if "gamma" in weight.path or "variance" in weight.path:
            values = random.uniform(0.5, 1.5, weight.shape)
        weight.assign(values)
    return model


class Images:
    """Feature maps of one size, and what can be done to them."""

    def __init__(self, draw: Any) -> None:
        import keras

        self.layers, self.draw, self.ops = keras.layers, draw, keras.ops
        self.given = keras.Input((SIDE, SIDE, 2))
        self.maps = [self.given]

    def one(self) -> Any:
        return self.maps[self.draw(st.integers(0, len(self.maps) - 1))]

    def like(self, x: Any) -> Any:
        same = [y for y in self.maps if y.shape == x.shape]
        return same[self.draw(st.integers(0, len(same) - 1))]

    def filters(self) -> int:
        return int(self.draw(st.integers(2, 5)))

    def conv(self) -> Any:
        act = self.draw(st.sampled_from(["relu", "linear", "sigmoid", "softmax"]))
        return self.layers.Conv2D(self.filters(), 3, padding="same", activation=act)(self.one())

    def grouped(self) -> Any:
        """As many groups as channels, or two groups of what a convolution makes."""
        x, wide = self.one(), self.draw(st.integers(1, 2))
        if self.draw(st.booleans()):
            return self.layers.Conv2D(wide * x.shape[-1], 3, padding="same", groups=x.shape[-1])(x)
        x = self.layers.Conv2D(2 * self.filters(), 1)(x)
        return self.layers.Conv2D(4 * wide, 3, padding="same", groups=2)(x)

    def einsum(self) -> Any:
        x = self.one()
        equation, shape, bias = self.draw(
            st.sampled_from(
                [
                    ("abcx,xy->abcy", (SIDE, SIDE, 3), "y"),
                    ("...x,xy->...y", 3, None),
                    ("abcx,cxy->abcy", (SIDE, SIDE, 3), "y"),
                    ("abcx,cxyz->abyz", (SIDE, SIDE, 3), "z"),
                ]
            )
        )
        return self.layers.EinsumDense(equation, shape, bias_axes=bias, activation="relu")(x)

    def transposed(self) -> Any:
        return self.layers.Conv2DTranspose(self.filters(), 3, padding="same")(self.one())

    def depthwise(self) -> Any:
        multiplier = self.draw(st.integers(1, 2))
        layer = self.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)
        return layer(self.one())

    def separable(self) -> Any:
        multiplier = self.draw(st.integers(1, 2))
        layer = self.layers.SeparableConv2D(
            self.filters(), 3, padding="same", depth_multiplier=multiplier
        )
        return layer(self.one())

    def norm(self) -> Any:
        return self.layers.ReLU()(self.layers.BatchNormalization()(self.one()))

    def prelu(self) -> Any:
        return self.layers.PReLU(shared_axes=[1, 2])(self.one())

    def layer_norm(self) -> Any:
        return self.layers.LayerNormalization()(self.one())

    def operation(self) -> Any:
        x = self.ops.gelu(self.one())
        return 1.5 * x + self.like(x)

    def add(self) -> Any:
        x = self.one()
        return self.layers.Add()([x, self.like(x)])

    def project(self) -> Any:
        x = self.one()
        return self.layers.Add()([x, self.layers.Conv2D(x.shape[-1], 1)(self.one())])

    def gate(self) -> Any:
        x = self.one()
        gate = self.layers.GlobalAveragePooling2D()(x)
        gate = self.layers.Dense(x.shape[-1], activation="sigmoid")(gate)
        return self.layers.Multiply()([x, self.layers.Reshape((1, 1, -1))(gate)])

    def concat(self) -> Any:
        return self.layers.Concatenate()([self.one(), self.one()])

    def shared(self) -> Any:
        x = self.one()
        layer = self.layers.Conv2D(x.shape[-1], 3, padding="same")
        return layer(layer(self.like(x)))

    def nested(self) -> Any:
        import keras

        x = self.one()
        given = keras.Input(x.shape[1:])
        y = self.layers.Conv2D(self.filters(), 3, padding="same", use_bias=False)(given)
        y = self.layers.BatchNormalization()(y)
        y = self.layers.Conv2D(x.shape[-1], 1)(y)
        inner = keras.Model(given, y)
        return self.layers.Concatenate()([inner(x), inner(self.like(x))])

    def reshaped(self) -> Any:
        x = self.one()
        x = self.layers.Reshape((-1, x.shape[-1]))(x)
        x = self.layers.Dense(self.filters())(x)
        return self.layers.Reshape((SIDE, SIDE, x.shape[-1]))(x)

    def flat(self) -> Any:
        x = self.layers.Flatten()(self.one())
        x = self.layers.BatchNormalization()(self.layers.Dense(SIDE * SIDE * 3)(x))
        return self.layers.Reshape((SIDE, SIDE, 3))(x)

    def pooled(self) -> Any:
        x = self.layers.MaxPooling2D()(self.one())
        return self.layers.UpSampling2D()(self.layers.SpatialDropout2D(0.5)(x))

    def head(self) -> Any:
        pool = self.draw(st.sampled_from(["Flatten", "GlobalAveragePooling2D"]))
        return self.layers.Dense(2)(getattr(self.layers, pool)()(self.maps[-1]))


class Sequences(Images):
    """The same for sequences."""

    def __init__(self, draw: Any) -> None:
        super().__init__(draw)
        import keras

        self.given = keras.Input((STEPS,), dtype="int32")
        self.maps = [self.layers.Embedding(7, self.filters())(self.given)]

    def conv(self) -> Any:
        return self.layers.Conv1D(self.filters(), 3, padding="causal")(self.one())

    def transposed(self) -> Any:
        return self.layers.Conv1DTranspose(self.filters(), 3, padding="same")(self.one())

    def depthwise(self) -> Any:
        return self.layers.DepthwiseConv1D(3, padding="same")(self.one())

    def recurrent(self) -> Any:
        kind = self.draw(st.sampled_from(["LSTM", "GRU", "SimpleRNN"]))
        layer = getattr(self.layers, kind)(self.filters(), return_sequences=True)
        return layer(self.one())

    def both_ways(self) -> Any:
        merge = self.draw(st.sampled_from(["concat", "sum"]))
        layer = self.layers.GRU(self.filters(), return_sequences=True)
        return self.layers.Bidirectional(layer, merge_mode=merge)(self.one())

    def states(self) -> Any:
        units = self.filters()
        x, *state = self.layers.LSTM(units, return_sequences=True, return_state=True)(self.one())
        return self.layers.LSTM(units, return_sequences=True)(x, initial_state=state)

    def attention(self) -> Any:
        x, y = self.one(), self.one()
        layer = self.layers.MultiHeadAttention(self.filters(), 2)
        return layer(x, y) if self.draw(st.booleans()) else layer(x, y, y)

    def each_step(self) -> Any:
        return self.layers.TimeDistributed(self.layers.Dense(self.filters()))(self.one())

    def permuted(self) -> Any:
        return self.layers.Permute((2, 1))(self.layers.Permute((2, 1))(self.one()))

    def head(self) -> Any:
        pool = self.draw(st.sampled_from(["Flatten", "GlobalMaxPooling1D"]))
        return self.layers.Dense(2)(getattr(self.layers, pool)()(self.maps[-1]))


IMAGE_STEPS = (
    "conv grouped einsum transposed depthwise separable norm prelu layer_norm operation add "
    "project gate concat shared nested reshaped flat pooled"
)
SEQUENCE_STEPS = (
    "conv transposed depthwise norm layer_norm operation add concat recurrent both_ways states "
    "attention each_step permuted"
)
