"""The settings beside a model."""

from __future__ import annotations

import json

import pytest
from tiny_onnx import (
    SIGLIP_CONFIG,
    mirror,
    write,
)

from veduta.encoders import (
    load_encoder,
)
from veduta.errors import EncoderError


def test_sidecar(tmp_path):
    settings = {
        "sizes": [64, [96, 0.5]],
        "stride": 16,
        "fit": "aspect",
        "pooling": "gem",
        "gem_p": 4,
        "output": "features",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
    chosen = load_encoder(write(tmp_path, mirror(), settings)).spec
    assert chosen.sizes == ((64, 1.0), (96, 0.5))
    assert (chosen.stride, chosen.gem_p, chosen.pooling) == (16, 4.0, "gem")
    assert chosen.mean == (0.5, 0.5, 0.5)
    assert chosen.std == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"sizes": "448"}', "sizes: expected a list"),
        ('{"sizes": [448.5]}', r"sizes\.0\.0: expected a whole number"),
        ('{"sizes": [[1, 2, 3]]}', r"sizes\.0: expected a list of 2 values"),
        ('{"mean": [0.5]}', "mean: expected a list of 3 values"),
        ('{"pooling": "max"}', "pooling: expected one of .*gem"),
        ('{"stride": true}', "stride: expected a whole number"),
        ('{"gemp": 3}', "unknown key 'gemp'; did you mean 'gem_p'"),
        ('{"output": "absent"}', "no output fits output 'absent'"),
        ('{"pooling": "cls"}', "no output fits pooling 'cls'"),
        ('{"sizes": []}', "no size"),
        ("[1]", "object"),
        ("{", "do not read .not valid JSON"),
    ],
)
def test_a_sidecar_that_is_not_understood(tmp_path, settings, message):
    path = write(tmp_path, mirror())
    (tmp_path / "model.json").write_text(settings, encoding="utf-8")
    with pytest.raises(EncoderError, match=message):
        load_encoder(path)


CLIP = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": [0.48, 0.45, 0.40],
    "image_std": [0.26, 0.27, 0.28],
    "size": {"shortest_edge": 256},
}
OLD_CLIP = {"crop_size": 224, "do_center_crop": True, "size": 224, "do_normalize": False}


@pytest.mark.parametrize(
    ("config", "fit", "sizes", "keep", "mean"),
    [
        (CLIP, "crop", ((224, 1.0),), 0.875, (0.48, 0.45, 0.40)),
        (SIGLIP_CONFIG, "squash", ((384, 1.0),), 1.0, (0.5, 0.5, 0.5)),
        (OLD_CLIP, "crop", ((224, 1.0),), 1.0, (0.0, 0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("below", [False, True])
def test_the_preprocessor_config_of_hubs(tmp_path, config, fit, sizes, keep, mean, below):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
    folder = tmp_path / "onnx" if below else tmp_path
    folder.mkdir(exist_ok=True)
    chosen = load_encoder(write(folder, mirror())).spec
    assert (chosen.fit, chosen.sizes, chosen.keep, chosen.mean) == (fit, sizes, keep, mean)


def test_the_sidecar_comes_before_the_config(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP_CONFIG), encoding="utf-8")
    assert load_encoder(write(tmp_path, mirror(), {"sizes": [96]})).spec.sizes == ((96, 1.0),)
