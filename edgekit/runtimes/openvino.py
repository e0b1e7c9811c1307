"""OpenVINO IR files (.xml with .bin) on OpenVINO's CPU plugin."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ModelFileError, ToolError
from edgekit.base.extras import require
from edgekit.runtimes import metadata
from edgekit.runtimes.operators import Inputs, OperatorTime, repeat_for
from edgekit.runtimes.session import Arrays, Session, check_inputs
from edgekit.schema.artifact import TensorInfo

_FACTS = ("layerType", "execTimeMcs", "execOrder", "originalLayersNames")
_NOT_RUN = ("Const", "Input", "Output")
_OFTEN_IN_PLACE = ("Reshape", "Reorder", "Concatenation", "Split")  # then they take no time
_CUT_OFF = 0.5  # on average: whole microseconds are told
_FIRST_RUNS = 3  # kernels are compiled and weights packed: a thousand times what some take later
_BLOCKS = 3  # of runs, of which disturbed ones are left out
_RUNS = (4, 60)  # of a block
_DISTURBED = 1.2  # times as long as half of the blocks


@dataclass(frozen=True)
class Reading:
    """What the profiler told at one time.

    Attributes:
        runs: so far.
        seconds: that each of those since the last reading took.
        microseconds: mean of all runs, whole; by the name of the compiled operator.
    """

    runs: int
    seconds: float
    microseconds: Mapping[str, int]


def compile_options(threads: int) -> dict[str, Any]:
    """How the CPU plugin is told to compute what the file says.

    Without the first, a CPU with bfloat16 computes float32 models in it; without the second,
    chains of int8 dense layers give wrong results with one thread a stream (seen in OpenVINO
    2026.3 and 2026.4).
    """
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "SNIPPETS_MODE": "DISABLE",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }


class OpenVinoSession(Session):
    """A model compiled for the CPU plugin.

    The XML is read strictly, yet weights are mapped into memory as the XML describes them; files
    of unknown origin are opened in a child first.

    Args:
        path: the `.xml` file; its `.bin` lies beside it.
        threads: of the inference.
        profile: whether to keep times of operators.

    Raises:
        ModelFileError: the files are not an OpenVINO model.
        ToolError: the plugin cannot compile it.
        MissingDependencyError: openvino is not installed.
    """

    runtime = "openvino"

    def __init__(self, path: Path, *, threads: int = 1, profile: bool = False) -> None:
        ov = require("openvino", purpose="to run OpenVINO files")
        self.version = ov.__version__.partition("-")[0]
        self._path = path
        core = ov.Core()
        try:
            model = core.read_model(str(path))
        except RuntimeError as error:
            raise ModelFileError(
                f"not an OpenVINO model: {_message(error)}", where=str(path)
            ) from None
        self._prepare(model)
        try:
            options = compile_options(threads) | ({"PERF_COUNT": True} if profile else {})
            self._compiled = compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise ToolError(
                f"OpenVINO cannot compile it: {_message(error)}", where=str(path)
            ) from None
        self._request = compiled.create_infer_request()
        inputs = tuple(_info(port) for port in compiled.inputs)
        outputs = tuple(_info(port) for port in compiled.outputs)
        keys = list(metadata.OPENVINO_PATH)
        record = str(model.get_rt_info(keys).astype(str)) if model.has_rt_info(keys) else None
        self.inputs, self.outputs = metadata.apply(record, inputs, outputs)

    def _prepare(self, model: Any) -> None:
        """Changes the model before it is compiled; here nothing."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See `Session.run`."""
        results = self._infer(inputs)
        return {info.name: results[index] for index, info in enumerate(self.outputs)}

    def _infer(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        """The results of one batch by their position."""
        arrays = check_inputs(self.inputs, inputs)
        try:
            return self._request.infer(list(arrays.values()), share_inputs=True)
        except RuntimeError as error:
            raise ToolError(f"OpenVINO failed: {_message(error)}", where=str(self._path)) from None

    def prepared(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """See `Session.prepared`."""
        self._request.infer(list(check_inputs(self.inputs, inputs).values()))
        infer: Callable[[], object] = self._request.infer  # inputs stay where they were copied to
        return infer

    def mean_times(self) -> dict[str, int]:
        """Mean microseconds of operators in all runs so far, of a session that keeps them."""
        found = self._request.profiling_info
        return {one.node_name: one.real_time // timedelta(microseconds=1) for one in found}

    def operators(self) -> dict[str, tuple[str, ...]]:
        """Names of the file's operators that each compiled one computes, in order of running."""
        found = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            facts = {key: str(node.rt_info[key].astype(str)) for key in _FACTS}
            told = facts["execTimeMcs"].isdecimal()  # nothing is told of less than a microsecond
            if facts["layerType"] in (_NOT_RUN if told else _NOT_RUN + _OFTEN_IN_PLACE):
                continue
            names = tuple(filter(None, facts["originalLayersNames"].split(",")))
            found[int(facts["execOrder"])] = node.get_friendly_name(), names
        return dict(found[order] for order in sorted(found))

    def close(self) -> None:
        """Frees the compiled model."""
        del self._request, self._compiled


def profiled(path: Path, *, threads: int, seconds: float, inputs: Inputs) -> list[OperatorTime]:
    """See `edgekit.runtimes.operators.operator_times`.

    The compiled operators are listed last: thereafter a run takes milliseconds longer, all of them
    in the first few kernels.
    """
    with OpenVinoSession(path, threads=threads, profile=True) as session:
        run = session.prepared(inputs(session.inputs))
        done = 1 + repeat_for(run, 0.0, (_FIRST_RUNS - 1, _FIRST_RUNS - 1))
        readings = [Reading(done, 0.0, session.mean_times())]
        for _ in range(_BLOCKS):
            start = time.perf_counter()
            runs = repeat_for(run, seconds / _BLOCKS, _RUNS)
            spent, done = time.perf_counter() - start, done + runs
            readings.append(Reading(done, spent / runs, session.mean_times()))
        return later_times(session.operators(), readings)


def later_times(
    operators: Mapping[str, tuple[str, ...]], readings: Sequence[Reading]
) -> list[OperatorTime]:
    """Times of operators in the runs after the first reading, but for those that were disturbed.

    Args:
        operators: names of the file's operators by the name of the compiled one, in order.
        readings: in order.
    """
    usual = median(one.seconds for one in readings[1:])
    kept = [pair for pair in pairwise(readings) if pair[1].seconds <= _DISTURBED * usual]
    runs = sum(after.runs - before.runs for before, after in kept)
    found = []
    for operator, names in operators.items():
        taken = sum(_sum(after, operator) - _sum(before, operator) for before, after in kept)
        found.append(OperatorTime(names, 1e-6 * max(taken / runs, _CUT_OFF)))
    return found


def _sum(reading: Reading, operator: str) -> float:
    """Microseconds of an operator in all runs up to a reading."""
    return reading.runs * (reading.microseconds.get(operator, 0) + _CUT_OFF)


def _info(port: Any) -> TensorInfo:
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    return TensorInfo(
        name=names[0] if names else port.get_node().get_friendly_name(),
        shape=tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape()),
        dtype=np.dtype(port.get_element_type().to_dtype()).name,
    )


def _message(error: Exception) -> str:
    """The last line that says something: the lines before it are places in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
