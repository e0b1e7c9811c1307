"""OpenVINO IR files (.xml with .bin) on OpenVINO's CPU plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
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

MeanTimes = Mapping[int, tuple[tuple[str, ...], int]]
"""Names of the file's operators that one computes and whole microseconds, by order of running."""


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

    def mean_times(self) -> MeanTimes:
        """Mean times of operators in all runs so far, of a session that keeps them."""
        found = {}
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            facts = {key: str(node.rt_info[key].astype(str)) for key in _FACTS}
            told = facts["execTimeMcs"].isdecimal()  # nothing is told of less than a microsecond
            if facts["layerType"] in (_NOT_RUN if told else _NOT_RUN + _OFTEN_IN_PLACE):
                continue
            names = tuple(filter(None, facts["originalLayersNames"].split(",")))
            found[int(facts["execOrder"])] = names, int(facts["execTimeMcs"]) if told else 0
        return found

    def close(self) -> None:
        """Frees the compiled model."""
        del self._request, self._compiled


def profiled(path: Path, *, threads: int, seconds: float, inputs: Inputs) -> list[OperatorTime]:
    """See `edgekit.runtimes.operators.operator_times`."""
    with OpenVinoSession(path, threads=threads, profile=True) as session:
        run = session.prepared(inputs(session.inputs))
        first = session.mean_times()
        runs = repeat_for(run, seconds)
        return later_times(first, session.mean_times(), runs)


def later_times(first: MeanTimes, mean: MeanTimes, runs: int) -> list[OperatorTime]:
    """Times of operators in the runs after the first, in their order.

    In the first one kernels are compiled and weights packed, a thousand times what some take later.

    Args:
        first: times of the first run.
        mean: of it and the later ones.
        runs: how many later ones there were.
    """
    found = []
    for order, (names, microseconds) in sorted(mean.items()):
        _, before = first.get(order, (names, 0))
        later = microseconds + _CUT_OFF + (microseconds - before) / runs
        found.append(OperatorTime(names, 1e-6 * max(later, _CUT_OFF)))
    return found


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
