"""`.tflite` files in LiteRT (ai-edge-litert), or in tflite-runtime where only that exists.

LiteRT verifies the flatbuffer before it runs; a file that passes and lies about its own tensors
can still end the process, so files of unknown origin are opened in a child first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import ModelFileError, ToolError
from edgekit.base.extras import native_stderr_dropped, require, version
from edgekit.runtimes.session import Arrays, Session, check_inputs
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization


class LiteRTSession(Session):
    """An interpreter with its default kernels: XNNPACK where it has one.

    Tensors are named by the signature; a file without one has its tensors' own names.

    Args:
        path: the `.tflite` file.
        threads: of the interpreter.
        runtime: "litert" or "tflite-runtime".
        keep_tensors: keep what every operator makes, for which no delegate may join operators:
            TFLite's own kernels run.

    Raises:
        ModelFileError: the file is not a TFLite model.
        ToolError: the runtime cannot prepare it, such as for an unknown custom operator.
        MissingDependencyError: the runtime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        runtime: str = "litert",
        keep_tensors: bool = False,
    ) -> None:
        package = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}[runtime]
        module = require(f"{package}.interpreter", purpose="to run .tflite files")
        self.runtime = runtime
        self.version = version(package.replace("_", "-")) or "unknown"
        self._path = path
        options: dict[str, Any] = {"num_threads": threads}
        if keep_tensors:
            options["experimental_preserve_all_tensors"] = True
            options["experimental_op_resolver_type"] = (
                module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
        try:
            with native_stderr_dropped():  # it announces its kernels; faults come as exceptions
                self._interpreter = module.Interpreter(str(path), **options)
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(
                f"not a TFLite model: {_first_line(error)}", where=str(path)
            ) from None
        self._prepare()
        inputs, outputs = self._tensors()
        self.inputs = tuple(_info(name, detail) for name, detail in inputs.items())
        self.outputs = tuple(_info(name, detail) for name, detail in outputs.items())
        self._indices = {name: detail["index"] for name, detail in inputs.items()}
        self._output_indices = {name: detail["index"] for name, detail in outputs.items()}
        self._shapes = {name: tuple(detail["shape"]) for name, detail in inputs.items()}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """See `Session.run`; state that the model keeps between calls is reset."""
        arrays = check_inputs(self.inputs, inputs)
        if any(arrays[name].shape != shape for name, shape in self._shapes.items()):
            self._resize(arrays)
        interpreter = self._interpreter
        try:
            interpreter.reset_all_variables()
            for name, index in self._indices.items():
                interpreter.set_tensor(index, arrays[name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(i) for name, i in self._output_indices.items()}
        except (ValueError, RuntimeError) as error:
            raise self._failed(error) from None

    def prepared(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """See `Session.prepared`; state that the model keeps between calls is not reset."""
        self.run(inputs)
        invoke: Callable[[], object] = self._interpreter.invoke  # inputs stay where run put them
        return invoke

    def operators(self) -> list[dict[str, Any]] | None:
        """Its operators and, behind them, the delegates that took some; None: it does not tell."""
        details = getattr(self._interpreter, "_get_ops_details", None)
        return list(details()) if callable(details) else None

    def close(self) -> None:
        """Frees the interpreter."""
        del self._interpreter

    def _prepare(self) -> None:
        try:
            with native_stderr_dropped():
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> ToolError:
        hint = None
        if "custom op" in str(error) or "Select TensorFlow" in str(error):
            hint = "the file has operators that only another runtime or accelerator knows"
        return ToolError(
            f"{self.runtime} cannot run it: {_first_line(error)}", where=str(self._path), hint=hint
        )

    def _resize(self, arrays: Arrays) -> None:
        try:
            for name, index in self._indices.items():
                self._interpreter.resize_tensor_input(index, arrays[name].shape)
        except (ValueError, RuntimeError) as error:
            raise self._failed(error) from None
        self._prepare()
        self._shapes = {name: arrays[name].shape for name in self._indices}

    def _tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Details of inputs and outputs by name, in the order of the file."""
        inputs = {d["index"]: d for d in self._interpreter.get_input_details()}
        outputs = {d["index"]: d for d in self._interpreter.get_output_details()}
        names: dict[int, str] = {
            d["index"]: d["name"] for d in (*inputs.values(), *outputs.values())
        }
        for key in self._interpreter.get_signature_list():
            runner = self._interpreter.get_signature_runner(key)
            signed = {**runner.get_input_details(), **runner.get_output_details()}
            if {d["index"] for d in signed.values()} >= inputs.keys() | outputs.keys():
                names |= {detail["index"]: name for name, detail in signed.items()}
                break
        return (
            {names[index]: detail for index, detail in inputs.items()},
            {names[index]: detail for index, detail in outputs.items()},
        )


def open_litert(path: Path, *, threads: int = 1) -> LiteRTSession:
    """Opens a `.tflite` file in ai-edge-litert."""
    logging.getLogger("ai_edge_litert").setLevel(logging.ERROR)
    return LiteRTSession(path, threads=threads)


def open_tflite_runtime(path: Path, *, threads: int = 1) -> LiteRTSession:
    """Opens a `.tflite` file in tflite-runtime."""
    return LiteRTSession(path, threads=threads, runtime="tflite-runtime")


def _info(name: str, detail: Mapping[str, Any]) -> TensorInfo:
    # A scalar or an old file has no shape signature; -1 in it is a free dimension.
    shape = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    parameters = detail["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    quantization = None
    if len(scales) and np.issubdtype(detail["dtype"], np.integer):
        quantization = Quantization(
            scale=tuple(float(scale) for scale in scales),
            zero_point=tuple(int(zero) for zero in zero_points),
            axis=int(parameters["quantized_dimension"]) if len(scales) > 1 else None,
        )
    return TensorInfo(
        name=name,
        shape=tuple(None if size < 0 else int(size) for size in shape),
        dtype=np.dtype(detail["dtype"]).name,
        quantization=quantization,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
