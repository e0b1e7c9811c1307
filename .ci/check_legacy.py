"""Checks an edgekit that has tflite-runtime only: `check_legacy.py PATH_OF_EDGEKIT`.

The same int8 file must give the same outputs there, to one step, as in ai-edge-litert here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from edgekit.runtimes.open import open_session
from edgekit.runtimes.session import predict
from edgekit.verify.samples import random_samples
from tests.tflite_files import small_cnn


def main() -> None:
    """Measures and verifies one file with tflite-runtime."""
    edgekit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        model, data, outputs = (Path(folder) / name for name in ("m.tflite", "x.npz", "y.npz"))
        model.write_bytes(small_cnn())
        with open_session(model) as session:
            samples = random_samples(session.inputs)
            np.savez(data, **samples)  # type: ignore[arg-type]
            np.savez(outputs, **predict(session, samples))  # type: ignore[arg-type]
        arguments = ["--reference", str(outputs), "--data", str(data), "--json"]
        verified = run(edgekit, "verify", str(model), *arguments)
        measured = run(edgekit, "bench", str(model), "--json")
    (profile,) = measured["profiles"]
    if "tflite-runtime" not in profile["latency_ms"]["method"]:
        sys.exit(f"not measured with tflite-runtime: {profile['latency_ms']['method']}")
    (result,) = verified["results"]
    print(f"tflite-runtime: largest difference {result['max_abs_diff']:g}, {result['snr_db']} dB")


def run(*command: str) -> dict[str, list[dict[str, object]]]:
    """The JSON answer of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    answer: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    main()
