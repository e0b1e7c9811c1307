"""Random samples: seeded, in range, of the right shape."""

from __future__ import annotations

import numpy as np

from edgekit.schema.artifact import TensorInfo
from edgekit.schema.quantization import Quantization
from edgekit.verify.samples import random_samples

INFOS = (
    TensorInfo(
        name="image",
        shape=(None, 17, 9, 3),
        dtype="int8",
        quantization=Quantization(scale=(0.5,), zero_point=(-128,)),
    ),
    TensorInfo(name="row", shape=(1, 4), dtype="float32"),
    TensorInfo(name="tokens", shape=(None, None), dtype="int32"),
)


def test_samples_fill_the_range_and_repeat_with_the_seed() -> None:
    samples = random_samples(INFOS, count=20, seed=3)
    assert {n: (a.shape, a.dtype.name) for n, a in samples.items()} == {
        "image": ((20, 17, 9, 3), "float32"),
        "row": ((20, 4), "float32"),
        "tokens": ((20, 1), "int32"),
    }
    assert 0 <= samples["image"].min() < 20 and 100 < samples["image"].max() <= 127.5
    assert set(np.unique(samples["tokens"])) <= {0, 1}
    again = random_samples(INFOS, count=20, seed=3)
    other = random_samples(INFOS, count=20, seed=4)
    np.testing.assert_array_equal(samples["image"], again["image"])
    assert not np.array_equal(samples["row"], other["row"])
