"""Time of `edgekit run` against the bare library calls that it makes, in processes of their own.

    python benchmarks/pipeline.py [--rounds 3]

Both load scikit-learn's digits, train the same Keras network for the same epochs and batches, save
it, convert it to TFLite (fp32, fp16, int8), ONNX and OpenVINO (fp32, and int8 from the int8 TFLite
file), and run every file on the whole test split. The bare script does just that and checks
nothing; edgekit caches, isolates, proves, checks and profiles besides. The timed measurement of
latency is left out of both: its length is a setting. The two take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EPOCHS = 40
SETTINGS = (
    f"train.epochs={EPOCHS}",
    "train.augment=null",
    "train.early_stopping=null",
    "train.schedule={name: constant}",
    "bench.enabled=false",
    "budgets=[]",
)


def bare(folder: Path) -> None:
    """The same work with the libraries alone."""
    import keras
    import numpy as np
    import onnxruntime
    import openvino
    import tensorflow as tf
    import tf2onnx
    from ai_edge_litert.interpreter import Interpreter
    from keras.src.export.tf2onnx_lib import patch_tf2onnx
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x = (digits.images[..., None] / 16).astype("float32")
    train_x, rest_x, train_y, rest_y = train_test_split(
        x, digits.target, train_size=0.6, random_state=7, stratify=digits.target
    )
    other_x, test_x, other_y, _ = train_test_split(
        rest_x, rest_y, train_size=0.5, random_state=7, stratify=rest_y
    )
    half = len(other_x) // 2
    validation, calibration = (other_x[:half], other_y[:half]), other_x[half:]

    keras.utils.set_random_seed(7)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1), name="x")])
    for filters in (32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dropout(0.3)):
        model.add(layer)
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(
        keras.optimizers.Adam(0.002), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(train_x, train_y, batch_size=32, epochs=EPOCHS, validation_data=validation, verbose=0)
    model.save(folder / "model.keras")

    saved = str(folder / "saved")
    model.export(saved, format="tf_saved_model", verbose=False)
    for precision in ("fp32", "fp16", "int8"):
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        if precision != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            converter.representative_dataset = lambda: ([row[None]] for row in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        (folder / f"{precision}.tflite").write_bytes(converter.convert())
    patch_tf2onnx()
    model.export(str(folder / "fp32.onnx"), format="onnx", opset_version=18, verbose=False)
    master = str(folder / "int8.tflite")
    tf2onnx.convert.from_tflite(master, opset=18, output_path=str(folder / "int8.onnx"))
    openvino.save_model(openvino.convert_model(saved), folder / "fp32.xml", compress_to_fp16=False)
    openvino.save_model(openvino.convert_model(master), folder / "int8.xml")

    def quantized(dtype: Any) -> Any:
        return np.round(test_x * 255 - 128).astype("int8") if dtype == np.int8 else test_x

    for file in sorted(folder.glob("*.tflite")):
        interpreter = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
        place, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        for row in quantized(place["dtype"]):
            interpreter.set_tensor(place["index"], row[None])
            interpreter.invoke()
            interpreter.get_tensor(answer["index"])
    for file in sorted(folder.glob("*.onnx")):
        session = onnxruntime.InferenceSession(str(file))
        entry = session.get_inputs()[0]
        data = quantized(np.int8 if "int8" in entry.type else np.float32)
        for row in data:
            session.run(None, {entry.name: row[None]})
    core = openvino.Core()
    for file in sorted(folder.glob("*.xml")):
        compiled = core.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        data = quantized(np.int8 if "int8" in file.stem else np.float32)
        for row in data:
            compiled(row[None])


def whole(folder: Path) -> list[str]:
    """The command line of the whole run of edgekit."""
    command = [sys.executable, "-m", "edgekit", "run", str(ROOT / "recipes" / "digits-cnn.yaml")]
    command += ["--quiet", "--runs-dir", str(folder)]
    for setting in SETTINGS:
        command += ["--set", setting]
    return command


def timed(command: list[str]) -> float:
    """Wall time of a process that must succeed."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def main() -> None:
    """Prints both medians and the overhead, round by round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(arguments.bare)
        return
    ratios, seconds = [], {"bare": [0.0][:0], "edgekit": [0.0][:0]}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as runs:
            seconds["bare"].append(timed([sys.executable, __file__, "--bare", plain]))
            seconds["edgekit"].append(timed(whole(Path(runs))))
            ratios.append(seconds["edgekit"][-1] / seconds["bare"][-1])
            (report,) = Path(runs).glob("*/run.json")
            stages = json.loads(report.read_text())["stages"]
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    for name, values in seconds.items():
        print(
            f"{name:<8} {statistics.median(values):6.1f} s  (each: {[round(v, 1) for v in values]})"
        )
    print(f"overhead {100 * (statistics.median(ratios) - 1):+.1f} %  (median of paired rounds)")
    groups: dict[str, float] = {}
    for stage in stages:
        word = stage["name"].partition("-")[0]
        groups[word] = groups.get(word, 0.0) + stage["seconds"]
    print("stages of the last round, s: " + ", ".join(f"{k} {v:.1f}" for k, v in groups.items()))


if __name__ == "__main__":
    main()
