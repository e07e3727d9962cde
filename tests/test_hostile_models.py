"""Models and settings that a stranger made: one error that blames the model, before any photo."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_hostile_files import edited
from tiny import save
from tiny_onnx import (
    FLOAT,
    PHOTOS,
    PLAIN,
    endless,
    logarithm,
    mirror,
    node,
    onnx,
    port,
    write,
)

from veduta.cli.main import run
from veduta.encoders import load_encoder, trial
from veduta.errors import EncoderError

Capture = pytest.CaptureFixture[str]


def test_a_model_of_undefined_numbers_ends_a_run_before_the_first_photo(
    tmp_path: Path, capsys: Capture
) -> None:
    save(tmp_path / "photos/a.png", 1)
    model = write(tmp_path, logarithm(), {**PLAIN, "pooling": "average"})
    index = tmp_path / "index"
    call = ["index", str(tmp_path / "photos"), "--index", str(index), "--encoder", model]
    assert run(call) == 5
    assert capsys.readouterr().err == (
        f"veduta: {model}: the model gave infinite or undefined numbers: its weights are damaged\n"
    )
    assert not index.exists()


def test_a_model_that_never_ends_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TRIAL_SECONDS", 0.5)
    model = write(tmp_path, endless(), PLAIN)
    start = time.monotonic()
    with pytest.raises(EncoderError, match="has not described a photo after 0 s; it may never end"):
        load_encoder(model)
    assert time.monotonic() - start < 4, "the run itself was ended"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 1_000_000_000}, "the stride is above 4096 pixels"),
        ({"stride": 0}, "the stride is below 1 pixel"),
        ({"stride": -32}, "the stride is below 1 pixel"),
        ({"sizes": [0]}, "a size is below 1 pixel"),
        ({"sizes": [-320]}, "a size is below 1 pixel"),
        ({"sizes": [100_000]}, "a size is above 4096 pixels"),
        ({"sizes": []}, "no size is given"),
        ({"sizes": [64] * 17}, "more than 16 sizes"),
        ({"sizes": [[64, 0]]}, "a size's weight is not in"),
        ({"sizes": [[64, 1e300]]}, "a size's weight is not in"),
        ({"keep": 1e-9, "fit": "crop"}, "the kept share of the crop is not in [0.01, 1]"),
        ({"scale": 1e300}, "the scale is above 1e+06"),
        ({"mean": [0, 0, 1e300]}, "a mean is above 1e+06"),
        ({"std": [0, 1, 1]}, "a standard deviation is not in [1e-06, 1e+06]"),
        ({"gem_p": 1e9}, "the power of gem is not in [1e-06, 100]"),
        ({"output": "none"}, "no output fits output 'none'"),
        ({"output": "\ud800"}, "no output fits output"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder(write(tmp_path, mirror(), {**PLAIN, **settings}))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ['{"stride": %s}' % ("9" * 5000), "[" * 100_000, "NaN", "[1]"])
def test_settings_that_do_not_read(tmp_path: Path, text: str) -> None:
    model = write(tmp_path, mirror())
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(EncoderError, match=r"model\.json: the settings do not read"):
        load_encoder(model)


VECTOR = port("descriptor", FLOAT, "N", 3)
MEANS = node("ReduceMean", ["pixels"], "descriptor", axes=[2, 3], keepdims=0)


def means(inputs: bytes = PHOTOS, output: bytes = VECTOR, nodes: bytes = MEANS) -> bytes:
    return onnx([nodes], [inputs], [output])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            onnx(
                [node("Identity", [b"\xff\xfe"], "features")],  # type: ignore[list-item]
                [port(b"\xff\xfe", FLOAT, "N", 3, "H", "W")],  # type: ignore[arg-type]
                [port("features", FLOAT, "N", 3, "h", "w")],
            ),
            "cannot open this model",
        ),
        (means(port("pixels", FLOAT, 0, 3, "H", "W")), "the model fails on an input"),
        (means(port("pixels", FLOAT, "N", 3, 0, 0)), "the model fails on an input"),
        (means(port("pixels", FLOAT, 10**9, 3, "H", "W")), "photos at once"),
        (means(port("pixels", FLOAT, "N", 3, 10**9, 10**9)), "a size is above 4096 pixels"),
        (means(port("pixels", FLOAT, "N", 3, "H", "W", "Z")), "not a model for photos"),
        (means(port("pixels", FLOAT)), "cannot open this model"),
        (b"", "cannot open this model"),
        (b"\0" * 100, "cannot open this model"),
    ],
    ids=["name", "no photo", "no pixel", "batch", "side", "rank", "scalar", "empty", "zeros"],
)
def test_odd_models(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(EncoderError, match=r"model\.onnx") as caught:
        load_encoder(write(tmp_path, content, PLAIN))
    assert message in str(caught.value)


def test_a_negative_number_of_photos_counts_as_free(tmp_path: Path) -> None:
    encoder = load_encoder(write(tmp_path, means(port("pixels", FLOAT, -5, 3, "H", "W")), PLAIN))
    assert encoder.dimension == 3


def test_only_errors_of_encoders(tmp_path: Path) -> None:
    """Random edits of a model and of the settings beside it."""
    import random

    random_number = random.Random(1)
    settings = json.dumps({**PLAIN, "sizes": [64], "pooling": "average"}).encode()
    refused = 0
    for number in range(120):
        model = Path(write(tmp_path, mirror()))
        model.with_suffix(".json").write_bytes(settings)
        changed = model if number % 2 else model.with_suffix(".json")
        changed.write_bytes(edited(changed.read_bytes(), random_number))
        try:
            assert np.isfinite(load_encoder(str(model)).dimension)
        except EncoderError as error:
            assert str(error)
            refused += 1
    assert refused > 20
