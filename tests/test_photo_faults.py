"""Faults of single photos, made on purpose, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from tiny_cleaning import photo

from veduta.curate.findings import doubt
from veduta.curate.photo_faults import MIN_SIDE_PIXELS, detail_count
from veduta.curate.photo_scan import scan_photos
from veduta.datasets import read_dataset
from veduta.errors import DatasetError


def kinds_of(folder: Path) -> dict[str, set[str]]:
    photos = read_dataset(folder, every_photo=True)
    found: dict[str, set[str]] = {path: set() for path in photos.paths}
    for fault in scan_photos(photos.files, faults=True).faults:
        assert 0.5 <= fault.score <= 1.0 and fault.reason
        found[photos.paths[fault.position]].add(fault.kind)
    return found


def test_each_fault_is_found_and_nothing_else(tmp_path: Path) -> None:
    good = photo(1)
    good.save(tmp_path / "good.jpg", quality=90)
    good.save(tmp_path / "good.png")
    good.convert("L").save(tmp_path / "grey.png")
    good.resize((63, 240)).save(tmp_path / "tiny.png")
    good.resize((64, 64)).save(tmp_path / "small.png")
    good.resize((905, 300)).save(tmp_path / "wide.png")
    good.resize((900, 300)).save(tmp_path / "panorama.png")
    good.filter(ImageFilter.GaussianBlur(6)).save(tmp_path / "blurred.png")
    good.resize((40, 30)).resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / "blown.png")
    dark = np.asarray(good).astype(np.float32)
    Image.fromarray((dark * 0.15).astype(np.uint8)).save(tmp_path / "dark.png")
    Image.fromarray(np.clip(215 + dark * 0.25, 0, 255).astype(np.uint8)).save(
        tmp_path / "light.png"
    )
    Image.new("RGB", (320, 240), (200, 30, 30)).save(tmp_path / "blank.png")
    drawing = np.full((240, 320, 3), 255, np.uint8)
    drawing[40:200, 60:64] = drawing[40:44, 60:260] = 0
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    night = np.zeros((240, 320, 3), np.uint8)
    night[100:120, 100:140] = 250
    Image.fromarray(night).save(tmp_path / "night.png")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tail.jpg").write_bytes(whole[:-40])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<!doctype html><p>404", "utf-8")
    (tmp_path / "noise.jpg").write_bytes(b"\xff\xd8\xff" + bytes(range(256)) * 20)
    good.save(tmp_path / "really.jpg", "PNG")
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    assert {path: found for path, found in kinds_of(tmp_path).items() if found} == {
        "tiny.png": {"tiny", "aspect-ratio"},
        "wide.png": {"aspect-ratio"},
        "blurred.png": {"blurred"},
        "blown.png": {"blurred"},
        "dark.png": {"dark"},
        "light.png": {"overexposed"},
        "blank.png": {"blank"},
        "cut.jpg": {"truncated"},
        "tail.jpg": {"truncated"},
        "empty.jpg": {"corrupt"},
        "page.jpg": {"not-a-photo"},
        "noise.jpg": {"corrupt"},
        "really.jpg": {"extension"},
        "link.jpg": {"unreadable"},
    }


@pytest.mark.parametrize("width", [1.0, 2.0, 4.0])
def test_width_of_an_edge_is_measured(width: float) -> None:
    """A step blurred by a Gaussian is its integral; details are the length over two widths."""
    from math import erf

    row = [127.5 * (1 + erf((x - 128) / (width * 2**0.5))) for x in range(256)]
    found = detail_count(np.tile(np.array(row, np.float32), (64, 1)))
    assert found == pytest.approx(256 / (2 * width), rel=0.05)


def test_sharp_edges_of_a_photo_decide() -> None:
    """A sharp thing before a blurred background is no blurred photo."""
    blurred = np.array(photo(2).filter(ImageFilter.GaussianBlur(8)).convert("L"), np.float32)
    assert (detail_count(blurred) or 0) < MIN_SIDE_PIXELS
    blurred[80:160, 100:200] = np.asarray(photo(3, 100, 80).convert("L"))
    assert (detail_count(blurred) or 0) > MIN_SIDE_PIXELS
    assert detail_count(np.full((64, 64), 7, np.float32)) is None
    assert detail_count(np.zeros((4, 90), np.float32)) is None


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from(("jpg", "png", "webp", "gif", "bmp", "tif")))
def test_hostile_files_are_findings(data: bytes, extension: str) -> None:
    heads = {
        "jpg": b"\xff\xd8\xff\xe0",
        "png": b"\x89PNG\r\n\x1a\n",
        "webp": b"RIFF\0\0\0\0WEBP",
        "gif": b"GIF89a",
        "bmp": b"BM",
        "tif": b"II*\0",
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"x.{extension}"
        file.write_bytes(heads[extension] + data)
        scan = scan_photos([file], faults=True)
    kinds = {fault.kind for fault in scan.faults}
    assert bool(len(scan.positions)) != bool(kinds & {"corrupt", "truncated", "not-a-photo"})


def test_scores() -> None:
    assert doubt(1) == 0.5 and doubt(2) == 0.75 and doubt(1e12) == pytest.approx(1)


def test_layouts(tmp_path: Path) -> None:
    for path in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/4.png"):
        (tmp_path / "parts" / path).parent.mkdir(parents=True, exist_ok=True)
        photo(1).save(tmp_path / "parts" / path)
    found = read_dataset(tmp_path / "parts", every_photo=True)
    rows = set(zip(found.paths, found.labels, found.splits, strict=True))
    assert rows == {
        ("train/a/1.png", "a", "train"),
        ("train/b/2.png", "b", "train"),
        ("test/a/3.png", "a", "test"),
        ("test/4.png", None, "test"),
    }
    assert set(read_dataset(tmp_path / "parts/train", every_photo=True).labels) == {"a", "b"}
    assert read_dataset(tmp_path / "parts/train/a", every_photo=True).labels == (None,)
    table = tmp_path / "parts/names.csv"
    table.write_text("path,label\ntrain/a/1.png,x\nnone.png,y\n", "utf-8")
    for listed in (
        read_dataset(table, every_photo=True),
        read_dataset(tmp_path / "parts", labels="names.csv", every_photo=True),
    ):
        assert listed.labels == ("x",) and listed.labels_file == table
        assert "1 missing" in listed.problems[0]
    with pytest.raises(DatasetError, match="nothing to add"):
        read_dataset(table, labels="names.csv", every_photo=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no photos"):
        read_dataset(tmp_path / "empty", every_photo=True)
