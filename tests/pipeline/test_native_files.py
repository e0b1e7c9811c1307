"""A recipe whose plan asks for the runtimes' own quantizers gets their files beside the derived."""

from __future__ import annotations

import pytest

from edgekit.pipeline.stages.export import wanted
from edgekit.schema.recipe import Recipe


@pytest.mark.parametrize("engine", ["derived", "native"])
def test_native_files_have_names_of_their_own_and_no_master(engine: str) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "digits",
            "data": {"source": "digits"},
            "model": "cnn",
            "compress": [{"quantize": {"engine": engine}}],
            "export": [
                {"format": "tflite", "precision": "int8"},
                {"format": "onnx", "precision": ["fp32", "int8"]},
            ],
        }
    )
    files = {one.key: one for one in wanted(recipe)}
    common = {"tflite-int8", "onnx-fp32", "onnx-int8"}
    assert set(files) == common | ({"onnx-int8-native"} if engine == "native" else set())
    assert files["onnx-int8"].masters == ("export-tflite-int8",)
    if engine == "native":
        assert files["onnx-int8-native"].masters == ()
        assert files["onnx-int8-native"].file_name("digits") == "digits-int8-native.onnx"
