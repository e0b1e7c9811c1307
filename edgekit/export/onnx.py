"""To ONNX: from Keras for floats, from the TFLite master for int8 and mixed.

The functions `convert` and `derive` run in a child process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.base.child import Worker
from edgekit.base.errors import ConversionError
from edgekit.base.extras import require
from edgekit.export.base import Exporter, ExportJob, saved_model
from edgekit.export.tflite import first_lines
from edgekit.runtimes.metadata import ONNX_KEY, IoRecord

_DEFAULT_OPSET = 18


class OnnxExporter(Exporter):
    """ONNX files with a free batch."""

    precisions = ("fp32", "fp16", "int8", "mixed")
    derived = ("int8", "mixed")

    def convert(self, job: ExportJob, output: Path, worker: Worker) -> None:
        """See `Exporter.convert`; an LSTM layer becomes ONNX's LSTM, faster than its steps."""
        worker.call(
            "edgekit.export.onnx:convert",
            saved_model=saved_model(job.model, worker, batch=None, keep_lstm=True),
            output=str(output),
            precision=job.precision,
            opset=job.opset,
        )

    def derive(
        self, master: Path, record: str, output: Path, worker: Worker, *, opset: int | None
    ) -> None:
        """See `Exporter.derive`."""
        worker.call(
            "edgekit.export.onnx:derive",
            master=str(master.resolve()),
            output=str(output),
            opset=opset,
            record=record,
        )


def convert(*, saved_model: str, output: str, precision: str, opset: int | None) -> None:
    """Writes a float .onnx file from a SavedModel with a free batch.

    Args:
        saved_model: directory of the SavedModel.
        output: the file to write.
        precision: fp32, or fp16: weights are stored as float16 and computed with in float32, as
            in the other formats.
        opset: of the file, by default 18.

    Raises:
        ConversionError: the converter failed, or left operators that are not ONNX.
    """
    from edgekit.export.channels_first import store_channels_first

    tf2onnx = require("tf2onnx.convert", purpose="to convert to ONNX")
    loader = require("tf2onnx.tf_loader", purpose="to convert to ONNX")
    _patch()
    try:
        graph, inputs, outputs, tables, names = loader.from_saved_model(
            saved_model,
            None,
            None,
            "serve",
            ["serving_default"],
            None,
            False,
            return_initialized_tables=True,
            return_tensors_to_rename=True,
        )
        model, _ = tf2onnx._convert_common(
            graph,
            name="model",
            opset=opset or _DEFAULT_OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=names,
            initialized_tables=tables,
        )
    except Exception as error:  # noqa: BLE001 the converter raises anything
        raise ConversionError(f"tf2onnx failed: {first_lines(error)}", where="onnx") from None
    store_channels_first(model)
    if precision == "fp16":
        store_as_float16(model)
    _write(model, output)


def derive(*, master: str, output: str, opset: int | None, record: str) -> None:
    """Writes the .onnx file that is the same network as an int8 or mixed .tflite file.

    Args:
        master: the .tflite file.
        output: the file to write.
        opset: of the file, by default 18, with int16 activations 21.
        record: JSON of the master's tensors (`IoRecord`), whose names the file gets.

    Raises:
        ConversionError: the converter failed, or left operators that are not ONNX.
        InputError: the opset has no int16, and the master has.
    """
    from edgekit.export.channels_first import store_channels_first
    from edgekit.export.qdq import refine
    from edgekit.export.qdq_mixed import admit_int16, keep_float_layers

    tf2onnx = require("tf2onnx.convert", purpose="to convert to ONNX")
    _patch()
    try:
        model, _ = tf2onnx.from_tflite(
            master,
            opset=min(opset or _DEFAULT_OPSET, _DEFAULT_OPSET),  # tf2onnx has no later ones
            custom_op_handlers={"TFL_GELU": (_gelu, [])},
        )
    except Exception as error:  # noqa: BLE001 the converter raises anything
        raise ConversionError(f"tf2onnx failed: {first_lines(error)}", where=master) from None
    tensors = IoRecord.model_validate_json(record)
    rename(model, [i.name for i in tensors.inputs], [o.name for o in tensors.outputs])
    admit_int16(model, opset=opset)
    store_channels_first(model)
    refine(model, tensors)
    keep_float_layers(model)
    helper = require("onnx.helper", purpose="to convert to ONNX")
    helper.set_model_props(model, {ONNX_KEY: record})
    _write(model, output)


def rename(model: Any, inputs: list[str], outputs: list[str]) -> None:
    """Gives a model's inputs and outputs new names, in its order."""
    graph = model.graph
    old = [value.name for value in (*graph.input, *graph.output)]
    new = dict(zip(old, (*inputs, *outputs), strict=True))
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    # A tensor inside that already has one of the new names steps aside.
    aside = {n: f"{n}__inner" for n in new.values() if n in taken and n not in new}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, aside.get(name, name)) for name in names]
    for value in (*graph.input, *graph.output):
        value.name = new[value.name]
    for value in (*graph.initializer, *graph.value_info):
        value.name = aside.get(value.name, value.name)


def store_as_float16(model: Any) -> None:
    """Stores float32 weights as float16, each behind a Cast that runtimes fold when they load."""
    onnx = require("onnx", purpose="to convert to ONNX")
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or not weight.dims:
            continue
        name = weight.name
        half = onnx.numpy_helper.to_array(weight).astype(np.float16)
        weight.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}__fp16"))
        casts.append(
            onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)


def _write(model: Any, output: str) -> None:
    onnx = require("onnx", purpose="to convert to ONNX")
    model.producer_name, model.producer_version = "edgekit", ""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # noqa: BLE001 the checker's exceptions share no base class
        raise ConversionError(
            f"the converted model is not valid ONNX: {first_lines(error)}", where="onnx"
        ) from None
    Path(output).write_bytes(model.SerializeToString(deterministic=True))


def _patch() -> None:
    """tf2onnx 1.17 uses names that NumPy 2 no longer has; Keras ships the repair."""
    require("keras.src.export.tf2onnx_lib", purpose="to convert to ONNX").patch_tf2onnx()


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> None:
    """TensorFlow's Erfc (exact GELU) as 1 - Erf: tf2onnx has no handler for it."""
    del name, arguments
    kind, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    source, output = node.input[0], node.output[0]
    context.remove_node(node.name)
    erf = context.make_node("Erf", [source])
    one = context.make_const(f"{node.name}__one", np.array(1.0, np.float32))
    context.make_node(
        "Sub",
        [one.output[0], erf.output[0]],
        outputs=[output],
        name=node.name,
        shapes=[shape],
        dtypes=[kind],
    )


def _gelu(context: Any, node: Any, name: str, arguments: Any) -> None:
    """TFLite's GELU, exact or by tanh, spelled out: tf2onnx has no handler for it."""
    del name, arguments
    approximate = bool(node.get_attr_value("approximate", False))
    kind, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    x, output, prefix = node.input[0], node.output[0], node.name
    context.remove_node(node.name)

    make_name = require("tf2onnx.utils", purpose="to convert to ONNX").make_name

    def constant(value: float) -> str:
        made = context.make_const(make_name(prefix), np.array(value, np.float32))
        return str(made.output[0])

    def op(operator: str, *inputs: str) -> str:
        return str(context.make_node(operator, list(inputs)).output[0])

    if approximate:  # 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
        cube = op("Mul", op("Mul", x, x), x)
        inner = op("Add", x, op("Mul", cube, constant(0.044715)))
        squashed = op("Tanh", op("Mul", inner, constant(float(np.sqrt(2 / np.pi)))))
    else:  # 0.5 x (1 + erf(x / sqrt(2)))
        squashed = op("Erf", op("Mul", x, constant(float(np.sqrt(0.5)))))
    half = op("Mul", x, constant(0.5))
    context.make_node(
        "Mul",
        [half, op("Add", squashed, constant(1.0))],
        outputs=[output],
        name=prefix,
        shapes=[shape],
        dtypes=[kind],
    )
