"""`.onnx` files in ONNX Runtime, on its CPU provider."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
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

_FATAL = 4
_KERNEL = "_kernel_time"
_RENAMED = re.compile(
    r"(_token_\d+|_(mul|bn)(?=_nchwc)|_nchwc|_FusedActivation|/\w*Fusion/?|/duplicated)+$"
)
_FUSED_TYPE = re.compile(r"^(QLinear|Q(?=Gemm$)|Fused|Nhwc)")
_FIRST_RUNS = 2
_KEPT = 0.6
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxSession(Session):
    """An inference session with all of the runtime's graph optimizations.

    The runtime reports a corrupt file as an exception; no file is known to end the process.

    Args:
        path: the `.onnx` file.
        threads: within one operator; operators run one after the other.
        content: the model, where it is not the file's own.
        profile: beginning of the name of a file that times of operators are written to.

    Raises:
        ModelFileError: the file is not an ONNX model that the runtime takes.
        MissingDependencyError: onnxruntime is not installed.
    """

    runtime = "onnxruntime"

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        content: bytes | None = None,
        profile: Path | None = None,
    ) -> None:
        ort = require("onnxruntime", purpose="to run .onnx files")
        ort.disable_telemetry_events()
        self.version = ort.__version__
        self._path = path
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL  # failures come as exceptions
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        try:
            self._session = ort.InferenceSession(
                content or str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 the runtime's exceptions share no base class
            raise ModelFileError(
                f"ONNX Runtime cannot load it: {_message(error)}", where=str(path)
            ) from None
        inputs = tuple(_info(node) for node in self._session.get_inputs())
        outputs = tuple(_info(node) for node in self._session.get_outputs())
        record = self._session.get_modelmeta().custom_metadata_map.get(metadata.ONNX_KEY)
        self.inputs, self.outputs = metadata.apply(record, inputs, outputs)
        self._output_names = [info.name for info in self.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See `Session.run`."""
        arrays = check_inputs(self.inputs, inputs)
        try:
            results = self._session.run(self._output_names, arrays)
        except Exception as error:  # noqa: BLE001 the runtime's exceptions share no base class
            raise ToolError(
                f"ONNX Runtime failed: {_message(error)}", where=str(self._path)
            ) from None
        return dict(zip(self._output_names, results, strict=True))

    def prepared(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """See `Session.prepared`."""
        binding = self._session.io_binding()
        for name, array in check_inputs(self.inputs, inputs).items():
            binding.bind_cpu_input(name, array)
        for name in self._output_names:
            binding.bind_output(name)
        return partial(self._session.run_with_iobinding, binding)

    def events(self) -> list[dict[str, Any]]:
        """What the profiler wrote; it ends with this."""
        found: list[dict[str, Any]] = json.loads(Path(self._session.end_profiling()).read_bytes())
        return found

    def close(self) -> None:
        """Frees the session."""
        del self._session


def profiled(path: Path, *, threads: int, seconds: float, inputs: Inputs) -> list[OperatorTime]:
    """See `edgekit.runtimes.operators.operator_times`."""
    times: dict[int, list[float]] = {}
    known: dict[int, tuple[str, str]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-") as folder,
        OnnxSession(path, threads=threads, profile=Path(folder) / "profile") as session,
    ):
        repeat_for(session.prepared(inputs(session.inputs)), seconds)
        events = session.events()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            node = int(event["args"]["node_index"])
            times.setdefault(node, []).append(event["dur"])
            known[node] = event["name"].removesuffix(_KERNEL), event["args"]["op_name"]
    return [
        OperatorTime(
            (_RENAMED.sub("", name.removeprefix("fused ")),),
            1e-6 * float(np.mean(_middle(times[node]))),
            _FUSED_TYPE.sub("", kind),
        )
        for node, (name, kind) in known.items()
    ]


def _middle(values: list[float]) -> list[float]:
    """Whole microseconds, without the first runs and without the slowest."""
    return sorted(values[_FIRST_RUNS:])[: max(1, round(_KEPT * (len(values) - _FIRST_RUNS)))]


def _info(node: Any) -> TensorInfo:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorInfo(
        name=node.name,
        shape=tuple(size if isinstance(size, int) else None for size in node.shape),
        dtype=np.dtype(_DTYPES.get(kind, kind if kind != "string" else "object")).name,
    )


def _message(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
