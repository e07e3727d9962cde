"""The search returns exactly the nearest rows, whatever the filter and the distance."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from tiny import TinyEncoder, photo_folder, pixels, save

import veduta
from veduta import errors, index
from veduta.index.snapshot import Snapshot, quantise
from veduta.search import DISTANCES, EncodedQuery, Engine, Hit, SearchOptions, mean_descriptor
from veduta.search import distances as distance_functions
from veduta.search.distances import distances
from veduta.search.exact import nearest, score, similarities


def snapshot_of(rows: NDArray[Any]) -> Snapshot:
    stored = rows.astype(np.float16)
    codes, scales, lost = quantise(stored)
    table = pa.table(
        {"id": list(range(len(rows))), "path": [b"%09d" % row for row in range(len(rows))]}
    )
    return Snapshot(1, None, table, stored, codes, scales, lost)


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def expected(
    snapshot: Snapshot, query: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    scores = score(snapshot, query, np.arange(snapshot.photos))
    order = np.lexsort((np.arange(len(scores)), -scores))
    if keep is not None:
        order = order[keep[order]]
    return order[:k]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 400),
    d=st.integers(1, 96),
    k=st.integers(1, 30),
    kind=st.sampled_from(["normal", "positive", "sparse", "duplicates", "clustered"]),
    share=st.sampled_from([None, 0.0, 0.05, 0.5, 1.0]),
)
def test_nearest_is_exact(
    seed: int, n: int, d: int, k: int, kind: str, share: float | None
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, d))
    if kind == "positive":
        rows = np.abs(rows)
    elif kind == "sparse":
        rows = np.where(rng.random((n, d)) < 0.1, rows, 0) + 1e-3
    elif kind == "duplicates":
        rows = rows[rng.integers(0, max(1, n // 5), n)]
    elif kind == "clustered":
        rows = rows[:1] + 1e-3 * rows
    snapshot = snapshot_of(unit(rows))
    query = unit(rng.standard_normal(d) if kind != "clustered" else rows[0])
    keep = None if share is None else rng.random(n) < share
    found, scores = nearest(snapshot, query, k, keep)
    np.testing.assert_array_equal(found, expected(snapshot, query, k, keep))
    np.testing.assert_array_equal(scores, score(snapshot, query, found))


def test_nearest_is_exact_over_many_blocks() -> None:
    rng = np.random.default_rng(1)
    snapshot = snapshot_of(unit(np.abs(rng.standard_normal((40_000, 32)))))
    for seed in range(5):
        query = unit(np.abs(np.random.default_rng(seed).standard_normal(32)))
        found, _ = nearest(snapshot, query, 25)
        np.testing.assert_array_equal(found, expected(snapshot, query, 25, None))


def test_scan_prunes() -> None:
    """The bound must be tight enough to be worth it: few rows are scored twice."""
    from veduta.search.exact import _scan

    rng = np.random.default_rng(0)
    snapshot = snapshot_of(unit(rng.standard_normal((20_000, 256))))
    query = unit(rng.standard_normal(256))
    assert len(_scan(snapshot, query, 10, None)) < 400


def test_similarities_stream_all_rows() -> None:
    rng = np.random.default_rng(0)
    snapshot = snapshot_of(unit(rng.standard_normal((100, 16))))
    queries = unit(rng.standard_normal((3, 16)))
    got = np.concatenate(
        [part for _, part in similarities(snapshot, queries, block_rows=7)], axis=1
    )
    np.testing.assert_allclose(got, queries @ snapshot.descriptors.astype(np.float32).T, atol=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_match_scipy(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = unit(rng.standard_normal((50, 20)))
    query = unit(rng.standard_normal(20))
    metric = {"manhattan": "cityblock"}.get(name, name)
    theirs = cdist(query[None].astype(np.float64), rows.astype(np.float64), metric)[0]
    np.testing.assert_allclose(distances(rows, query, name, block_rows=7), theirs, atol=1e-5)


def test_unknown_distance_names_the_known() -> None:
    with pytest.raises(errors.QueryError, match="manhattan"):
        distances(np.eye(2, dtype=np.float32), np.ones(2, np.float32), "hamming")


def test_command_line_knows_every_distance() -> None:
    from veduta.cli.search import command

    (offered,) = [option for option in command.params if option.name == "distance"]
    assert tuple(offered.type.choices) == DISTANCES == tuple(distance_functions._FUNCTIONS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photo_folder(tmp_path / "photos", 30)
    return tmp_path / "photos"


@pytest.fixture
def engine(tmp_path: Path, photos: Path) -> Engine:
    made, encoder = tmp_path / "index", TinyEncoder()
    index.create_index(made, encoder)
    index.update_index(made, [photos], encoder, labels="folders")
    return Engine(made, encoder=encoder)


def encoded(engine: Engine, *photos: Any, **options: Any) -> NDArray[np.float32]:
    """Return the descriptor of each photo."""
    rows = [engine.encode_query([photo], rerank="none", **options).descriptor for photo in photos]
    return np.stack(rows)


def search(engine: Engine, query: NDArray[np.float32], k: int, **options: Any) -> list[Hit]:
    return engine.search(EncodedQuery(query), SearchOptions(k=k, rerank="none", **options))


def names(hits: Any) -> list[str]:
    return [Path(hit.path).name for hit in hits]


def test_a_photo_finds_itself_first(engine: Engine, photos: Path) -> None:
    for photo in sorted(photos.rglob("*.png"))[:5]:
        hit, *rest = search(engine, encoded(engine, photo)[0], 3)
        assert hit.path == str(photo)
        assert hit.score == pytest.approx(1, abs=1e-3)
        assert hit.label == photo.parent.name
        assert (hit.width, hit.height) == (48, 32)
        assert all(other.score <= hit.score for other in rest)


def test_query_as_array_or_bytes_path(engine: Engine, photos: Path) -> None:
    photo = photos / "class0/photo0000.png"
    by_path = encoded(engine, photo)
    np.testing.assert_array_equal(encoded(engine, os.fsencode(photo)), by_path)
    np.testing.assert_array_equal(encoded(engine, pixels(0)), by_path)
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(errors.QueryError, match="height, width, 3"):
            encoded(engine, wrong)


def test_keyword_arguments_replace_single_options(engine: Engine, photos: Path) -> None:
    collection = veduta.open(engine.index)
    collection._engines[0] = engine
    photo = photos / "class0/photo0000.png"
    options = SearchOptions(k=3, labels=("class1",), rerank="none")
    hits = collection.search(photo, options=options)
    assert hits == engine.search(EncodedQuery(encoded(engine, photo)[0]), options)
    assert len(hits) == 3 and {hit.label for hit in hits} == {"class1"}
    more = collection.search(photo, options=options, k=5, label="class2")
    assert len(more) == 5 and {hit.label for hit in more} == {"class2"}
    assert len(collection.search(photo)) == SearchOptions().k == 10
    with pytest.raises(errors.QueryError, match="at least one query"):
        collection.search(options=options)


def test_filters(engine: Engine, photos: Path) -> None:
    query = encoded(engine, photos / "class0/photo0000.png")[0]
    by_label = search(engine, query, 99, labels=("class1",))
    assert len(by_label) == 10 and {hit.label for hit in by_label} == {"class1"}
    two = search(engine, query, 99, labels=("class1", "class2"))
    assert len(two) == 20
    below = search(engine, query, 99, under=photos / "class2")
    assert len(below) == 10 and all("class2" in hit.path for hit in below)
    assert search(engine, query, 99, under=photos / "class") == [], "not a prefix"
    assert search(engine, query, 99, labels=("class1",), under=photos / "class2") == []


def test_filter_by_date(tmp_path: Path) -> None:
    made, encoder, photos = tmp_path / "index", TinyEncoder(), tmp_path / "photos"
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2019:05:01 12:00:00"
    save(photos / "dated.jpg", 1, exif=exif)
    save(photos / "plain.jpg", 2)
    changed = datetime(2021, 7, 1, 12)
    for path in photos.iterdir():
        os.utime(path, (changed.timestamp(), changed.timestamp()))
    index.create_index(made, encoder)
    index.update_index(made, [photos], encoder)
    engine = Engine(made, encoder=encoder)
    query = encoded(engine, pixels(1))[0]

    def found(**when: datetime) -> list[str]:
        return sorted(names(search(engine, query, 9, **when)))

    assert found(before=datetime(2020, 1, 1)) == ["dated.jpg"], (
        "its own date goes before the file's"
    )
    assert found(after=datetime(2020, 1, 1)) == ["plain.jpg"]
    assert found(after=changed) == ["plain.jpg"], "`after` is included"
    assert found(before=changed) == ["dated.jpg"], "`before` is not"
    second = timedelta(seconds=1)
    assert found(after=changed - second, before=changed + second) == ["plain.jpg"]
    assert found(after=datetime(2019, 5, 1, 12), before=datetime(2019, 5, 1, 12, 0, 1)) == [
        "dated.jpg"
    ]


def test_min_score(engine: Engine, photos: Path) -> None:
    query = encoded(engine, photos / "class0/photo0000.png")[0]
    assert len(search(engine, query, 30, min_score=0.999)) == 1
    assert len(search(engine, query, 30, min_score=-1)) == 30


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "cosine"])
def test_other_distances_rank_by_distance(engine: Engine, photos: Path, name: str) -> None:
    query = encoded(engine, photos / "class0/photo0003.png")[0]
    hits = search(engine, query, 30, distance=name)
    far = distances(engine.state.snapshot.descriptors, query, name)
    np.testing.assert_allclose([-hit.score for hit in hits], np.sort(far))
    assert names(hits)[0] == "photo0003.png"
    some = search(engine, query, 30, distance=name, labels=("class1",))
    assert len(some) == 10 and {hit.label for hit in some} == {"class1"}


def test_euclidean_ranks_as_cosine(engine: Engine, photos: Path) -> None:
    query = encoded(engine, photos / "class0/photo0003.png")[0]
    cosine = names(search(engine, query, 30))
    assert names(search(engine, query, 30, distance="euclidean")) == cosine


def test_together_is_the_mean_direction() -> None:
    rows = unit(np.array([[1, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(mean_descriptor(rows), [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    with pytest.raises(errors.QueryError, match="cancel"):
        mean_descriptor(np.array([[1, 0], [-1, 0]], np.float32))


def test_crop_searches_the_region(engine: Engine, photos: Path, tmp_path: Path) -> None:
    wide = np.concatenate([pixels(5), pixels(9)], axis=1)
    region = encoded(engine, wide, crop=(48, 0, 48, 32))
    np.testing.assert_array_equal(region, encoded(engine, pixels(9)))
    assert names(search(engine, region[0], 1)) == ["photo0009.png"]
    for crop in ((0, 0, 0, 5), (90, 0, 10, 5), (-1, 0, 5, 5), (0, 30, 5, 5)):
        with pytest.raises(errors.QueryError, match="96 × 32"):
            encoded(engine, wide, crop=crop)


def test_engine_sees_what_a_writer_commits(engine: Engine, photos: Path) -> None:
    query = encoded(engine, pixels(777))[0]
    assert search(engine, query, 1)[0].score < 0.999
    save(photos / "late.png", 777)
    index.update_index(engine.index, [photos], TinyEncoder())
    assert names(search(engine, query, 1)) == ["late.png"]


def test_search_through_a_projection(engine: Engine, photos: Path) -> None:
    index.set_projection(engine.index, 12)
    photo = photos / "class0/photo0003.png"
    descriptor = encoded(engine, photo)[0]
    assert descriptor.shape == (12,)
    hits = search(engine, descriptor, 3)
    assert hits[0].path == str(photo)
    assert hits[0].score == pytest.approx(1, abs=2e-3)


def test_empty_index_and_bad_questions(tmp_path: Path) -> None:
    made, encoder = tmp_path / "index", TinyEncoder()
    index.create_index(made, encoder)
    engine = Engine(made, encoder=encoder)
    query = encoded(engine, pixels(1))[0]
    assert search(engine, query, 5) == []
    assert search(engine, query, 5, distance="manhattan") == []
    with pytest.raises(errors.QueryError, match="at least one"):
        search(engine, query, 0)
    with pytest.raises(errors.PhotoUnreadable, match=r"nowhere\.jpg"):
        encoded(engine, tmp_path / "nowhere.jpg")


def test_missing_encoder_names_itself(tmp_path: Path) -> None:
    made = tmp_path / "index"
    index.create_index(made, TinyEncoder("no-such-encoder"))
    with pytest.raises(errors.UnknownEncoder, match="no-such-encoder"):
        _ = Engine(made).encoder


def test_changed_encoder_is_refused(tmp_path: Path) -> None:
    made = tmp_path / "index"
    index.create_index(made, TinyEncoder("fast"))
    with pytest.raises(errors.EncoderMismatch, match="another version of encoder 'fast'"):
        _ = Engine(made).encoder
