"""Ranking by keypoints alone: scores by hand, the cache, messy photos, the command line."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, run_veduta
from numpy.typing import NDArray
from PIL import Image

from veduta import evaluate
from veduta.cli.evaluate import METHODS as CLI_METHODS
from veduta.errors import CollectionError, QueryError
from veduta.evaluation import METHODS, Evaluation, keypoint_cache
from veduta.evaluation.keypoint_cache import cached_keypoints
from veduta.evaluation.keypoint_methods import agreeing_matches, good_matches
from veduta.keypoints import Keypoints, load_extractor, mutual, ratio, verify
from veduta.keypoints.vlad import aggregate, fit_centroids
from veduta.keypoints.xfeat import MIN_SIMILARITY


def keypoints(descriptors: Any, kind: type = np.int8) -> Keypoints:
    rows = np.array(descriptors, kind)
    return Keypoints(np.zeros((len(rows), 2), np.float32), rows, 100, 100)


def random_rows(seed: int, count: int, width: int = 8) -> NDArray[np.int8]:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return np.rint(rows / np.linalg.norm(rows, axis=1, keepdims=True) * 127).astype(np.int8)


class TestVlad:
    def test_by_hand(self) -> None:
        centroids = np.array([[0, 0], [0, -1]], np.float32)
        # (1, 0) and twice (0, 1) are nearest to the first centroid and differ from it by
        # themselves; (0, -1) is the second centroid. Sums (1, 2) and (0, 0), square roots
        # (1, √2, 0, 0), of length √3.
        found = aggregate(np.array([[127, 0], [0, 127], [0, -127], [0, 127]], np.int8), centroids)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [1 / 3**0.5, (2 / 3) ** 0.5, 0, 0], atol=1e-7)

    def test_differences_count_by_direction_and_signs_stay(self) -> None:
        centroids = np.array([[0.5, 0.0]], np.float32)
        # Differences (0.5, 0), (-1.5, 0) and (-0.5, 1): directions (1, 0), (-1, 0) and
        # (-0.4472, 0.8944). Sum (-0.4472, 0.8944), square roots in the ratio -1 : √2.
        rows = np.array([[127, 0], [-127, 0], [0, 127]], np.int8)
        np.testing.assert_allclose(
            aggregate(rows, centroids), [-((1 / 3) ** 0.5), (2 / 3) ** 0.5], atol=1e-6
        )

    def test_it_has_length_one_or_is_zero(self) -> None:
        centroids = fit_centroids(random_rows(0, 500), 16)
        assert centroids.shape == (16, 8)
        for count in (1, 7, 300):
            assert np.linalg.norm(aggregate(random_rows(1, count), centroids)) == pytest.approx(1)
        assert not aggregate(random_rows(1, 0), centroids).any()

    def test_the_order_of_keypoints_does_not_matter(self) -> None:
        centroids = fit_centroids(random_rows(0, 500), 16)
        rows = random_rows(1, 200)
        np.testing.assert_allclose(
            aggregate(rows, centroids), aggregate(rows[::-1], centroids), atol=1e-6
        )

    def test_centroids_are_the_means_of_clear_groups(self) -> None:
        left = np.array([[120, 0], [124, 0], [127, 0]] * 20, np.int8)
        low = np.array([[0, -120], [0, -126]] * 30, np.int8)
        found = fit_centroids(np.concatenate([left, low]), 2, seed=1)
        ordered = found[np.argsort(found[:, 1])] * 127
        np.testing.assert_allclose(ordered, [[0, -123], [371 / 3, 0]], rtol=1e-5, atol=1e-5)

    def test_centroids_can_be_repeated(self) -> None:
        rows = random_rows(3, 20_000)  # more than one block
        first = fit_centroids(rows, 32)
        assert np.array_equal(first, fit_centroids(rows, 32))
        assert not np.array_equal(first, fit_centroids(rows, 32, seed=1))

    def test_each_centroid_is_the_mean_of_what_is_nearest_to_it(self) -> None:
        rows = random_rows(4, 300, width=3)
        found = fit_centroids(rows, 4)  # few enough to have settled
        unit = rows / 127
        nearest = np.linalg.norm(unit[:, None] - found, axis=2).argmin(axis=1)
        for number in range(4):
            np.testing.assert_allclose(found[number], unit[nearest == number].mean(0), atol=0.02)

    def test_fewer_descriptors_than_centroids(self) -> None:
        rows = random_rows(0, 3)
        found = fit_centroids(rows, 128)
        assert found.shape == (3, 8)
        assert fit_centroids(rows[:0], 128).shape == (0, 8)
        assert aggregate(rows, fit_centroids(rows[:0], 128)).shape == (0,)
        same = np.repeat(rows[:1], 10, axis=0)
        np.testing.assert_allclose(fit_centroids(same, 4)[0], rows[0] / 127, atol=1e-6)


class TestGoodMatches:
    def test_by_hand(self) -> None:
        query = keypoints([[127, 0], [0, 127]])
        # To (127, 0): distances 0 and 254: good. To (0, 127): both are 127 √2 away: not good.
        other = keypoints([[127, 0], [-127, 0]])
        mean = (0 + 127 * 2**0.5) / 2
        assert good_matches(query, other) == pytest.approx(1 + 0.999 * (1 - mean / 256))

    def test_bits_by_hand(self) -> None:
        query = keypoints([[0b11110000], [0b00001111]], np.uint8)
        # First: distances 1 and 8, good. Second: 7 and 0, good.
        other = keypoints([[0b11110001], [0b00001111]], np.uint8)
        assert good_matches(query, other) == pytest.approx(2 + 0.999 * (1 - 0.5 / 256))

    @pytest.mark.parametrize("kind", [np.int8, np.uint8])
    @pytest.mark.parametrize("seed", range(10))
    def test_the_count_is_that_of_the_ratio_test(self, seed: int, kind: type) -> None:
        rng = np.random.default_rng(seed)
        a, b = random_rows(seed, 40), random_rows(seed + 100, 2 + 5 * seed)
        same = len(b) // 2  # at most 23 of the 40
        a[:same] = b[:same]
        a[:5] += rng.integers(-1, 2, (5, 8), dtype=np.int8)
        query, other = keypoints(a.astype(kind), kind), keypoints(b.astype(kind), kind)
        wanted = len(set(ratio(query, other, max_ratio=0.75)[:, 1].tolist()))
        assert math.floor(good_matches(query, other)) == wanted

    def test_a_keypoint_that_many_find_counts_once(self) -> None:
        other = keypoints([[127, 0], [-127, 0]])
        assert math.floor(good_matches(keypoints([[127, 0]] * 30), other)) == 1

    def test_of_equal_counts_the_nearer_is_first(self) -> None:
        query = keypoints([[127, 0]])
        near, far = (keypoints([[x, 0], [-127, 0]]) for x in (126, 100))
        assert math.floor(good_matches(query, near)) == math.floor(good_matches(query, far)) == 1
        assert good_matches(query, near) > good_matches(query, far)

    def test_nearness_never_outweighs_a_match(self) -> None:
        query = keypoints([[127, 0]])
        assert good_matches(query, keypoints([[127, 0], [127, 0]])) < 1  # no second is farther
        assert 1 < good_matches(query, keypoints([[127, 0], [0, 127]])) < 2

    def test_one_keypoint_or_none(self) -> None:
        some, one, none = (keypoints(random_rows(0, count)) for count in (9, 1, 0))
        assert good_matches(none, some) == good_matches(some, none) == good_matches(none, none) == 0
        assert 0 < good_matches(some, one) < 1
        assert 0 < good_matches(one, one) < 1


class TestAgreeingMatches:
    def test_inliers_then_matches_then_similarity(self) -> None:
        rng = np.random.default_rng(0)
        rows = random_rows(0, 60, width=64)
        xy = rng.uniform(0, 100, (60, 2)).astype(np.float32)
        query = Keypoints(xy, rows, 100, 100)
        moved = Keypoints(xy * 0.8 + 5, rows, 100, 100)
        scattered = Keypoints(rng.uniform(0, 100, (60, 2)).astype(np.float32), rows, 100, 100)
        unlike = Keypoints(xy, random_rows(1, 60, width=64), 100, 100)
        for other in (moved, scattered, unlike):
            pairs = mutual(query, other, min_similarity=MIN_SIMILARITY)
            inliers = len(verify(query, other, pairs).inliers)
            score = agreeing_matches(query, other)
            assert math.floor(score) == inliers
            assert math.floor((score - inliers) * 61) == len(pairs)
        assert agreeing_matches(query, moved) > 50
        assert 60 / 61 < agreeing_matches(query, scattered) < 20
        assert 0 < agreeing_matches(query, unlike) < 1 / 61

    def test_no_keypoints(self) -> None:
        some, none = keypoints(random_rows(0, 9)), keypoints(random_rows(0, 0))
        assert agreeing_matches(none, some) == agreeing_matches(some, none) == 0


# --- whole evaluations -------------------------------------------------------------------------

SIDE = 192


def textured(scene: int, view: int = 0) -> Image.Image:
    """Rectangles at random places of the scene; each view is moved and lit differently."""
    rng = np.random.default_rng(scene)
    canvas = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for _ in range(90):
        x, y = rng.integers(0, SIDE - 12, 2)
        width, height = rng.integers(6, 40, 2)
        canvas[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    canvas = canvas[5 * view : SIDE - 20 + 5 * view, 3 * view : SIDE - 20 + 3 * view]
    return Image.fromarray((canvas * (1 - 0.1 * view)).astype(np.uint8))


def scenes(folder: Path, number: int = 3, views: int = 3) -> Path:
    """One folder a scene: each photo is a query against all others."""
    for scene in range(number):
        (folder / f"scene{scene}").mkdir(parents=True)
        for view in range(views):
            textured(scene, view).save(folder / f"scene{scene}/view{view}.png")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/veduta/evaluate"


def nearest(done: Evaluation) -> dict[str, list[tuple[str, float]]]:
    return {
        result.path: [(done.gallery_paths[near.row], near.score) for near in result.nearest]
        for result in done.results
    }


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_it_finds_the_other_views(tmp_path: Path, method: str) -> None:
    done = evaluate(scenes(tmp_path / "set"), method=method)
    assert (done.summary.queries, done.summary.gallery, done.summary.top1) == (9, 9, 1.0)
    assert done.summary.map > 0.95
    for path, found in nearest(done).items():
        assert len(found) == 8 and path not in dict(found)
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) == len(scores), "ties would be broken by the order of the photos"
    assert done.settings["method"] == method
    assert done.as_json()["settings"]["keypoints"] >= 500
    assert evaluate(tmp_path / "set", method=method).as_json() == done.as_json()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_photos_without_keypoints_come_last(tmp_path: Path, method: str) -> None:
    folder = scenes(tmp_path / "set", 2)
    (folder / "black").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (90, 60)).save(folder / f"black/{name}.png")
    Image.new("RGB", (1, 1), "white").save(folder / "black/c.png")
    done = evaluate(folder, method=method)
    assert (done.summary.queries, done.problems) == (9, ())
    for path, found in nearest(done).items():
        assert np.isfinite([score for _, score in found]).all()
        if not path.startswith("black"):
            assert all(name.startswith("black") for name, _ in found[-3:])
    nothing = scenes(tmp_path / "nothing", 2, 2)
    for photo in nothing.rglob("*.png"):
        Image.new("RGB", (90, 60)).save(photo)
    assert evaluate(nothing, method=method).summary.queries == 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["orb", "vlad-xfeat"])
def test_a_broken_photo_shifts_no_other(tmp_path: Path, method: str) -> None:
    folder = scenes(tmp_path / "set")
    table = ["path,label,split"]
    for photo in sorted(folder.rglob("*.png")):
        split = "query" if photo.stem == "view0" else "gallery"
        table.append(f"{photo.relative_to(folder).as_posix()},{photo.parent.name},{split}")
    (folder / "labels.csv").write_text("\n".join(table))
    whole = evaluate(folder, method=method)
    for name in ("scene0/broken.png", "scene1/broken.jpg"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nno photo")
    spoilt = [*table]
    spoilt.insert(1, "scene0/broken.png,scene0,query")
    spoilt.insert(5, "scene1/broken.jpg,scene1,gallery")
    (folder / "labels.csv").write_text("\n".join(spoilt))
    done = evaluate(folder, method=method)
    assert nearest(done) == nearest(whole)
    assert (done.summary.queries, done.summary.gallery) == (3, 6)
    assert len(done.problems) == 2
    for name, problem in zip(
        ("scene0/broken.png", "scene1/broken.jpg"), sorted(done.problems), strict=True
    ):
        assert problem.startswith(f"{name}: left out")
    assert evaluate(folder, method=method).problems == done.problems, "from the cache"


def test_stages_are_told(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "set", 2, 2)
    told: list[tuple[str, int, int]] = []
    evaluate(folder, method="orb", on_progress=lambda *state: told.append(state))
    assert [what for what, _, _ in told] == ["Extracting gallery"] * 4 + ["Matching"]
    assert told[3][1:] == told[-1][1:] == (4, 4)


def test_a_method_goes_alone(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "set", 2, 2)
    with pytest.raises(QueryError, match="did you mean 'vlad-xfeat'"):
        evaluate(folder, method="vlad-xfaet")
    for option in (
        {"encoder": "fast"},
        {"distance": "manhattan"},
        {"project": 8},
        {"runtime": "openvino"},
        {"rerank": "none"},
        {"verify": 10},
    ):
        with pytest.raises(QueryError, match=next(iter(option))):
            evaluate(folder, method="orb", **option)


class TestCache:
    def files(self, folder: Path) -> list[str]:
        return [str(photo) for photo in sorted(scenes(folder, 2, 2).rglob("*.png"))]

    def test_the_second_time_nothing_is_extracted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = self.files(tmp_path / "set")
        orb = load_extractor("orb")
        first = cached_keypoints(files, orb, tmp_path / "kept")
        monkeypatch.setattr(keypoint_cache, "_write", None)
        second = cached_keypoints(files, orb, tmp_path / "kept")
        for file in files:
            assert np.array_equal(first.read(file).descriptors, second.read(file).descriptors)
            assert np.array_equal(first.read(file).xy, second.read(file).xy)
            assert second.read(file).width == SIDE - 20
        with pytest.raises(TypeError):  # another extractor
            cached_keypoints(files, load_extractor("sift"), tmp_path / "kept")
        os.utime(files[1], ns=(1, 1))
        with pytest.raises(TypeError):  # a photo that changed
            cached_keypoints(files, orb, tmp_path / "kept")

    def test_it_is_as_fresh_extraction(self, tmp_path: Path) -> None:
        files = self.files(tmp_path / "set")
        orb = load_extractor("orb")
        kept = cached_keypoints([files[2], files[0], files[2]], orb, tmp_path / "kept")
        for file in (files[0], files[2]):
            pixels = np.asarray(Image.open(file))
            fresh = orb.extract(pixels, pixels.shape[1], pixels.shape[0])
            assert len(fresh) > 50
            assert np.array_equal(fresh.descriptors, kept.read(file).descriptors)
            np.testing.assert_allclose(fresh.xy, kept.read(file).xy, atol=0.01)

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
    def test_a_damaged_file_is_made_again(self, tmp_path: Path, damage: str) -> None:
        files = self.files(tmp_path / "set")
        orb = load_extractor("orb")
        wanted = cached_keypoints(files, orb, tmp_path / "kept").read(files[3])
        (stored,) = (tmp_path / "kept").iterdir()
        data = bytearray(stored.read_bytes())
        data[len(data) // 2] ^= 0xFF
        broken = {"cut": bytes(data[:-200]), "flip": bytes(data), "empty": b"", "text": b"x" * 999}
        stored.unlink()  # not written into: the first is still mapped
        stored.write_bytes(broken[damage])
        again = cached_keypoints(files, orb, tmp_path / "kept")
        assert np.array_equal(again.read(files[3]).descriptors, wanted.descriptors)
        assert list((tmp_path / "kept").iterdir()) == [stored]

    def test_an_interrupt_leaves_nothing(self, tmp_path: Path) -> None:
        def interrupt(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        files = self.files(tmp_path / "set")
        with pytest.raises(KeyboardInterrupt):
            cached_keypoints(files, load_extractor("orb"), tmp_path / "kept", on_progress=interrupt)
        assert list((tmp_path / "kept").iterdir()) == []

    def test_a_photo_that_is_gone_is_a_problem(self, tmp_path: Path) -> None:
        files = self.files(tmp_path / "set")
        Path(files[1]).unlink()
        kept = cached_keypoints(files, load_extractor("orb"), tmp_path / "kept")
        assert list(kept.problems) == [files[1]]
        assert "not there" in kept.problems[files[1]]

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "kept").write_text("a file")
        with pytest.raises(CollectionError, match="kept"):
            cached_keypoints(self.files(tmp_path / "set"), load_extractor("orb"), tmp_path / "kept")


@pytest.mark.slow
def test_the_command_line(tmp_path: Path) -> None:
    assert CLI_METHODS == METHODS
    folder = scenes(tmp_path / "set", 2, 2)

    def evaluate(*options: str | Path) -> Run:
        return run_veduta(tmp_path, "evaluate", folder, *options)

    done = evaluate("--method", "orb", "--json", "--html", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["top1"], figures["queries"]) == (1.0, 4)
    assert figures["settings"]["method"] == "orb"
    assert (figures["settings"]["keypoints"], figures["settings"]["ratio"]) == (500, 0.75)
    assert "method orb" in (tmp_path / "page.html").read_text("utf-8")
    refused = evaluate("--method", "orb", "--distance", "cosine")
    assert refused.returncode == 2 and "--distance" in refused.stderr
