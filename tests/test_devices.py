"""A device is used if it is there and computes what the processor does, and is refused else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fake_devices
import numpy as np
import onnxruntime
import pytest
from command_line import run_veduta
from fake_devices import CUDA, FakeCuda
from PIL import Image
from tiny_onnx import mirror, scene, write

import veduta
from veduta.cli.main import run
from veduta.devices import DEVICES, VARIABLE, device_named, device_of_process
from veduta.devices.comparison import near_share
from veduta.devices.pictures import generated_picture, probe_pictures
from veduta.encoders import load_encoder
from veduta.errors import DeviceError, EncoderError, QueryError
from veduta.index import Manifest
from veduta.keypoints import load_extractor
from veduta.keypoints.loading import _load


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    yield fake_devices.install(monkeypatch)
    _load.cache_clear()


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write(tmp_path, mirror())


def save_scene(file: Path, seed: int) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(scene(seed=seed)).save(file)


def test_the_device_is_named_or_the_variable_or_the_processor(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert device_named().name == "cpu"
    with device_of_process("cuda"):
        assert device_named().name == "cuda"
        assert device_named("openvino").name == "openvino"
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "")
    assert device_named().name == "cpu"
    monkeypatch.setenv(VARIABLE, "gpu")
    with pytest.raises(QueryError, match=r"'gpu'.*VEDUTA_DEVICE.*cpu, cuda, coreml"):
        device_named()
    with pytest.raises(QueryError, match="'tpu'; known are cpu"):
        load_encoder(device="tpu")


def test_a_provider_that_is_not_installed_is_refused_with_its_package(model, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    packages = {
        "cuda": "pip install onnxruntime-gpu",
        "directml": "pip install onnxruntime-directml",
        "openvino": "pip install onnxruntime-openvino",
        "coreml": "comes with onnxruntime on macOS",
    }
    assert {*packages, "cpu"} == set(DEVICES)
    for name, words in packages.items():
        for load in (lambda name=name: load_encoder(model, device=name), _xfeat_on(name)):
            with pytest.raises(DeviceError) as error:
                load()
            assert words in str(error.value) and "--device cpu works" in str(error.value)


def _xfeat_on(device):
    return lambda: load_extractor("xfeat", device=device)


def test_other_keypoints_need_no_device():
    assert load_extractor("sift", device="cuda").name == "sift"


def test_a_silent_fallback_is_refused(model, cuda):
    cuda.starts = False
    with pytest.raises(DeviceError, match=r"does not start CUDA.*cudnn.*cpu works"):
        load_encoder(model, device="cuda")
    with pytest.raises(DeviceError, match="took the processor instead"):
        load_extractor("xfeat", device="cuda")


def test_onnxruntime_may_not_change_the_device_later(model, cuda):
    load_encoder(model, device="cuda")
    assert cuda.asked[0]["enable_fallback"] == 0
    (name, options), last = cuda.asked[0]["providers"]
    assert (name, last) == (CUDA.provider, "CPUExecutionProvider") and options["use_tf32"] == "0"


def test_an_error_of_the_device_is_told_from_one_of_the_model(model, cuda, tmp_path):
    cuda.starts = None
    with pytest.raises(DeviceError, match=r"\(CUDA failure 35: the driver is too old\)"):
        load_encoder(model, device="cuda")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(EncoderError, match="cannot open this model") as error:
        load_encoder(str(broken), device="cuda")
    assert not isinstance(error.value, DeviceError)


def test_a_device_that_agrees_is_used_and_told(model, cuda):
    encoder = load_encoder(model, device="cuda")
    processor = load_encoder(model)
    assert encoder.describe()["device"] == "cuda" and processor.describe()["device"] == "cpu"
    assert encoder.identity == processor.identity and encoder.notice is None
    prepared = [encoder.prepare(picture) for picture in probe_pictures()]
    np.testing.assert_array_equal(encoder.encode(prepared), processor.encode(prepared))
    with device_of_process("cuda"):
        assert load_encoder(model).describe()["device"] == "cuda"


def test_what_the_device_leaves_to_the_processor_is_told(model, cuda):
    cuda.nodes = 3, 1250
    assert "cuda runs 3 of the 1,250 nodes" in str(load_encoder(model, device="cuda").notice)
    cuda.nodes = 0, 1250
    with pytest.raises(DeviceError, match="runs no part of this model"):
        load_encoder(model, device="cuda")


@pytest.mark.parametrize("factor", [np.float32(0.5), np.float32("nan")])
def test_other_descriptors_are_refused(model, cuda, factor):
    def alter(results):
        results[0] = results[0].copy()
        results[0][:, 0] *= factor
        return results

    cuda.alter = alter
    for _ in range(2):  # A refusal is not remembered as a comparison that went well.
        with pytest.raises(DeviceError, match=r"cuda .*--device cpu"):
            load_encoder(model, device="cuda")
    cuda.alter = None
    load_encoder(model, device="cuda")


def test_the_comparison_is_made_once_a_process(model, cuda):
    load_encoder(model, device="cuda")
    assert sum(len(session.shapes) for session in cuda.sessions) > 0
    load_encoder(model, device="cuda")
    assert cuda.sessions[1].shapes == []


def test_keypoints_of_a_device(cuda):
    on_device = load_extractor("xfeat:64", device="cuda")
    picture = generated_picture(9, 480, 640)
    found = on_device.extract(picture, 640, 480)
    wanted = load_extractor("xfeat:64").extract(picture, 640, 480)
    np.testing.assert_array_equal(found.xy, wanted.xy)
    np.testing.assert_array_equal(found.descriptors, wanted.descriptors)
    assert on_device.identity == load_extractor("xfeat:64").identity


def _mirrored(results):
    return [each[:, :, ::-1].copy() if each.ndim == 3 else each for each in results]


def _negative_features(results):
    return [-results[0], *results[1:]]


@pytest.mark.parametrize("alter", [_mirrored, _negative_features])
def test_other_keypoints_are_refused(cuda, alter):
    cuda.alter = alter
    with pytest.raises(DeviceError, match=r"cuda gives other keypoints.*--device cpu"):
        load_extractor("xfeat", device="cuda")


def test_the_runtime_openvino_has_no_device(model, cuda, monkeypatch):
    from veduta.encoders import loading

    monkeypatch.setattr(loading, "openvino_installed", lambda: True)
    with pytest.raises(EncoderError, match=r"openvino runs on the processor only.*cuda"):
        load_encoder(model, runtime="openvino", device="cuda")


def test_an_index_does_not_belong_to_a_device(model, cuda, tmp_path):
    for number in range(3):
        save_scene(tmp_path / "photos" / f"{number}.png", number)
    with veduta.create(tmp_path / "a", model, None, device="cuda") as index:
        report = index.add(tmp_path / "photos")
        assert report.added == 3 and report.runtime == "onnxruntime on cuda, float32"
    with veduta.create(tmp_path / "b", model, None) as index:
        assert index.add(tmp_path / "photos").runtime == "onnxruntime, float32"
    of_device, of_processor = (Manifest.read(tmp_path / name).encoder for name in "ab")
    assert of_device == of_processor and "device" not in of_device
    with veduta.open(tmp_path / "a") as one, veduta.open(tmp_path / "b", device="cuda") as other:
        assert one.encoder.describe()["device"] == "cpu"
        assert other.encoder.describe()["device"] == "cuda"
        np.testing.assert_array_equal(one.descriptors().vectors, other.descriptors().vectors)
        photo = tmp_path / "photos" / "1.png"
        assert [hit.path for hit in one.search(photo)] == [hit.path for hit in other.search(photo)]


def test_the_option_holds_for_its_command_only(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    save_scene(tmp_path / "photos" / "1.png", 1)
    done = run_veduta(tmp_path, "index", "photos", "--device", "cuda")
    assert done.returncode == 5 and "onnxruntime-gpu" in done.stderr
    assert not (tmp_path / "index").exists()
    assert run(["search", "photo.png", "--device", "gpu"]) == 2
    assert run(["search", "photo.png", "--index", str(tmp_path), "--device", "cpu"]) == 4
    assert VARIABLE not in os.environ


def test_near_share():
    points = np.array([[0, 0], [10, 10], [20, 20], [30, 30]], np.float32)
    assert near_share(points, points + 0.5) == 1
    assert near_share(points, points[:3]) == 0.75 == near_share(points[:3], points)
    assert near_share(points, points + 2) == 0
    nothing = points[:0]
    assert near_share(nothing, nothing) == 1 and near_share(points, nothing) == 0


def test_generated_pictures_are_always_the_same():
    first, *_, last = probe_pictures()
    assert first.shape == (480, 640, 3) and last.shape == (640, 480, 3)
    assert first.dtype == np.uint8 and first.std() > 30
    np.testing.assert_array_equal(first, generated_picture(0, 480, 640))
