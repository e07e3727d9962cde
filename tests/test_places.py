"""Where photos were taken: read from Exif, kept in the index, and left out where that is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TinyEncoder, pixels

from veduta import api
from veduta.cli.main import run
from veduta.errors import CollectionError
from veduta.index import create_index, open_snapshot, open_table, read_status, update_index
from veduta.index.places import has_places, places_of, within_box
from veduta.photos import load
from veduta.photos.exif import read_exif

PARIS = (48.0, 51.0, 29.6), (2.0, 17.0, 40.2)


def gps(latitude: object, north: object, longitude: object, east: object) -> Image.Exif:
    exif = Image.Exif()
    tags = exif.get_ifd(0x8825)
    tags |= {1: north, 2: latitude, 3: east, 4: longitude}
    return exif


@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ((PARIS[0], "N", PARIS[1], "E"), (48.858222, 2.294500)),
        ((PARIS[0], "S", PARIS[1], "W"), (-48.858222, -2.294500)),
        ((PARIS[0], "n", PARIS[1], "e"), (48.858222, 2.294500)),
        (((48.858222, 0.0, 0.0), "N", (2.2945, 0.0, 0.0), "E"), (48.858222, 2.294500)),
        (((90.0, 0.0, 0.0), "N", (180.0, 0.0, 0.0), "W"), (90, -180)),
        (((0.0, 0.0, 0.0), "N", (0.0, 0.0, 0.0), "E"), None),
        (((90.0, 0.0, 1.0), "N", (0.0, 0.0, 0.0), "E"), None),
        (((1.0, 0.0, 0.0), "N", (180.0, 30.0, 0.0), "E"), None),
        (((1.0, 0.0, 0.0), "E", (1.0, 0.0, 0.0), "E"), None),
        (((1.0, 0.0, 0.0), "", (1.0, 0.0, 0.0), "E"), None),
    ],
)
def test_places_of_exif(tags: tuple, place: tuple[float, float] | None) -> None:
    found = read_exif(gps(*tags).tobytes()).place
    assert found == (None if place is None else pytest.approx(place, abs=1e-5))


def test_gps_without_one_of_its_four_tags_is_no_place() -> None:
    for missing in (1, 2, 3, 4):
        exif = gps(PARIS[0], "N", PARIS[1], "E")
        del exif.get_ifd(0x8825)[missing]
        assert read_exif(exif.tobytes()).place is None


def test_a_block_that_is_cut_anywhere_gives_a_place_or_none() -> None:
    block = gps(PARIS[0], "N", PARIS[1], "E").tobytes()
    places = [read_exif(block[:length]).place for length in range(len(block) + 1)]
    assert places[-1] == pytest.approx((48.858222, 2.2945), abs=1e-5)
    assert all(one is None or one == places[-1] for one in places)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pixels(1)).save(folder / "a.jpg", exif=gps(PARIS[0], "N", PARIS[1], "E"))
    Image.fromarray(pixels(2)).save(folder / "b.jpg")
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return folder


def test_an_index_keeps_places_and_copies_share_them(tmp_path: Path, photos: Path) -> None:
    assert load(photos / "a.jpg").place == pytest.approx((48.858222, 2.2945), abs=1e-5)
    index = tmp_path / "index"
    create_index(index, TinyEncoder())
    update_index(index, [photos], TinyEncoder())
    (photos / "a.jpg").rename(photos / "moved.jpg")
    update_index(index, [photos], TinyEncoder())
    snapshot = open_snapshot(index)
    names = [Path(path.decode()).name for path in snapshot.rows["path"].to_pylist()[:3]]
    found = dict(zip(names, places_of(snapshot).tolist(), strict=True))
    assert found["moved.jpg"] == found["c.jpg"] == pytest.approx((48.858222, 2.2945), abs=1e-5)
    assert np.isnan(found["b.jpg"]).all()
    assert read_status(index)["placed"] == 2


def test_an_index_without_these_columns_goes_on_without_them(tmp_path: Path, photos: Path) -> None:
    """Older versions of Veduta made such ones."""
    index = tmp_path / "index"
    create_index(index, TinyEncoder(), places=False)
    update_index(index, [photos], TinyEncoder())
    Image.fromarray(pixels(3)).save(photos / "d.jpg", exif=gps(PARIS[0], "N", PARIS[1], "E"))
    (photos / "e.jpg").write_bytes((photos / "a.jpg").read_bytes())
    report = update_index(index, [photos], TinyEncoder())
    assert (report.added, report.copied) == (1, 1)
    snapshot = open_snapshot(index)
    assert not has_places(snapshot) and np.isnan(places_of(snapshot)).all()
    assert "latitude" not in open_table(index).dataset.schema.names
    assert read_status(index)["placed"] == 0


def test_places_can_be_left_out(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["index", str(photos), "--encoder", "fast", "--keypoints", "none", "--index"]
    assert run([*call, str(tmp_path / "without"), "--no-gps"]) == 0
    assert not has_places(open_snapshot(tmp_path / "without"))
    assert run([*call, str(tmp_path / "without")]) == 0, "it stays as it was made"
    assert run([*call, str(tmp_path / "with")]) == 0
    capsys.readouterr()
    assert run([*call, str(tmp_path / "with"), "--no-gps"]) == 4
    assert "stores where its photos were taken" in capsys.readouterr().err
    assert run(["status", "--index", str(tmp_path / "with")]) == 0
    assert "places      2 photos with GPS" in capsys.readouterr().out
    with pytest.raises(CollectionError):
        api.open_or_create(tmp_path / "with", places=False)


def test_boxes_also_over_the_180th_meridian() -> None:
    places = np.array([[10, 20], [10, 179], [10, -179], [-50, 0], [np.nan, np.nan]])
    assert within_box(places, (0, 0, 20, 30)).tolist() == [True, False, False, False, False]
    assert within_box(places, (0, 170, 20, -170)).tolist() == [False, True, True, False, False]
    assert within_box(places, (-90, -180, 90, 180)).tolist() == [True, True, True, True, False]
