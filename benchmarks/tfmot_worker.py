"""tensorflow-model-optimization on one network, in its own environment.

    python tfmot_worker.py FOLDER

`tfmot_side.py` starts it. FOLDER/request.json says what to do, FOLDER/network.json and weights.npz
hold the network (layers, how they are called, weights), samples.npz the data. It answers with
FOLDER/answer.json. It needs TensorFlow, tf-keras, tfmot and NumPy, and knows nothing of edgekit.

What is done is what tfmot's guides show:
https://www.tensorflow.org/model_optimization/guide/quantization/training_example and
https://www.tensorflow.org/model_optimization/guide/combine/pcqat_example

Two networks end at a limit of tfmot 0.8.0, and their rows say its error. Its 8-bit scheme of QAT
has no entry for GRU, EinsumDense, LayerNormalization and MultiHeadAttention
(`default_8bit_quantize_registry.py`), and neither pruning nor clustering has one for EinsumDense.
To annotate only the layers that have one works, and leaves the others float: no int8 network.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

keras: Any = importlib.import_module("tf_keras")
tfmot: Any = importlib.import_module("tensorflow_model_optimization")
cluster: Any = importlib.import_module(
    "tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster"
)

_TOLERANCE = 1e-4


def gelu(x: Any) -> Any:
    """GELU by tanh; tfmot knows activations by `__name__`, and tf-keras' own gelu is the exact."""
    return tf.nn.gelu(x, approximate=True)


# Otherwise a clone of the layer would get tf-keras' own.
keras.saving.register_keras_serializable("edgekit", "gelu_tanh")(gelu)


def _activation(entry: dict[str, Any]) -> Any:
    """A layer for an operation, which Keras 3 records as a step of its own.

    Called as a function it would be a TFOpLambda, and tfmot wires what follows one wrongly.
    """
    approximate = entry["config"].get("approximate", False)
    kind = gelu if approximate else entry["class"].lower()
    return keras.layers.Activation(kind, name=entry["name"])


def rebuild(network: list[dict[str, Any]], weights: Any, outputs: list[Any]) -> Any:
    """The network in tf-keras.

    Args:
        network: layers in order, each with `name`, `class`, `config`, `calls` (`args` and `kwargs`
            with tensors as {"tensor": [layer, call, output]}) and `weights`, how many.
        weights: arrays by "layer/index".
        outputs: the tensors that the network gives.
    """
    made: dict[tuple[str, int, int], Any] = {}
    inputs, layers = [], {}
    for entry in network:
        name = entry["name"]
        if entry["class"] == "InputLayer":
            shape, dtype = entry["config"]["batch_shape"][1:], entry["config"]["dtype"]
            made[name, 0, 0] = keras.Input(shape, name=name, dtype=dtype)
            inputs.append(made[name, 0, 0])
            continue
        layer = layers[name] = _layer(entry)
        for number, call in enumerate(entry["calls"]):
            args, kwargs = _filled(call["args"], made), _filled(call["kwargs"], made)
            result = layer(*args, **kwargs)
            for index, tensor in enumerate(
                result if isinstance(result, list | tuple) else [result]
            ):
                made[name, number, index] = tensor
    for entry in network:
        if entry["weights"]:
            layers[entry["name"]].set_weights(
                [weights[f"{entry['name']}/{index}"] for index in range(entry["weights"])]
            )
    return keras.Model(inputs, [made[tuple(place)] for place in outputs])


def _layer(entry: dict[str, Any]) -> Any:
    if entry["class"] in ("Gelu", "Relu"):
        return _activation(entry)
    kind = getattr(keras.layers, entry["class"], None)
    if kind is None:
        raise ValueError(f"tf-keras has no layer {entry['class']}")
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
    config = {
        key: _layer(value) if isinstance(value, dict) and "class" in value else value
        for key, value in entry["config"].items()
        if key in known
    }
    return kind(**config, name=entry["name"])


def _filled(value: Any, made: dict[tuple[str, int, int], Any]) -> Any:
    """Call arguments with tensors in the places that are named."""
    if isinstance(value, dict) and "tensor" in value:
        return made[tuple(value["tensor"])]
    if isinstance(value, dict):
        return {key: _filled(entry, made) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, made) for entry in value]
    return value


class _Tuning:
    """Fine-tuning with Adam at a constant rate, as edgekit's passes do it."""

    def __init__(self, request: dict[str, Any], x: list[Any], y: Any) -> None:
        self.request, self.x, self.y = request, x, y

    def __call__(self, model: Any, step: str, callbacks: tuple[Any, ...] = ()) -> None:
        epochs, rate = self.request["steps"][step]
        keras.utils.set_random_seed(self.request["seed"])
        model.compile(keras.optimizers.Adam(rate), loss=self.request["loss"])
        model.fit(
            self.x,
            self.y,
            batch_size=self.request["batch_size"],
            epochs=epochs,
            verbose=0,
            callbacks=list(callbacks),
        )

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return -(-len(self.y) // int(self.request["batch_size"]))


def qat(model: Any, tune: _Tuning) -> Any:
    """Quantization-aware training."""
    aware = tfmot.quantization.keras.quantize_model(model)
    tune(aware, "qat")
    return aware


def chain(model: Any, tune: _Tuning) -> Any:
    """Pruning, sparsity-preserving clustering, and QAT that preserves both."""
    sparsity = tfmot.sparsity.keras
    steps = int(0.75 * tune.request["steps"]["prune"][0] * tune.steps)
    # Its default, every 100 steps, would prune hardly ever where an epoch has few steps.
    often = min(100, max(1, steps // 20))
    schedule = sparsity.PolynomialDecay(
        0.0, tune.request["sparsity"], begin_step=0, end_step=steps, frequency=often
    )
    pruned = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
    tune(pruned, "prune", (sparsity.UpdatePruningStep(),))
    clustered = cluster.cluster_weights(
        sparsity.strip_pruning(pruned),
        number_of_clusters=tune.request["clusters"],
        cluster_centroids_init=tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS,
        preserve_sparsity=True,
    )
    tune(clustered, "cluster")
    quantization = tfmot.quantization.keras
    annotated = quantization.quantize_annotate_model(
        tfmot.clustering.keras.strip_clustering(clustered)
    )
    scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme
    aware = quantization.quantize_apply(annotated, scheme(preserve_sparsity=True))
    tune(aware, "qat")
    return aware


def work(folder: Path) -> dict[str, Any]:
    """Does what the request says; the answer has the step that failed and its error, if any."""
    request = json.loads((folder / "request.json").read_text())
    network = json.loads((folder / "network.json").read_text())
    with np.load(folder / "weights.npz") as archive:
        weights = dict(archive)
    with np.load(folder / "samples.npz") as archive:
        samples = dict(archive)
    answer: dict[str, Any] = {"step": "rebuilding the network in tf-keras", "error": None}
    try:
        model = rebuild(network["layers"], weights, network["outputs"])
        x = [samples[f"x/{name}"] for name in network["inputs"]]
        probe = [samples[f"probe/{name}"] for name in network["inputs"]]
        found = np.asarray(model(probe if len(probe) > 1 else probe[0], training=False))
        np.testing.assert_allclose(found, samples["wanted"], rtol=0, atol=_TOLERANCE)
        answer["step"] = "tfmot"
        tune = _Tuning(request, x if len(x) > 1 else x[0], samples["y"])
        aware = {"qat": qat, "chain": chain}[request["method"]](model, tune)
        answer["step"] = "conversion"
        converter = tf.lite.TFLiteConverter.from_keras_model(aware)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        (folder / "model.tflite").write_bytes(converter.convert())
    except Exception as error:  # noqa: BLE001 the error is the result
        answer["error"] = f"{type(error).__name__}: {error}"
    return answer


if __name__ == "__main__":
    place = Path(sys.argv[1])
    result = json.dumps(work(place))
    (place / "answer.json").write_text(result)
