"""The description of an encoder: how it places photos, and its identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from veduta.encoders import (
    EncoderSpec,
)
from veduta.encoders.placement import long_side, place
from veduta.errors import EncoderError


def spec(**changes: object) -> EncoderSpec:
    base = EncoderSpec(
        name="test",
        model=Path("test.onnx"),
        sha256="00" * 32,
        layout="float-nchw",
        sizes=((448, 1.0),),
        output="features",
        pooling="gem",
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (4000, 3000, (448, 352)),  # 336 pixels are 10.5 strides
        (3000, 4000, (352, 448)),
        (4000, 4000, (448, 448)),
        (1000, 420, (448, 192)),  # 188.2 pixels are 5.88 strides
        (1, 1, (448, 448)),
        (1, 4000, (32, 448)),
        (4000, 1, (448, 32)),
    ],
)
def test_aspect(width, height, expected):
    to = place(width, height, 448, spec())
    assert (to.width, to.height) == expected
    assert (to.left, to.top, to.right, to.bottom) == (0, 0, width, height)


def test_crop_takes_the_centre():
    to = place(400, 200, 224, spec(fit="crop", keep=0.875))
    # 0.875 of 200 is 175; the rest is shared between both sides.
    assert (to.left, to.top, to.right, to.bottom) == (112, 12, 287, 187)
    assert (to.width, to.height) == (224, 224)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_crop_of_a_line(shape):
    to = place(*shape, 224, spec(fit="crop", keep=0.875))
    assert (to.right - to.left, to.bottom - to.top) == (1, 1)


def test_long_side():
    assert long_side(spec()) == 560
    assert long_side(spec(sizes=((320, 1.0), (500, 1.0)))) == 625
    assert long_side(spec(fit="squash", sizes=((224, 1.0),))) == 280
    assert long_side(spec(fit="crop", keep=0.875, sizes=((224, 1.0),))) == 640


def test_identity_changes_with_everything_that_changes_a_descriptor():
    variants = [
        spec(),
        spec(sha256="11" * 32),
        spec(layout="float-nhwc"),
        spec(layout="uint8-nhwc"),
        spec(sizes=((320, 1.0),)),
        spec(sizes=((448, 1.0), (320, 1.0))),
        spec(sizes=((448, 2.0), (320, 1.0))),
        spec(output="other"),
        spec(fit="squash"),
        spec(fit="crop"),
        spec(fit="crop", keep=0.875),
        spec(stride=16),
        spec(scale=1.0),
        spec(mean=(0.5, 0.5, 0.5)),
        spec(std=(0.5, 0.5, 0.5)),
        spec(pooling="average"),
        spec(gem_p=4.0),
    ]
    assert len({variant.identity for variant in variants}) == len(variants)


def test_identity_keeps_still_otherwise():
    here = spec().identity
    assert here == spec(name="another", model=Path("elsewhere.onnx")).identity
    assert here == spec(sizes=((448, 3),)).identity  # one size: its weight drops out
    assert here == spec(keep=0.5).identity  # nothing is cropped
    assert spec(pooling="average", gem_p=4.0).identity == spec(pooling="average").identity
    inside = spec(layout="uint8-nhwc")
    assert inside.identity == replace(inside, mean=(0.5, 0.5, 0.5)).identity


def test_identity_is_the_same_on_every_machine():
    # Written down: a change here means that every index must be built again.
    assert spec().identity == "7d04894a75a945c4"


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": ()},
        {"sizes": ((0, 1.0),)},
        {"sizes": ((5000, 1.0),)},
        {"sizes": ((448, 0.0),)},
        {"sizes": ((448, float("nan")),)},
        {"stride": 0},
        {"keep": 0.0},
        {"keep": 1.1},
        {"gem_p": 0.0},
        {"std": (1.0, 0.0, 1.0)},
    ],
)
def test_a_field_out_of_range(changes):
    with pytest.raises(EncoderError, match="test"):
        spec(**changes)
