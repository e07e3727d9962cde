"""`Index.explain` and `veduta.explain`: what each explains, and what they refuse."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import pixels, save
from tiny_onnx import channel_means, scene, write

import veduta
from veduta.errors import EncoderError, NotAnIndex, PhotoError, QueryError
from veduta.explanation.similarity import explain_similarity
from veduta.recognize import open_model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with six photos of two classes."""
    home = tmp_path_factory.mktemp("explain")
    for number in range(6):
        save(home / f"photos/{('dome', 'tower')[number % 2]}/{number}.png", number)
    return home


@pytest.fixture(scope="module")
def index(home: Path) -> veduta.Index:
    index = veduta.create(home / "index", encoder="fast", keypoints=None)
    index.add(home / "photos", labels="folders")
    return index


@pytest.fixture(scope="module")
def model(index: veduta.Index, home: Path) -> Path:
    """Return the folder of a recogniser on the descriptors of the index."""
    index.export_model(home / "recogniser")
    return home / "recogniser"


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an encoder whose network gives the descriptor itself, the mean of each channel."""
    return write(tmp_path_factory.mktemp("means"), channel_means(), {"sizes": [24]})


def adds_up(explanation: veduta.Explanation) -> bool:
    total = explanation.score if explanation.similarity is None else explanation.similarity
    assert explanation.constant is not None and total is not None
    return abs(explanation.sum + explanation.constant - total) <= 1e-5


class TestHits:
    def test_both_maps_add_up_to_the_similarity_of_the_hit(
        self, index: veduta.Index, home: Path
    ) -> None:
        query = home / "photos/dome/0.png"
        for hit in index.search(query, k=3):
            explanation = index.explain(query, hit)
            against = explanation.against
            assert against is not None
            assert (explanation.photo, against.photo) == (str(query), hit.path)
            assert explanation.method == "shares"
            assert adds_up(explanation) and adds_up(against)
            assert explanation.similarity == against.similarity
            assert explanation.similarity == pytest.approx(hit.similarity, abs=1e-3)
            assert explanation.notes == ()

    def test_the_projection_of_the_index_is_explained(self, home: Path, tmp_path: Path) -> None:
        projected = veduta.create(tmp_path / "index", encoder="fast", keypoints=None)
        projected.add(home / "photos")
        projected.project(3)
        query = home / "photos/dome/0.png"
        hit = projected.search(query, k=4)[3]
        explanation = projected.explain(query, hit)
        assert explanation.similarity == pytest.approx(hit.similarity, abs=1e-3)
        assert explanation.against is not None
        assert adds_up(explanation) and adds_up(explanation.against)
        plain = veduta.explain(query, against=hit.path, encoder="fast")
        assert plain.similarity != pytest.approx(hit.similarity, abs=1e-2)

    def test_changed_copies_go_through_the_projection(
        self, home: Path, undivided: str, tmp_path: Path
    ) -> None:
        projected = veduta.create(tmp_path / "index", encoder=undivided, keypoints=None)
        projected.add(home / "photos")
        projected.project(2)
        query = home / "photos/dome/0.png"
        for hit in projected.search(query, k=3):
            explanation = projected.explain(query, hit)
            assert explanation.method == "occlusion"
            expected = float(projected.encode(query) @ projected.encode(hit.path))
            assert explanation.similarity == pytest.approx(expected, abs=1e-5)

    def test_a_part_of_the_query_is_explained_as_a_photo_of_its_own(
        self, index: veduta.Index, home: Path
    ) -> None:
        query, crop = home / "photos/dome/0.png", (8, 4, 30, 20)
        hit = index.search(query, crop=crop, k=2)[1]
        explanation = index.explain(query, hit, crop=crop)
        part = pixels(0)[4:24, 8:38]
        assert np.array_equal(explanation.pixels, part)
        assert np.array_equal(explanation.map, index.explain(part, hit).map)
        region = index.explain(query, hit, crop=crop, region=(18, 9, 10, 10))
        assert region.against is not None
        same = index.explain(part, hit, region=(10, 5, 10, 10)).against
        assert same is not None and np.array_equal(region.against.map, same.map)
        with pytest.raises(QueryError, match=r"region 0,0,10,10 is not within .* 8,4,30,20"):
            index.explain(query, hit, crop=crop, region=(0, 0, 10, 10))

    def test_of_several_photos_the_most_similar_one_is_explained(
        self, index: veduta.Index, home: Path
    ) -> None:
        near, far = home / "photos/dome/0.png", home / "photos/tower/3.png"
        (hit,) = index.search(near, k=1)
        several = index.explain([far, near], hit)
        alone = index.explain(near, hit)
        assert several.photo == alone.photo == str(near)
        assert np.array_equal(several.map, alone.map)
        assert "most similar to the hit" in several.notes[-1]

    def test_another_photo_than_the_one_searched_for_is_noted(
        self, index: veduta.Index, home: Path
    ) -> None:
        (hit,) = index.search(home / "photos/dome/0.png", k=1)
        explanation = index.explain(home / "photos/tower/1.png", hit)
        assert f"{hit.similarity:.3f}" in explanation.notes[-1]
        assert f"{explanation.similarity:.3f}" in explanation.notes[-1]

    def test_a_hit_that_is_gone(self, home: Path, tmp_path: Path) -> None:
        save(tmp_path / "photos/a.png", 1)
        save(tmp_path / "photos/b.png", 2)
        index = veduta.create(tmp_path / "index", encoder="fast", keypoints=None)
        index.add(tmp_path / "photos")
        first, second = index.search(tmp_path / "photos/a.png", k=2)
        Path(second.path).unlink()
        with pytest.raises(PhotoError, match=r"b\.png: "):
            index.explain(first.path, second)
        index.remove(second.path)
        with pytest.raises(QueryError, match=r"b\.png: not in the index any more; search again"):
            index.explain(first.path, second)

    def test_the_picture_shows_both_photos(self, index: veduta.Index, home: Path) -> None:
        query = home / "photos/dome/0.png"
        hit = index.search(query, k=2)[1]
        picture = index.map_picture(query, hit, width=900)
        assert picture.width == 900 and picture.height > 250
        halves = (picture.crop((0, 0, 450, 400)), picture.crop((450, 0, 900, 400)))
        for half in halves:
            colours = half.convert("RGB").getcolors(maxcolors=1 << 20)
            assert colours is not None and len(colours) > 1000, "a photo under a map"

    def test_the_encoder_of_an_index(self, index: veduta.Index) -> None:
        assert index.encoder.name == "fast"


class TestTwoPhotos:
    def test_paths_and_arrays_with_an_encoder_by_name_or_opened(self, home: Path) -> None:
        paths = home / "photos/dome/0.png", home / "photos/tower/1.png"
        encoder = veduta.load_encoder("fast")
        by_name = veduta.explain(paths[0], against=paths[1], encoder="fast")
        opened = veduta.explain(pixels(0), against=pixels(1), encoder=encoder)
        direct = explain_similarity(encoder, *paths)
        assert by_name.against is not None and opened.against is not None
        assert by_name.similarity == pytest.approx(direct.similarity, abs=1e-6)
        assert by_name.map == pytest.approx(direct.map, abs=1e-5)
        assert opened.map == pytest.approx(direct.map, abs=1e-5)
        assert (opened.photo, opened.against.photo) == ("the photo", "the other photo")

    def test_the_default_encoder_is_that_of_a_new_index(self, home: Path) -> None:
        paths = home / "photos/dome/0.png", home / "photos/tower/1.png"
        explanation = veduta.explain(paths[0], against=paths[1])
        match = veduta.match(*paths)
        assert explanation.similarity == pytest.approx(match.similarity, abs=1e-4)

    def test_a_descriptor_that_cannot_be_divided_is_explained_by_occlusion(
        self, undivided: str
    ) -> None:
        red = np.full((30, 40, 3), (120, 10, 10), np.uint8)
        mixed = red.copy()
        mixed[:, 20:] = (10, 120, 10)
        explanation = veduta.explain(mixed, against=red, encoder=undivided)
        assert explanation.method == "occlusion" and explanation.constant is None
        assert "cannot be divided" in explanation.notes[-1]
        columns = explanation.map.sum(axis=0)
        middle = len(columns) // 2
        assert columns[:middle].sum() > 0 > columns[middle:].sum(), "red answers to red"
        with pytest.raises(EncoderError, match=r"occlusion.*rise"):
            veduta.explain(mixed, against=red, encoder=undivided, method="shares")

    def test_changed_copies_explain_both_photos(self, undivided: str) -> None:
        photo, other = scene(30, 40), scene(24, 50, seed=1)
        explanation = veduta.explain(photo, against=other, encoder=undivided, method="rise")
        assert explanation.against is not None and explanation.notes == ()
        long_side = veduta.load_encoder(undivided).long_side
        assert max(explanation.pixels.shape) == long_side < 40, "copies are not larger than needed"
        swapped = veduta.explain(other, against=photo, encoder=undivided, method="rise")
        assert swapped.against is not None
        assert np.allclose(swapped.map, explanation.against.map, atol=1e-6)
        assert np.allclose(swapped.against.map, explanation.map, atol=1e-6)


class TestModels:
    def test_the_class_with_the_highest_score_is_explained(self, model: Path, home: Path) -> None:
        photo = home / "photos/tower/1.png"
        explanation = veduta.explain(photo, model=model)
        assert explanation.class_name == open_model(model).recognize(photo).guess == "tower"
        assert explanation.method == "shares" and adds_up(explanation)
        named = veduta.explain(photo, model=model, class_name="tower")
        assert np.array_equal(named.map, explanation.map)
        other = veduta.explain(photo, model=model, class_name="dome")
        assert adds_up(other)
        assert other.score is not None and explanation.score is not None
        assert other.score < explanation.score

    def test_changed_copies_explain_the_same_score(self, model: Path) -> None:
        photo = pixels(1)[:3, :4]  # few pixels, so few copies
        explanation = veduta.explain(photo, model=model, method="occlusion")
        shares = veduta.explain(photo, model=model)
        assert explanation.class_name == shares.class_name
        assert explanation.score == pytest.approx(shares.score, abs=1e-4)

    def test_what_a_recogniser_cannot_be_asked(self, model: Path, home: Path) -> None:
        photo = home / "photos/tower/1.png"
        with pytest.raises(QueryError, match=r"no class 'towr'.* nearest: 'tower', 'dome'"):
            veduta.explain(photo, model=model, class_name="towr")
        with pytest.raises(QueryError, match="Methods for it: shares, occlusion, rise"):
            veduta.explain(photo, model=model, method="cam")
        with pytest.raises(QueryError, match="name the encoder"):
            veduta.explain(photo, model=model, against=photo)

    def test_a_folder_without_a_model(self, home: Path) -> None:
        with pytest.raises(NotAnIndex, match="photos: no model there"):
            veduta.explain(home / "photos/tower/1.png", model=home / "photos")


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "another photo to compare with, or a model"),
            ({"against": "b.png", "class_name": "tower"}, "A class is explained of a model"),
            ({"model": "m", "encoder": "fast"}, "either the model or the encoder"),
            ({"model": "m", "region": (0, 0, 1, 1)}, "A region is explained for the similarity"),
            ({"model": "m", "against": "b.png", "class_name": "c"}, "either a class or another"),
            ({"against": "b.png", "method": "cam"}, "cam does not explain the similarity"),
            ({"against": "b.png", "method": "grad-cam"}, "name the folder of its run as the model"),
            ({"against": "b.png", "method": "shres"}, "did you mean shares?"),
            (
                {"against": "b.png", "method": "rise", "region": (0, 0, 1, 1)},
                "by the method shares, not by rise",
            ),
        ],
    )
    def test_arguments_that_do_not_go_with_each_other(
        self, arguments: dict[str, object], message: str
    ) -> None:
        with pytest.raises(QueryError, match=message.replace("?", r"\?")):
            veduta.explain("a.png", **arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "region", [(0, 0, 49, 32), (-1, 0, 4, 4), (40, 30, 9, 2), (0, 0, 0, 4)]
    )
    def test_a_region_outside_the_photo(
        self, region: tuple[int, int, int, int], home: Path
    ) -> None:
        paths = home / "photos/dome/0.png", home / "photos/tower/1.png"
        with pytest.raises(QueryError, match="48 × 32 pixels"):
            veduta.explain(paths[0], against=paths[1], encoder="fast", region=region)

    def test_photos_that_cannot_be_read(self, home: Path, tmp_path: Path) -> None:
        photo = home / "photos/dome/0.png"
        with pytest.raises(PhotoError, match=r"nowhere\.jpg: "):
            veduta.explain(tmp_path / "nowhere.jpg", against=photo, encoder="fast")
        (tmp_path / "page.jpg").write_text("<html>no photo</html>")
        with pytest.raises(PhotoError, match=r"page\.jpg: .*HTML"):
            veduta.explain(photo, against=tmp_path / "page.jpg", encoder="fast")
        with pytest.raises(QueryError, match="uint8 RGB"):
            veduta.explain(np.zeros((4, 4), np.uint8), against=photo, encoder="fast")


def unusual_photos() -> dict[str, Image.Image]:
    generator = np.random.default_rng(0)
    photo = Image.fromarray(pixels(7))
    shape = generator.integers(0, 255, (32, 48), dtype=np.uint8)
    transparent = photo.convert("RGBA")
    transparent.putalpha(Image.fromarray(shape))
    return {
        "constant": Image.new("RGB", (60, 40), (90, 120, 30)),
        "black": Image.new("RGB", (60, 40)),
        "one pixel": Image.new("RGB", (1, 1), (200, 10, 10)),
        "tiny": photo.crop((0, 0, 3, 2)),
        "narrow": photo.resize((400, 3)),
        "grey": photo.convert("L"),
        "one bit": photo.convert("1"),
        "transparent": transparent,
        "palette": photo.convert("P"),
    }


@pytest.mark.parametrize("name", unusual_photos())
def test_unusual_photos_have_finite_maps_that_add_up(
    name: str, model: Path, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "photo.png"
    unusual_photos()[name].save(file)
    explanation = veduta.explain(file, against=home / "photos/dome/0.png", encoder="fast")
    against = explanation.against
    assert against is not None
    of_class = veduta.explain(file, model=model)
    for one in (explanation, against, of_class):
        assert one.map.dtype == np.float32 and np.isfinite(one.map).all()
        assert adds_up(one)
        assert lies_within(one.box, one.pixels)


def lies_within(box: tuple[int, int, int, int], photo: NDArray[np.uint8]) -> bool:
    x, y, width, height = box
    rows, columns = photo.shape[:2]
    return x >= 0 and y >= 0 and width > 0 and x + width <= columns and y + height <= rows


def test_the_package_does_not_hide_the_function() -> None:
    importlib.import_module("veduta.explanation")
    assert callable(veduta.explain)
    assert veduta.Explanation is importlib.import_module("veduta.explanation").Explanation
