"""What the operators of a model file make of some samples, as reals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.graph.read import read_graph
from edgekit.graph.types import Graph, Op, Tensor
from edgekit.runtimes.open import open_session
from edgekit.runtimes.recording import record_tensors
from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization
from edgekit.verify.parity import snr_db

Values = NDArray[np.float32]

_QUANTIZING = ("QUANTIZE", "QuantizeLinear", "FakeQuantize")
_SAME_DB = 60.0  # below this, integers do not stand for the reals that they should


@dataclass(frozen=True)
class FileTensor:
    """A tensor that an operator of a file makes.

    Attributes:
        op: the operator; of a quantization, the one whose result it quantizes.
        values: as reals, of shape (n, ...).
        quantization: how integers stand for the reals, one scale for all; None for a float tensor.
    """

    op: Op
    tensor: Tensor
    values: Values
    quantization: Quantization | None = None


@dataclass(frozen=True)
class Recording:
    """A file, and what its operators made on some samples.

    Attributes:
        inputs: of the file; those that a quantization follows have its parameters.
        outputs: name of the output by the index of its tensor.
    """

    path: Path
    graph: Graph
    inputs: tuple[TensorInfo, ...]
    tensors: tuple[FileTensor, ...]
    outputs: Mapping[int, str] = field(default_factory=dict)


def record_file(path: Path, samples: Mapping[str, NDArray[Any]]) -> Recording:
    """Runs samples through a model file and keeps what its operators make.

    Args:
        path: a .tflite, .onnx or .xml file.
        samples: float arrays of shape (n, ...), by input name.

    Raises:
        ModelFileError: the file is not a model.
        ToolError: its runtime failed.
        DataError: the samples do not fit its inputs.
    """
    graph = read_graph(path)
    with open_session(path) as session:
        inputs, outputs = session.inputs, {info.name: info for info in session.outputs}
    batch = inputs[0].shape[0] if inputs and inputs[0].shape else None
    makers = {index: op for op in graph.ops for index in op.outputs}
    wanted = {
        index: graph.tensors[index].name
        for index, op in makers.items()
        if _is_sample(graph.tensors[index], batch)
        and op.name != "DequantizeLinear"
        and not _only_quantized(graph, index, op)
    }
    raw = record_tensors(path, samples, wanted)
    ports = {port.tensor: port.name for port in graph.outputs}
    tensors = tuple(
        _file_tensor(_maker(index, makers), tensor, raw[index])
        for index in wanted
        if index in raw
        for tensor in [_as_output(graph.tensors[index], outputs.get(ports.get(index, "")))]
        if tensor.quantization is not None or raw[index].dtype.kind == "f"
    )
    return Recording(
        path=path,
        graph=graph,
        inputs=_quantized_inputs(graph, inputs),
        tensors=tensors,
        outputs=ports,
    )


def representable(tensor: FileTensor) -> tuple[float, float] | None:
    """The smallest and the largest real that the tensor's integers stand for, or None."""
    quantization = tensor.quantization
    if quantization is None:
        return None
    limits = np.iinfo(tensor.tensor.dtype)
    low, high = quantization.dequantize(np.array([limits.min, limits.max]))
    return float(low), float(high)


def rounded(values: Values, tensor: FileTensor) -> Values | None:
    """Reals rounded to the integers of a tensor and back; None for a float tensor."""
    quantization = tensor.quantization
    if quantization is None:
        return None
    return quantization.dequantize(quantization.quantize(values, tensor.tensor.dtype))


def _is_sample(tensor: Tensor, batch: int | None) -> bool:
    return len(tensor.shape) > 1 and not tensor.constant and tensor.shape[0] in (None, batch)


def _only_quantized(graph: Graph, index: int, op: Op) -> bool:
    """Whether a tensor exists only to be quantized at once, as in files of the QDQ form."""
    if op.name in _QUANTIZING:
        return False
    users = [other for other in graph.ops if index in other.inputs]
    return bool(users) and all(other.name in _QUANTIZING[1:] for other in users)


def _maker(index: int, makers: Mapping[int, Op]) -> Op:
    op = makers[index]
    while op.kind == "quantize" and op.inputs and op.inputs[0] in makers:
        op = makers[op.inputs[0]]
    return op


def _as_output(tensor: Tensor, info: TensorInfo | None) -> Tensor:
    """The tensor with the parameters that only the file's record of its outputs holds."""
    if info is None or info.quantization is None:
        return tensor
    return replace(tensor, quantization=info.quantization)


def _file_tensor(op: Op, tensor: Tensor, raw: NDArray[Any]) -> FileTensor:
    quantization = tensor.quantization
    if quantization is not None and np.issubdtype(raw.dtype, np.integer):
        values = quantization.dequantize(raw)
    else:
        values = np.nan_to_num(raw.astype(np.float32))
    usable = quantization is not None and not quantization.per_channel and "int" in tensor.dtype
    found = FileTensor(op, tensor, values, quantization if usable else None)
    again = rounded(values, found)
    snr = None if again is None else snr_db(values, again)
    if snr is not None and snr < _SAME_DB:
        return replace(found, quantization=None)  # the parameters are not of these reals
    return found


def _quantized_inputs(graph: Graph, infos: Sequence[TensorInfo]) -> tuple[TensorInfo, ...]:
    """The inputs; a float input that is quantized at once with the parameters of that."""
    ports = {port.name: port.tensor for port in graph.inputs}
    found = []
    for info in infos:
        made = [
            graph.tensors[op.outputs[0]]
            for op in graph.ops
            if op.name in _QUANTIZING and op.inputs and op.inputs[0] == ports.get(info.name)
        ]
        if info.quantization is None and made and made[0].quantization is not None:
            made_as = {"quantization": made[0].quantization, "dtype": made[0].dtype}
            info = info.model_copy(update=made_as)
        found.append(info)
    return tuple(found)
