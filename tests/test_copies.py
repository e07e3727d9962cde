"""Copies of one photo are found, whatever was done to them; another photo of the thing is none."""

from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import pixels

from veduta.curate.copies import COPY_KINDS, CopyPair, copies_among, find_copies
from veduta.curate.described_photos import describe_photos
from veduta.curate.groups import connected_groups, copy_groups
from veduta.curate.hash_pairs import MAX_COPY_BITS, copy_candidates, mirrored_hashes
from veduta.photos import hamming, perceptual_hash

Photo = NDArray[np.uint8]


def scene(seed: int, width: int = 400, height: int = 300, shift: int = 0) -> Photo:
    """Rectangles before smooth noise; `shift` moves each by its own depth, as a step aside does."""
    rng = np.random.default_rng(seed)
    made = np.array(pixels(seed, width, height))
    for _ in range(80):
        x, y = rng.integers(20, width - 60), rng.integers(0, height - 8)
        w, h = rng.integers(6, 50, 2)
        x += round(shift * rng.uniform(-1, 1))
        made[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return made


def marked(photo: Photo) -> Photo:
    painted = np.array(photo)
    painted[120:180:3, 40:360] = 255
    return painted


MADE: dict[str, tuple[Callable[[Photo], Photo], set[str]]] = {
    "again": (lambda photo: photo, {"same picture"}),
    "mirrored": (lambda photo: photo[:, ::-1], {"mirrored"}),
    "cut": (lambda photo: photo[40:265, 60:360], {"cut"}),
    "half": (lambda photo: photo[20:232, 80:363], {"cut"}),
    "mirrored-cut": (lambda photo: photo[20:260, 80:380][:, ::-1], {"mirrored cut"}),
    # The mean of colours is not the luma: some edges vanish.
    "grey": (lambda photo: photo.mean(axis=2, keepdims=True).repeat(3, 2), {"edited"}),
    "dark": (lambda photo: photo * 0.6, {"same picture"}),
    "small": (lambda photo: photo[::2, ::2], {"same picture"}),
    "squeezed": (lambda photo: photo[:, ::2], {"same picture"}),
    "marked": (marked, {"same picture", "edited"}),
    "turned": (
        lambda photo: np.asarray(Image.fromarray(photo).rotate(4).crop((20, 20, 380, 280))),
        {"cut"},
    ),
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """One photo with all its copies, one file twice, other photos, and other views."""
    folder = tmp_path_factory.mktemp("copies")
    files = []

    def keep(name: str, photo: Photo, quality: int) -> None:
        files.append(folder / f"{name}.jpg")
        Image.fromarray(np.ascontiguousarray(photo).astype(np.uint8)).save(
            files[-1], quality=quality
        )

    keep("original", scene(1), 92)
    for name, (made, _) in MADE.items():
        keep(name, made(scene(1)), 70)
    for seed in range(2, 6):
        keep(f"other{seed}", scene(seed), 90)
        keep(f"view{seed}", scene(seed, shift=14), 90)
    for grey in (0, 255):
        keep(f"blank{grey}", np.full((300, 400, 3), grey), 90)
    keep("blank again", np.full((200, 300, 3), 255), 90)
    files.append(folder / "same bytes.png")
    files[-1].write_bytes(files[0].read_bytes())
    files.append(folder / "broken.jpg")
    files[-1].write_bytes(files[0].read_bytes()[:2000])
    files.append(folder / "missing.jpg")
    return files, folder / "cache"


def by_name(files: list[Path], pairs: list[CopyPair]) -> dict[frozenset[str], str]:
    return {frozenset((files[p.first].stem, files[p.second].stem)): p.kind for p in pairs}


@pytest.mark.slow
def test_every_copy_and_nothing_else(collection: tuple[list[Path], Path]) -> None:
    files, cache = collection
    pairs = find_copies(files, folder=cache)
    assert all(pair.first < pair.second and pair.kind in COPY_KINDS for pair in pairs)
    assert all(0 < pair.score <= 1 for pair in pairs)
    found = by_name(files, pairs)
    assert found[frozenset(("original", "same bytes"))] == "same bytes"
    joined = {files[at].stem for group in chained(pairs, len(files)) for at in group}
    assert joined == {"original", "same bytes", *MADE}


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_the_kind_of_a_copy(collection: tuple[list[Path], Path], name: str) -> None:
    files, cache = collection
    copy = next(file for file in files if file.stem == name)
    for both in ([files[0], copy], [copy, files[0]]):
        (found,) = find_copies(both, folder=cache)
        assert (found.first, found.second) == (0, 1)
        assert found.kind in MADE[name][1]


def test_the_order_of_the_files_does_not_matter(collection: tuple[list[Path], Path]) -> None:
    files, cache = collection
    turned = files[::-1]
    straight = copy_groups(find_copies(files, folder=cache), len(files))
    again = copy_groups(find_copies(turned, folder=cache), len(files))
    assert {frozenset(files[at] for at in group) for group in straight} == {
        frozenset(turned[at] for at in group) for group in again
    }


@pytest.mark.slow
def test_what_was_found_is_kept(collection: tuple[list[Path], Path]) -> None:
    files, cache = collection
    photos = describe_photos(files, folder=cache)
    assert {files[at].stem for at in photos.problems} == {"broken", "missing"}
    first = copies_among(photos)
    told: list[str] = []
    assert copies_among(photos, on_progress=lambda what, *_: told.append(what)) == first
    assert not told  # read, not compared again
    for kept in cache.glob("copies-*.json"):
        kept.write_text("[[0, 1,")
    assert copies_among(photos) == first  # a file that was cut off is made again


def test_nothing_to_compare(tmp_path: Path) -> None:
    assert find_copies([], folder=tmp_path / "cache") == []
    assert find_copies([tmp_path / "none.jpg"] * 2, folder=tmp_path / "cache") == []


def test_the_mirrored_hash_is_that_of_the_mirrored_photo() -> None:
    for seed in range(20):
        photo = scene(seed)
        straight, mirrored = perceptual_hash(photo), perceptual_hash(photo[:, ::-1].copy())
        computed = int(mirrored_hashes(np.array([straight], np.uint64))[0])
        assert hamming(computed, mirrored) <= 4  # places where neighbours are equal


@pytest.mark.parametrize("seed", range(5))
def test_all_near_hashes_are_found(seed: int) -> None:
    """Against every pair compared with every other."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    for at in range(20, 60):
        flips = rng.choice(64, int(rng.integers(0, 12)), replace=False)
        hashes[at] = hashes[at - 20] ^ np.uint64(sum(1 << int(bit) for bit in flips))
    mirrored = mirrored_hashes(hashes)
    wanted = {
        (a, b)
        for a, b in combinations(range(60), 2)
        if min(hamming(int(hashes[a]), int(hashes[b])), hamming(int(mirrored[a]), int(hashes[b])))
        <= MAX_COPY_BITS
    }
    found = copy_candidates(hashes)
    assert found >= {pair for pair in wanted if hashes[pair[0]] != hashes[pair[1]]}
    assert found <= wanted


def test_many_photos_of_one_hash_are_not_all_paired() -> None:
    pairs = copy_candidates(np.zeros(3000, np.uint64))
    assert len(pairs) < 5 * 3000
    assert {(at, at + 1) for at in range(2999)} <= pairs  # yet they hang together


@pytest.mark.slow
def test_the_pairs_of_smooth_photos_do_not_grow_with_their_square() -> None:
    """All hashes are near one another, as those of skies are; the nearest is kept all the same."""
    rng = np.random.default_rng(5)
    hashes = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, 3, replace=False)) for _ in range(2000)],
        np.uint64,
    )
    copy = hashes[0] ^ np.uint64(1 << 63)
    pairs = copy_candidates(np.append(hashes, copy))
    assert (0, 2000) in pairs
    assert len(pairs) < 30 * 2000


def pair(first: int, second: int, score: float = 0.95) -> CopyPair:
    return CopyPair(first, second, "cut", score)


def chained(pairs: list[CopyPair], count: int) -> list[tuple[int, ...]]:
    """Return the groups that any pair joins."""
    members: dict[int, list[int]] = {}
    first_of = connected_groups(count, ((one.first, one.second) for one in pairs))
    for position, first in enumerate(first_of):
        members.setdefault(first, []).append(position)
    return [tuple(group) for group in members.values() if len(group) > 1]


def test_groups_are_connected_components() -> None:
    assert copy_groups([pair(0, 1), pair(1, 2), pair(4, 3)], 6) == [(0, 1, 2), (3, 4)]
    assert copy_groups([], 3) == []


def test_one_doubtful_pair_does_not_join_two_groups() -> None:
    two = [pair(0, 1, 0.99), pair(2, 3, 0.99), pair(1, 2, 0.91)]
    assert copy_groups(two, 4) == [(0, 1), (2, 3)]
    assert chained(two, 4) == [(0, 1, 2, 3)]
    assert copy_groups([*two, pair(0, 3, 0.9)], 4) == [(0, 1, 2, 3)]  # two say so
    assert copy_groups([*two[:2], pair(1, 2, 0.98)], 4) == [(0, 1, 2, 3)]  # one that is sure


@pytest.mark.parametrize("seed", range(10))
def test_groups_with_chains_against_scipy(seed: int) -> None:
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(seed)
    drawn = {tuple(sorted(rng.choice(40, 2, replace=False).tolist())) for _ in range(25)}
    pairs = [pair(a, b, float(rng.uniform(0.9, 1))) for a, b in drawn]
    ends = np.array(sorted(drawn)).T
    graph = sparse.coo_matrix((np.ones(len(drawn)), ends), shape=(40, 40))
    _, component = csgraph.connected_components(graph, directed=False)
    wanted = {tuple(np.flatnonzero(component == at)) for at in set(component.tolist())}
    assert set(chained(pairs, 40)) == {group for group in wanted if len(group) > 1}


@pytest.mark.slow
def test_messy(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Within `dedup`: mirrored, turned, grey and resized copies, as the manifest says."""
    folder = shared_data("messy")
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as source:
        rows = [row for row in csv.DictReader(source) if row["path"].startswith("files/dedup")]
    files = [folder / row["path"] for row in rows]
    photos = describe_photos(files, folder=tmp_path)
    groups = copy_groups(copies_among(photos), len(files))
    group_of = {at: group for group in groups for at in group}
    for a, b in combinations(range(len(files)), 2):
        if {a, b} & photos.problems.keys():
            continue
        same = rows[a]["dup_group"] == rows[b]["dup_group"] != ""
        if same:
            assert group_of.get(a) is not None, files[a]
            assert group_of[a] == group_of.get(b), (files[a], files[b])
