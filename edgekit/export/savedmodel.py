"""The SavedModel that every float converter starts from. Runs in the converters' child process.

It has fixed names: the Keras model's input and output names are its signature's names.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.base.extras import require
from edgekit.export.shared_grid import GRIDS_FILE, write_grids

if TYPE_CHECKING:
    import keras

SIGNATURE = "serving_default"
LAYERS_FILE = "keras_layers.json"
"""In a SavedModel's directory: the names of its Keras layers, `outer/inner` for one in another."""


def ensure(*, model: str, directory: str, batch: int | None, keep_lstm: bool) -> str:
    """Writes a Keras model as a SavedModel, unless the directory holds it already.

    Args:
        model: path of the Keras model file.
        directory: where the SavedModel goes, as a whole or not at all.
        batch: a fixed batch size, or None to leave it free.
        keep_lstm: leave LSTM layers as they are. All other recurrent layers become their steps,
            with the same weights: converters crash on loops, and devices run the steps faster.

    Returns:
        `directory`.
    """
    from edgekit.models.fakequant import quantized_layers
    from edgekit.models.files import load_model

    target = Path(directory)
    if not target.is_dir():
        loaded = unrolled(load_model(Path(model)), keep_lstm=keep_lstm)
        unfinished = target.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_grids(loaded, unfinished / GRIDS_FILE)
        for layer in quantized_layers(loaded):
            layer.bake()  # converters find the scales in the rounded kernels
        write(loaded, unfinished, batch=batch)
        (unfinished / LAYERS_FILE).write_text(json.dumps(list(_layer_names(loaded, ""))))
        unfinished.replace(target)
    return directory


def write(model: keras.Model, directory: Path, *, batch: int | None) -> None:
    """Writes a functional model with one signature."""
    tf = require("tensorflow", purpose="to convert Keras models")
    keras = require("keras", purpose="to convert Keras models")
    names = [tensor.name for tensor in model.inputs]
    specs = {
        tensor.name: tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    }

    @tf.function  # type: ignore[untyped-decorator]
    def serve(**inputs: Any) -> dict[str, Any]:
        packed = keras.tree.pack_sequence_as(model.input, [inputs[name] for name in names])
        outputs = keras.tree.flatten(model(packed, training=False))
        return dict(zip(model.output_names, outputs, strict=True))

    module = tf.Module()
    module.serve = serve
    module.tracked = [variable.value for variable in model.variables]  # Keras' own are not tracked
    # With a free batch it is for ONNX's converter, which leaves compiled functions as they are.
    with _traced_whole(tf) if batch is None else contextlib.nullcontext():
        signature = serve.get_concrete_function(**specs)
    tf.saved_model.save(module, str(directory), signatures={SIGNATURE: signature})


@contextlib.contextmanager
def _traced_whole(tf: Any) -> Iterator[None]:
    """Traces what XLA must compile, as Keras's grouped convolutions, like any other code."""
    function = tf.function

    def traced(body: Callable[..., Any] | None = None, **options: Any) -> Any:
        if options.get("jit_compile"):
            return (lambda one: one) if body is None else body
        return function(**options) if body is None else function(body, **options)

    tf.function = traced
    try:
        yield
    finally:
        tf.function = function


def _layer_names(parent: Any, prefix: str) -> Iterator[str]:
    # Keras has no public way to the layers within attention, recurrent and wrapping layers.
    for layer in parent._flatten_layers(include_self=False, recursive=False):
        yield f"{prefix}{layer.name}"
        yield from _layer_names(layer, f"{prefix}{layer.name}/")


def unrolled(model: keras.Model, *, keep_lstm: bool = False) -> keras.Model:
    """The model with its recurrent layers unrolled; the model itself where there is none."""
    config = model.get_config()
    if not _unroll(config, ("LSTM",) if keep_lstm else ()):
        return model
    rebuilt = type(model).from_config(config)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def _unroll(config: Any, keep: tuple[str, ...]) -> int:
    """Sets `unroll` throughout a nested configuration; returns how often."""
    if isinstance(config, list | tuple):
        return sum(_unroll(value, keep) for value in config)
    if not isinstance(config, dict) or config.get("class_name") in keep:
        return 0
    own = config.get("unroll") is False
    if own:
        config["unroll"] = True
    return own + sum(_unroll(value, keep) for value in config.values())


def reference_outputs(*, model: str, samples: str, output: str) -> str:
    """Writes a Keras model's outputs on the samples of an .npz to another, unless it is there."""
    import numpy as np

    from edgekit.base.files import atomic_path
    from edgekit.models.files import load_model
    from edgekit.training.evaluate import record_outputs

    target = Path(output)
    if not target.exists():
        with np.load(samples, allow_pickle=False) as arrays:
            outputs = record_outputs(load_model(Path(model)), dict(arrays))
        with atomic_path(target) as temporary:
            np.savez(temporary, **outputs)  # type: ignore[arg-type]
    return output
