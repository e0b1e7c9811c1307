"""tensorflow-model-optimization beside edgekit, on the same network, data and fine-tuning budget.

tfmot takes tf-keras models and NumPy 1 only, so it runs in an environment of its own, made once in
the user's cache folder. The network goes there as a neutral description with its weights, is
rebuilt in tf-keras, held to the Keras 3 outputs, and comes back as an int8 .tflite file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from finetuned import CLUSTERS, SPARSITY, chain_steps
from numpy.typing import NDArray
from peers import Made
from ptq import Row, measured
from reference import Reference

from edgekit.training.evaluate import record_outputs

# tfmot's last release; these install and work together on Python 3.9 to 3.12.
PINS = (
    "tensorflow==2.19.1",
    "tf-keras==2.19.0",
    "tensorflow-model-optimization==0.8.0",
    "numpy==1.26.4",
)
METHODS = ("qat", "chain")
TIMEOUT_S = 3600.0
_PROBES = 32
_WORKER = Path(__file__).with_name("tfmot_worker.py")


def run_tfmot(trained: Reference, folder: Path, *, seed: int = 0) -> list[Row]:
    """QAT, and the chain of pruning, clustering and QAT, by tfmot with edgekit's epochs and rates.

    Returns:
        A row a file, all in LiteRT; a network that tfmot refuses has the exact error in its row.
    """
    made = [
        ("litert", f"tfmot {method}", _tfmot(trained, folder / method, method, seed))
        for method in METHODS
    ]
    return measured(trained, made, seed=seed)


def _tfmot(
    trained: Reference,
    folder: Path,
    method: str,
    seed: int,
) -> Made:
    """One method in tfmot's environment."""
    steps = chain_steps(trained)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = steps if method == "chain" else steps["qat"]
    settings = f"{', '.join(PINS[1:3])}, epochs and learning rate {told}"
    data = trained.dataset
    network, weights = described(trained.model)
    (folder / "network.json").write_text(json.dumps(network))
    np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type]
    samples = {f"x/{name}": array for name, array in data.train.x.items()}
    samples |= {f"probe/{name}": array[:_PROBES] for name, array in data.test.x.items()}
    (wanted,) = record_outputs(trained.model, data.test.take(_PROBES).x).values()
    samples |= {"y": data.train.y, "wanted": wanted}
    np.savez(folder / "samples.npz", **samples)  # type: ignore[arg-type]
    request = {
        "method": method,
        "seed": seed,
        "steps": steps,
        "batch_size": trained.train.batch_size,
        "loss": "sparse_categorical_crossentropy" if data.classes else "mse",
        "sparsity": SPARSITY,
        "clusters": CLUSTERS,
    }
    (folder / "request.json").write_text(json.dumps(request))
    python = environment()
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [python, str(_WORKER), str(folder)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
    except subprocess.TimeoutExpired:
        return Made(None, TIMEOUT_S, settings, f"took longer than {TIMEOUT_S:g} s")
    seconds = time.perf_counter() - started
    if not (folder / "answer.json").exists():
        tail = " ".join(done.stderr.split()[-60:])
        return Made(None, seconds, settings, f"ended with {done.returncode}: {tail}")
    answer = json.loads((folder / "answer.json").read_text())
    if answer["error"]:
        words = " ".join(answer["error"].split())
        return Made(None, seconds, settings, f"{answer['step']}: {words}")
    return Made(folder / "model.tflite", seconds, settings)


def environment() -> str:
    """The Python of tfmot's environment, which is made if it is not there yet.

    Raises:
        subprocess.CalledProcessError: the packages cannot be installed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256("\n".join((sys.version, *PINS)).encode()).hexdigest()[:12]
    folder = cache / "edgekit-benchmarks" / f"tfmot-{key}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PINS], check=True)
        finished.touch()
    return str(python)


def described(model: Any) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A functional Keras 3 model in plain words, and its weights by "layer/index"."""
    config = model.get_config()
    layers = [_described(entry) for entry in config["layers"]]
    weights: dict[str, NDArray[Any]] = {}
    for entry in layers:
        values = _weights(model, entry["name"])
        entry["weights"] = len(values)
        weights |= {f"{entry['name']}/{index}": value for index, value in enumerate(values)}
    outputs = config["output_layers"]
    network = {
        "layers": layers,
        "inputs": [tensor.name for tensor in model.inputs],
        "outputs": outputs if isinstance(outputs[0], list) else [outputs],
    }
    return network, weights


def _weights(model: Any, name: str) -> list[NDArray[Any]]:
    layer = next((layer for layer in model.layers if layer.name == name), None)
    return [] if layer is None else list(layer.get_weights())


def _described(entry: dict[str, Any]) -> dict[str, Any]:
    config = {
        key: _plain(value)
        for key, value in entry["config"].items()
        # The values of weights come with them; tf-keras has other words for these.
        if not key.endswith(("_initializer", "_regularizer", "_constraint"))
    }
    calls = [
        {"args": _tensors(node["args"]), "kwargs": _tensors(node["kwargs"])}
        for node in entry.get("inbound_nodes", [])
    ]
    name = entry.get("name", config.get("name"))
    return {"name": name, "class": entry["class_name"], "config": config, "calls": calls}


def _plain(value: Any) -> Any:
    """A value of a configuration: an inner layer described, a dtype policy by its name."""
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    if value["class_name"] == "DTypePolicy":
        return value["config"]["name"]
    return _described(value)


def _tensors(value: Any) -> Any:
    """Call arguments, with Keras' tensors as {"tensor": [layer, call, output]}."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return {"tensor": value["config"]["keras_history"]}
    if isinstance(value, dict):
        return {key: _tensors(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(entry) for entry in value]
    return value
