"""A model without some channels computes what the model with zeros in their place computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.base.errors import InputError
from edgekit.compress.channel_rules import register_rule
from edgekit.compress.coupling import Site, Weight, Wiring
from edgekit.compress.importance import importance
from edgekit.compress.network import Network, trace
from edgekit.compress.surgery import remove_channels
from edgekit.data.dataset import Split
from tests.compress.random_graphs import (
    IMAGE_STEPS,
    SEQUENCE_STEPS,
    Images,
    Sequences,
    randomized,
)

pytestmark = pytest.mark.slow


def masked(model: Any, network: Network, gone: Any) -> Any:
    """The reference: a copy with zeros along the channels that go, in all weights."""
    from edgekit.compress.contract import copy_of

    copy = copy_of(model)
    copies = dict(zip((id(weight) for weight in model.weights), copy.weights, strict=True))
    for wired in network.layers:
        for weight in wired.wiring.weights:
            values = weight.variable.numpy().copy()
            for axis, ids in enumerate(weight.axes):
                if ids is not None:
                    places: list[Any] = [slice(None)] * values.ndim
                    places[axis] = np.isin(network.coupling.roots(ids), gone)
                    values[tuple(places)] = 0
            copies[id(weight.variable)].assign(values)
    return copy


def outputs(model: Any) -> list[Any]:
    """What a model computes of random samples; free sizes are 6."""
    import keras

    random = np.random.default_rng(1)
    arrays = []
    for tensor in model.inputs:
        shape = (3, *(size or 6 for size in tensor.shape[1:]))
        whole = "int" in tensor.dtype
        values = random.integers(0, 7, shape) if whole else random.normal(size=shape)
        arrays.append(values.astype(tensor.dtype))
    found = model(keras.tree.pack_sequence_as(model.input, arrays), training=False)
    return [np.asarray(one) for one in keras.tree.flatten(found)]


def check_exact(model: Any, network: Network, gone: Any) -> Any:
    """Removes channels, compares with the reference, and returns the smaller model."""
    small = remove_channels(model, network, gone)
    for now, reference in zip(outputs(small), outputs(masked(model, network, gone)), strict=True):
        assert np.isfinite(reference).all()
        np.testing.assert_allclose(now, reference, rtol=0, atol=1e-5 * max(1, abs(reference).max()))
    return small


def half(network: Network) -> Any:
    """Every other channel of each group, the first one stays."""
    return np.concatenate([np.empty(0, np.int64), *(g.roots[1::2] for g in network.groups())])


@pytest.mark.parametrize(("kind", "steps"), [(Images, IMAGE_STEPS), (Sequences, SEQUENCE_STEPS)])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_graphs_lose_channels_exactly(kind: Any, steps: str, data: Any) -> None:
    import keras

    maker = kind(data.draw)
    for step in data.draw(st.lists(st.sampled_from(steps.split()), min_size=2, max_size=7)):
        maker.maps.append(getattr(maker, step)())
    model = randomized(keras.Model(maker.given, maker.head()))
    network = trace(model)
    gone = []
    for group in network.groups():
        count = data.draw(st.integers(0, len(group.roots) - 1))
        gone += data.draw(st.permutations(group.roots.tolist()))[:count]
    small = check_exact(model, network, np.array(gone, np.int64))
    assert (small.count_params() < model.count_params()) == bool(gone)


@pytest.mark.parametrize(
    ("family", "shape", "options", "most"),
    [
        ("mlp", (20,), {}, 0.5),
        ("cnn", (16, 16, 3), {}, 0.4),
        ("resnet8", (16, 16, 3), {}, 0.3),
        ("mobilenet_v1", (32, 32, 3), {}, 0.3),
        ("dscnn", (49, 10, 1), {}, 0.4),
        ("autoencoder", (64,), {}, 0.4),
        ("rnn", (6, 5), {"units": (8, 6)}, 0.4),
        ("rnn", (6, 5), {"cell": "lstm", "bidirectional": True, "units": (8, 6)}, 0.4),
        ("vit", (16, 16, 3), {}, 0.7),
    ],
)
def test_built_in_families_lose_half_of_their_channels_exactly(
    family: str, shape: tuple[int, ...], options: dict[str, Any], most: float
) -> None:
    from edgekit.models.build import FAMILIES

    model = randomized(FAMILIES.get(family)(shape, None, **options))
    network = trace(model)
    small = check_exact(model, network, half(network))
    assert small.count_params() < most * model.count_params()
    changed = [abs(a - b).max() for a, b in zip(outputs(model), outputs(small), strict=True)]
    assert max(changed) > 1e-3  # what went did matter


def test_several_inputs_and_outputs_and_nested_sequential_models() -> None:
    import keras

    layers = keras.layers
    image, table = keras.Input((6, 6, 1), name="image"), keras.Input((5,), name="table")
    tower = keras.Sequential([layers.Conv2D(6, 3), layers.ReLU(), layers.Flatten()], name="tower")
    deep = keras.Sequential([keras.Input((4,)), layers.Dense(6), tower_head()], name="deep")
    x = layers.Concatenate()([tower(image), layers.Dense(8, name="rows")(table)])
    x = layers.Dense(4, name="joined")(x)
    model = keras.Model(
        {"image": image, "table": table}, [layers.Dense(2, name="a")(x), deep(x)], name="both"
    )
    network = trace(randomized(model))
    makers = {label for group in network.groups() for label, _ in group.makers}
    assert makers == {"tower/" + tower.layers[0].name, "rows", "joined",
                      "deep/" + deep.layers[0].name, "deep/head/inner"}  # fmt: skip
    small = check_exact(model, network, half(network))
    assert {tensor.name for tensor in small.inputs} == {"image", "table"}
    assert small.get_layer("tower").layers[-1].output.shape == (None, 48)


def tower_head() -> Any:
    import keras

    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, name="inner"), keras.layers.Dense(1)], name="head"
    )


def test_free_sizes_stay_free() -> None:
    import keras

    layers = keras.layers
    given = keras.Input((None, None, 3))
    x = layers.Conv2D(6, 3, name="conv")(given)
    x = layers.GlobalMaxPooling2D()(x)
    model = randomized(keras.Model(given, layers.Dense(2)(x)))
    network = trace(model)
    small = check_exact(model, network, half(network))
    assert small.input_shape == (None, None, None, 3)
    assert small.get_layer("conv").filters == 3


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda keras, x: keras.layers.LayerNormalization()(x), "it mixes channels"),
        (lambda keras, x: keras.layers.Lambda(lambda y: y[..., ::-1])(x), "is not known"),
        (lambda keras, x: x[..., :2], "is not known"),
        (lambda keras, x: x * np.arange(1.0, 5.0), "constant for each channel"),
        (lambda keras, x: keras.layers.Dense(3)(keras.layers.Permute((3, 1, 2))(x)), "axis"),
        (lambda keras, x: keras.layers.Reshape((-1, 4))(keras.layers.Softmax()(x)), "mixes"),
    ],
)
def test_what_cannot_lose_channels_freezes_them_with_the_reason(build: Any, reason: str) -> None:
    import keras

    given = keras.Input((5, 5, 3))
    x = build(keras, keras.layers.Conv2D(4, 3, name="conv")(given))
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    network = trace(randomized(keras.Model(given, x)))
    assert not any(("conv", "filters") in group.makers for group in network.groups())
    (why,) = [item.reason for item in network.untreated if item.layer == "conv"]
    assert why.startswith("its filters stay because of ")
    assert reason in why


def test_custom_layers_keep_their_channels_until_a_rule_is_registered() -> None:
    import keras

    class Factors(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(shape=(shape[-1],), name="factor")

        def call(self, x: Any) -> Any:
            return x * self.factor

    given = keras.Input((6,))
    x = Factors(name="factors")(keras.layers.Dense(8, name="dense")(given))
    model = randomized(keras.Model(given, keras.layers.Dense(2, name="last")(x)))
    before = trace(model)
    assert before.groups() == []
    assert before.untreated[0].layer == "factors"

    def rule(site: Site) -> Wiring:
        return Wiring(site.inputs, (Weight(site.layer.factor, (site.taken(),), scale=True),))

    register_rule(Factors, rule)
    network = trace(model)
    small = check_exact(model, network, half(network))
    assert small.get_layer("factors").factor.shape == (4,)

    register_rule(Factors, lambda site: Wiring(site.inputs, (Weight(site.layer.factor, ()),)))
    with pytest.raises(InputError, match=r"the rule of Factors does not fit its weight factor"):
        trace(model)


def test_a_subclass_is_not_taken_for_its_parent() -> None:
    import keras

    class Reversed(keras.layers.Dense):
        def call(self, x: Any) -> Any:
            return super().call(x[..., ::-1])

    given = keras.Input((6,))
    x = Reversed(4, name="own")(keras.layers.Dense(8, name="dense")(given))
    network = trace(keras.Model(given, keras.layers.Dense(2)(x)))
    assert network.groups() == []
    assert ("own", "Reversed") in {(item.layer, item.kind) for item in network.untreated}


def test_a_layer_shared_with_a_call_that_cannot_shrink_keeps_its_channels() -> None:
    import keras

    layers = keras.layers
    one, other = keras.Input((4,)), keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    x = layers.Dense(4, name="first")(one)
    both = layers.Concatenate()([shared(x), shared(other)])  # the input has all its channels
    model = randomized(keras.Model([one, other], layers.Dense(2)(both)))
    network = trace(model)
    assert {label for group in network.groups() for label, _ in group.makers} == {"shared"}
    check_exact(model, network, half(network))


def test_depth_multipliers_widen_each_channel() -> None:
    import keras

    layers = keras.layers
    given = keras.Input((5, 5, 3))
    x = layers.Conv2D(4, 3, name="conv")(given)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(6, 2, depth_multiplier=3, name="separable")(x)
    model = randomized(keras.Model(given, layers.Dense(2)(layers.Flatten()(x))))
    network = trace(model)
    small = check_exact(model, network, half(network))
    assert small.get_layer("separable").pointwise_kernel.shape == (1, 1, 12, 3)


def test_groups_and_products_really_shrink() -> None:
    import keras

    layers = keras.layers
    given = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, name="conv")(given)
    x = layers.Conv2D(8, 3, groups=4, name="groups")(x)
    x = layers.Conv2D(8, 1, groups=8, name="single")(x)
    x = layers.EinsumDense("...x,xy->...y", 6, bias_axes="y", name="product")(x)
    model = randomized(keras.Model(given, layers.Dense(2)(layers.Flatten()(x))))
    network = trace(model)
    small = check_exact(model, network, half(network))
    shapes = {layer.name: layer.kernel.shape for layer in small.layers if hasattr(layer, "kernel")}
    assert shapes["conv"] == (3, 3, 2, 4)
    assert shapes["groups"] == (3, 3, 1, 4)  # of two channels in each of four groups, one stays
    assert shapes["single"] == (1, 1, 1, 4)
    assert small.get_layer("single").groups == 4
    assert shapes["product"] == (4, 3)
    scores = importance(
        "activation", model, network, Split({"x": np.ones((4, 6, 6, 2))}, np.ones(4))
    )
    assert all(np.isfinite(scores[group.roots]).all() for group in network.groups())


def test_both_directions_keep_equally_many_units() -> None:
    import keras

    layers = keras.layers
    given = keras.Input((5, 3))
    x = layers.Bidirectional(layers.LSTM(4), name="both")(given)
    model = randomized(keras.Model(given, layers.Dense(2)(x)))
    network = trace(model)
    (group,) = network.groups()
    small = check_exact(model, network, group.roots[[0, 1, 3]])
    assert small.get_layer("both").output.shape == (None, 2)
