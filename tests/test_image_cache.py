"""Photos as training sees them: the pixels of an index, in memory or decoded each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

import torch
from tiny import pixels, save
from tiny_training import coloured_photos

from veduta.encoders.onnx_encoder import OnnxEncoder
from veduta.errors import LearnError
from veduta.learn.data.image_cache import cache_images, normalise
from veduta.learn.data.splits import read_splits
from veduta.learn.recipe import Input

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("fit_", ["squash", "crop"])
def test_pixels_are_those_of_an_index(tmp_path: Path, fit_: Any) -> None:
    """The encoder of a run prepares and normalises photos as training does."""
    from veduta.encoders.spec import EncoderSpec
    from veduta.index.describing import photos as index_photos
    from veduta.keypoints.xfeat import LONG_SIDE

    turned = Image.fromarray(pixels(5, 900, 1400))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    turned.save(tmp_path / "a" / "large.jpg", quality=90, exif=exif)
    save(tmp_path / "b" / "small.png", 3)
    seen = Input(size=24, fit=fit_, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    images, splits = cache_images(
        read_splits(tmp_path, validation=0), seen, workers=1, max_bytes=24 * 24 * 3
    )  # one of two fits
    assert not images.in_memory
    encoder = OnnxEncoder.__new__(OnnxEncoder)
    encoder.spec = EncoderSpec(
        "x", Path(), "", "float-nchw", ((24, 1.0),), "y", fit=fit_, mean=seen.mean, std=seen.std
    )
    encoder._input_type = np.dtype(np.float32)
    from veduta.encoders.placement import long_side

    for row, path in enumerate(splits.paths):
        photo = index_photos.load(tmp_path / path, at_least=max(long_side(encoder.spec), LONG_SIDE))
        wanted = encoder.prepare(photo.pixels)[0]
        found = images.batch([row])
        assert np.array_equal(found[0].permute(1, 2, 0).numpy(), wanted)
        values = normalise(found, seen)[0].numpy()
        np.testing.assert_allclose(values, encoder._as_input(wanted[None])[0], atol=1e-6)


def test_photos_that_do_not_fit_in_memory_are_decoded_each_time(coloured_dataset: Path) -> None:
    splits = read_splits(coloured_dataset)
    whole, _ = cache_images(splits, Input(size=8), workers=1, max_bytes=2**20)
    part, _ = cache_images(splits, Input(size=8), workers=3, max_bytes=5 * 8 * 8 * 3)
    none, _ = cache_images(splits, Input(size=8), workers=1, max_bytes=0)
    assert whole.in_memory
    assert not part.in_memory
    rows = np.random.default_rng(0).permutation(len(splits.paths))
    assert torch.equal(whole.batch(rows), part.batch(rows))
    assert torch.equal(whole.batch(rows), none.batch(rows))
    assert whole.batch(rows).shape == (24, 3, 8, 8)


def test_a_photo_that_is_deleted_during_training(tmp_path: Path) -> None:
    splits = read_splits(coloured_photos(tmp_path, 2, 2), validation=0)
    images, _ = cache_images(splits, Input(size=8), workers=1, max_bytes=0)
    (tmp_path / "class1" / "0.png").unlink()
    with pytest.raises(LearnError, match=r"class1/0.png.*could be read when training started"):
        images.batch([2])
