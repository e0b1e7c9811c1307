import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from edgekit.base.errors import ModelFileError
from edgekit.models.files import load_model, save_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 2), name="image")
    x = keras.layers.DepthwiseConv2D(3)(inputs)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(3, name="answer")(x))


def test_a_model_survives_saving(tmp_path, model):
    save_model(model, tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).random((4, 6, 6, 2), np.float32)
    np.testing.assert_array_equal(again(x), model(x))
    assert again.output_names == ["answer"]


def test_a_compiled_model_is_saved_without_its_optimizer(tmp_path, model):
    import keras

    from edgekit.schema.recipe import OptimizerSpec, ScheduleSpec
    from edgekit.training.optimizer import make_optimizer

    schedule = ScheduleSpec(name="cosine")
    optimizer = make_optimizer(OptimizerSpec(), schedule, epochs=2, steps_per_epoch=3)
    copy = keras.models.clone_model(model)
    copy.compile(optimizer, loss="mse")
    copy.fit(np.ones((4, 6, 6, 2)), np.ones((4, 3)), verbose=0)
    save_model(copy, tmp_path / "m.keras")
    # Plain Keras, which knows nothing of our schedules, can read it too.
    assert not keras.models.load_model(tmp_path / "m.keras").compiled


SAVE = """
import sys
from pathlib import Path
from edgekit.models.build import build_model
from edgekit.models.files import save_model
from edgekit.schema.recipe import ModelSpec
spec = ModelSpec(name="cnn")
model = build_model(spec, input_shapes={"x": (8, 8, 1)}, classes=10, root=Path(), seed=3)
save_model(model, Path(sys.argv[1]))
"""


def test_the_same_model_gives_the_same_bytes_in_another_process(tmp_path, monkeypatch):
    files = [tmp_path / "a.keras", tmp_path / "b.keras"]
    subprocess.run([sys.executable, "-c", SAVE, str(files[0])], check=True)
    monkeypatch.setattr(sys, "argv", ["", str(files[1])])
    exec(SAVE, {})
    assert files[0].read_bytes() == files[1].read_bytes()


def test_only_keras_files_are_written(tmp_path, model):
    with pytest.raises(ModelFileError, match=r"written to a \.keras file"):
        save_model(model, tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "inputs", "outputs"),
    [
        ("mlperf_tiny_ad.h5", (None, 640), (None, 640)),
        ("mlperf_tiny_ic.h5", (None, 32, 32, 3), (None, 10)),
        ("mlperf_tiny_vww.h5", (None, 96, 96, 3), (None, 2)),  # carries `groups`
    ],
)
def test_files_of_keras_2(shared, file, inputs, outputs):
    model = load_model(shared / "models" / file)
    assert model.inputs[0].shape == inputs
    assert model.outputs[0].shape == outputs


def test_a_keras_2_file_computes_what_its_own_tflite_file_computes(shared):
    from ai_edge_litert.interpreter import Interpreter

    from edgekit.training.evaluate import record_outputs

    x = np.random.default_rng(0).integers(0, 256, (5, 96, 96, 3)).astype(np.float32) / 255
    ours = record_outputs(load_model(shared / "models" / "mlperf_tiny_vww.h5"), {"x": x})
    reference = Interpreter(str(shared / "models" / "mlperf_tiny_vww_fp32.tflite"))
    reference.allocate_tensors()
    for row, expected in zip(x, next(iter(ours.values())), strict=True):
        reference.set_tensor(reference.get_input_details()[0]["index"], row[None])
        reference.invoke()
        found = reference.get_tensor(reference.get_output_details()[0]["index"])[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_that_nobody_knows(shared):
    with pytest.raises(ModelFileError, match="Unknown layer: 'QDense'"):
        load_model(shared / "models" / "hls4ml_AD03.h5")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"random " * 99])
def test_files_that_are_no_models(tmp_path, suffix, content):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, model, share):
    save_model(model, tmp_path / "m.keras")
    content = (tmp_path / "m.keras").read_bytes()
    (tmp_path / "m.keras").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "m.keras")


def test_altered_files_are_refused_or_whole(tmp_path, model):
    save_model(model, tmp_path / "m.keras")
    content = (tmp_path / "m.keras").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(15):
        altered = bytearray(content)
        for place in rng.integers(0, len(content), 8):
            altered[place] ^= 0xFF
        (tmp_path / "a.keras").write_bytes(bytes(altered))
        try:
            load_model(tmp_path / "a.keras")
        except ModelFileError:
            refused += 1
    assert refused >= 13  # zip checks the content of each member


def test_code_in_a_file_is_not_run(tmp_path):
    import keras

    inputs = keras.Input((2,))
    evil = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1, output_shape=(2,))(inputs))
    evil.save(tmp_path / "m.keras")
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(tmp_path / "m.keras")


def test_a_model_without_fixed_inputs(tmp_path):
    import keras

    config = {"class_name": "Nothing", "module": "builtins", "config": {}, "registered_name": None}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
    (tmp_path / "m.keras").write_bytes(buffer.getvalue())
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "m.keras")
    with pytest.raises(ModelFileError, match="no fixed inputs"):
        save_model(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "n.keras")


def test_other_suffixes_and_missing_files(tmp_path):
    (tmp_path / "m.txt").write_text("x")
    with pytest.raises(ModelFileError, match="not a Keras model"):
        load_model(tmp_path / "m.txt")
    with pytest.raises(ModelFileError, match="does not exist"):
        load_model(tmp_path / "m.keras")
    with pytest.raises(ModelFileError, match="not a regular file"):
        load_model(tmp_path)
