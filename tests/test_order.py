"""An index answers by its photos alone, however they came into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import CentredEncoder
from walls import scene, seen_aside

from veduta import index
from veduta.encoders import load_encoder
from veduta.index import distinct_photos, graph
from veduta.index.graph import open_graph
from veduta.index.manifest import Manifest
from veduta.keypoints import load_extractor
from veduta.recognize import LabelledGallery, fit_recognizer, held_out
from veduta.search import Engine, SearchOptions
from veduta.search.reranking import open_gallery

SCENES, VIEWS = 4, 4
TOLERANCE = 1e-6
"""The largest difference of two scores that are the same. In practice there is none."""

Contents = dict[str, bytes]
Answers = list[list[tuple[str, float]]]


class Remembering:
    """An encoder or an extractor that computes each photo once, to save time."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._known: dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def encode(self, prepared: Any) -> Any:
        rows = [self._once(b"".join(part.tobytes() for part in one), one) for one in prepared]
        return np.stack(rows)

    def _once(self, key: bytes, one: Any) -> Any:
        if key not in self._known:
            self._known[key] = self._real.encode([one])[0]
        return self._known[key]

    def extract(self, pixels: Any, width: int, height: int) -> Any:
        key = pixels.tobytes()
        if key not in self._known:
            self._known[key] = self._real.extract(pixels, width, height)
        return self._known[key]


@dataclass
class Collection:
    """An index with the folder of its photos, and what encodes both."""

    home: Path
    encoder: Any
    extractor: Any
    made: bool = field(default=False)

    @property
    def photos(self) -> Path:
        return self.home / "photos"

    @property
    def index(self) -> Path:
        return self.home / "index"

    def write(self, path: str, content: bytes) -> None:
        file = self.photos / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def update(self, **options: Any) -> None:
        if not self.made:
            index.create_index(self.index, self.encoder, self.extractor)
            self.made = True
        self.photos.mkdir(exist_ok=True)
        index.update_index(
            self.index,
            [self.photos],
            self.encoder,
            self.extractor,
            labels="folders",
            allow_empty=True,
            **options,
        )

    def answers(self, queries: Iterable[Any], **options: Any) -> Answers:
        """Return the hits of each query: the path in the folder and the score."""
        engine = Engine(self.index, encoder=self.encoder)
        engine_options = SearchOptions(k=50, **options)
        return [
            [
                (str(Path(hit.path).relative_to(self.photos)), hit.score)
                for hit in engine.search(
                    engine.encode_query([query], rerank=engine_options.rerank), engine_options
                )
            ]
            for query in queries
        ]

    def graph(self) -> dict[str, bytes]:
        """Return the graph, without the rows that its photos have in this index."""
        made = open_graph(self.index, Manifest.read(self.index))
        assert made is not None
        contents = index.open_snapshot(self.index).rows["content"].to_pylist()
        assert [contents[row] for row in made.row_of_photo] == sorted(
            set(contents[: len(made.photo_of_row)])
        )
        return {name: getattr(made, name).tobytes() for name in ("starts", "ends", "weights")}


def at_once(collection: Collection, contents: Contents) -> Collection:
    for path, content in contents.items():
        collection.write(path, content)
    collection.update()
    return collection


def in_some_way(collection: Collection, contents: Contents, seed: int) -> Collection:
    """Index photos in batches in a random order, with detours: the folder ends as `contents`."""
    rng = np.random.default_rng(seed)
    pool = list(contents.values())
    waiting = [str(path) for path in rng.permutation(list(contents))]
    while waiting:
        size = int(rng.integers(1, 6))
        batch, waiting = waiting[:size], waiting[size:]
        for path in batch:
            detour = rng.integers(6)
            content = contents[path]
            if detour == 0:  # Under another name, then renamed.
                other = f"elsewhere/{rng.integers(10**6)}.png"
                collection.write(other, content)
                collection.update(graph=bool(rng.integers(2)))
                (collection.photos / path).parent.mkdir(parents=True, exist_ok=True)
                (collection.photos / other).rename(collection.photos / path)
            elif detour == 1:  # Another photo was there before.
                collection.write(path, pool[int(rng.integers(len(pool)))])
                collection.update()
                collection.write(path, content)
            elif detour == 2:  # Removed, and added again.
                collection.write(path, content)
                collection.update()
                (collection.photos / path).unlink()
                collection.update(graph=bool(rng.integers(2)))
                collection.write(path, content)
            elif detour == 3:  # A copy was there for some time.
                collection.write(path, content)
                collection.write("copies/for some time.png", content)
            else:
                collection.write(path, content)
        collection.update(graph=bool(rng.integers(4)), workers=int(rng.integers(1, 4)))
    shutil.rmtree(collection.photos / "copies", ignore_errors=True)
    collection.update()
    return collection


def same_answers(one: Answers, other: Answers) -> None:
    assert [[path for path, _ in hits] for hits in one] == [
        [path for path, _ in hits] for hits in other
    ], "the same photos in the same order"
    for hits, others in zip(one, other, strict=True):
        np.testing.assert_allclose(
            [score for _, score in hits], [score for _, score in others], rtol=0, atol=TOLERANCE
        )


def png(pixels: Any, folder: Path) -> bytes:
    Image.fromarray(pixels).save(folder / "one.png", compress_level=1)
    return (folder / "one.png").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def few_in_the_sample() -> Iterator[None]:
    """Let the sample that tells what is usual be smaller than the collections here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct_photos, "SAMPLE_PHOTOS", 8)
        patch.setattr(graph, "SAMPLE_PHOTOS", 8)
        yield


@pytest.fixture(scope="module")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Views of a few walls, with copies of a file, and other files of the same pixels."""
    folder = tmp_path_factory.mktemp("walls")
    contents = {}
    for number in range(SCENES):
        pixels = scene(number, 320, 240)
        for view in range(VIEWS):
            contents[f"wall{number}/{view}.png"] = png(pixels, folder)
            pixels = seen_aside(pixels)
    first = contents["wall0/0.png"]
    for number in range(3):
        contents[f"wall0/copy{number}.png"] = first
        # Bytes behind the end of a PNG are no part of its pixels.
        contents[f"wall1/same pixels {number}.png"] = contents["wall1/1.png"] + b"%d" % number
    return contents


@pytest.fixture(scope="module")
def queries() -> list[Any]:
    return [seen_aside(scene(number, 320, 240))[:200, 40:] for number in range(SCENES)]


@pytest.fixture(scope="module")
def tools() -> dict[str, Any]:
    """An encoder, and keypoints whose geometry depends on which of two photos is the query."""
    return {
        "encoder": Remembering(CentredEncoder()),
        "extractor": Remembering(load_extractor("orb", count=400)),
    }


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory, walls: Contents, tools: dict[str, Any]
) -> Collection:
    return at_once(Collection(tmp_path_factory.mktemp("plain"), **tools), walls)


def check(other: Collection, plain: Collection, queries: list[Any]) -> None:
    assert other.graph() == plain.graph()
    for rerank in ("auto", "global", "none"):
        same_answers(other.answers(queries, rerank=rerank), plain.answers(queries, rerank=rerank))
    for distance in ("manhattan", "euclidean"):
        same_answers(
            other.answers(queries, distance=distance), plain.answers(queries, distance=distance)
        )


def test_links_are_verified(plain: Collection, queries: list[Any]) -> None:
    """The other tests compare what they mean to: the graph has links by geometry."""
    by_similarity = plain.answers(queries, rerank="none")
    assert plain.answers(queries) != by_similarity
    manifest = Manifest.read(plain.index)
    assert index.read_status(plain.index)["linked"] and manifest.keypoints is not None


@pytest.mark.parametrize("seed", range(2))
def test_the_way_to_a_collection_does_not_matter(
    seed: int,
    plain: Collection,
    walls: Contents,
    queries: list[Any],
    tools: dict[str, Any],
    tmp_path: Path,
) -> None:
    check(in_some_way(Collection(tmp_path, **tools), walls, seed), plain, queries)


@pytest.mark.slow
@settings(max_examples=3)
@given(seed=st.integers(0, 10**9))
def test_whatever_the_way(
    seed: int,
    plain: Collection,
    walls: Contents,
    queries: list[Any],
    tools: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("way")
    check(in_some_way(Collection(home, **tools), walls, seed), plain, queries)
    shutil.rmtree(home)


def test_names_and_folders_do_not_change_scores(
    plain: Collection, walls: Contents, queries: list[Any], tools: dict[str, Any], tmp_path: Path
) -> None:
    """The names go by the order of listing, so this changes the order of rows too."""
    names = np.random.default_rng(0).permutation(len(walls))
    renamed = {
        f"all/{name:03}.png": content for name, content in zip(names, walls.values(), strict=True)
    }
    other = at_once(Collection(tmp_path, **tools), renamed)
    assert other.graph() == plain.graph()
    for hits, others in zip(other.answers(queries), plain.answers(queries), strict=True):
        scores = sorted((renamed[path], score) for path, score in hits)
        np.testing.assert_allclose(
            [score for _, score in scores],
            [score for _, score in sorted((walls[path], score) for path, score in others)],
            rtol=0,
            atol=TOLERANCE,
        )


def test_more_copies_than_are_verified_have_the_same_score(
    walls: Contents, queries: list[Any], tools: dict[str, Any], tmp_path: Path
) -> None:
    copies = {f"copies/{number:02}.png": walls["wall0/0.png"] for number in range(70)}
    collection = at_once(Collection(tmp_path, **tools), walls | copies)
    (hits,) = collection.answers(queries[:1])
    first = dict(hits)["copies/00.png"]
    assert [score for path, score in hits if path in copies] == [first] * len(
        [path for path, _ in hits if path in copies]
    )
    (few,) = collection.answers(queries[:1], verify=3)
    scores = {score for path, score in few if path in copies or path == "wall0/0.png"}
    assert len(scores) == 1 and len(few) == 50


def test_a_projection_is_fitted_alike(
    walls: Contents, queries: list[Any], tools: dict[str, Any], tmp_path: Path
) -> None:
    """16 dimensions are more than these photos have, so that some axes could point anywhere."""
    one = at_once(Collection(tmp_path / "one", **tools), walls)
    other = in_some_way(Collection(tmp_path / "other", **tools), walls, seed=1)
    for power in (0.0, 0.5):
        for collection in (one, other):
            index.set_projection(collection.index, 16, power)
        check(other, one, queries)


def test_equal_scores_are_listed_by_path(plain: Collection, queries: list[Any]) -> None:
    for rerank in ("auto", "global", "none"):
        (hits,) = plain.answers(queries[:1], rerank=rerank)
        score = dict(hits)["wall0/0.png"]
        equal = [path for path, other in hits if other == score]
        assert equal == ["wall0/0.png", *[f"wall0/copy{number}.png" for number in range(3)]]


@pytest.mark.parametrize("method", ["linear", pytest.param("evidence", marks=pytest.mark.slow)])
def test_recognition_learns_the_same(
    method: str,
    walls: Contents,
    tools: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Labelled photos in another order give the same recogniser, from the same examples."""
    monkeypatch.setattr(held_out, "MAX_EXAMPLES_OF_A_KIND", 30)
    photos = walls | {f"more/{path}": content + b"more" for path, content in walls.items()}
    one = at_once(Collection(tmp_path / "one", **tools), photos)
    other = Collection(tmp_path / "other", **tools)
    for path, content in reversed(photos.items()):
        other.write(path, content)
        if path.endswith(("0.png", "3.png")):
            other.update(graph=False)
    other.update()
    fitted = []
    for collection in (one, other):
        gallery = open_gallery(collection.index)
        labels = gallery.snapshot.rows["label"].to_pylist()[: gallery.snapshot.photos]
        fitted.append(fit_recognizer(LabelledGallery.of(gallery, labels), method))
    assert all(recognizer.learned for recognizer in fitted)
    np.testing.assert_array_equal(*[recognizer.linear.weights for recognizer in fitted])
    np.testing.assert_allclose(
        *[recognizer.confidence.weights for recognizer in fitted], rtol=TOLERANCE
    )
    np.testing.assert_allclose(
        *[recognizer.confidence.thresholds for recognizer in fitted], rtol=TOLERANCE
    )


@pytest.mark.slow
def test_real_photos(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("landmarks30") / "images"
    places = sorted(place for place in folder.iterdir() if place.is_dir())[:6]
    files = [sorted(place.iterdir()) for place in places]
    photos = {
        f"{file.parent.name}/{file.name}": file.read_bytes()
        for of_place in files
        for file in of_place[:6]
    }
    asked = [str(file) for of_place in files for file in of_place[6:8]]
    tools = {
        "encoder": Remembering(load_encoder("fast")),
        "extractor": Remembering(load_extractor("xfeat")),
    }
    plain = at_once(Collection(tmp_path / "plain", **tools), photos)
    for seed in range(2):
        check(in_some_way(Collection(tmp_path / str(seed), **tools), photos, seed), plain, asked)
