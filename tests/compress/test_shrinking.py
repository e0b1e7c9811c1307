from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import edgekit.compress
from edgekit.base.errors import InputError, PostconditionError, PreconditionError
from edgekit.compress.cost import CostModel, costs
from edgekit.compress.importance import importance
from edgekit.compress.network import trace
from edgekit.compress.surgery import remove_channels
from edgekit.data.dataset import Dataset
from edgekit.profiling.targets import load_target
from edgekit.schema.recipe import TrainSpec

pytestmark = pytest.mark.slow


def residual() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    given = keras.Input((8, 8, 1), name="x")
    x = layers.Conv2D(16, 3, padding="same", name="stem")(given)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(24, 3, padding="same", activation="relu", name="inner")(x)
    y = layers.Conv2D(16, 3, padding="same", name="outer")(y)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return keras.Model(given, layers.Dense(3, activation="softmax", name="last")(x))


def attention() -> Any:
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    given = keras.Input((6, 8))
    x = layers.MultiHeadAttention(4, 3, name="attention")(given, given)
    x = layers.LSTM(8, name="lstm")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(given, layers.Dense(2, name="last")(x))


def crossed() -> Any:
    """Attention of 6 queries to 10 keys, all of which are made by layers that can lose channels."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    short, long = keras.Input((6, 8)), keras.Input((10, 8))
    query, value, key = layers.Dense(8)(short), layers.Dense(6)(long), layers.Dense(6)(long)
    attention = layers.MultiHeadAttention(3, 12, 8, output_shape=5, name="attention")
    x = layers.GlobalAveragePooling1D()(attention(query, value, key))
    return keras.Model([short, long], layers.Dense(2, name="last")(x))


def sizes(result: Any) -> dict[str, int]:
    return {f"{row['layer']}.{row['of']}": row["after"] for row in result.report["layers"]}


def test_half_of_the_channels_go_from_each_layer() -> None:
    result = edgekit.compress.shrink(residual())
    assert sizes(result) == {
        "stem.filters": 8, "inner.filters": 12, "outer.filters": 8, "last.units": 3
    }  # fmt: skip
    assert result.report["untreated"] == []
    assert result.report["costs"] == costs(result.model)
    assert type(result.model.get_layer("stem")).__name__ == "Conv2D"


@pytest.mark.parametrize("criterion", ["l1", "l2", "batchnorm", "taylor", "activation"])
def test_every_criterion_removes_channels_that_do_nothing_first(
    criterion: str, dataset: Dataset
) -> None:
    model = residual()
    random = np.random.default_rng(0)
    idle = [1, 4, 6]
    for name in ("stem", "outer", "norm"):
        for weight in model.get_layer(name).weights:
            values = weight.numpy() + random.uniform(0.1, 0.2, weight.shape)
            values[..., idle] = 0 if "variance" not in weight.path else 1
            weight.assign(values)
    before = model(dataset.test.x["x"])
    result = edgekit.compress.shrink(
        model, dataset, criterion=criterion, layers={"stem": 3 / 16}, skip=["inner"], epochs=0
    )
    assert sizes(result)["stem.filters"] == 13
    np.testing.assert_allclose(result.model(dataset.test.x["x"]), before, atol=1e-5)


@pytest.mark.parametrize("measure", ["macs", "parameters", "bytes"])
@pytest.mark.parametrize("scope", ["layer", "model"])
@pytest.mark.parametrize("share", [0.75, 0.3])
def test_a_budget_is_met_and_used(measure: str, scope: str, share: float) -> None:
    model = residual()
    result = edgekit.compress.shrink(model, budget={measure: share}, scope=scope)
    whole, now = costs(model)[measure], costs(result.model)[measure]  # type: ignore[index]
    assert 0.8 * share * whole < now <= share * whole
    number = edgekit.compress.shrink(model, budget={measure: share * whole}, scope=scope)
    assert sizes(number) == sizes(result)


def test_the_channels_of_each_head_go_in_fours() -> None:
    model = crossed()
    result = edgekit.compress.shrink(model, ratio=0.4, round_to=16)
    channels = sizes(result)
    assert channels["attention.heads"] == 2
    assert (channels["attention.key_dim"], channels["attention.value_dim"]) == (8, 8)
    layer = result.model.get_layer("attention")
    assert (layer.num_heads, layer.key_dim, layer.value_dim) == (2, 8, 8)


@pytest.mark.parametrize("build", [residual, attention, crossed])
def test_costs_are_known_before_the_model_is_built(build: Any) -> None:
    model = build()
    network = trace(model)
    gone = np.concatenate([group.roots[::3] for group in network.groups()])
    after = costs(remove_channels(model, network, gone))
    for measure in ("macs", "parameters", "bytes"):
        assert CostModel(model, network, measure).without(gone) == pytest.approx(after[measure])


def test_heads_and_units_go_too_and_heads_are_not_rounded() -> None:
    result = edgekit.compress.shrink(attention(), round_to=4)
    assert sizes(result) == {
        "attention.heads": 2, "attention.key_dim": 3, "attention.value_dim": 3,
        "attention.channels": 8, "lstm.units": 4, "last.units": 2
    }  # fmt: skip
    (why,) = result.report["untreated"][:1]
    assert why["layer"] == "norm" or "norm" in why["reason"]


def test_channels_are_rounded_to_what_the_targets_like() -> None:
    target = load_target("raspberry-pi-4")
    result = edgekit.compress.shrink(residual(), ratio=0.45, targets=(target,))
    assert result.report["round_to"] == target.channel_multiple == 4
    assert sizes(result)["stem.filters"] == 12  # 8.8 are asked for, and never more go than asked
    assert sizes(result)["inner.filters"] == 16
    coarse = edgekit.compress.shrink(residual(), round_to=64)
    assert not coarse.modified
    assert coarse.report["warnings"] == ["no channels could go in multiples of 64"]


def test_layers_have_shares_of_their_own_and_can_be_skipped() -> None:
    result = edgekit.compress.shrink(residual(), layers={"inn*": 0.75}, skip=["outer"])
    assert sizes(result)["inner.filters"] == 6
    assert sizes(result)["stem.filters"] == 16  # it is added to what is skipped
    assert {"layer": "outer", "reason": "skipped as asked"} in result.report["untreated"]


def test_the_least_important_channels_of_the_model_go_but_no_layer_vanishes() -> None:
    model = residual()
    kernel = model.get_layer("inner").kernel
    kernel.assign(kernel * np.linspace(1e-4, 2, 24) ** 2)
    result = edgekit.compress.shrink(model, ratio=0.4, scope="model", max_ratio=0.75)
    channels = sizes(result)
    assert channels["stem.filters"] + channels["inner.filters"] == 24
    assert channels["inner.filters"] < 12
    assert channels["inner.filters"] >= 6


def test_step_by_step_with_fine_tuning_ends_small_and_accurate(dataset: Dataset) -> None:
    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    model = residual()
    fine_tune(model, dataset, epochs=12, learning_rate=3e-3, batch_size=16, seed=0)
    train = TrainSpec(epochs=8, batch_size=16)
    result = edgekit.compress.shrink(
        model, dataset, budget={"macs": 0.4}, steps=2, epochs=5, learning_rate=3e-3, train=train
    )
    assert evaluate(model, dataset.test)["accuracy"] > 0.95
    assert evaluate(result.model, dataset.test)["accuracy"] > 0.95
    assert len(result.report["history"]["loss"]) == 5
    assert costs(result.model)["macs"] <= 0.4 * costs(model)["macs"]


def test_zeros_of_a_pass_before_stay_zero(dataset: Dataset) -> None:
    pruned = edgekit.compress.prune(residual(), sparsity=0.75).model
    result = edgekit.compress.shrink(
        pruned, dataset, epochs=1, learning_rate=1e-2, train=TrainSpec(batch_size=16)
    )
    once = edgekit.compress.shrink(pruned).model
    for name in ("stem", "inner", "outer"):
        tuned, reference = (m.get_layer(name).kernel.numpy() for m in (result.model, once))
        assert (reference == 0).mean() > 0.5
        np.testing.assert_array_equal(tuned == 0, reference == 0)


def test_scores_of_channels_that_go_together_are_one() -> None:
    model = residual()
    network = trace(model)
    scores = importance("l2", model, network)
    groups = {group.makers: group.roots for group in network.groups()}
    together = scores[groups[("outer", "filters"), ("stem", "filters")]]
    stem, outer = (
        np.linalg.norm(model.get_layer(n).kernel.numpy().reshape(-1, 16), axis=0)
        for n in ("stem", "outer")
    )
    expected = (stem / stem.mean() + outer / outer.mean()) / 2
    np.testing.assert_allclose(np.sort(together), np.sort(expected), rtol=1e-5)


def test_strict_refuses_layers_that_cannot_be_shrunk() -> None:
    with pytest.raises(PreconditionError, match=r"attention \(MultiHeadAttention\): its channels"):
        edgekit.compress.shrink(attention(), strict=True)
    edgekit.compress.shrink(attention(), strict=True, skip=["attention"])
    edgekit.compress.shrink(residual(), strict=True)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"skip": ["inne"]}, PreconditionError, "did you mean 'inner'?"),
        ({"criterion": "taylor"}, PreconditionError, "needs training samples"),
        ({"epochs": 2}, PreconditionError, "need training samples"),
        ({"budget": {"macs": 1e-9}}, PreconditionError, "cannot be met"),
        ({"budget": {"macs": 0.5, "bytes": 9}}, InputError, "name one of macs"),
        ({"budget": {"macs": 0.5}, "ratio": 0.5}, InputError, "exclude each other"),
        ({"ratio": 1.0}, InputError, "ratio"),
    ],
)
def test_what_cannot_be_done_is_refused(options: Any, error: Any, words: str) -> None:
    with pytest.raises(error) as caught:
        edgekit.compress.shrink(residual(), **options)
    assert words in str(caught.value)


def test_a_missed_budget_breaks_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CostModel, "without", lambda self, gone: 0.0)
    with pytest.raises(PostconditionError, match=r"macs are more than"):
        edgekit.compress.shrink(residual(), budget={"macs": 0.5})


def test_it_runs_from_the_command_line_and_reads_from_a_recipe(
    tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    from edgekit.cli.main import run
    from edgekit.compress.passes import prepare_passes
    from edgekit.models.files import load_model, save_model
    from edgekit.schema.recipe import PassSpec
    from edgekit.schema.yamlfile import parse_yaml

    source = parse_yaml("compress:\n- shrink: {budget: {mac: 0.5}}\n", "r.yaml")
    with pytest.raises(InputError, match=r"r\.yaml:2:21: unknown key 'budget.mac'"):
        prepare_passes([PassSpec.model_validate(source.data["compress"][0])], source)
    save_model(residual(), tmp_path / "model.keras")
    text, small = "shrink(budget={'macs': 0.5}, round_to=4)", tmp_path / "small.keras"
    given = ["compress", str(tmp_path / "model.keras"), "--pass", text, "-o", str(small)]
    assert run([*given, "--json"]) == 0
    (report,) = json.loads(capfd.readouterr().out)["passes"]
    assert costs(load_model(small)) == report["costs"]
    assert 2 * report["costs"]["macs"] <= report["costs_before"]["macs"]
    assert run(given) == 0
    assert f"{report['costs']['macs']:,} macs" in capfd.readouterr().out.replace("\n", " ")


def test_the_rest_learns_from_the_labels_and_from_the_whole_model(dataset: Dataset) -> None:

    from edgekit.training.evaluate import evaluate
    from edgekit.training.fit import fine_tune

    model = residual()
    fine_tune(model, dataset, epochs=20, learning_rate=0.01, batch_size=32, seed=0)
    start, trainable = evaluate(model, dataset.test)["accuracy"], len(model.trainable_weights)
    assert start > 0.9
    shot = edgekit.compress.shrink(model, dataset, budget={"macs": 0.5}, epochs=0)
    lost = start - evaluate(shot.model, dataset.test)["accuracy"]
    for options in ({}, {"distill": 0.7, "temperature": 2.0, "steps": 2}):
        result = edgekit.compress.shrink(
            model,
            dataset,
            budget={"macs": 0.5},
            epochs=4,
            learning_rate=0.005,
            batch_size=32,
            **options,
        )
        assert result.report["costs"]["macs"] <= 0.5 * result.report["costs_before"]["macs"]
        after = evaluate(result.model, dataset.test)["accuracy"]
        assert after >= start - 0.01
        assert lost > 0.01  # removal alone does harm, which is learnt anew
        assert len(next(iter(result.report["history"].values()))) == 4
        assert len(model.trainable_weights) == trainable  # Keras freezes its teachers
        assert len(result.model.trainable_weights) == trainable


def test_distilling_several_outputs_is_refused(dataset: Dataset) -> None:
    import keras

    given = keras.Input((8, 8, 1), name="x")
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(given))
    model = keras.Model(given, [keras.layers.Dense(3)(x), keras.layers.Dense(2)(x)])
    with pytest.raises(PreconditionError, match="2 outputs"):
        edgekit.compress.shrink(model, dataset, distill=0.5, epochs=0)


def test_few_centroids_stay_few(dataset: Dataset) -> None:
    from edgekit.compress.kernels import find_kernels

    def distinct(model: Any) -> dict[str, int]:
        return {k.layer: len(np.unique(k.values)) for k in find_kernels(model)[0]}

    clustered = edgekit.compress.cluster(residual(), clusters=8).model
    small = edgekit.compress.shrink(clustered, dataset, ratio=0.5, epochs=1).model
    before, after = distinct(clustered), distinct(small)
    assert set(after) == set(before)
    assert all(after[layer] <= before[layer] <= 8 for layer in after)
    changed = [
        not np.isin(k.values, old.values).all()
        for k, old in zip(find_kernels(small)[0], find_kernels(clustered)[0], strict=True)
    ]
    assert any(changed)  # the centroids learn
