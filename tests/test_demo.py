"""The demo's photos: seeded, sane, and with the right answer in the right folder."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_server import serving

from veduta import demo
from veduta.cli.main import run
from veduta.demo import sample_photos
from veduta.errors import DatasetError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Stand-ins for the photos of scikit-image: a colour each, with a dark square on it."""
    folder = tmp_path / "source"
    folder.mkdir()
    names = sorted({name for s in demo.SUBJECTS for name in (s.photo, s.query_from)})
    for number, name in enumerate(names):
        pixels = np.full((150, 200, 3), 90, dtype=np.uint8)
        pixels[..., number % 3] = 150 + 4 * number
        pixels[40:80, 50:100] = 30
        Image.fromarray(pixels).save(folder / name)
    return folder


def _read(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.jpg"))}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(source, tmp_path):
    demo.write_photos(source, tmp_path / "a", views=1)
    demo.write_photos(source, tmp_path / "b", views=1)
    demo.write_photos(source, tmp_path / "c", views=1, seed=1)
    first, second, other = (_files(tmp_path / name) for name in "abc")
    assert first == second
    assert first.keys() == other.keys()
    same = {name for name in first if first[name] == other[name]}
    assert same == {f"gallery/{s.name}/{s.name}.jpg" for s in demo.SUBJECTS}


@pytest.mark.slow
def test_each_subject_has_a_folder_in_the_gallery_and_one_query(source, tmp_path):
    photos = demo.write_photos(source, tmp_path / "photos", views=3)
    names = {subject.name for subject in demo.SUBJECTS}
    assert {p.name for p in photos.gallery.iterdir()} == names
    assert {p.name for p in photos.queries.iterdir()} == names
    assert all(len(list((photos.gallery / name).iterdir())) == 4 for name in names)
    assert all(len(list((photos.queries / name).iterdir())) == 1 for name in names)
    # No two files are the same picture, so no answer is given away by a copy.
    files = _files(tmp_path / "photos")
    assert len(set(files.values())) == len(files)


@pytest.mark.slow
def test_a_second_run_touches_no_file(source, tmp_path):
    demo.write_photos(source, tmp_path / "photos", views=1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "photos").rglob("*.jpg")}
    demo.write_photos(source, tmp_path / "photos", views=1)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "photos").rglob("*.jpg")}


def test_the_query_of_the_motorcycle_comes_from_the_other_camera(source, tmp_path):
    Image.new("RGB", (200, 150), (20, 160, 20)).save(source / "motorcycle_left.png")
    Image.new("RGB", (200, 150), (160, 20, 20)).save(source / "motorcycle_right.png")
    photos = demo.write_photos(source, tmp_path / "photos", views=1)
    for path in (photos.gallery / "motorcycle").iterdir():
        red, green, _ = _read(path.read_bytes()).mean(axis=(0, 1))
        assert green > 2 * red
    red, green, _ = _read(next((photos.queries / "motorcycle").iterdir()).read_bytes()).mean((0, 1))
    assert red > 2 * green


def test_a_folder_without_the_photos_is_refused_by_name(source, tmp_path):
    (source / "coffee.png").unlink()
    with pytest.raises(DatasetError, match=r"coffee\.png.*make demo"):
        demo.write_photos(source, tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


@pytest.mark.parametrize("seed", range(20))
def test_a_view_never_shows_what_lies_beyond_the_photo(seed):
    # White everywhere: light and shadow leave at least 0.25 · 0.88 of it, a border would be black.
    white = Image.new("RGB", (300, 200), "white")
    seen = _read(demo.rephotograph(white, np.random.default_rng(seed), 1.0))
    assert np.percentile(seen, 0.01) > 0.15 * 255
    assert max(seen.shape[:2]) <= 640
    assert min(seen.shape[:2]) >= 32


def test_at_strength_zero_only_size_and_compression_change():
    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    photo = np.stack([np.tile(ramp, (256, 1)), np.tile(ramp[:, None], (1, 256))], axis=-1)
    photo = np.dstack([photo, np.full((256, 256), 128, np.uint8)])
    seen = _read(demo.rephotograph(Image.fromarray(photo), np.random.default_rng(3), 0.0))
    same_size = Image.fromarray(seen.astype(np.uint8)).resize((256, 256), Image.Resampling.BOX)
    assert np.abs(np.asarray(same_size).astype(int) - photo).mean() < 3


def test_perspective_maps_the_corners_where_they_belong():
    # Twice the size and moved by (10, 20): x' = 2x + 10, y' = 2y + 20.
    quad = np.array([[10, 20], [210, 20], [210, 120], [10, 120]], dtype=float)
    assert sample_photos._perspective((100, 50), quad) == pytest.approx((2, 0, 10, 0, 2, 20, 0, 0))
    # A trapezium: the lower edge twice as wide as the upper.
    quad = np.array([[50, 0], [100, 0], [125, 90], [25, 90]], dtype=float)
    a, b, c, d, e, f, g, h = sample_photos._perspective((60, 60), quad)
    for (x, y), (u, v) in zip([(0, 0), (60, 0), (60, 60), (0, 60)], quad, strict=True):
        below = g * x + h * y + 1
        assert (a * x + b * y + c) / below == pytest.approx(u)
        assert (d * x + e * y + f) / below == pytest.approx(v)


@pytest.mark.slow
def test_the_command_tells_the_accuracy_and_writes_a_page(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SUBJECTS", demo.SUBJECTS[:3])
    monkeypatch.setattr("sys.argv", ["veduta"])
    assert run(["demo", "--source", str(source), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "36 photos indexed" in printed
    rows = [line for line in printed.splitlines() if line.endswith((" right", " wrong"))]
    assert [row.split()[0] for row in rows] == ["astronaut", "brick", "camera"]
    for query, found, _, verdict in (row.split() for row in rows):
        assert (found.split("/")[0] == query) == (verdict == "right")
    right = sum(row.endswith(" right") for row in rows)
    assert f"(top-1): {right} of 3" in printed
    page = tmp_path / "out" / "demo.html"
    assert page.as_uri() in printed
    _, named, index, browse = shlex.split(printed.splitlines()[-1])
    assert (named, browse) == ("serve", "--open")
    with serving(index) as server:
        assert server.get("/indexes").json["indexes"][0]["photos"] == 36
    assert page.read_text("utf-8").count("data:image/jpeg") == 3 * (1 + 10 + 1), "with matches"
    assert all(len(line) <= 80 for line in printed.splitlines() if tmp_path.name not in line)


@pytest.mark.slow
def test_the_command_leaves_each_of_your_photos_out_of_its_own_answers(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"holiday {number}.png")
    (photos / "note.jpg").write_text("not a photo")
    before = {p: p.stat().st_mtime_ns for p in photos.iterdir()}
    assert run(["demo", "--photos", str(photos), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "3 photos indexed" in printed
    assert "not read" in printed
    rows = [line.split("  ") for line in printed.splitlines() if line.startswith("holiday")]
    assert sorted(row[0] for row in rows) == [f"holiday {n}.png" for n in range(3)]
    assert all(row[0] != row[1] for row in rows)
    assert {p: p.stat().st_mtime_ns for p in photos.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "either --source or --photos"),
        (["--source", "a", "--photos", "b"], 2, "either --source or --photos"),
        (["--source", "absent"], 3, "make demo"),
        (["--photos", "absent"], 3, "absent"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(
    arguments, code, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_single_photo_is_too_few_to_compare(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30)).save(photos / "one.png")
    assert run(["demo", "--photos", str(photos), "--out", str(tmp_path / "out")]) == 3
    assert "at least two" in capsys.readouterr().err
