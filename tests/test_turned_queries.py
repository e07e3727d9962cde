"""Queries that are turned or mirrored: the answer is that of the upright query, and says so."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image
from walls import scene, seen_aside

import veduta
from veduta.encoders import load_encoder
from veduta.errors import QueryError
from veduta.photos.orientation import ALL_ORIENTATIONS, UPRIGHT, Orientation, orientation_named
from veduta.search import Engine, Evidence, SearchOptions, search_photos

Pixels = NDArray[np.uint8]
PLACES = (1, 2, 3, 4, 5)
SHAPES = 400
WIDTH, HEIGHT = 640, 427
CROP = (60, 40, 480, 330)
QUARTER = Orientation(90)
every_orientation = pytest.mark.parametrize("orientation", ALL_ORIENTATIONS, ids=lambda o: o.name)
some_orientations = pytest.mark.parametrize("name", ["upright", "270", "90-mirrored"])


@cache
def place(number: int) -> Pixels:
    """Return a photo of a palace, number 1, or of a wall.

    The palace shows which side is up. Shapes on it show left and right, as it is symmetric.
    """
    if number > 1:
        return scene(number)
    image = Image.fromarray(load_sample_image("china.jpg"))
    pen = ImageDraw.Draw(image)
    rng = np.random.default_rng(0)
    for _ in range(SHAPES):
        corners = rng.integers(0, 50, (4, 2)) + rng.integers((0, 150), (590, 380))
        colour = tuple(rng.integers(0, 256, 3).tolist())
        pen.polygon([tuple(corner) for corner in corners.tolist()], fill=colour)
    return np.asarray(image)


def given(orientation: Orientation) -> Pixels:
    """Return a photo of the palace that must be turned by `orientation` to be upright."""
    return orientation.inverse.apply(seen_aside(place(1)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of photos of five places, two of each, and turned photos of one of them."""
    folder = tmp_path_factory.mktemp("turned")
    for number in PLACES:
        (folder / f"photos/place{number}").mkdir(parents=True)
        Image.fromarray(place(number)).save(folder / f"photos/place{number}/a.png")
        Image.fromarray(place(number)[8:, 12:]).save(folder / f"photos/place{number}/b.png")
    for name in ("upright", "90", "180-mirrored"):
        Image.fromarray(given(orientation_named(name))).save(folder / f"{name}.png")
    done = run_veduta(folder, "index", "photos", "--labels", "folders", "--encoder", "fast")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def index(home: Path) -> veduta.Index:
    return veduta.open(home / "index")


def box(corners: Any) -> NDArray[np.float64]:
    xy = np.array(corners)
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


@every_orientation
def test_a_turned_query_finds_what_the_upright_one_finds(
    index: veduta.Index, orientation: Orientation
) -> None:
    upright = index.search(given(UPRIGHT))
    hits = index.search(given(orientation))
    assert hits.orientation == orientation
    assert {hit.orientation for hit in hits} == {orientation}
    assert [hit.path for hit in hits] == [hit.path for hit in upright]
    assert [hit.score for hit in hits] == [hit.score for hit in upright]
    assert hits[0].label == "place1" and hits[0].evidence is not None
    assert hits[0].evidence.verdict == "same place"
    assert hits[0].as_json()["orientation"] == orientation.name
    assert hits.to_arrow()["orientation"].to_pylist() == [orientation.name] * len(hits)
    assert_same_regions(upright[0].evidence, hits[0].evidence, orientation)


@some_orientations
def test_a_region_is_in_pixels_of_the_query_as_it_is_given(index: veduta.Index, name: str) -> None:
    orientation = orientation_named(name)
    upright = index.search(given(UPRIGHT), crop=CROP)[0].evidence
    crop = orientation.inverse.box(CROP, WIDTH, HEIGHT)
    turned = index.search(given(orientation), crop=crop)[0].evidence
    assert_same_regions(upright, turned, orientation)


def assert_same_regions(
    upright: Evidence | None, turned: Evidence | None, orientation: Orientation
) -> None:
    assert upright is not None and turned is not None and turned.query_region is not None
    assert turned.region == upright.region
    size = orientation.size(WIDTH, HEIGHT)
    back = orientation.points(np.array(turned.query_region), *size)
    assert box(back) == pytest.approx(box(upright.query_region), abs=0.11)


@every_orientation
def test_only_the_right_orientation_is_promising(
    index: veduta.Index, orientation: Orientation
) -> None:
    engine = Engine(index.path)
    views = engine.query_views([given(orientation)])
    options = SearchOptions(labels=("place1",))
    promising = {
        one for one in ALL_ORIENTATIONS if engine.is_promising(views.encoded(one), options)
    }
    assert orientation in promising
    # The palace is symmetric, so its mirror image promises something as well.
    assert {one.degrees for one in promising} == {orientation.degrees}
    elsewhere = SearchOptions(labels=("place2", "place3"))
    assert not engine.is_promising(views.encoded(orientation), elsewhere)


def test_several_photos_are_turned_alike(index: veduta.Index) -> None:
    pair = [given(QUARTER), QUARTER.inverse.apply(place(1)[20:, 20:])]
    (hits,) = index.search_many([pair])
    assert hits.orientation == QUARTER and hits[0].label == "place1"
    assert hits == index.search(*pair)


def test_options_hold_for_the_turned_query(index: veduta.Index) -> None:
    photo = given(QUARTER)
    options = SearchOptions(k=1, fold_copies=True, min_score=0.5)
    (hits,) = index.search_many([photo], options=options)
    assert [hit.label for hit in hits] == ["place1"] and hits.orientation == QUARTER
    others = index.search(photo, label=["place2", "place3"])
    assert {hit.label for hit in others} == {"place2", "place3"}
    for rerank in ("none", "global"):
        hits = index.search(photo, rerank=rerank)
        assert hits[0].label == "place1" and hits.orientation == QUARTER
    far = index.search(photo, distance="euclidean")
    assert far[0].label == "place1" and far.orientation == QUARTER


def test_an_orientation_can_be_forced_and_forbidden(index: veduta.Index) -> None:
    photo = given(QUARTER)
    as_it_is = index.search(photo, orientation="upright")
    assert as_it_is.orientation == UPRIGHT
    assert as_it_is[0].evidence is not None and as_it_is[0].evidence.model is None
    turned = index.search(photo, orientation="90")
    assert turned == index.search(photo) and turned.orientation == QUARTER
    assert index.search(given(UPRIGHT), orientation="180").orientation == Orientation(180)
    with pytest.raises(QueryError, match="no orientation 'left'"):
        index.search(photo, orientation="left")
    with pytest.raises(QueryError, match="no orientation 'left'"):
        index.recognize(photo, orientation="left")


class CountingEncoder:
    """Counts the photos that another encoder encodes."""

    def __init__(self) -> None:
        self.encoder = load_encoder("fast")
        self.photos = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode(self, prepared: Any) -> Any:
        self.photos += len(prepared)
        return self.encoder.encode(prepared)


def test_only_an_unconvincing_query_costs_more(index: veduta.Index) -> None:
    encoder: Any = CountingEncoder()
    engine = Engine(index.path, encoder=encoder)

    def encodings(photo: Pixels, **options: Any) -> int:
        encoder.photos = 0
        search_photos(engine, [photo], SearchOptions(**options))
        photos: int = encoder.photos
        return photos

    assert encodings(given(UPRIGHT)) == 1
    assert encodings(given(QUARTER)) == 4
    assert encodings(given(QUARTER), orientation="upright") == 1
    # A stranger: four turns, and one mirror image.
    assert encodings(scene(99)) == 5
    for rerank in ("none", "global"):
        assert encodings(given(UPRIGHT), rerank=rerank) == 1
        assert encodings(load_sample_image("flower.jpg"), rerank=rerank) == 4


def test_a_stranger_is_not_turned(index: veduta.Index) -> None:
    for seed in (90, 91):
        hits = index.search(scene(seed))
        assert hits.orientation == UPRIGHT
        assert hits == index.search(scene(seed), orientation="upright")
        assert hits[0].evidence is not None and hits[0].evidence.verdict != "same place"


def test_a_photo_of_the_collection_may_be_turned(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        photo = place(number) if number > 1 else QUARTER.apply(place(number))
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    index = veduta.create(tmp_path / "index", "fast")
    index.add(tmp_path)
    hits = index.search(given(UPRIGHT))
    assert Path(hits[0].path).name == "1.png" and hits.orientation == QUARTER
    assert hits[0].evidence is not None and hits[0].evidence.verdict == "same place"


def test_the_picture_shows_the_query_as_it_was_turned(index: veduta.Index) -> None:
    pictures = [
        np.asarray(index.match_picture(photo, index.search(photo)[0], width=400))
        for photo in (given(UPRIGHT), given(QUARTER))
    ]
    assert pictures[0].shape == pictures[1].shape
    text = pictures[0].shape[0] * 9 // 10  # The line of text below differs.
    same = np.abs(pictures[0][:text].astype(int) - pictures[1][:text]).mean()
    assert same < 2


@some_orientations
def test_match_turns_the_first_photo(name: str) -> None:
    orientation = orientation_named(name)
    upright = veduta.match(given(UPRIGHT), place(1), encoder="fast")
    found = veduta.match(given(orientation), place(1), encoder="fast")
    assert found.verdict == "same place" and found.orientation == orientation
    assert (found.inliers, found.similarity) == (upright.inliers, upright.similarity)
    assert found.regions is not None and upright.regions is not None
    back = orientation.points(np.array(found.regions[0]), *orientation.size(WIDTH, HEIGHT))
    assert box(back) == pytest.approx(box(upright.regions[0]), abs=0.11)
    assert found.regions[1] == upright.regions[1]
    assert found.picture().size == upright.picture().size


def test_match_turns_nothing_without_proof() -> None:
    found = veduta.match(scene(1), scene(2), encoder="fast")
    assert found.orientation == UPRIGHT and found.verdict != "same place"


def test_recognition_turns_the_photo(index: veduta.Index) -> None:
    upright = index.recognize(given(UPRIGHT))
    turned = index.recognize(given(QUARTER))
    assert turned.orientation == QUARTER and upright.orientation == UPRIGHT
    assert (turned.guess, turned.confidence) == (upright.guess, upright.confidence)
    assert turned.as_json()["orientation"] == "90"
    forced = index.recognize(given(QUARTER), orientation="upright")
    assert forced.orientation == UPRIGHT


def test_recognition_without_geometry_turns_a_photo_only_if_told(index: veduta.Index) -> None:
    asked = index.recognize(given(QUARTER), method="linear")
    assert asked.orientation == UPRIGHT
    upright = index.recognize(given(UPRIGHT), method="linear")
    turned = index.recognize(given(QUARTER), method="linear", orientation="90")
    assert turned.orientation == QUARTER
    assert (turned.guess, turned.confidence) == (upright.guess, upright.confidence)


def test_an_explanation_is_in_pixels_of_the_query_as_it_is_given(index: veduta.Index) -> None:
    photo = given(QUARTER)
    hit = index.search(photo)[0]
    region = (100, 300, 120, 200)
    for crop in (None, QUARTER.inverse.box(CROP, WIDTH, HEIGHT)):
        found = index.explain(photo, hit, region=region, crop=crop)
        inside = region if crop is None else (region[0] - crop[0], region[1] - crop[1], 120, 200)
        assert found.region == inside
        whole = (
            photo if crop is None else photo[crop[1] : crop[1] + crop[3], crop[0] :][:, : crop[2]]
        )
        assert np.array_equal(found.pixels, whole)
    found = index.explain(photo, hit)
    upright_hit = index.search(given(UPRIGHT))[0]
    upright = index.explain(given(UPRIGHT), upright_hit)
    assert found.similarity == upright.similarity
    assert np.array_equal(QUARTER.apply(found.map), upright.map)
    assert found.box == QUARTER.inverse.box(upright.box, WIDTH, HEIGHT)
    assert "The query was turned by 90° clockwise to be compared." in found.notes
    with pytest.raises(QueryError, match="427 × 640 pixels"):
        index.explain(photo, hit, region=(0, 0, 500, 100))


def test_commands_say_how_the_query_was_turned(home: Path, open_page: Any) -> None:
    done = run_veduta(home, "search", "upright.png", "90.png", "180-mirrored.png", "--json")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["orientation"] for answer in answers] == ["upright", "90", "180-mirrored"]
    assert Counter(hit["orientation"] for hit in answers[1]["hits"]) == {"90": 10}

    done = run_veduta(home, "search", "90.png", "--html", "page.html")
    assert done.stdout.startswith("The query was turned by 90° clockwise to be compared.\n")
    page = open_page(home / "page.html", 900, 700)
    assert "turned by 90° clockwise to be compared" in page.inner_text("body")
    assert "turned" not in run_veduta(home, "search", "upright.png").stdout

    done = run_veduta(home, "match", "90.png", "photos/place1/a.png", "--encoder", "fast")
    assert "  orientation 90.png was turned by 90° clockwise\n" in done.stdout
    done = run_veduta(home, "match", "90.png", "--orientation", "90")
    assert done.returncode == 2 and "--orientation goes with two photos" in done.stderr

    done = run_veduta(home, "recognize", "180-mirrored.png")
    assert "the photo was turned by 180° clockwise and mirrored to be compared" in done.stdout
    done = run_veduta(home, "search", "90.png", "--orientation", "upright", "--json")
    assert json.loads(done.stdout)[0]["orientation"] == "upright"


def test_evaluate_takes_queries_as_they_are_unless_told(tmp_path: Path) -> None:
    rows = ["path,label,split"]
    for number in PLACES:
        query = given(QUARTER) if number == 1 else seen_aside(place(number))
        for name, split, photo in (("a", "gallery", place(number)), ("q", "query", query)):
            Image.fromarray(photo).save(tmp_path / f"{number}{name}.png")
            rows.append(f"{number}{name}.png,place{number},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    as_they_are = veduta.evaluate(tmp_path, encoder="fast", rerank="geometry")
    assert "orientation" not in as_they_are.settings and as_they_are.notes == ()
    turned = veduta.evaluate(tmp_path, encoder="fast", rerank="geometry", orientation="auto")
    assert turned.settings["orientation"] == "auto"
    assert turned.notes == ("of 5 queries: 1 turned by 90° clockwise",)
    assert turned.summary.map == 1
    found = veduta.evaluate(tmp_path, encoder="fast", rerank="none", orientation="auto")
    assert found.results[0].ap == 1 and "turned by 90° clockwise" in found.notes[0]
    wrong = veduta.evaluate(tmp_path, encoder="fast", rerank="none", orientation="180")
    assert wrong.notes == ("of 5 queries: 5 turned by 180° clockwise",)
    named = veduta.evaluate_recognition(
        tmp_path, encoder="fast", method="evidence", orientation="auto"
    )
    assert named.notes == turned.notes and all(result.right for result in named.results)
    with pytest.raises(QueryError, match="leave out 'orientation'"):
        veduta.evaluate(tmp_path, method="orb", orientation="auto")
    with pytest.raises(QueryError, match="no orientation 'left'"):
        veduta.evaluate(tmp_path, orientation="left")
