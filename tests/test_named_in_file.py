"""A file of a stranger names an encoder: nothing is fetched, and no other model is opened."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_hub import FakeHub
from tiny import save
from tiny_onnx import channel_means, write

import veduta
from veduta.cli.main import run
from veduta.encoders import loading
from veduta.errors import EncoderMismatch, EncoderUnavailable
from veduta.recognize import open_model


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save(tmp_path / "photos/a/1.jpg", 1)
    save(tmp_path / "photos/b/2.jpg", 2)
    return tmp_path / "photos/a/1.jpg"


def built(folder: Path, encoder: str) -> Path:
    index = veduta.create(folder / "index", encoder=encoder, keypoints=None)
    index.add(folder / "photos", labels="folders")
    return index.path


def edited(index: Path, **changes: Any) -> None:
    """Change the facts about the encoder in the manifest, as a stranger can."""
    file = index / "index.json"
    facts = json.loads(file.read_text("utf-8"))
    facts["encoder"] |= changes
    del facts["checksum"]  # As in an index of an older version.
    file.write_text(json.dumps(facts), "utf-8")


def opened_models(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of the models that are opened from now on."""
    opened: list[Path] = []
    real: Callable[..., Any] = loading.open_onnxruntime

    def watched(path: Path, threads: int) -> Any:
        opened.append(path)
        return real(path, threads)

    monkeypatch.setattr(loading, "open_onnxruntime", watched)
    return opened


@pytest.mark.parametrize("name", ["hub:owner/model", "timm:resnet18.a1_in1k"])
def test_no_command_on_an_index_fetches_its_encoder(
    hub: FakeHub, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import platformdirs

    from veduta.encoders import timm_export

    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "own"))
    monkeypatch.setattr(timm_export, "export_timm", lambda *_, **__: pytest.fail("it exports"))
    index = built(tmp_path, write(tmp_path, channel_means(), {"sizes": [64]}))
    edited(index, name=name)
    save(tmp_path / "photos/b/3.jpg", 3)  # so that an update needs the encoder
    where = ["--index", str(index)]
    codes = {
        command[0]: run([*command, *where])
        for command in (
            ["search", str(photo)],
            ["recognize", str(photo)],
            ["index"],
            ["status"],
            ["check"],
            ["repair"],
        )
    }
    assert codes == {"search": 5, "recognize": 5, "index": 5, "status": 0, "check": 0, "repair": 0}
    assert hub.fetched == []


def test_the_message_names_the_command_that_fetches(
    hub: FakeHub, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = built(tmp_path, "hub:owner/model")
    shutil.rmtree(hub.cache)
    hub.fetched.clear()
    search = ["search", str(photo), "--index", str(index), "--rerank", "none"]
    assert run(search) == 5
    message = capsys.readouterr().err.strip()
    assert hub.fetched == []
    command = shlex.split(message.rpartition("To fetch it: ")[2])
    assert command == ["veduta", "models", "--fetch", "hub:owner/model"]
    assert run(command[1:]) == 0
    assert "on this machine" in capsys.readouterr().out and hub.fetched
    assert run(search) == 0


def test_a_name_on_the_command_line_is_fetched(hub: FakeHub, photo: Path, tmp_path: Path) -> None:
    index = built(tmp_path, "hub:owner/model")
    shutil.rmtree(hub.cache)
    assert run(["index", "--index", str(index), "--encoder", "hub:owner/model"]) == 0
    assert "onnx/vision_model.onnx" in hub.fetched


def test_another_model_at_the_path_in_an_index_is_not_opened(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = built(tmp_path, write(tmp_path, channel_means(), {"sizes": [64]}))
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", channel_means() + b"\x00", {"sizes": [64]})
    edited(index, name=other)
    opened = opened_models(monkeypatch)
    with pytest.raises(EncoderMismatch, match="Index the photos again into another folder"):
        veduta.open(index).search(photo)
    assert opened == []


def test_a_model_of_the_same_bytes_elsewhere_is_opened(photo: Path, tmp_path: Path) -> None:
    index = built(tmp_path, write(tmp_path, channel_means(), {"sizes": [64]}))
    (tmp_path / "other").mkdir()
    edited(index, name=write(tmp_path / "other", channel_means(), {"sizes": [64]}))
    assert veduta.open(index).search(photo)[0].path == str(photo)


def test_a_recogniser_fetches_nothing_and_opens_only_its_own_model(
    hub: FakeHub, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        save(tmp_path / f"photos/{'ab'[number % 2]}/{number}.jpg", number)
    index = veduta.open(built(tmp_path, write(tmp_path, channel_means(), {"sizes": [64]})))
    model = tmp_path / "model"
    index.export_model(model)
    facts = json.loads((model / "model.json").read_text("utf-8"))
    assert len(facts["encoder"]["sha256"]) == 64

    def rename_encoder(name: str) -> None:
        facts["encoder"]["name"] = name
        (model / "model.json").write_text(json.dumps(facts), "utf-8")

    rename_encoder("hub:owner/model")
    with pytest.raises(EncoderUnavailable, match="veduta models --fetch hub:owner/model"):
        open_model(model)
    assert hub.fetched == []
    (tmp_path / "other").mkdir()
    rename_encoder(write(tmp_path / "other", channel_means() + b"\x00", {"sizes": [64]}))
    opened = opened_models(monkeypatch)
    with pytest.raises(EncoderMismatch, match="Export the model again"):
        open_model(model)
    assert opened == []
