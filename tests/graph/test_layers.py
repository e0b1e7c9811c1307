from __future__ import annotations

import pytest

from edgekit.graph.layers import layer_names

# Names as found in real files: the MLPerf Tiny and Coral models, and Keras 3 exports.
KWS = [
    (
        "functional_1/activation/Relu;functional_1/batch_normalization/FusedBatchNormV3;"
        "functional_1/conv2d/BiasAdd/ReadVariableOp/resource;functional_1/conv2d/BiasAdd;"
        "functional_1/conv2d_4/Conv2D;functional_1/conv2d/Conv2D1",
        "conv2d",
    ),
    (
        "functional_1/activation_1/Relu;functional_1/batch_normalization_1/FusedBatchNormV3;"
        "functional_1/depthwise_conv2d/depthwise;functional_1/depthwise_conv2d/BiasAdd;"
        "functional_1/conv2d_4/Conv2D;functional_1/depthwise_conv2d/BiasAdd/ReadVariableOp/resource1",
        "depthwise_conv2d",
    ),
    ("functional_1/average_pooling2d/AvgPool", "average_pooling2d"),
    ("functional_1/flatten/Reshape", "flatten"),
    ("functional_1/dense/BiasAdd", "dense"),
    ("Identity", None),
]
RESNET = [
    ("model/conv2d_1/BiasAdd;model/conv2d_2/Conv2D;model/conv2d_1/Conv2D1", "conv2d_1"),
    ("model/activation_2/Relu;model/add/add", "add"),
    ("model/conv2d_5/BiasAdd;model/conv2d_5/Conv2D;model/conv2d_5/BiasAdd/ReadVariableOp/resource1",
     "conv2d_5"),
]  # fmt: skip
KERAS_3 = [
    ("net_1/stem_relu_1/Relu;net_1/stem_1/convolution", "stem"),
    ("net_1/re_lu_1/Relu6;net_1/batch_normalization_1/batchnorm/mul_1;net_1/dw_1/depthwise;1",
     "dw"),
    ("net_1/act_1/Gelu/mul_2;net_1/act_1/Gelu/mul/x;net_1/act_1/Gelu/Cast/x;net_1/act_1/Gelu/Erfc",
     "act"),
    ("net_1/up_1/conv_transpose1", "up"),
    ("net_1/ln_1/moments/SquaredDifference", "ln"),
    ("net_1/block_1/dense_1_1/MatMul;net_1/block_1/dense_1_1/Add", "block/dense_1"),
    ("tfl.dequantize", None),
    ("StatefulPartitionedCall_1:0", None),
]  # fmt: skip
CORAL = [
    ("MobilenetV2/Conv/Relu6;MobilenetV2/Conv/add_fold;MobilenetV2/expanded_conv_5/project/"
     "Conv2D_Fold;MobilenetV2/Conv/Conv2D_Fold;MobilenetV2/Conv/BatchNorm_Fold/bias",
     "MobilenetV2/Conv"),
    ("MobilenetV2/expanded_conv/project/add_fold;MobilenetV2/expanded_conv/project/Conv2D_Fold;"
     "MobilenetV2/expanded_conv/project/BatchNorm_Fold/bias1", "MobilenetV2/expanded_conv/project"),
    ("aspp0/Relu;aspp0/add_fold;concat_projection/Conv2D_Fold;aspp0/Conv2D_Fold;"
     "aspp0/BatchNorm_Fold/bias", "aspp0"),
    ("logits/semantic/BiasAdd;logits/semantic/Conv2D;logits/semantic/biases1", "logits/semantic"),
]  # fmt: skip


@pytest.mark.parametrize("cases", [KWS, RESNET, KERAS_3, CORAL])
def test_real_names(cases: list[tuple[str, str | None]]) -> None:
    assert layer_names([[name] for name, _ in cases]) == [layer for _, layer in cases]


def test_a_constant_tells_where_the_output_does_not() -> None:
    names = [["model/a/Relu"], ["Identity", "model/b/MatMul"], ["Identity", "constant"], []]
    assert layer_names(names) == ["a", "b", None, None]


def test_numbers_that_not_all_scopes_share_belong_to_the_names() -> None:
    assert layer_names([["model_1/dense_1/MatMul"], ["model_1/relu/Relu"]]) == ["dense_1", "relu"]
