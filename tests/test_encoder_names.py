"""The names of encoders: presets, paths, hub and timm models, and their list."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub
from tiny_onnx import (
    channel_means,
    mirror,
    write,
)

from veduta.cli.main import run
from veduta.encoders import hub as hub_module
from veduta.encoders import (
    list_encoders,
    load_encoder,
    resolve,
)
from veduta.encoders.embedded import embedded_models
from veduta.errors import EncoderError, EncoderUnavailable, UnknownEncoder


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("acurate", "'accurate'"),
        ("Fast", "'fast'"),
        ("efficientnet-light0", "'efficientnet-lite0'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(UnknownEncoder, match=f"did you mean {near}"):
        load_encoder(name)


def test_a_name_near_nothing():
    with pytest.raises(UnknownEncoder) as caught:
        load_encoder("zzz")
    assert "did you mean" not in str(caught.value)
    for part in ("'zzz'", "accurate", "fast", "hub:", "timm:", ".onnx"):
        assert part in str(caught.value)


def test_a_path_without_a_file(tmp_path):
    with pytest.raises(EncoderUnavailable, match=r"absent\.onnx.*'accurate-int8'"):
        load_encoder(str(tmp_path / "absent.onnx"))


def test_a_path_of_another_kind(tmp_path):
    with pytest.raises(UnknownEncoder, match=r"\.onnx"):
        load_encoder(str(tmp_path / "model.pt"))


def test_a_path_is_named_in_full(tmp_path, monkeypatch):
    path = write(tmp_path, mirror())
    monkeypatch.chdir(tmp_path)
    assert load_encoder("model.onnx").name == path


@pytest.mark.parametrize(
    ("options", "message"), [({"threads": 0}, "threads"), ({"runtime": "tensorrt"}, "onnxruntime")]
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder("fast", **options)


@pytest.mark.parametrize("name", ["hub:", "hub:alone", "hub:a/b/c", "hub:a/../b/c.onnx"])
def test_hub_names_of_another_form(name):
    with pytest.raises(UnknownEncoder, match="hub:owner/name"):
        load_encoder(name)


def test_hub_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("hub:Xenova/dinov2-small")
    for part in (
        "hub:Xenova/dinov2-small",
        "veduta[hub]",
        "'accurate-int8'",
        "preprocessor_config.json",
    ):
        assert part in str(caught.value)


def test_hub_fetches_the_vision_part_once(hub):
    encoder = load_encoder("hub:owner/model")
    assert encoder.name == "hub:owner/model"
    assert encoder.spec.model.name == "vision_model.onnx"
    assert encoder.spec.sizes == ((384, 1.0),)
    assert sorted(hub.fetched) == ["onnx/vision_model.onnx", "preprocessor_config.json"]
    hub.remote = None
    assert load_encoder("hub:owner/model").identity == encoder.identity


def test_hub_takes_the_named_file(hub):
    encoder = load_encoder("hub:owner/model/onnx/model.onnx")
    assert encoder.spec.model.name == "model.onnx"
    assert "onnx/vision_model.onnx" not in hub.fetched


def test_hub_without_network(hub):
    hub.remote = None
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("hub:owner/model")
    for part in (
        "hub:owner/model",
        "Name or service not known",
        "'accurate-int8'",
        "give the path",
    ):
        assert part in str(caught.value)


def test_hub_without_such_a_file(hub):
    with pytest.raises(EncoderUnavailable, match=r"no file onnx/absent\.onnx"):
        load_encoder("hub:owner/model/onnx/absent.onnx")


def test_hub_names_the_files_there_are(hub):
    for name in ("model", "vision_model"):
        (hub.remote / "owner" / "model" / "onnx" / f"{name}.onnx").unlink()
    with pytest.raises(EncoderUnavailable, match=r"it has onnx/text_model\.onnx"):
        load_encoder("hub:owner/model")


def test_a_cached_model_without_its_config_is_completed(hub):
    load_encoder("hub:owner/model")
    (hub.cache / "owner" / "model" / "preprocessor_config.json").unlink()
    assert hub_module.cached_model("owner/model", None) is None
    assert load_encoder("hub:owner/model").spec.sizes == ((384, 1.0),)


def test_timm_without_its_library(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(EncoderUnavailable) as caught:
        load_encoder("timm:resnet18")
    for part in ("timm:resnet18", "veduta[timm]", "'accurate-int8'", "give its path"):
        assert part in str(caught.value)


@pytest.mark.slow
def test_timm_without_the_hub_fails_at_once(monkeypatch, tmp_path):
    timm = pytest.importorskip("timm")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(tmp_path, None))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("it tries for minutes"))
    with pytest.raises(EncoderUnavailable, match=r"Name or service not known.*'accurate-int8'"):
        load_encoder("timm:resnet50.tv_in1k")


def test_timm_uses_what_was_exported(monkeypatch, tmp_path):
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "timm").mkdir()
    path = Path(write(tmp_path / "timm", mirror(), {"sizes": [96], "pooling": "gem"}))
    path.rename(path.with_stem("resnet18.a1_in1k"))
    path.with_suffix(".json").rename(tmp_path / "timm" / "resnet18.a1_in1k.json")
    encoder = load_encoder("timm:resnet18.a1_in1k")
    assert encoder.name == "timm:resnet18.a1_in1k"
    assert encoder.spec.sizes == ((96, 1.0),)


def test_the_list():
    entries = list_encoders()
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names)
    assert {"fast", "accurate", *embedded_models()} <= set(names)
    assert any("dinov2" in str(name) for name in names)
    for entry in entries:
        facts = {"name", "size", "dimension", "licence", "source", "available"}
        assert set(entry) == facts | {"origin", "paper", "input", "measured"}
        assert isinstance(entry["size"], int)
        assert entry["licence"] and entry["origin"] and entry["paper"]
        if not str(entry["name"]).startswith("hub:"):
            assert entry["available"] is True
    fast_entry = entries[names.index("fast")]
    assert fast_entry["size"] == resolve("fast").path.stat().st_size
    assert fast_entry["dimension"] == 1280
    assert fast_entry["input"] == {
        "sizes": [320],
        "fit": "aspect",
        "stride": 32,
        "keep": 1.0,
        "scale": 1.0,
        "mean": (127.0,) * 3,
        "std": (128.0,) * 3,
    }
    assert {figures["set"] for figures in fast_entry["measured"]} >= {"landmarks30", "objects20"}
    assert all(0 < figures["map"] < figures["top1"] for figures in fast_entry["measured"][:1])
    assert entries[-1]["measured"] == []


def test_the_list_knows_what_is_cached(hub, monkeypatch, capsys):
    from veduta.encoders import listing

    model = listing.HubModel("hub:owner/model", 5, 3, "MIT", "test", "a test", "none")
    monkeypatch.setattr(listing, "HUB_MODELS", (model,))
    assert list_encoders()[-1]["available"] is False
    assert list_encoders()[-1]["input"] is None
    load_encoder("hub:owner/model")
    entry = list_encoders()[-1]
    assert entry["available"] is True
    assert entry["size"] == len(channel_means())
    assert entry["input"] == {
        "sizes": [384],
        "fit": "squash",
        "stride": 32,
        "keep": 1.0,
        "scale": pytest.approx(1 / 255),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    assert run(["models"]) == 0
    assert "  Input: made square, 384 pixels; (RGB / 255 - 0.5) / 0.5.\n" in capsys.readouterr().out
    (hub.cache / "owner" / "model" / "preprocessor_config.json").write_text("[", "utf-8")
    assert list_encoders()[-1]["input"] is None
