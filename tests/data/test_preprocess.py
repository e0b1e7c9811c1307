import numpy as np
import pytest
from PIL import Image

from edgekit.base.errors import DataError
from edgekit.data.preprocess import preprocess
from edgekit.schema.artifact import Preprocessing

RNG = np.random.default_rng(0)


def test_scale_mean_std_by_channel():
    x = RNG.integers(0, 256, (4, 5, 6, 3), np.uint8)
    spec = Preprocessing(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (x / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    y = preprocess(x, spec)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, atol=1e-6)


def test_integers_stay_integers():
    tokens = RNG.integers(0, 2**24 + 5, (4, 7))
    y = preprocess(tokens, Preprocessing(dtype="int32"))
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, tokens)


@pytest.mark.parametrize(
    ("method", "pil"),
    [
        ("nearest", Image.Resampling.NEAREST),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("area", Image.Resampling.BOX),
    ],
)
def test_resize_is_that_of_pil(method, pil):
    x = RNG.integers(0, 256, (1, 20, 30, 3), np.uint8)
    y = preprocess(x, Preprocessing(resize=(10, 12), resize_method=method))
    assert y.shape == (1, 10, 12, 3)
    # PIL's 8-bit images are rounded and clipped; ours are not.
    expected = np.asarray(Image.fromarray(x[0]).resize((12, 10), pil), np.float32)
    assert np.abs(np.clip(y[0], 0, 255) - expected).max() <= 1.0


def test_area_is_the_mean_of_blocks():
    x = RNG.random((2, 8, 8, 1), np.float32)
    y = preprocess(x, Preprocessing(resize=(4, 4), resize_method="area"))
    np.testing.assert_allclose(y, x.reshape(2, 4, 2, 4, 2, 1).mean((2, 4)), atol=1e-6)


def test_images_of_several_sizes():
    images = [RNG.random((5, 7, 3)), RNG.random((9, 4, 3))]
    assert preprocess(images, Preprocessing(resize=(6, 6))).shape == (2, 6, 6, 3)
    with pytest.raises(DataError, match="2 different shapes") as caught:
        preprocess(images, Preprocessing())
    assert "resize" in (caught.value.hint or "")


def test_what_cannot_be_preprocessed():
    with pytest.raises(DataError, match="a resize needs images"):
        preprocess(np.zeros((3, 4)), Preprocessing(resize=(2, 2)))
    with pytest.raises(DataError, match="2 values of mean for 3 channels"):
        preprocess(np.zeros((3, 4, 4, 3)), Preprocessing(mean=(0.0, 1.0)))


def test_the_raw_samples_are_not_changed():
    x = np.ones((2, 3), np.float32)
    preprocess(x, Preprocessing(scale=2.0))
    assert np.all(x == 1)
