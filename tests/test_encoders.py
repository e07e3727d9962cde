"""The encoders inside the package."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny_onnx import (
    colour,
    encode,
    scene,
)

from veduta.encoders import (
    DEFAULT,
    PRESETS,
    Encoder,
    Settings,
    Source,
    load_encoder,
    open_encoder,
    resolve,
)
from veduta.encoders.embedded import embedded_models
from veduta.errors import EncoderError


@pytest.fixture(scope="module")
def fast() -> Encoder:
    return load_encoder("fast")


def test_presets_are_there():
    assert set(PRESETS) == {"fast", "accurate", "accurate-int8"}
    assert DEFAULT in PRESETS
    for name, preset in PRESETS.items():
        source = resolve(name)
        assert source.path.is_file()
        assert source.settings.sizes == preset.sizes


@pytest.mark.parametrize("name", PRESETS)
def test_an_embedded_model(name):
    encoder = load_encoder(name)
    assert encoder.name == name
    assert encoder.dimension == embedded_models()[PRESETS[name].model].dimension
    assert encoder.long_side == PRESETS[name].sizes[0][0] * 5 // 4
    result = encode(encoder, scene())
    assert result.shape == (1, encoder.dimension)
    assert result.dtype == np.float32
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)
    assert json.loads(json.dumps(encoder.describe()))["identity"] == encoder.identity


def test_the_presets_have_different_identities():
    identities = {load_encoder(name).identity for name in (*PRESETS, *embedded_models())}
    assert len(identities) == len(embedded_models()) + len(PRESETS)


def test_gem_in_the_graph_is_gem_outside_it(fast):
    source = resolve("fast")
    inside = open_encoder(replace(source, settings=replace(source.settings, output="descriptor")))
    outside = replace(source.settings, pooling="gem", output="features")
    encoder = open_encoder(replace(source, settings=outside))
    assert len({encoder.identity, inside.identity, fast.identity}) == 3
    assert np.allclose(encode(encoder, scene()), encode(inside, scene()), atol=1e-5)


def test_the_same_photo_larger_stays_near_and_another_goes_away(fast):
    first, larger, other = encode(fast, scene(), scene(600, 800), scene(seed=1))
    assert first @ larger > 0.98
    assert first @ other < first @ larger - 0.05


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (7, 5), (33, 4000)])
def test_odd_sizes(fast, size):
    result = encode(fast, scene(*size))
    assert np.isfinite(result).all()
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("level", [0, 127, 255])
def test_grey_and_blank_photos(fast, level):
    result = encode(fast, colour(level, level, level))
    assert np.isfinite(result).all()
    assert np.allclose(np.linalg.norm(result, axis=1), 1, atol=1e-6)


def test_a_batch_is_its_photos_one_by_one(fast):
    pictures = [scene(seed=n) for n in range(3)] + [scene(400, 300)]
    together = encode(fast, *pictures)
    alone = np.concatenate([encode(fast, picture) for picture in pictures])
    assert np.allclose(together, alone, atol=1e-5)


@pytest.mark.slow
def test_four_threads_get_what_one_gets(fast):
    prepared = [fast.prepare(scene(200 + 40 * (n % 4), 300, seed=n)) for n in range(24)]
    expected = [fast.encode([one]) for one in prepared]
    with ThreadPoolExecutor(4) as pool_of_threads:
        results = list(pool_of_threads.map(lambda one: fast.encode([one]), prepared))
    assert all(np.array_equal(a, b) for a, b in zip(expected, results, strict=True))


def test_a_damaged_embedded_file_is_refused(tmp_path):
    source = resolve("fast")
    content = bytearray(source.path.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match="not the one that belongs here"):
        open_encoder(replace(source, path=path))


def test_a_source_of_one_s_own():
    source = Source("mine", resolve("fast").path, Settings(sizes=((96, 1.0),), output="features"))
    encoder = open_encoder(source)
    assert (encoder.name, encoder.spec.pooling, encoder.long_side) == ("mine", "gem", 120)


def test_importing_the_package_loads_no_runtime():
    code = (
        "import sys, veduta.encoders as e; e.list_encoders.__doc__\n"
        "print(sorted({'onnxruntime', 'openvino', 'torch', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
