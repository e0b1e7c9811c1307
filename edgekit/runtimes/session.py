"""The `Session`: a model file loaded in its real runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgekit.base.errors import DataError
from edgekit.schema.artifact import TensorInfo

Arrays = dict[str, NDArray[Any]]

_FREE_BATCH = 256  # samples at a time where the model leaves the number free


class Session(ABC):
    """A loaded model. Close it, or use it in a `with` block.

    Attributes:
        runtime: "litert", "onnxruntime", "openvino", ...
        version: of the runtime.
        inputs: by signature name, with dtype, shape and quantization.
        outputs: the same.
    """

    runtime: str
    version: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @abstractmethod
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Runs one batch of the model's own dtypes; arrays are matched by signature name.

        Raises:
            DataError: an input is missing, or has another shape or dtype.
            ToolError: the runtime failed.
        """

    def prepared(self, inputs: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A call that computes `inputs` once more, with as little around it as the runtime allows.

        For benchmarks: runtimes that keep their inputs neither check nor copy them again.

        Raises:
            DataError: an input is missing, or has another shape or dtype.
            ToolError: the runtime failed.
        """
        return partial(self.run, inputs)

    def close(self) -> None:
        """Frees the runtime's memory."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def match_names(names: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """`arrays` in the order of `names`, by name; one array fits one input of any name.

    Raises:
        DataError: a name is missing or unknown.
    """
    if len(names) == len(arrays) == 1:
        return {names[0]: next(iter(arrays.values()))}
    if set(names) != set(arrays):
        raise DataError(
            f"the data has arrays {sorted(arrays)}, the model has inputs {sorted(names)}",
            hint="name the arrays as the inputs are named",
        )
    return {name: arrays[name] for name in names}


def check_inputs(infos: tuple[TensorInfo, ...], arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """`arrays` in the order of `infos`, contiguous, after a check of shapes and dtypes.

    Raises:
        DataError: an input is missing, or has another shape or dtype.
    """
    matched = match_names(tuple(info.name for info in infos), arrays)
    for info in infos:
        array = matched[info.name]
        if array.dtype != info.dtype:
            raise DataError(f"input '{info.name}' takes {info.dtype}, got {array.dtype}")
        if len(array.shape) != len(info.shape) or any(
            size not in (None, found) for size, found in zip(info.shape, array.shape, strict=True)
        ):
            allowed = tuple("any" if size is None else size for size in info.shape)
            raise DataError(f"input '{info.name}' has shape {allowed}, got {array.shape}")
        matched[info.name] = np.ascontiguousarray(array)
    return matched


def predict(session: Session, samples: Mapping[str, NDArray[Any]]) -> Arrays:
    """Runs any number of float samples through a session and returns float outputs.

    Inputs are quantized, outputs dequantized, as the session's tensors say; a model with a fixed
    batch is run batch by batch.

    Args:
        session: any session.
        samples: arrays of shape (n, ...), by input name.

    Returns:
        float32 arrays of shape (n, ...), by output name.
    """
    raw = run_raw(session, samples)
    return {info.name: to_real(raw[info.name], info) for info in session.outputs}


def run_raw(session: Session, samples: Mapping[str, NDArray[Any]]) -> Arrays:
    """As `predict`, with the outputs left in the model's own dtype.

    Raises:
        DataError: there is no sample, or the arrays have different numbers of them.
    """
    matched = match_names(tuple(info.name for info in session.inputs), samples)
    counts = {len(array) for array in matched.values()}
    if len(counts) != 1 or counts == {0}:
        raise DataError(f"every input needs the same number of samples, got {sorted(counts)}")
    (count,) = counts
    ready = {info.name: to_model(matched[info.name], info) for info in session.inputs}
    fixed = next((info.shape[0] for info in session.inputs if info.shape), None)
    batch = fixed or min(count, _FREE_BATCH)
    parts = []
    for start in range(0, count, batch):
        chunk = {name: array[start : start + batch] for name, array in ready.items()}
        short = batch - len(next(iter(chunk.values())))
        if fixed and short:  # fill the last fixed-size batch by repeating its last sample
            chunk = {
                n: np.concatenate([a, np.repeat(a[-1:], short, axis=0)]) for n, a in chunk.items()
            }
        parts.append(session.run(chunk))
    return {
        info.name: np.concatenate([part[info.name] for part in parts])[:count]
        for info in session.outputs
    }


def to_model(values: NDArray[Any], info: TensorInfo) -> NDArray[Any]:
    """Real values as the input `info` takes them; values of its own dtype stay as they are."""
    if info.quantization is not None and values.dtype != info.dtype:
        return info.quantization.quantize(values, info.dtype)
    return values.astype(info.dtype, copy=False)


def to_real(values: NDArray[Any], info: TensorInfo) -> NDArray[np.float32]:
    """The float values that the output `info` stands for."""
    if info.quantization is not None and np.issubdtype(values.dtype, np.integer):
        return info.quantization.dequantize(values)
    return values.astype(np.float32, copy=False)
