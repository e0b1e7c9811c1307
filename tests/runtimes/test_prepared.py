"""A prepared call computes the same thing again, and leaves the session as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.base.errors import DataError
from edgekit.devices.timing import random_inputs
from edgekit.runtimes.open import open_session


@pytest.mark.parametrize("name", ["mlperf_tiny_kws_int8", "mlperf_tiny_ad_fp32"])
def test_litert_keeps_its_inputs_over_many_calls(shared: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert")
    with open_session(shared / "models" / f"{name}.tflite") as session:
        inputs = random_inputs(session.inputs, 1)
        (expected,) = session.run(inputs).values()
        call = session.prepared(inputs)
        for _ in range(3):
            call()
        (index,) = session._output_indices.values()
        np.testing.assert_array_equal(session._interpreter.get_tensor(index), expected)


def test_onnx_runtime_and_openvino_compute_the_bound_inputs(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 4])],
    )
    opset = [helper.make_opsetid("", 13)]
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    sessions = [open_session(path)] if pytest.importorskip("onnxruntime") else []
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.convert_model(path), tmp_path / "relu.xml")
    sessions.append(open_session(tmp_path / "relu.xml"))
    first = np.array([[1, -1, 2, -2]], np.float32)
    for session in sessions:
        with session:
            call = session.prepared({"x": first})
            call()
            if session.runtime == "openvino":
                result = session._request.get_output_tensor(0).data
            else:
                result = call.args[0].copy_outputs_to_cpu()[0]
            np.testing.assert_array_equal(result, np.maximum(first, 0))
            (other,) = session.run({"x": -first}).values()
            np.testing.assert_array_equal(other, np.maximum(-first, 0))
            with pytest.raises(DataError):
                session.prepared({"x": first.astype(np.int32)})
