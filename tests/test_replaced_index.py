"""An index that is replaced under an open engine: a clean reopening or a clear error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import CentredEncoder, TinyEncoder, TinyExtractor, save_view

import veduta
from veduta import index
from veduta.errors import EncoderMismatch
from veduta.search import Engine
from veduta.search import engine as engines


class MirroredEncoder(CentredEncoder):
    """Another encoder of the same dimension: its descriptors have the opposite sign."""

    def __init__(self) -> None:
        super().__init__("mirrored", "fedcba9876543210")

    def encode(self, prepared: Any) -> Any:
        return -super().encode(prepared)


class HalfEncoder(TinyEncoder):
    """Another encoder of another dimension."""

    dimension = 96

    def __init__(self) -> None:
        super().__init__("half", "00112233445566ff")

    def encode(self, prepared: Any) -> Any:
        rows = super().encode(prepared)[:, :96]
        return rows / (rows**2).sum(axis=1, keepdims=True) ** 0.5


ENCODERS = {"tiny": CentredEncoder, "mirrored": MirroredEncoder, "half": HalfEncoder}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for scene in range(3):
        for number in range(3):
            save_view(tmp_path / f"photos/{scene}/{number}.png", 300 + scene, number)
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def known_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load_named_in_file", lambda name, *_, **__: ENCODERS[name]())


def build(folder: Path, photos: Path, encoder: Any) -> Path:
    index.create_index(folder, encoder, TinyExtractor())
    index.update_index(folder, [photos], encoder, TinyExtractor())
    return folder


def replace(made: Path, other: Path) -> None:
    shutil.rmtree(made)
    other.rename(made)


@pytest.mark.parametrize("name", ["mirrored", "half"])
def test_an_engine_opens_the_new_one(tmp_path: Path, photos: Path, name: str) -> None:
    made = build(tmp_path / "index", photos, CentredEncoder())
    engine = Engine(made)
    query = photos / "1/1.png"
    assert engine.search(engine.encode_query([query]))[0].path == os.fspath(query)
    replace(made, build(tmp_path / "other", photos, ENCODERS[name]()))
    hits = engine.search(engine.encode_query([query]))
    assert hits[0].path == os.fspath(query)
    assert hits[0].similarity == pytest.approx(1, abs=1e-3)
    assert engine.encoder.name == name
    fresh = Engine(made)
    assert hits == fresh.search(fresh.encode_query([query]))


@pytest.mark.parametrize("name", ["mirrored", "half"])
def test_a_query_of_the_old_one_is_refused(tmp_path: Path, photos: Path, name: str) -> None:
    made = build(tmp_path / "index", photos, CentredEncoder())
    engine = Engine(made)
    query = engine.encode_query([photos / "1/1.png"])
    replace(made, build(tmp_path / "other", photos, ENCODERS[name]()))
    with pytest.raises(EncoderMismatch, match="was replaced by an index of another encoder"):
        engine.search(query)


def test_a_query_of_another_projection_is_refused(tmp_path: Path, photos: Path) -> None:
    made = build(tmp_path / "index", photos, CentredEncoder())
    engine = Engine(made)
    query = engine.encode_query([photos / "1/1.png"])
    index.set_projection(made, 4)
    with pytest.raises(EncoderMismatch, match="with another projection"):
        engine.search(query)
    assert engine.search(engine.encode_query([photos / "1/1.png"]))


@pytest.mark.parametrize("name", ["mirrored", "half"])
def test_an_encoder_that_was_given_is_refused(tmp_path: Path, photos: Path, name: str) -> None:
    made = build(tmp_path / "index", photos, CentredEncoder())
    engine = Engine(made, encoder=CentredEncoder())
    replace(made, build(tmp_path / "other", photos, ENCODERS[name]()))
    with pytest.raises(EncoderMismatch, match=f"holds descriptors of encoder '{name}'"):
        engine.encode_query([photos / "1/1.png"])


def test_the_python_surface(tmp_path: Path, photos: Path) -> None:
    made = build(tmp_path / "index", photos, CentredEncoder())
    opened = veduta.open(made)
    query = photos / "2/0.png"
    assert opened.search(query)[0].path == os.fspath(query)
    replace(made, build(tmp_path / "other", photos, MirroredEncoder()))
    assert opened.search(query)[0].similarity == pytest.approx(1, abs=1e-3)
    save_view(photos / "2/9.png", 302, 9)
    assert opened.add(photos).added == 1
    assert len(opened) == 10
