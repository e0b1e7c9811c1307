"""The simulation of quantized networks against real files, and sensitivities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.base.child import Worker
from edgekit.data.dataset import Dataset
from edgekit.schema.plan import QuantizationPlan
from tests.compress.exported_files import exported, steps_apart

pytestmark = pytest.mark.slow


def test_the_simulation_is_the_int8_file(
    precision_nets: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    """Compared with the same ranges in the file, which `qat` without training brings.

    The converter's own calibration widens the ranges of what an addition takes: LiteRT adds in
    place, and the calibrator reads the sum where the summand was. With these ranges the file is
    another network, as near to the float one, that agrees less often.
    """
    from edgekit.compress import qat
    from edgekit.compress.simulation import Simulation

    model = precision_nets("mixed")
    simulated = Simulation(model, dataset.calibration).outputs(dataset.test, {})["scores"]
    ours = exported(qat(model, dataset, epochs=0).model, dataset, tmp_path / "ours", worker)
    apart = steps_apart(ours, simulated, dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.995
    theirs = exported(model, dataset, tmp_path / "theirs", worker)
    apart = steps_apart(theirs, simulated, dataset.test.x)
    assert np.mean(apart <= 1.01) >= 0.9


def test_float_in_simulation_is_the_model_and_finer_is_nearer(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress.sensitivity import measure
    from edgekit.compress.simulation import Simulation
    from edgekit.training.evaluate import evaluate, record_outputs

    for name in ("mixed", "bad"):
        model = precision_nets(name)
        simulation = Simulation(model, dataset.calibration)
        plain = simulation.uniform("fp32")
        wanted = record_outputs(model, dataset.test.x)
        for output, values in simulation.outputs(dataset.test, plain).items():
            np.testing.assert_allclose(
                values, wanted[output], atol=1e-4 * np.abs(wanted[output]).max()
            )
        int8, int16, exact = measure(simulation, dataset.test, [{}, simulation.uniform("int16x8")])
        assert exact.metric == pytest.approx(evaluate(model, dataset.test))
        assert int8.sqnr_db < int16.sqnr_db < exact.sqnr_db


def test_the_scan_is_that_of_whole_runs(
    precision_nets: Callable[[str], Any], dataset: Dataset
) -> None:
    from edgekit.compress.sensitivity import measure, scan
    from edgekit.compress.simulation import Simulation

    model = precision_nets("mixed")
    found = scan(model, dataset)
    simulation = Simulation(model, dataset.calibration)
    labels = [unit.label for unit in found.units]
    assert labels == ["stem", "dw", "pw", "sum", "last", "scores"]
    plain = simulation.uniform("fp32")
    for choice in ("int8", "int16x8"):
        each = [plain | {label: choice} for label in labels]
        for noises, whole in zip(
            found.noises, measure(simulation, dataset.validation, each), strict=False
        ):
            assert noises[choice].noise == pytest.approx(whole.noise, rel=1e-3, abs=1e-12)
            assert noises[choice].metric == whole.metric
    # Rounding errors of layers add up to that of the network, about.
    alone = sum(found.loss(index, "int8", "sqnr") for index in range(len(labels)))
    together = measure(simulation, dataset.validation, [{}])[0].noise
    assert alone / 4 < together < alone * 4


def test_the_mixed_file_is_as_simulated(
    precision_nets: Callable[[str], Any], dataset: Dataset, tmp_path: Path, worker: Worker
) -> None:
    from edgekit.compress.simulation import Simulation
    from edgekit.runtimes.open import open_session
    from edgekit.runtimes.session import run_raw
    from edgekit.training.evaluate import record_outputs

    model = precision_nets("bad")
    plan = QuantizationPlan(precision="mixed", layers={"conv1": "fp32", "conv2": "fp32"})
    file = exported(model, dataset, tmp_path, worker, "mixed", plan)
    with open_session(file) as session:
        info = session.outputs[0]
        raw = run_raw(session, dataset.test.x)[info.name]
    assert info.quantization is not None
    found = info.quantization.dequantize(raw)
    wanted = record_outputs(model, dataset.test.x)["logits"]
    simulated = Simulation(model, dataset.calibration).outputs(dataset.test, plan.layers)["logits"]
    power = [float(np.sum((made - wanted) ** 2)) for made in (found, simulated)]
    assert abs(10 * np.log10(power[0] / power[1])) < 1.0  # decibels
    apart = np.abs(found - simulated) / info.quantization.scale[0]
    assert np.mean(apart <= 1.01) >= 0.99
