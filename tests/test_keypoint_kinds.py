"""Each kind of keypoints brings its own matching and calibration to everything that uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import CentredEncoder, DescribedEncoder, TinyExtractor, save_view, view
from walls import scene, seen_aside

import veduta
from veduta import errors, index
from veduta.evaluation import retrieval_run
from veduta.index.graph import graph_is_whole, open_graph
from veduta.index.manifest import Manifest
from veduta.keypoints import KINDS, Keypoints, extractor_class, loading, mutual
from veduta.search import Engine, SearchOptions
from veduta.search.pair import compare
from veduta.search.reranking import open_gallery

SCENES = range(300, 304)


@dataclass(frozen=True)
class Counted:
    """Mutual nearest neighbours; `asked` notes each pair of photos."""

    asked: ClassVar[list[tuple[Keypoints, Keypoints]]] = []

    def pairs(self, query: Keypoints, other: Keypoints) -> NDArray[np.intp]:
        self.asked.append((query, other))
        return mutual(query, other, min_similarity=0.9)


class NewExtractor(TinyExtractor):
    """A kind of keypoints that Veduta does not have, without a calibration."""

    name = "new"
    matching = Counted()
    calibration: ClassVar[str | None] = None

    @classmethod
    def load(cls, count: int, threads: int) -> NewExtractor:
        del count, threads
        return cls()


class CalibratedExtractor(NewExtractor):
    calibration = "xfeat"


@pytest.fixture(params=[NewExtractor, CalibratedExtractor])
def extractor(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewExtractor]:
    """An extractor that is registered in one place."""
    monkeypatch.setitem(loading._EXTRACTORS, "new", request.param)
    loading._load.cache_clear()
    Counted.asked.clear()
    yield request.param()
    loading._load.cache_clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in SCENES:
        for other in range(4):
            save_view(tmp_path / f"photos/class{number}/{other}.png", number, other, 0.45)
    return tmp_path / "photos"


def indexed(folder: Path, photos: Path, extractor: TinyExtractor) -> Engine:
    encoder: Any = CentredEncoder()
    index.create_index(folder, encoder, extractor)
    index.update_index(folder, [photos], encoder, extractor, labels="folders")
    return Engine(folder, encoder=encoder)


class TestNewKind:
    def test_search_and_graph(self, tmp_path: Path, photos: Path, extractor: NewExtractor) -> None:
        calibrated = extractor.calibration is not None
        engine = indexed(tmp_path / "index", photos, extractor)
        links = len(Counted.asked)
        assert (links > 0) == calibrated, "without a calibration the geometry of links says nothing"
        assert engine.state.gallery.graph is not None
        query = engine.encode_query([view(301, 77, 0.45)])
        hits = engine.search(query, SearchOptions(k=16))
        assert len(Counted.asked) == links + 16
        assert {hit.label for hit in hits[:4]} == {"class301"}
        assert {hit.score_kind for hit in hits} == {"probability" if calibrated else "evidence"}
        for hit in hits:
            assert hit.evidence is not None and 0 <= hit.score <= 1
            assert hit.evidence.probability == (hit.score if calibrated else None)
            fields = hit.as_json()
            assert fields["score_kind"] == hit.score_kind
            assert (fields["probability"] is None) == (not calibrated)
        assert hits[0].evidence is not None and hits[0].evidence.verdict == "same place"
        table = veduta.Hits(hits).to_arrow()
        assert table["score_kind"].to_pylist() == [hit.score_kind for hit in hits]
        assert (table["probability"].null_count == 0) == calibrated
        # Scores of the other ways to rank do not depend on the kind of keypoints.
        for mode, kind in (("global", "probability"), ("none", "similarity")):
            options = SearchOptions(rerank=mode)
            assert {hit.score_kind for hit in engine.search(query, options)} == {kind}
        far = engine.search(query, SearchOptions(distance="euclidean"))
        assert {hit.score_kind for hit in far} == {"negative distance"}

    def test_scores_of_links_are_those_of_similarity_without_a_calibration(
        self, tmp_path: Path, photos: Path, extractor: NewExtractor
    ) -> None:
        encoder: Any = CentredEncoder()
        with_keypoints = indexed(tmp_path / "index", photos, extractor).state.gallery
        index.create_index(tmp_path / "plain", encoder)
        index.update_index(tmp_path / "plain", [photos], encoder)
        plain = open_gallery(tmp_path / "plain")
        assert with_keypoints.graph is not None and plain.graph is not None
        same = np.array_equal(with_keypoints.graph.weights, plain.graph.weights)
        assert same == (extractor.calibration is None)

    def test_match(self, extractor: NewExtractor) -> None:
        from veduta.encoders import load_encoder

        a, b = view(301, 1), view(301, 2)
        match = compare(a, b, load_encoder("fast"), loading.load_extractor("new"))
        assert len(Counted.asked) == 1
        assert match.verdict == "same place" and match.matches > 20
        if extractor.calibration is None:
            assert match.probability is None and "new keypoints" in match.notes[0]
        else:
            assert match.probability is not None and match.notes == ()

    def test_evaluate(
        self,
        tmp_path: Path,
        photos: Path,
        extractor: NewExtractor,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(retrieval_run, "load_encoder", lambda *_, **__: DescribedEncoder())
        done = veduta.evaluate(photos, keypoints="new")
        assert len(Counted.asked) > 0 and done.as_json()["top1"] > 0.9
        assert done.settings["keypoints"] == "new"
        kind = "probability" if extractor.calibration else "evidence"
        assert done.settings["score_kind"] == kind


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walls")
    (folder / "photos").mkdir()
    for number in range(1, 4):
        Image.fromarray(scene(number)).save(folder / f"photos/{number}.png")
    Image.fromarray(seen_aside(scene(2))).save(folder / "query.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_match_and_search_verify_alike(walls: Path, kind: str) -> None:
    collection = veduta.create(walls / kind, encoder="fast", keypoints=kind)
    collection.add(walls / "photos")
    hits = collection.search(walls / "query.png")
    for hit in hits:
        match = veduta.match(walls / "query.png", hit.path, encoder="fast", keypoints=kind)
        assert hit.evidence is not None
        # Stored positions are rounded to a 65535th of the longer side, and descriptors of XFeat to
        # four bits.
        assert hit.evidence.matches == pytest.approx(match.matches, rel=0.15)
        assert hit.evidence.inliers == pytest.approx(match.inliers, rel=0.15, abs=2)
        assert hit.evidence.model == match.model
        assert hit.evidence.spread == pytest.approx(match.spread, abs=0.05)
    assert hits[0].name == "2.png"
    assert hits[0].evidence is not None and hits[0].evidence.verdict == "same place"
    is_calibrated = extractor_class(kind).calibration is not None
    assert hits[0].score_kind == ("probability" if is_calibrated else "evidence")
    assert (hits[0].evidence.probability is not None) == is_calibrated


def facts_file(folder: Path) -> Path:
    (file,) = (folder / "graph").glob("*/graph.json")
    return file


class TestGraphOfVersion010:
    """Its links depend on the order in which photos were indexed, so they are made again."""

    @pytest.fixture
    def forget(self) -> Any:
        def forget(folder: Path) -> None:
            """Make the graph look like one of 0.1.0, which did not note the keypoints."""
            facts = json.loads(facts_file(folder).read_text())
            del facts["keypoints"]
            facts_file(folder).write_text(json.dumps({**facts, "version": 1}))

        return forget

    def test_is_made_anew_without_reading_a_photo(
        self, tmp_path: Path, photos: Path, extractor: NewExtractor, forget: Any
    ) -> None:
        engine = indexed(tmp_path / "index", photos, extractor)
        before = open_graph(engine.index, Manifest.read(engine.index))
        forget(engine.index)
        manifest = Manifest.read(engine.index)
        assert open_graph(engine.index, manifest) is None, "a search does without it"
        assert not graph_is_whole(engine.index, manifest)
        Counted.asked.clear()
        encoder: Any = CentredEncoder()
        report = index.update_index(engine.index, [photos], encoder, extractor)
        assert report.encoded == 0
        after = open_graph(engine.index, manifest)
        assert graph_is_whole(engine.index, manifest)
        assert before is not None and after is not None
        np.testing.assert_array_equal(before.weights, after.weights)
        assert (len(Counted.asked) > 0) == (extractor.calibration is not None)

    def test_without_keypoints_too(self, tmp_path: Path, photos: Path, forget: Any) -> None:
        encoder: Any = CentredEncoder()
        folder = tmp_path / "plain"
        index.create_index(folder, encoder)
        index.update_index(folder, [photos], encoder)
        forget(folder)
        manifest = Manifest.read(folder)
        assert open_graph(folder, manifest) is None and not graph_is_whole(folder, manifest)
        assert index.update_index(folder, [photos], encoder).encoded == 0
        assert open_graph(folder, manifest) is not None and graph_is_whole(folder, manifest)


def test_keypoints_of_a_newer_version(tmp_path: Path, photos: Path) -> None:
    """An index whose kind of keypoints is unknown can be searched without geometry."""
    engine = indexed(tmp_path / "index", photos, TinyExtractor())
    manifest = Manifest.read(tmp_path / "index")
    assert manifest.keypoints is not None
    keypoints = {**manifest.keypoints, "name": "unheard-of"}
    replace(manifest, keypoints=keypoints).write(tmp_path / "index")
    encoder: Any = CentredEncoder()
    engine = Engine(tmp_path / "index", encoder=encoder)
    query = engine.encode_query([view(301, 77)], rerank="global")
    hits = engine.search(query, SearchOptions(rerank="global"))
    assert {hit.label for hit in hits[:4]} == {"class301"}
    with pytest.raises(errors.QueryError, match="no keypoints are called 'unheard-of'"):
        engine.encode_query([view(301, 77)])
