"""`veduta clean`: faults made on purpose, labels flipped on purpose, moves killed on purpose."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from tiny import CentredEncoder, TinyExtractor, save_view

from veduta.cli import clean as cli
from veduta.cli.main import run
from veduta.curate import cleaning as cleaning_module
from veduta.curate import quarantine as moves
from veduta.curate.class_members import ClassMembers, class_members
from veduta.curate.cleaning import Cleaning, clean
from veduta.curate.copies import CopyPair
from veduta.curate.described_photos import DescribedPhotos, OnProgress, describe_photos
from veduta.curate.example_likeness import example_likeness
from veduta.curate.findings import KINDS, doubt, most_certain_first, write_findings
from veduta.curate.mislabelled import (
    HeldOutScores,
    confident_classes,
    find_mislabelled,
    fit_sharpness,
)
from veduta.curate.off_topic import MIN_OUTLIER_RANGES, find_off_topic
from veduta.curate.photo_faults import MIN_SIDE_PIXELS, detail_count
from veduta.curate.photo_scan import scan_photos
from veduta.curate.quarantine import UNDO_FILE, quarantine, undo
from veduta.datasets import open_dataset, read_dataset
from veduta.errors import DatasetError, QueryError
from veduta.recognize.linear import RIDGE

# Photos by themselves


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Noise at several scales and sharp edges, as photos have them."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (4, 12, 48, 120):
        part = rng.integers(0, 256, (cells, cells + cells // 3, 3), dtype=np.uint8)
        how = Image.Resampling.NEAREST if cells == 12 else Image.Resampling.BICUBIC
        total += np.asarray(Image.fromarray(part).resize((width, height), how), np.float32)
    return Image.fromarray((total / 4).astype(np.uint8))


def kinds_of(folder: Path) -> dict[str, set[str]]:
    photos = read_dataset(folder, every_photo=True)
    found: dict[str, set[str]] = {path: set() for path in photos.paths}
    for fault in scan_photos(photos.files, faults=True).faults:
        assert 0.5 <= fault.score <= 1.0 and fault.reason
        found[photos.paths[fault.position]].add(fault.kind)
    return found


def test_each_fault_is_found_and_nothing_else(tmp_path: Path) -> None:
    good = photo(1)
    good.save(tmp_path / "good.jpg", quality=90)
    good.save(tmp_path / "good.png")
    good.convert("L").save(tmp_path / "grey.png")
    good.resize((63, 240)).save(tmp_path / "tiny.png")
    good.resize((64, 64)).save(tmp_path / "small.png")
    good.resize((905, 300)).save(tmp_path / "wide.png")
    good.resize((900, 300)).save(tmp_path / "panorama.png")
    good.filter(ImageFilter.GaussianBlur(6)).save(tmp_path / "blurred.png")
    good.resize((40, 30)).resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / "blown.png")
    dark = np.asarray(good).astype(np.float32)
    Image.fromarray((dark * 0.15).astype(np.uint8)).save(tmp_path / "dark.png")
    Image.fromarray(np.clip(215 + dark * 0.25, 0, 255).astype(np.uint8)).save(
        tmp_path / "light.png"
    )
    Image.new("RGB", (320, 240), (200, 30, 30)).save(tmp_path / "blank.png")
    drawing = np.full((240, 320, 3), 255, np.uint8)
    drawing[40:200, 60:64] = drawing[40:44, 60:260] = 0
    Image.fromarray(drawing).save(tmp_path / "drawing.png")
    night = np.zeros((240, 320, 3), np.uint8)
    night[100:120, 100:140] = 250
    Image.fromarray(night).save(tmp_path / "night.png")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tail.jpg").write_bytes(whole[:-40])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<!doctype html><p>404", "utf-8")
    (tmp_path / "noise.jpg").write_bytes(b"\xff\xd8\xff" + bytes(range(256)) * 20)
    good.save(tmp_path / "really.jpg", "PNG")
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    assert {path: found for path, found in kinds_of(tmp_path).items() if found} == {
        "tiny.png": {"tiny", "aspect-ratio"},
        "wide.png": {"aspect-ratio"},
        "blurred.png": {"blurred"},
        "blown.png": {"blurred"},
        "dark.png": {"dark"},
        "light.png": {"overexposed"},
        "blank.png": {"blank"},
        "cut.jpg": {"truncated"},
        "tail.jpg": {"truncated"},
        "empty.jpg": {"corrupt"},
        "page.jpg": {"not-a-photo"},
        "noise.jpg": {"corrupt"},
        "really.jpg": {"extension"},
        "link.jpg": {"unreadable"},
    }


@pytest.mark.parametrize("width", [1.0, 2.0, 4.0])
def test_width_of_an_edge_is_measured(width: float) -> None:
    """A step blurred by a Gaussian is its integral; details are the length over two widths."""
    from math import erf

    row = [127.5 * (1 + erf((x - 128) / (width * 2**0.5))) for x in range(256)]
    found = detail_count(np.tile(np.array(row, np.float32), (64, 1)))
    assert found == pytest.approx(256 / (2 * width), rel=0.05)


def test_sharp_edges_of_a_photo_decide() -> None:
    """A sharp thing before a blurred background is no blurred photo."""
    blurred = np.array(photo(2).filter(ImageFilter.GaussianBlur(8)).convert("L"), np.float32)
    assert (detail_count(blurred) or 0) < MIN_SIDE_PIXELS
    blurred[80:160, 100:200] = np.asarray(photo(3, 100, 80).convert("L"))
    assert (detail_count(blurred) or 0) > MIN_SIDE_PIXELS
    assert detail_count(np.full((64, 64), 7, np.float32)) is None
    assert detail_count(np.zeros((4, 90), np.float32)) is None


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(("jpg", "png", "webp", "gif", "bmp", "tif")))
def test_hostile_files_are_findings(data: bytes, extension: str) -> None:
    heads = {
        "jpg": b"\xff\xd8\xff\xe0",
        "png": b"\x89PNG\r\n\x1a\n",
        "webp": b"RIFF\0\0\0\0WEBP",
        "gif": b"GIF89a",
        "bmp": b"BM",
        "tif": b"II*\0",
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"x.{extension}"
        file.write_bytes(heads[extension] + data)
        scan = scan_photos([file], faults=True)
    kinds = {fault.kind for fault in scan.faults}
    assert bool(len(scan.positions)) != bool(kinds & {"corrupt", "truncated", "not-a-photo"})


def test_scores() -> None:
    assert doubt(1) == 0.5 and doubt(2) == 0.75 and doubt(1e12) == pytest.approx(1)


def test_layouts(tmp_path: Path) -> None:
    for path in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/4.png"):
        (tmp_path / "parts" / path).parent.mkdir(parents=True, exist_ok=True)
        photo(1).save(tmp_path / "parts" / path)
    found = read_dataset(tmp_path / "parts", every_photo=True)
    rows = set(zip(found.paths, found.labels, found.splits, strict=True))
    assert rows == {
        ("train/a/1.png", "a", "train"),
        ("train/b/2.png", "b", "train"),
        ("test/a/3.png", "a", "test"),
        ("test/4.png", None, "test"),
    }
    assert set(read_dataset(tmp_path / "parts/train", every_photo=True).labels) == {"a", "b"}
    assert read_dataset(tmp_path / "parts/train/a", every_photo=True).labels == (None,)
    table = tmp_path / "parts/names.csv"
    table.write_text("path,label\ntrain/a/1.png,x\nnone.png,y\n", "utf-8")
    for listed in (
        read_dataset(table, every_photo=True),
        read_dataset(tmp_path / "parts", labels="names.csv", every_photo=True),
    ):
        assert listed.labels == ("x",) and listed.labels_file == table
        assert "1 missing" in listed.problems[0]
    with pytest.raises(DatasetError, match="nothing to add"):
        read_dataset(table, labels="names.csv", every_photo=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no photos"):
        read_dataset(tmp_path / "empty", every_photo=True)


# The table


def cleaned(folder: Path, *only: str, **options: object) -> Cleaning:
    return clean(folder, only=only, **options)  # type: ignore[arg-type]


def test_copies_keep_the_best_and_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
    photo(1).save(data / "a/best.jpg", quality=95)
    photo(1).save(data / "a/squeezed.jpg", quality=40)
    photo(1).resize((160, 120)).save(data / "b/small.jpg", quality=95)
    for copy in ("a/copy.jpg", "b/twin.jpg"):
        (data / copy).write_bytes((data / "a/squeezed.jpg").read_bytes())
    (data / "a/alias.jpg").symlink_to("best.jpg")
    photo(2).save(data / "b/other.jpg")
    names = [path.name for path in read_dataset(data, every_photo=True).files]
    place = {name: names.index(name) for name in names}

    def near(*_: object, **__: object) -> list[CopyPair]:
        def pair(one: str, other: str, kind: str, score: float) -> CopyPair:
            first, second = sorted((place[one], place[other]))
            return CopyPair(first, second, kind, score)

        return [
            pair("best.jpg", "squeezed.jpg", "same picture", 0.99),
            pair("best.jpg", "small.jpg", "cut", 0.98),
        ]

    monkeypatch.setattr(cleaning_module, "copies_among", near)
    found = cleaned(data, "exact-copy", "near-copy", describe=tiny_described(tmp_path))
    told = {one.path: (one.kind, one.other, one.group) for one in found.findings}
    assert told == {
        "a/alias.jpg": ("exact-copy", "a/best.jpg", 1),
        "a/copy.jpg": ("near-copy", "a/best.jpg", 1),
        "a/squeezed.jpg": ("exact-copy", "a/copy.jpg", 1),
        "b/twin.jpg": ("exact-copy", "a/copy.jpg", 1),
        "b/small.jpg": ("near-copy", "a/best.jpg", 1),
    }
    reasons = {one.path: one.reason for one in found.findings}
    assert "best.jpg stays: it is a file and no link" in reasons["a/alias.jpg"]
    assert "different labels (a)" in reasons["b/twin.jpg"]
    assert reasons["b/small.jpg"] == (
        "cut; a/best.jpg stays: it is larger; the two have different labels (a)"
    )
    assert len(found.drops()) == 5 and "a/best.jpg" not in found.drops()


def test_what_a_link_that_stays_leads_to_stays(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "a.png")
    Image.new("RGB", (90, 90)).save(tmp_path / "blank.png")
    (tmp_path / "b.png").symlink_to("blank.png")
    found = cleaned(tmp_path, "blank")
    assert sorted(found.drops()) == ["b.png", "blank.png"]
    kept = tuple(one for one in found.findings if one.path == "blank.png")
    fewer = Cleaning(found.dataset, found.readable, kept, (), 0.0)
    assert fewer.drops() == ()


def test_rank_by_doubt_and_kinds() -> None:
    assert tuple(KINDS) == cli.KINDS
    with pytest.raises(QueryError, match="no kind 'fuzzy'"):
        clean(Path(), only=["fuzzy"])


def test_findings_are_written_and_read_back(tmp_path: Path) -> None:
    from pyarrow import parquet

    odd = os.fsdecode(b"a/\xff,\n.png")
    data = tmp_path / "data"
    for path in (odd, "b/x.png"):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (90, 90)).save(data / path)
    found = cleaned(data, "blank", "exact-copy").findings
    assert found == most_certain_first(reversed(found)) and len(found) == 3
    write_findings(tmp_path / "f.csv", found)
    with (tmp_path / "f.csv").open(encoding="utf-8", newline="") as rows:
        read = list(csv.DictReader(rows))
    assert {row["path"] for row in read} == {"a/\\xff,\n.png", "b/x.png"}
    assert [row["kind"] for row in read] == [one.kind for one in found]
    write_findings(tmp_path / "f.parquet", found)
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table["score"].to_pylist() == [one.score for one in found]
    assert "a/\\xff,\n.png" in table["path"].to_pylist()
    with pytest.raises(DatasetError, match=r"\.csv or a \.parquet"):
        write_findings(tmp_path / "f.xlsx", found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "f.csv", "f.parquet"]


# Labels


def tiny_described(
    folder: Path,
) -> Callable[[Sequence[Path], OnProgress | None], DescribedPhotos]:
    def describe(files: Sequence[Path], tell: OnProgress | None) -> DescribedPhotos:
        return describe_photos(
            files,
            folder=folder / "cache",
            on_progress=tell,
            encoder=CentredEncoder(),
            extractor=TinyExtractor(),
        )  # type: ignore[arg-type]

    return describe


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of ten views, a class of two, and for the photos of one class another label."""
    root = tmp_path_factory.mktemp("places")
    for scene in range(6):
        for number in range(10):
            save_view(root / f"place{scene}/{scene}-{number}.png", scene, number, noise=0.3)
    for number in range(2):
        save_view(root / f"few/{number}.png", 9, number)
    for scene in (1, 3):
        (root / f"place{scene}/{scene}-4.png").rename(root / f"place{scene + 1}/wrong{scene}.png")
    save_view(root / "place0/stray.png", 77, 1)
    return root


def test_wrong_labels_and_strays_are_found(places: Path, tmp_path: Path) -> None:
    found = cleaned(places, "mislabelled", "off-topic", describe=tiny_described(tmp_path))
    wrong = {one.path: one for one in found.findings if one.kind == "mislabelled"}
    assert set(wrong) == {"place2/wrong1.png", "place4/wrong3.png"}
    one = wrong["place2/wrong1.png"]
    assert (one.label, one.suggested_label, one.suggestion) == ("place2", "place1", "relabel")
    assert (one.probability or 0) > 0.5 and one.score > 0.5
    assert found.relabels() == {"place2/wrong1.png": "place1", "place4/wrong3.png": "place3"}
    assert [o.path for o in found.findings if o.kind == "off-topic"] == ["place0/stray.png"]
    assert not found.notes


def test_one_class_has_nothing_to_compare(places: Path, tmp_path: Path) -> None:
    found = cleaned(
        places / "place1", "mislabelled", "off-topic", describe=tiny_described(tmp_path)
    )
    assert not found.findings and "two classes of 5" in found.notes[0]


def members_of(places: Path, folder: Path) -> tuple[ClassMembers, Path]:
    photos = read_dataset(places, every_photo=True)
    known = tiny_described(folder)(photos.files, None)
    groups = np.full(len(photos.paths), -1)
    groups[[3, 17, 18]] = 0
    return class_members(known.snapshot, known.rows, photos.labels, groups), known.index


def test_held_out_is_training_again_without(places: Path, tmp_path: Path) -> None:
    """Against ridge regression with an intercept, solved anew for each photo left out."""
    members, index = members_of(places, tmp_path)
    classes = np.arange(len(members.names))
    held = HeldOutScores(members, index, classes)
    places_ = np.array([0, 3, 17, 40])
    scores = held.scores(places_)
    every = np.arange(len(members.rows))
    linear = held._training.linear
    away = members.descriptors(every).astype(np.float64) - linear.mean
    centred = away / np.linalg.norm(away, axis=1, keepdims=True) - linear.centred_mean
    table = np.column_stack([centred, np.ones(len(every))])
    targets = (members.class_ids[:, None] == classes).astype(float)
    ridge = np.eye(table.shape[1]) * RIDGE * (centred**2).sum() / len(every)
    ridge[-1, -1] = 0
    for at, place in enumerate(places_):
        gone = [3, 17, 18] if place in (3, 17) else [place]
        rest = np.delete(every, gone)
        gram = table[rest].T @ table[rest] + ridge
        weights = np.linalg.solve(gram, table[rest].T @ targets[rest])
        assert scores[at] == pytest.approx(table[place] @ weights, abs=2e-4)


def test_confident_classes_by_hand() -> None:
    """Means of the own class: 0.6 and 0.5; the third photo reaches neither."""
    probability = np.array([[0.9, 0.1], [0.3, 0.7], [0.55, 0.45], [0.35, 0.65]])
    assert confident_classes(probability, np.array([0.6, 0.5])).tolist() == [0, 1, -1, 1]
    both = np.array([[0.48, 0.52]])
    assert confident_classes(both, np.array([0.4, 0.5])).tolist() == [1], "the more probable one"


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_sharpness_and_noise_are_the_most_likely(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 90)
    scores = rng.normal(size=(90, 3)) + 2 * np.eye(3)[labels]
    labels[:9] = rng.integers(0, 3, 9)

    def likelihood(scale: float, wrong: float) -> float:
        powers = np.exp(scale * scores)
        own = powers[np.arange(90), labels] / powers.sum(axis=1)
        # The prior: normal around 0 with a thousandth of the weight of all photos.
        prior = 0.5e-3 * (scale * scores.std()) ** 2
        return float(np.log((1 - wrong) * own + wrong / 3).mean() - prior)

    scale, wrong = fit_sharpness(scores, labels)
    best = likelihood(scale, wrong) + 1e-6
    assert all(best >= likelihood(scale * f, wrong) for f in (0.5, 0.9, 0.99, 1.01, 1.1, 2))
    # Towards a share of none the steps become ever shorter, and worth ever less.
    near = best + 1e-4
    assert all(near >= likelihood(scale, w) for w in (wrong / 2, wrong * 0.9, 1.1 * wrong, 0.3))


def test_share_of_wrong_labels_is_estimated() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    scores = 0.3 * rng.normal(size=(4000, 10)) + np.eye(10)[labels]
    true_scale, _ = fit_sharpness(scores, labels)
    labels[:400] = rng.integers(0, 10, 400)
    scale, wrong = fit_sharpness(scores, labels)
    assert wrong == pytest.approx(0.1, abs=0.015)
    assert scale == pytest.approx(true_scale, rel=0.15), "wrong labels do not make it softer"


def test_off_topic_against_the_formula(places: Path, tmp_path: Path) -> None:
    members, _ = members_of(places, tmp_path)
    rows = members.descriptors(np.arange(len(members.rows))).astype(np.float64)
    of_class = {}
    for place in np.flatnonzero(members.judged):
        copies = next((group for group in members.copies if place in group), (place,))
        others = [
            p
            for p in np.flatnonzero(members.class_ids == members.class_ids[place])
            if p not in copies
        ]
        mean = rows[others].mean(axis=0)
        of_class[place] = rows[place] @ mean / np.linalg.norm(rows[place]) / np.linalg.norm(mean)
    usual = {
        code: np.median([v for p, v in of_class.items() if members.class_ids[p] == code])
        for code in set(members.class_ids[members.judged].tolist())
    }
    away = {place: value - usual[members.class_ids[place]] for place, value in of_class.items()}
    lower, upper = np.quantile(list(away.values()), [0.25, 0.75])
    wanted = {p for p, v in away.items() if v < lower - MIN_OUTLIER_RANGES * (upper - lower)}
    found = find_off_topic(members)
    assert {one.member for one in found} == wanted and wanted
    for one in found:
        assert one.similarity == pytest.approx(of_class[one.member], abs=1e-5)


def test_copies_do_not_vouch_for_each_other(tmp_path: Path) -> None:
    """A photo with a wrong label, five times in its class, is found all five times."""
    root = tmp_path / "data"
    for scene in range(4):
        for number in range(8):
            save_view(root / f"place{scene}/{number}.png", scene, number, noise=0.3)
    for number in range(5):
        save_view(root / f"place0/copy{number}.png", 1, 99, noise=0.3)
    found = cleaned(root, "mislabelled", describe=tiny_described(tmp_path))
    assert {one.path for one in found.findings} == {f"place0/copy{n}.png" for n in range(5)}


def test_classes_of_few_photos_are_left_alone(places: Path, tmp_path: Path) -> None:
    members, index = members_of(places, tmp_path)
    few = members.names.index("few")
    assert not members.judged[members.class_ids == few].any()
    assert all(one.suggested != few for one in find_mislabelled(members, index))


# Moving


def tree(root: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            link = path.is_symlink()
            found[str(path.relative_to(root))] = os.readlink(path) if link else path.read_bytes()
    return found


def planted(root: Path, paths: Sequence[str]) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode("utf-8", "surrogateescape"))


NAMES = ("a/1.jpg", "a/2.jpg", "b/c/3.jpg", "b/c/ü 4.jpg", "5.jpg", os.fsdecode(b"b/\xff.jpg"))


class Killed(BaseException):
    pass


@settings(max_examples=80, deadline=None)
@given(
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.integers(0, 30),
    st.integers(0, 30),
    st.booleans(),
)
def test_killed_at_any_step_all_comes_back(
    chosen: set[str], first_death: int, second_death: int, other_disk: bool
) -> None:
    """Death before any call that changes the disk, in moving and in undoing."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder, "data")
        planted(root, NAMES)
        (root / "a/link.jpg").symlink_to("1.jpg")
        before = tree(root)
        left = [10**6]

        def mortal(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*arguments, **options)

            return call

        for owner, name in ((os, "link"), (Path, "unlink"), (Path, "rename"), (os, "symlink")):
            patch.setattr(owner, name, mortal(getattr(owner, name)))
        if other_disk:

            def link(*_: object, **__: object) -> None:
                raise OSError(errno.EXDEV, "Invalid cross-device link")

            patch.setattr(os, "link", link)

        def mortally(steps: int, act: Callable[[], object]) -> None:
            left[0] = steps
            with contextlib.suppress(Killed):
                act()
            left[0] = 10**6

        drops = [*sorted(chosen), "a/link.jpg"]
        mortally(first_death, lambda: quarantine(root, drops))
        plan = Path(folder, "data.quarantine", UNDO_FILE)
        everything = [*tree(root).values(), *tree(plan.parent).values()]
        assert set(before.values()) <= set(everything), "each file is whole somewhere"
        mortally(second_death, lambda: undo(plan))
        if plan.exists():
            assert not undo(plan).left
        assert tree(root) == before
        assert not plan.parent.exists()


def test_killed_for_real_in_the_middle(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, [f"{n % 3}/{n}.jpg" for n in range(60)])
    before = tree(root)
    code = (
        "import os, time\nfrom pathlib import Path\nfrom veduta.curate import quarantine as q\n"
        "move = q._move\n"
        "def slow(a, b):\n    time.sleep(0.02); move(a, b)\n"
        "q._move = slow\n"
        f"root = Path({str(root)!r})\n"
        "q.quarantine(root, [f'{n % 3}/{n}.jpg' for n in range(60)])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    away = tmp_path / "data.quarantine"
    deadline = time.monotonic() + 10
    while len(list(away.rglob("*.jpg"))) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(list(away.rglob("*.jpg"))) < 60
    assert len(tree(root)) < 60
    assert run(["clean", "--undo", str(away / UNDO_FILE)]) == 0
    assert tree(root) == before and not away.exists()


def test_the_plan_is_on_disk_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    whole = []

    def look(_source: Path, target: Path) -> None:
        plan = next(tmp_path.glob("data.quarantine*")) / UNDO_FILE
        whole.append([json.loads(line).get("path") for line in plan.read_text().splitlines()])

    monkeypatch.setattr(moves, "_move", look)
    quarantine(root, NAMES[:3])
    assert whole == [[None, *NAMES[:3]]] * 3


def test_a_second_run_takes_a_new_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(root)
    first = quarantine(root, NAMES[:2])
    (root / "a").mkdir(exist_ok=True)
    (root / NAMES[0]).write_text("a new photo of that name", "utf-8")
    second = quarantine(root, NAMES[:1])
    assert first.undo_file.parent.name == "data.quarantine"
    assert second.undo_file.parent.name == "data.quarantine-2"
    assert not undo(second.undo_file).left
    clash = undo(first.undo_file)
    assert clash.moved == (NAMES[1],) and "another file is in its place" in clash.left[NAMES[0]]
    assert (root / NAMES[0]).read_text("utf-8") == "a new photo of that name"
    (root / NAMES[0]).unlink()
    assert undo(first.undo_file).moved == (NAMES[0],)
    assert tree(root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_folders_that_are_links(tmp_path: Path) -> None:
    """A link is moved itself; what lies behind a linked folder outside is not ours to move."""
    outside, root = tmp_path / "outside", tmp_path / "data"
    planted(outside, ["x.jpg"])
    planted(root, ["a/1.jpg"])
    (root / "there").symlink_to(outside)
    (root / "a/alias.jpg").symlink_to("../there/x.jpg")
    (tmp_path / "door").symlink_to(root)
    done = quarantine(tmp_path / "door", ["there/x.jpg", "a/alias.jpg", "a/gone.jpg"])
    assert done.moved == ("a/alias.jpg",)
    assert "outside the dataset" in done.left["there/x.jpg"]
    assert "not there" in done.left["a/gone.jpg"]
    assert (outside / "x.jpg").exists() and done.undo_file.parent == tmp_path / "data.quarantine"
    undone = undo(done.undo_file)
    assert undone.moved == ("a/alias.jpg",)
    assert os.readlink(root / "a/alias.jpg") == "../there/x.jpg"
    assert set(undone.left) == {"there/x.jpg", "a/gone.jpg"} or not undone.left


def test_a_folder_that_may_not_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(root)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.parent == root / "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    done = quarantine(root, NAMES[:3])
    assert done.moved == ("b/c/3.jpg",)
    assert done.left == dict.fromkeys(NAMES[:2], "permission denied")
    assert {path.name for path in done.undo_file.parent.rglob("*.jpg")} == {"3.jpg"}
    monkeypatch.undo()
    assert not undo(done.undo_file).left
    assert tree(root) == before


def test_what_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(tmp_path)
    for path in ("../x.jpg", "/etc/passwd", "a/../../x.jpg", "a\0.jpg", ".", "", UNDO_FILE):
        with pytest.raises(DatasetError, match="no path inside the dataset"):
            quarantine(root, [path])
    with pytest.raises(DatasetError, match="inside the dataset"):
        quarantine(root, NAMES[:1], folder=root / "away")
    with pytest.raises(DatasetError, match="is there already"):
        quarantine(root, NAMES[:1], folder=tmp_path)
    with pytest.raises(DatasetError, match="cannot be made"):
        quarantine(root, NAMES[:1], folder=tmp_path / "no/such/folder")
    with pytest.raises(DatasetError, match="nothing can lie beside it"):
        quarantine(Path("/"), ["etc/passwd"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ("", "cut off"),
        ("photo,score\n", "not an undo file"),
        ('{"veduta clean": 2, "root": "ROOT", "photos": 0}\n', "of this version"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 2}\n{"path": "a/1.jpg"}\n', "promises 2"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": "../x"}\n', "no path inside"),
        ('{"veduta clean": 1, "root": "ROOT", "photos": 1}\n{"path": "a', "cut off"),
        ('{"veduta clean": 1, "root": "ROOT/none", "photos": 0}\n', "is not there"),
        ("[1]\n", "not an undo file"),
    ],
)
def test_a_file_that_is_no_plan_moves_nothing(tmp_path: Path, plan: str, why: str) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    file = tmp_path / "data.quarantine" / UNDO_FILE
    planted(file.parent, ["a/1.jpg", "a/9.jpg"])
    file.write_text(plan.replace("ROOT", str(root)), "utf-8")
    before = tree(tmp_path)
    with pytest.raises(DatasetError, match=why):
        undo(file)
    assert tree(tmp_path) == before


def test_a_full_disk_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    planted(root, NAMES)
    before = tree(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="the disk is full"):
        quarantine(root, NAMES[:2])
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# The command


def test_command_finds_moves_and_puts_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    for name in ("a/1.png", "b/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(len(name) + int(name[2])).save(root / name)
    (root / "a/empty.jpg").write_bytes(b"")
    (root / "b/copy.png").write_bytes((root / "a/1.png").read_bytes())
    before = tree(root)
    light = [f"--only={kind}" for kind in ("corrupt", "exact-copy", "tiny")]
    assert run(["clean", str(root), *light]) == 1
    text = capsys.readouterr().out
    assert "corrupt: 1" in text and "exact-copy: 1" in text and "2 photos would go" in text
    assert max(map(len, text.splitlines())) <= 80 + len(str(root))
    assert tree(root) == before, "nothing changes without --apply"

    page, table = tmp_path / "page.html", tmp_path / "found.csv"
    arguments = ["clean", str(root), *light, "--apply", "--json", "--html", str(page)]
    assert run([*arguments, "--out", str(table)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["counts"] == {"corrupt": 1, "exact-copy": 1}
    assert sorted(facts["moved"]["moved"]) == ["a/empty.jpg", "b/copy.png"]
    assert "<script" not in page.read_text("utf-8") and "b/copy.png" in page.read_text("utf-8")
    assert len(table.read_text("utf-8").splitlines()) == 3
    assert run(["clean", str(root), *light]) == 0
    assert "Nothing is odd." in capsys.readouterr().out
    assert run(["clean", "--undo", facts["moved"]["undo_file"], "--json"]) == 0
    assert tree(root) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["clean"], 2),
        (["clean", "DATA", "--undo", "x"], 2),
        (["clean", "DATA", "--quarantine", "x"], 2),
        (["clean", "DATA", "--only", "fuzzy"], 2),
        (["clean", "DATA", "--only", "tiny", "--out", "x.txt"], 2),
        (["clean", "DATA", "--only", "tiny", "--html", "DATA/no/x.html"], 2),
        (["clean", "DATA/none"], 3),
        (["clean", "DATA", "--labels", "none.csv"], 3),
        (["clean", "--undo", "DATA/none"], 3),
    ],
)
def test_wrong_calls(tmp_path: Path, arguments: list[str], code: int) -> None:
    photo(1).save(tmp_path / "a.png")
    assert run([part.replace("DATA", str(tmp_path)) for part in arguments]) == code


def test_new_labels_go_to_a_new_file(
    places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    photos = read_dataset(places, every_photo=True)
    rows = ["\ufeffLabel,path,taken by"]
    for path, label in zip(photos.paths, photos.labels, strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((places / path).read_bytes())
        rows.append(f'{label},{path},"me, myself"')
    (root / "place0/empty.jpg").touch()
    rows.append('place0,place0/empty.jpg,"me, myself"')
    table = root / "labels.csv"
    table.write_text("\n".join(rows) + "\n", "utf-8")
    before = table.read_bytes()
    monkeypatch.setattr(cleaning_module, "_describe", tiny_described(tmp_path))
    only = ["--only", "mislabelled", "--only", "corrupt", "--only", "not-a-photo", "--apply"]
    assert run(["clean", str(root), *only]) == 0
    assert table.read_bytes() == before
    written = open_dataset(root, labels="labels.cleaned.csv").table.to_pylist()
    label_of = {row["path"]: row["label"] for row in written}
    assert label_of["place2/wrong1.png"] == "place1" and "place0/empty.jpg" not in label_of
    assert len(label_of) == len(photos.paths)
    lines = (root / "labels.cleaned.csv").read_text("utf-8").splitlines()
    assert lines[0] == "Label,path,taken by" and lines[1].endswith(',"me, myself"')
    assert run(["clean", "--undo", str(tmp_path / "data.quarantine" / UNDO_FILE)]) == 0
    assert run(["clean", str(root), *only]) == 0
    assert (root / "labels.cleaned-2.csv").exists()


def test_ctrl_c_while_moving_tells_how_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    planted(root, ["a/1.jpg", "a/2.jpg", "a/3.jpg"])
    move, left = moves._move, [1]

    def interrupted(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(moves, "_move", interrupted)
    assert run(["clean", str(root), "--only", "not-a-photo", "--apply"]) == 130
    out = capsys.readouterr()
    assert "1 photo moved." in out.out and "--undo" in out.out and "Interrupted" in out.err


def test_known_bad_files_of_real_photos(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("messy")
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if not row["path"].endswith(".txt")]
    found = cleaned(folder / "files", "corrupt", "truncated", "not-a-photo", "exact-copy")
    bad = {one.path for one in found.findings if one.kind != "exact-copy"}
    assert bad == {
        row["path"].removeprefix("files/") for row in rows if row["pillow_decode"] != "ok"
    }
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row["kind"] == "exact_dup":
            groups.setdefault(row["dup_group"], set()).add(row["path"].removeprefix("files/"))
    copies = {one.path for one in found.findings if one.kind == "exact-copy"}
    pairs = [group for group in groups.values() if len(group) > 1]
    assert pairs and all(len(group - copies) == 1 for group in pairs), "one of each stays"


def test_review_gets_the_findings_and_decides_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    planted(root, ["a/1.jpg", "a/2.jpg"])
    (root / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    asked: dict[str, object] = {}

    def reviewed(dataset: Path, **given: object) -> str:
        asked.update(given, dataset=dataset)
        return "outcome"

    monkeypatch.setattr("veduta.cli.review.run_review", reviewed)
    monkeypatch.setattr("veduta.cli.review.print_outcome", print)
    assert run(["clean", str(root), "--only", "corrupt", "--review"]) == 0
    assert asked["dataset"] == root and "outcome" in capsys.readouterr().out
    assert [finding.path for finding in asked["findings"]] == ["a/broken.jpg"]  # type: ignore[attr-defined]
    for other in ("--apply", "--json"):
        assert run(["clean", str(root), "--review", other]) == 2


# A pile, sorted by a few examples


def test_likeness_is_the_mean_cosine_in_units_of_that_among_the_examples() -> None:
    examples = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    among = (0.8 + 0.6 + 0.96) / 3
    photos = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    expected = [(1 + 0.8 + 0.6) / 3 / among, (0.6 + 0.8) / 3 / among, 0.0]
    np.testing.assert_allclose(example_likeness(examples, photos), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_examples_are_refused(count: int) -> None:
    with pytest.raises(QueryError, match=f"{count} of the examples"):
        example_likeness(np.eye(3, dtype=np.float32)[:count], np.eye(3, dtype=np.float32))


def test_examples_without_anything_in_common_are_refused() -> None:
    with pytest.raises(QueryError, match="nothing in common"):
        example_likeness(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))


def test_a_pile_is_ranked_by_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        save_view(tmp_path / f"good/{number}.png", 1, number, noise=0.3)
    for number in range(4, 9):
        save_view(tmp_path / f"pile/same{number}.png", 1, number, noise=0.3)
        save_view(tmp_path / f"pile/other{number}.png", 10 + number, number, noise=0.3)
    (tmp_path / "pile/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setattr(cleaning_module, "_describe", tiny_described(tmp_path))
    call = ["clean", str(tmp_path / "pile"), "--like", str(tmp_path / "good"), "--only", "unlike"]
    assert run([*call, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["path"]: one["suggestion"] for one in told["findings"]} == {
        f"{name}{number}.png": suggestion
        for number in range(4, 9)
        for name, suggestion in (("same", "keep"), ("other", "drop"))
    }
    scores = [one["score"] for one in told["findings"]]
    assert scores == sorted(scores, reverse=True)
    assert all((one["score"] >= 0.5) == (one["suggestion"] == "drop") for one in told["findings"])
    assert run(call) == 1
    assert "(drop 5, keep 5)" in capsys.readouterr().out
    assert run([*call, "--apply"]) == 0
    assert sorted(file.name for file in (tmp_path / "pile").iterdir()) == [
        "broken.png",
        *(f"same{number}.png" for number in range(4, 9)),
    ]
    assert run(["clean", str(tmp_path / "pile"), "--only", "unlike"]) == 2
