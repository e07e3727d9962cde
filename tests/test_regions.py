"""Regions of photos: their descriptors, their codes, the index that stores them, and searches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run_veduta
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from service_server import Server, serving
from tiny import CentredEncoder, TinyExtractor, pixels, scene_keypoints

import veduta
from veduta import index
from veduta.encoders import OnnxEncoder, load_encoder
from veduta.encoders.embedded import CENTRED, FEATURES, centre_of, embedded_models
from veduta.encoders.region_codes import code_bytes, code_similarities, codes_of
from veduta.encoders.region_descriptors import REGIONS, RegionEncoder, region_box
from veduta.errors import EncoderError, EncoderMismatch, IndexDamaged, QueryError
from veduta.index import region_codes
from veduta.index.calibration import Background
from veduta.keypoints import extract_reduced, load_extractor, mutual, verify
from veduta.pages.hit import hit_tiles
from veduta.photos.orientation import UPRIGHT
from veduta.search import Engine, SearchOptions
from veduta.search.query import RegionQuery
from veduta.search.region_matches import RegionMatches
from veduta.web.batched_encoder import BatchedEncoder


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return load_encoder("fast")


class TestDescriptors:
    """What a region is described by."""

    def test_the_photo_is_described_as_without_regions(self, encoder: OnnxEncoder) -> None:
        prepared = encoder.prepare(pixels(3, 90, 60))
        descriptor, of_regions = RegionEncoder(encoder).describe(prepared)
        np.testing.assert_array_equal(descriptor, encoder.encode([prepared])[0])
        assert of_regions.shape == (len(REGIONS), encoder.dimension)
        np.testing.assert_allclose(np.linalg.norm(of_regions, axis=1), 1, atol=1e-5)

    def test_a_region_is_pooled_as_the_whole_photo(
        self, encoder: OnnxEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pooling over a region that is the whole photo gives the network's own descriptor."""
        (photo,) = encoder.prepare(pixels(4, 90, 60))
        whole = ((0.0, 0.0, 1.0, 1.0),)
        monkeypatch.setattr("veduta.encoders.region_descriptors.REGIONS", whole)
        descriptor, of_regions = RegionEncoder(encoder).describe((photo,))
        np.testing.assert_allclose(of_regions[0], descriptor, atol=1e-4)

    def test_a_region_by_hand(self, encoder: OnnxEncoder) -> None:
        """The pooling written out cell by cell, for the region in the middle."""
        (photo,) = encoder.prepare(pixels(5, 90, 60))
        features, _ = encoder.outputs_of(photo, FEATURES, CENTRED)
        channels, rows, columns = features.shape
        left, top, width, height = REGIONS[4]
        total, area = np.zeros(channels), 0.0
        for y in range(rows):
            for x in range(columns):
                high = min((y + 1) / rows, top + height) - max(y / rows, top)
                wide = min((x + 1) / columns, left + width) - max(x / columns, left)
                covered = max(high, 0) * max(wide, 0)
                total += covered * np.maximum(features[:, y, x].astype(float), 1e-6) ** 3
                area += covered
        peaks = np.sqrt(total / area)
        (network,) = next(
            model.networks
            for model in embedded_models().values()
            if model.name == encoder.spec.model.stem
        )
        expected = peaks / np.linalg.norm(peaks) - centre_of(network)
        expected /= np.linalg.norm(expected)
        found = RegionEncoder(encoder).describe((photo,))[1][4]
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_a_wrapped_encoder_describes_the_same(self, encoder: OnnxEncoder) -> None:
        photo = pixels(3, 90, 60)
        wrapped: Any = BatchedEncoder(encoder)
        expected = RegionEncoder(encoder).describe_query(photo)
        np.testing.assert_array_equal(RegionEncoder(wrapped).describe_query(photo), expected)

    def test_other_encoders_are_refused(self) -> None:
        with pytest.raises(EncoderError, match="no descriptors of regions"):
            RegionEncoder(CentredEncoder())

    @given(st.integers(0, len(REGIONS) - 1), st.integers(1, 5000), st.integers(1, 5000))
    def test_boxes_are_within_the_photo(self, region: int, width: int, height: int) -> None:
        x, y, box_width, box_height = region_box(region, width, height)
        assert x >= 0 and y >= 0 and box_width >= 1 and box_height >= 1
        assert x + box_width <= width + 1 and y + box_height <= height + 1


class TestCodes:
    """One bit for each dimension."""

    def test_similarities_are_estimates_of_the_cosine(self) -> None:
        rng = np.random.default_rng(0)
        query = rng.standard_normal(2560)
        others = query * np.linspace(-1, 1, 41)[:, None] + rng.standard_normal((41, 2560))
        rows = np.concatenate([query[None], others]).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        codes = codes_of(rows)
        found = code_similarities(codes[0], codes[1:], 2560)
        np.testing.assert_allclose(found, rows[1:] @ rows[0], atol=0.12)

    def test_few_large_numbers_are_spread(self) -> None:
        """Descriptors that differ in their few large numbers have signs that differ."""
        rows = np.full((2, 1280), 1e-4, np.float32)
        rows[0, :3], rows[1, 3:6] = 1, 1
        codes = codes_of(rows / np.linalg.norm(rows, axis=1, keepdims=True))
        assert abs(float(code_similarities(codes[0], codes[1:], 1280)[0])) < 0.15

    @given(arrays(np.uint8, (3, 5)), arrays(np.uint8, 5))
    def test_against_counting_bits(self, codes: Any, query: Any) -> None:
        expected = [
            np.cos(
                np.pi * sum(int(a ^ b).bit_count() for a, b in zip(row, query, strict=True)) / 40
            )
            for row in codes.tolist()
        ]
        np.testing.assert_allclose(code_similarities(query, codes, 40), expected, atol=1e-6)

    def test_dimensions_that_are_no_multiple_of_eight(self) -> None:
        rows = np.random.default_rng(1).standard_normal((4, 13)).astype(np.float32)
        codes = codes_of(rows)
        assert codes.shape == (4, code_bytes(13)) == (4, 2)
        assert code_similarities(codes[0], codes, 13)[0] == 1

    @given(arrays(np.uint8, (2, 7)), st.integers(0, 17))
    def test_packed_codes(self, codes: Any, damaged: int) -> None:
        data = region_codes.pack(codes)
        assert len(data) == region_codes.packed_size((2, 7))
        np.testing.assert_array_equal(region_codes.unpack(data, (2, 7)), codes)
        with pytest.raises(ValueError, match="cut off"):
            region_codes.unpack(data[:-1], (2, 7))
        wrong = bytearray(data)
        wrong[damaged] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            region_codes.unpack(bytes(wrong), (2, 7))


class TestReducedKeypoints:
    """A query as it looks from further away."""

    def test_they_match_a_small_copy_and_lie_where_they_are(self) -> None:
        extractor = load_extractor("xfeat")
        photo = np.asarray(sample("astronaut", (640, 480)))
        scene = np.asarray(sample("coffee", (640, 480))).copy()
        scene[240:, 320:] = np.asarray(sample("astronaut", (320, 240)))
        other = extractor.extract(scene, 1280, 960)  # Its full size is twice as large.
        of_half = extract_reduced(extractor, photo, 2560, 1920)
        of_whole = extractor.extract(photo, 2560, 1920)
        assert (of_half.width, of_half.height) == (2560, 1920)
        found = verify(of_half, other, mutual(of_half, other, min_similarity=0.82))
        whole = verify(of_whole, other, mutual(of_whole, other, min_similarity=0.82))
        assert found.consistent_matches > 3 * whole.consistent_matches
        assert found.model is not None
        # A quarter of the size of the query at its full size, from the middle of the scene on.
        at = of_half.xy[found.inliers[:, 0]] / 4 + (640, 480)
        assert np.median(np.abs(at - other.xy[found.inliers[:, 1]])) < 3

    def test_all_are_within_the_photo(self) -> None:
        extractor = load_extractor("orb")
        for size in ((101, 67), (64, 333)):
            photo = pixels(3, *size)
            xy = extract_reduced(extractor, photo, *size).xy
            assert (xy >= 0).all() and (xy <= np.array(size) - 1).all()

    def test_one_pixel(self) -> None:
        photo = np.zeros((1, 1, 3), np.uint8)
        assert len(extract_reduced(load_extractor("orb"), photo, 1, 1)) == 0


def picture(scene: int) -> Image.Image:
    """Return a picture with shapes that a network tells apart."""
    rng = np.random.default_rng(scene)
    photo = Image.fromarray(pixels(scene, 320, 240))
    for _ in range(40):
        x, y, size = rng.integers(0, 280), rng.integers(0, 200), rng.integers(8, 60)
        colour = tuple(map(int, rng.integers(0, 256, 3)))
        photo.paste(colour, (int(x), int(y), int(x + size), int(y + size // 2 + 4)))
    return photo


def sample(name: str, size: tuple[int, int]) -> Image.Image:
    """Return a photo of scikit-image."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(getattr(data, name)()).convert("RGB").resize(size)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 14 photos and a query that fills a small part of `composite.png`."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "photos"
    folder.mkdir()
    for scene in range(12):
        picture(scene).save(folder / f"{scene:02}.png")
    sample("rocket", (640, 480)).save(folder / "rocket.png")
    whole = sample("coffee", (640, 480))
    whole.paste(sample("astronaut", (208, 156)), (420, 300))
    whole.save(folder / "composite.png")
    sample("astronaut", (640, 480)).save(home / "query.png")
    return home


@pytest.fixture(scope="module")
def made(home: Path) -> Path:
    done = run_veduta(home, "index", "photos", "--index", "index", "--encoder", "fast", "--regions")
    assert done.returncode == 0, done.stderr
    return home / "index"


@pytest.fixture(scope="module")
def query(home: Path) -> Path:
    return home / "query.png"


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[Server]:
    pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
    pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")
    with serving(made) as running:
        yield running


FOUND_IN = (384, 288, 256, 192)


class TestIndex:
    """The command, and what it keeps."""

    def test_status_says_so(self, home: Path, made: Path) -> None:
        state = json.loads(run_veduta(home, "status", "--index", made, "--json").stdout)
        assert state["regions"] == {"version": 1, "count": 9, "bytes": 160}
        assert "regions     9 a photo" in run_veduta(home, "status", "--index", made).stdout

    def test_the_snapshot_has_the_codes_of_each_photo(
        self, made: Path, home: Path, encoder: OnnxEncoder
    ) -> None:
        snapshot = index.open_snapshot(made)
        assert snapshot.regions is not None and snapshot.regions.shape == (14, 9, 160)
        file = home / "photos/composite.png"
        row = snapshot.rows["path"].to_pylist().index(str(file).encode())
        of_regions = RegionEncoder(encoder).describe(encoder.prepare(np.asarray(Image.open(file))))
        np.testing.assert_array_equal(snapshot.regions[row], codes_of(of_regions[1]))

    def test_a_thing_in_a_part_of_a_photo_is_found(
        self, home: Path, made: Path, query: Path
    ) -> None:
        command = ("search", query, "--index", made, "-k", 1)
        (answer,) = json.loads(run_veduta(home, *map(str, command), "--json").stdout)
        (first,) = answer["hits"]
        assert first["path"].endswith("composite.png")
        assert tuple(first["found_in"]) == FOUND_IN
        assert first["model"] is not None and first["probability"] > 0.5
        text = run_veduta(home, *map(str, command)).stdout
        assert "found in the region 384,288,256,192" in text

    def test_without_regions_nothing_is_found(self, made: Path, query: Path) -> None:
        """Else the test above would show nothing."""
        engine = Engine(made)
        hits = engine.search(replace(engine.encode_query([query]), in_regions=None))
        assert max(hit.score for hit in hits) < 0.1
        assert all(hit.evidence is not None and hit.evidence.found_in is None for hit in hits)

    def test_pictures_show_the_region(self, made: Path, query: Path) -> None:
        found = veduta.open(made)
        (hit,) = found.search(query, k=1)
        (tile,) = hit_tiles(found, [query], [hit], pictures=1)
        assert tile.outline is not None and tile.matches is not None
        xs, ys = np.transpose(tile.outline.corners)
        assert xs.min() > 300 and ys.min() > 250, "the geometry shows the pasted photo"
        assert hit.evidence is not None
        alone = replace(hit, evidence=replace(hit.evidence, region=None))
        (tile,) = hit_tiles(found, [query], [alone], pictures=0)
        assert tile.outline is not None
        assert tile.outline.corners == ((384, 288), (640, 288), (640, 480), (384, 480))

    def test_a_service_answers_the_same(self, made: Path, query: Path, server: Server) -> None:
        local, remote = veduta.open(made), veduta.open(server.url, key=server.key)
        assert remote.search(query, k=3).as_json() == local.search(query, k=3).as_json()
        (hit,) = remote.search(query, k=1)
        assert local.search(query, k=1).to_arrow()["found_in"].to_pylist() == [list(FOUND_IN)]
        assert hit.evidence is not None and hit.evidence.found_in == FOUND_IN
        (facts,) = server.get("/indexes").json["indexes"]
        assert facts["regions"] is True

    def test_hits_of_few_are_the_first_of_many(self, made: Path, query: Path) -> None:
        engine = Engine(made)
        encoded = engine.encode_query([query])
        many = engine.search(encoded, SearchOptions(k=20, verify=3))
        few = engine.search(encoded, SearchOptions(k=4, verify=3))
        assert [hit.path for hit in many[:4]] == [hit.path for hit in few]
        assert len({hit.path for hit in many}) == len(many) == 14

    def test_conditions_hold_for_regions_too(self, made: Path, query: Path) -> None:
        engine = Engine(made)
        hits = engine.search(engine.encode_query([query]), SearchOptions(k=20, labels=("none",)))
        assert hits == []

    def test_modes_without_geometry_use_no_regions(self, made: Path, query: Path) -> None:
        engine = Engine(made)
        assert engine.encode_query([query]).in_regions is not None
        for mode in ("global", "none"):
            assert engine.encode_query([query], rerank=mode).in_regions is None
        assert engine.query_views([query], regions=False).encoded(UPRIGHT).in_regions is None

    def test_updates_copies_and_damage(self, tmp_path: Path, encoder: OnnxEncoder) -> None:
        folder, made = tmp_path / "photos", tmp_path / "index"
        folder.mkdir()
        picture(1).save(folder / "a.png")
        index.create_index(made, encoder, TinyExtractor(), regions=True)
        index.update_index(made, [folder], encoder, TinyExtractor())
        (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
        picture(2).save(folder / "b.png")
        index.update_index(made, [folder], encoder, TinyExtractor())
        codes = index.open_snapshot(made).regions
        assert codes is not None and codes.shape == (3, 9, 160)
        assert len({row.tobytes() for row in codes}) == 2
        assert list(index.check_index(made)) == []
        file = sorted((made / "keypoints").iterdir())[-1]
        data = bytearray(file.read_bytes())
        data[-10] ^= 1  # The codes are behind the keypoints.
        file.write_bytes(data)
        assert {finding.kind for finding in index.check_index(made)} == {"keypoints damaged"}
        picture(3).save(folder / "c.png")
        with pytest.raises(IndexDamaged, match=f"codes of regions.*veduta repair --index {made}"):
            index.update_index(made, [folder], encoder, TinyExtractor())
        assert index.repair_index(made).removed_rows == 1
        (folder / "copy.png").unlink()
        index.update_index(made, [folder], encoder, TinyExtractor())
        assert list(index.check_index(made)) == []
        codes = index.open_snapshot(made).regions
        assert codes is not None and len(codes) == 3
        rows = index.open_snapshot(made).rows["path"].to_pylist()[:3]
        names = [Path(row.decode()).name for row in rows]
        for name, row in zip(names, codes, strict=True):
            whole = np.asarray(Image.open(folder / name))
            expected = codes_of(RegionEncoder(encoder).describe(encoder.prepare(whole))[1])
            np.testing.assert_array_equal(row, expected, err_msg=name)

    def test_what_is_refused(self, home: Path, tmp_path: Path) -> None:
        plain = tmp_path / "plain"
        encoder = load_encoder("fast")
        index.create_index(plain, encoder, TinyExtractor())
        assert index.open_snapshot(plain).regions is None
        done = run_veduta(home, "index", "photos", "--index", plain, "--regions")
        assert done.returncode == EncoderMismatch.exit_code
        assert "has no regions" in done.stderr and "--regions" in done.stderr
        with pytest.raises(QueryError, match="--keypoints none"):
            index.create_index(tmp_path / "none", encoder, regions=True)
        assert not (tmp_path / "none").exists()
        with pytest.raises(EncoderError, match="no descriptors of regions"):
            index.create_index(tmp_path / "tiny", CentredEncoder(), TinyExtractor(), regions=True)


def test_deviations_by_hand() -> None:
    """A region stands out by its similarity above the mean, in standard deviations with a prior."""

    class Four:
        regions = np.random.default_rng(2).integers(0, 256, (4, 3, 5), dtype=np.uint8)

    query = Four.regions[2, 1]
    asked = RegionQuery(query, (scene_keypoints(1, 0),))
    matches = RegionMatches.of(Four(), asked, 40, np.arange(4))  # type: ignore[arg-type]
    assert matches is not None
    all_similarities = np.stack([code_similarities(query, codes, 40) for codes in Four.regions])
    best = all_similarities.max(axis=1)
    np.testing.assert_array_equal(matches.regions, all_similarities.argmax(axis=1))
    assert matches.regions[2] == 1 and matches.similarities[2] == 1
    (mean,), (std,) = Background(0.083, 0.088).estimate(best[None])
    np.testing.assert_allclose(matches.deviations, (best - mean) / std, rtol=1e-4)
    assert matches.nearest(1, None).tolist() == [2]
    assert 2 not in matches.nearest(4, np.array([True, True, False, True]))
