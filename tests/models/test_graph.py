"""The graph of a model against the file that the converter really makes of it."""

from collections import Counter

import numpy as np
import pytest

from edgekit.base.errors import InputError
from edgekit.export.base import ExportJob
from edgekit.export.tflite import TfliteExporter
from edgekit.graph.read import read_graph
from edgekit.models.build import build_model
from edgekit.models.files import save_model
from edgekit.models.graph import Sizes, model_graph, sized_graph
from edgekit.profiling.profile import profile_graph
from edgekit.profiling.targets import load_target
from edgekit.schema.recipe import ModelSpec

pytestmark = pytest.mark.slow

FAMILIES = {
    "resnet8": ((32, 32, 3), 10, {}),
    "mobilenet_v1": ((96, 96, 3), 2, {}),
    "dscnn": ((49, 10, 1), 12, {}),
    "mlp": ((64,), 10, {}),
    "autoencoder": ((640,), None, {}),
}
# The converter's own rewrites of norms and gates are followed in number, not to the last one.
SEQUENCES = {
    "vit": ((16, 16, 3), 10, {}),
    "gru": ((5, 8), 4, {"cell": "gru"}),
    "lstm": ((5, 8), 4, {"cell": "lstm", "bidirectional": True}),
}


def build(family, shape, classes, args):
    spec = ModelSpec(name="rnn" if "cell" in args else family, args=args)
    model = build_model(spec, input_shapes={"x": shape}, classes=classes, root=".")
    random = np.random.default_rng(0)  # as trained: no two biases are equal, none is zero
    model.set_weights(
        [w + random.uniform(0.01, 0.1, w.shape).astype("float32") for w in model.get_weights()]
    )
    return model


def exported(model, shape, folder, precisions, worker):
    """The graphs of the files that the exporter writes, by precision."""
    save_model(model, folder / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x)
    for precision in precisions:
        path = folder / f"{precision}.tflite"
        job = ExportJob(
            folder / "model.keras", "tflite", precision, path, calibration=folder / "samples.npz"
        )
        TfliteExporter().convert(job, path, worker)
        yield precision, read_graph(path)


def latency(graph, target):
    return profile_graph(graph, load_target(target), "x").latency_ms.value


def layers_of(graph):
    return [(op.name, op.macs) for op in graph.ops if op.macs]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_predicted_latency_is_that_of_the_exported_file(family, tmp_path, worker):
    shape, classes, args = FAMILIES[family]
    model = build(family, shape, classes, args)
    for precision, file in exported(model, shape, tmp_path, ("fp32", "int8"), worker):
        made = model_graph(model, precision=precision)
        assert Counter(op.name for op in made.ops) == Counter(op.name for op in file.ops)
        assert layers_of(made) == layers_of(file)
        for op, given in zip(made.ops, file.ops, strict=True):
            assert (op.kind, op.macs) == (given.kind, given.macs)
            fused = "fused_activation_function"
            assert op.attributes.get(fused) == given.attributes.get(fused)
            # The converter names a layer and its batch norm after the norm.
            block = given.layer.removesuffix("_norm")
            assert op.layer in (given.layer, block, f"{block}_conv")
        assert made.weight_bytes == pytest.approx(file.weight_bytes, rel=0.002)
        assert latency(made, "pixel-3") == pytest.approx(latency(file, "pixel-3"), rel=0.01)
        if precision == "int8":
            for target in ("systolic-16x16", "coral-usb", "stm32-l4r5-tflm"):
                assert latency(made, target) == pytest.approx(latency(file, target), rel=0.01)


@pytest.mark.parametrize("family", SEQUENCES)
def test_sequences_have_the_work_of_the_exported_file(family, tmp_path, worker):
    shape, classes, args = SEQUENCES[family]
    model = build(family, shape, classes, args)
    for precision, file in exported(model, shape, tmp_path, ("fp32",), worker):
        made = model_graph(model, precision=precision)
        assert made.macs == file.macs
        assert sorted(layers_of(made)) == sorted(layers_of(file))
        assert made.weight_bytes == pytest.approx(file.weight_bytes, rel=0.2)
        assert latency(made, "pixel-3") == pytest.approx(latency(file, "pixel-3"), rel=0.06)


def nested(keras):
    layers = keras.layers
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(6.0, name="relu"),
        ],
        name="inner",
    )
    x = a = keras.Input((8, 8, 4), name="a")
    b = keras.Input((8, 8, 2), name="b")
    x = inner(inner(x))
    x = layers.Concatenate(name="both")([x, b])
    y = layers.Conv2DTranspose(3, 3, strides=2, name="up")(x)
    z = layers.SeparableConv2D(5, 3, name="separable")(x)
    z = layers.AveragePooling2D(2, name="pool")(z)
    z = layers.Flatten(name="flatten")(z)
    z = layers.Dense(3, activation="softmax", name="head")(z)
    return keras.Model([a, b], [y, z])


def test_nested_models_several_inputs_and_outputs():
    import keras

    graph = model_graph(nested(keras))
    ops = [(op.name, op.layer, op.attributes.get("fused_activation_function")) for op in graph.ops]
    assert ops == [
        ("CONV_2D", "inner/conv", "RELU6"),
        ("CONV_2D", "inner/conv", "RELU6"),
        ("CONCATENATION", "both", "NONE"),
        ("DEPTHWISE_CONV_2D", "separable", "NONE"),
        ("CONV_2D", "separable", "NONE"),
        ("AVERAGE_POOL_2D", "pool", "NONE"),
        ("RESHAPE", "flatten", None),
        ("FULLY_CONNECTED", "head", "NONE"),
        ("SOFTMAX", "head", None),
        ("TRANSPOSE_CONV", "up", "NONE"),
    ]
    assert [port.name for port in graph.inputs] == ["a", "b"]
    assert [graph.tensors[port.tensor].shape[1:] for port in graph.outputs] == [(17, 17, 3), (3,)]
    kernels = [t for t in graph.tensors if t.constant and t.shape == (4, 3, 3, 4)]
    assert len(kernels) == 1  # a layer that is called twice has one kernel


def test_mixed_precision_converts_between_layers():
    import keras

    model = nested(keras)
    graph = model_graph(model, precision="mixed", layers={"separable": "fp32", "up": "int16x8"})
    dtypes = {op.layer: graph.tensors[op.outputs[0]].dtype for op in graph.ops}
    assert dtypes["inner/conv"] == dtypes["head"] == "int8"
    assert (dtypes["separable"], dtypes["up"]) == ("float32", "int16")
    conversions = [op.name for op in graph.ops if op.kind == "quantize"]
    assert sorted(conversions) == ["DEQUANTIZE", "QUANTIZE", "QUANTIZE", "QUANTIZE"]
    with pytest.raises(InputError, match="no graph is made"):
        model_graph(model, layers={"up": "mixed"})


def test_other_sizes_are_those_of_a_smaller_model():
    import keras

    from edgekit.models.calls import call_graph

    def conv(filters):
        x = keras.Input((8, 8, 3), name="x")
        y = keras.layers.Conv2D(filters, 3, name="a")(x)
        return keras.Model(x, keras.layers.Conv2D(2, 3, name="b")(y))

    model = conv(6)
    calls = call_graph(model)
    first, second = (call.layer for call in calls.calls)
    sizes = Sizes(
        values={calls.calls[0].outputs[0]: (None, 6, 6, 4)},
        variables={
            id(first.kernel): (3, 3, 3, 4),
            id(first.bias): (4,),
            id(second.kernel): (3, 3, 4, 2),
        },
    )
    small = sized_graph(model, calls, sizes, precision="int8")
    expected = model_graph(conv(4), precision="int8")
    assert (small.tensors, small.ops) == (expected.tensors, expected.ops)
