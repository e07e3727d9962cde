"""The Python surface: what an index gives, and that each part agrees with the others."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import photo_folder, pixels, save

import veduta
from veduta.errors import IndexDamaged, PhotoError, PhotoUnreadable, QueryError
from veduta.index import read_status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photo_folder(folder, 12)
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> veduta.Index:
    """An index that no test changes."""
    index = veduta.create(tmp_path_factory.mktemp("index") / "index", encoder="fast")
    index.add(folder, labels="folders")
    return index


@pytest.fixture
def index(tmp_path: Path, folder: Path) -> veduta.Index:
    """An index without keypoints, which is quick to make, for tests that change it."""
    index = veduta.create(tmp_path / "index", encoder="fast", keypoints=None)
    index.add(folder, labels="folders")
    return index


class TestContents:
    def test_iteration_gives_each_photo_once(self, shared: veduta.Index, folder: Path) -> None:
        photos = list(shared)
        assert len(photos) == len(shared) == 12
        assert {photo.path for photo in photos} == {str(path) for path in folder.rglob("*.png")}
        for photo in photos:
            assert photo.label == Path(photo.path).parent.name
            assert (photo.width, photo.height, photo.taken) == (48, 32, None)

    def test_a_date_is_a_datetime(self, index: veduta.Index, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0132] = "2019:08:07 12:13:14"
        Image.fromarray(pixels(99)).save(tmp_path / "dated.jpg", exif=exif)
        index.add(tmp_path / "dated.jpg")
        (photo,) = [photo for photo in index if photo.path.endswith("dated.jpg")]
        assert photo.taken == datetime(2019, 8, 7, 12, 13, 14)
        assert [hit.path for hit in index.search(pixels(99), before=datetime(2020, 1, 1))] == [
            photo.path
        ]

    @pytest.mark.parametrize("kind", [str, Path, os.fsencode])
    def test_membership(self, shared: veduta.Index, folder: Path, kind: type) -> None:
        assert kind(folder / "class0/photo0000.png") in shared
        assert kind(folder / "class1/photo0000.png") not in shared

    def test_membership_of_relative_paths_and_other_values(
        self, shared: veduta.Index, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder)
        assert "class0/../class0/photo0000.png" in shared
        assert folder not in shared
        assert 3 not in shared

    def test_what_cannot_be_read_is_not_in_it(self, index: veduta.Index, tmp_path: Path) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no photo")
        report = index.add(broken)
        assert [path for path, _ in report.unreadable] == [str(broken)]
        assert broken not in index
        assert len(list(index)) == len(index) == 12

    def test_names_that_are_not_utf8(self, index: veduta.Index, tmp_path: Path) -> None:
        odd = tmp_path / os.fsdecode(b"caf\xe9.png")
        save(tmp_path / "plain.png", 77).rename(odd)
        index.add(odd)
        assert odd in index
        assert str(odd) in {photo.path for photo in index}
        assert index.descriptors().photos["path"].to_pylist()[-1].endswith("caf\\xe9.png")
        assert index.search(odd, k=1).to_arrow()["path"].to_pylist()[0].endswith("caf\\xe9.png")

    def test_status(self, shared: veduta.Index) -> None:
        assert shared.status() == read_status(shared.path)
        assert shared.status()["photos"] == 12


class TestDescriptors:
    def test_they_belong_to_their_photos(self, shared: veduta.Index) -> None:
        vectors, photos = shared.descriptors()
        assert vectors.shape == (12, shared.status()["dimension"])
        assert vectors.dtype == np.float16
        assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-3)
        for row in (0, 5, 11):
            path = photos["path"][row].as_py()
            assert shared.encode(path) @ vectors[row].astype(np.float32) > 0.999
            assert photos["label"][row].as_py() == Path(path).parent.name
        assert photos["id"].to_pylist() == [photo.id for photo in shared]

    def test_they_are_mapped_and_read_only(self, shared: veduta.Index) -> None:
        vectors = shared.descriptors().vectors
        base = vectors
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            vectors[0, 0] = 1

    def test_the_similarity_of_a_hit_is_the_product_of_descriptors(
        self, shared: veduta.Index, folder: Path
    ) -> None:
        query = folder / "class0/photo0000.png"
        vectors, photos = shared.descriptors()
        row_of = {path: row for row, path in enumerate(photos["path"].to_pylist())}
        encoded = shared.encode(query)
        assert encoded.dtype == np.float32
        assert np.linalg.norm(encoded) == pytest.approx(1, abs=1e-5)
        for hit in shared.search(query, k=12, rerank="none"):
            product = float(encoded @ vectors[row_of[hit.path]].astype(np.float32))
            assert hit.similarity == pytest.approx(product, abs=1e-3)

    @pytest.mark.slow
    def test_projected_as_searches_are(self, index: veduta.Index, folder: Path) -> None:
        index.project(4)
        assert index.descriptors().vectors.shape == (12, 4)
        assert index.encode(folder / "class0/photo0000.png").shape == (4,)

    def test_a_region_and_an_array(self, shared: veduta.Index, folder: Path) -> None:
        path = folder / "class0/photo0000.png"
        array = np.asarray(Image.open(path))
        np.testing.assert_allclose(shared.encode(array), shared.encode(path), atol=1e-6)
        cut = shared.encode(array[4:20, 8:40])
        np.testing.assert_allclose(shared.encode(path, crop=(8, 4, 32, 16)), cut, atol=1e-6)
        with pytest.raises(QueryError):
            shared.encode(path, crop=(8, 4, 320, 16))


class TestHits:
    def test_a_list_as_before(self, shared: veduta.Index, folder: Path) -> None:
        hits = shared.search(folder / "class0/photo0000.png", k=3)
        assert isinstance(hits, list)
        assert isinstance(hits, veduta.Hits)
        assert [type(hit) for hit in hits] == [veduta.Hit] * 3

    @pytest.mark.parametrize("rerank", ["none", "auto"])
    def test_arrow_and_pandas_say_what_the_hits_say(
        self, shared: veduta.Index, folder: Path, rerank: str
    ) -> None:
        hits = shared.search(folder / "class0/photo0000.png", k=4, rerank=rerank)
        table = hits.to_arrow()
        rows = table.to_pylist()
        assert [row["rank"] for row in rows] == [1, 2, 3, 4]
        for row, hit in zip(rows, hits, strict=True):
            for name in ("id", "path", "label", "score", "similarity", "width", "height", "taken"):
                assert row[name] == getattr(hit, name)
            for name in ("verdict", "probability", "inliers", "matches", "model", "spread"):
                assert row[name] == (getattr(hit.evidence, name) if hit.evidence else None)
        frame = hits.to_pandas()
        assert list(frame.columns) == table.column_names
        assert frame["path"].tolist() == [hit.path for hit in hits]

    def test_no_hits(self) -> None:
        table = veduta.Hits().to_arrow()
        assert table.num_rows == 0
        assert "score" in table.column_names
        assert veduta.Hits().as_json() == []

    def test_json(self, shared: veduta.Index, folder: Path) -> None:
        hits = shared.search(folder / "class0/photo0000.png", k=2)
        assert json.loads(json.dumps(hits.as_json()))[0]["path"] == hits[0].path

    def test_without_pandas_the_remedy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(QueryError, match="pip install pandas"):
            veduta.Hits().to_pandas()


class TestManyQueries:
    @pytest.mark.slow
    def test_the_same_hits_as_one_by_one(self, shared: veduta.Index, folder: Path) -> None:
        queries = sorted(folder.rglob("*.png"))
        options = veduta.SearchOptions(k=3)
        together = list(shared.search_many(queries, options=options, workers=3))
        assert len(together) == len(queries)
        for query, hits in zip(queries, together, strict=True):
            alone = shared.search(query, options=options)
            assert [hit.path for hit in hits] == [hit.path for hit in alone]
            assert [hit.score for hit in hits] == pytest.approx(
                [hit.score for hit in alone], abs=1e-4
            )

    def test_several_photos_of_one_thing_are_one_query(
        self, shared: veduta.Index, folder: Path
    ) -> None:
        pair = [folder / "class0/photo0000.png", folder / "class1/photo0001.png"]
        (hits,) = shared.search_many([pair])
        assert [hit.path for hit in hits] == [hit.path for hit in shared.search(*pair)]

    def test_an_unreadable_query_stops_nothing(
        self, shared: veduta.Index, folder: Path, tmp_path: Path
    ) -> None:
        good = folder / "class0/photo0000.png"
        errors: dict[int, PhotoError] = {}
        answers = list(
            shared.search_many(
                [good, tmp_path / "missing.jpg", good], on_error=errors.__setitem__, workers=2
            )
        )
        assert [len(hits) > 0 for hits in answers] == [True, False, True]
        assert list(errors) == [1]
        assert "missing.jpg" in str(errors[1])
        with pytest.raises(PhotoError, match=r"missing\.jpg"):
            list(shared.search_many([good, tmp_path / "missing.jpg"]))

    def test_queries_are_taken_as_they_are_needed(self, shared: veduta.Index) -> None:
        taken = 0

        def endless():
            nonlocal taken
            while True:
                taken += 1
                yield pixels(taken)

        answers = shared.search_many(endless(), workers=2)
        next(answers)
        answers.close()
        assert taken < 10

    def test_wrong_options_are_an_error(self, shared: veduta.Index) -> None:
        with pytest.raises(QueryError):
            list(shared.search_many([pixels(1)], options=veduta.SearchOptions(k=0)))


class TestOptions:
    def test_arguments_replace_single_options(self, shared: veduta.Index, folder: Path) -> None:
        query = folder / "class0/photo0000.png"
        options = veduta.SearchOptions(k=5, labels=("class1",), rerank="none")
        assert {hit.label for hit in shared.search(query, options=options)} == {"class1"}
        hits = shared.search(query, options=options, k=1, label=["class0", "class2"])
        assert [hit.path for hit in hits] == [str(query)]
        assert options == veduta.SearchOptions(k=5, labels=("class1",), rerank="none")


class TestRemove:
    def test_a_photo(self, index: veduta.Index, folder: Path) -> None:
        path = folder / "class0/photo0000.png"
        before = {photo.path for photo in index}
        assert index.remove(path) == 1
        assert path not in index and path.exists()
        assert {photo.path for photo in index} == before - {str(path)}
        assert str(path) not in {hit.path for hit in index.search(path, k=12)}
        assert list(index.check()) == []
        assert index.remove(path) == 0
        report = index.add()
        assert (report.added, report.left_out, report.total) == (0, 1, 11), "it stays out"
        assert index.status()["removed"] == 1
        assert index.add(path).added == 1, "it is asked for by its name"
        assert (index.add().left_out, index.status()["removed"]) == (0, 0)

    def test_all_photos_come_back_when_that_is_asked(
        self, index: veduta.Index, folder: Path
    ) -> None:
        gone, renamed = folder / "class0/photo0000.png", folder / "class1/photo0001.png"
        assert index.remove(gone, renamed) == 2
        renamed.rename(folder / "class1/other name.png")
        report = index.add()
        assert (report.added, report.left_out) == (1, 1), "another name is another photo"
        (folder / "class1/other name.png").rename(renamed)
        report = index.add(all_photos=True)
        assert (report.added, report.moved, report.left_out, report.total) == (1, 1, 0, 12)

    def test_a_refused_update_takes_nothing_back(self, index: veduta.Index, folder: Path) -> None:
        index.remove(folder / "class0/photo0000.png")
        away = folder.rename(folder.with_name("away"))
        folder.mkdir()  # An empty mount point.
        with pytest.raises(PhotoUnreadable, match="mounted"):
            index.add(all_photos=True)
        folder.rmdir()
        away.rename(folder)
        assert index.status()["removed"] == 1
        assert (index.add().left_out, len(index)) == (1, 11)

    def test_a_damaged_list_of_removed_photos_is_told(
        self, index: veduta.Index, folder: Path
    ) -> None:
        index.remove(folder / "class0/photo0000.png")
        file = index.path / "removed-photos.json"
        file.write_text(file.read_text().replace("photo0000", "photo0001"))
        with pytest.raises(IndexDamaged, match="does not match its checksum"):
            index.add()

    def test_a_folder_is_no_longer_read(self, index: veduta.Index, folder: Path) -> None:
        assert index.remove(folder) == 12
        assert len(index) == 0
        assert index.status()["folders"] == []

    def test_a_folder_within_stays_of_interest_to_the_folder_above(
        self, index: veduta.Index, folder: Path
    ) -> None:
        assert index.remove(folder / "class1", folder / "class2/photo0002.png") == 5
        assert {photo.label for photo in index} == {"class0", "class2"}
        assert index.status()["folders"] == [str(folder)]

    def test_a_name_that_only_begins_alike_stays(self, index: veduta.Index, folder: Path) -> None:
        assert index.remove(folder / "class") == 0
        assert index.remove(folder / "nothing.jpg") == 0
        assert len(index) == 12

    def test_an_unreadable_file(self, index: veduta.Index, tmp_path: Path) -> None:
        broken = tmp_path / "broken.jpg"
        broken.write_bytes(b"no photo")
        index.add(broken)
        assert index.remove(broken) == 1
        assert index.status()["unreadable"] == []

    def test_keypoints_and_graph_follow(self, tmp_path: Path, folder: Path) -> None:
        index = veduta.create(tmp_path / "index", encoder="fast")
        index.add(folder)
        assert index.remove(folder / "class0") == 4
        assert index.status()["linked"]
        hits = index.search(folder / "class1/photo0001.png", k=8)
        assert len(hits) == 8 and hits[0].path == str(folder / "class1/photo0001.png")
        assert list(index.check()) == []


class TestLife:
    def test_context_manager(self, shared: veduta.Index, folder: Path) -> None:
        with veduta.open(shared.path) as index:
            hits = index.search(folder / "class0/photo0000.png", k=1)
        assert hits[0].path == str(folder / "class0/photo0000.png")
        assert index._engines == {}
        again = index.search(folder / "class0/photo0000.png", k=1)
        assert again == hits, "a closed index opens again at its next use"

    def test_an_error_leaves_the_block(self, shared: veduta.Index) -> None:
        with pytest.raises(ZeroDivisionError), veduta.open(shared.path):
            _ = 1 / 0

    def test_only_what_is_documented_is_public(self) -> None:
        assert {name for name in vars(veduta.Index) if not name.startswith("_")} == {
            "add",
            "build_approximate",
            "check",
            "close",
            "descriptors",
            "edit_labels",
            "encode",
            "encoder",
            "explain",
            "export_model",
            "groups",
            "map_picture",
            "match_picture",
            "notice",
            "project",
            "recognize",
            "recognizer",
            "refresh",
            "remove",
            "search",
            "search_like",
            "search_many",
            "status",
            "thumbnails",
        }


class TestLoading:
    def test_an_encoder_and_an_extractor_by_name(self) -> None:
        encoder = veduta.load_encoder("fast")
        photo = pixels(1, 200, 150)
        assert encoder.encode([encoder.prepare(photo)]).shape == (1, encoder.dimension)
        extractor = veduta.load_extractor("orb")
        assert len(extractor.extract(photo, 200, 150)) >= 0

    def test_return_types_are_importable(self, shared: veduta.Index, folder: Path) -> None:
        hits = shared.search(folder / "class0/photo0000.png", k=1)
        assert isinstance(hits[0].evidence, veduta.Evidence)
        assert isinstance(next(iter(shared)), veduta.IndexedPhoto)
        assert isinstance(shared.descriptors(), veduta.Descriptors)
        assert isinstance(
            veduta.match(folder / "class0/photo0000.png", folder / "class0/photo0003.png"),
            veduta.Match,
        )
