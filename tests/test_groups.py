"""Groups of an index: in Python, by the real command, as a table to name, and as a page."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import environment, run_veduta
from PIL import Image
from tiny import CentredEncoder, TinyExtractor, save_view
from walls import wall_view

import veduta
from veduta import errors, index
from veduta.cli.main import run
from veduta.explore import photo_groups, verified_links
from veduta.explore.photo_groups import find_groups
from veduta.explore.verification_cache import (
    PairGeometries,
    pair_names,
    read_geometries,
    write_geometries,
)
from veduta.index import open_snapshot, pair_verification
from veduta.index.graph import linked_pairs
from veduta.index.manifest import Manifest

DAYS = ("2014:05:06 07:08:09", "2019:01:02 03:04:05")
NAMES = {
    1: ["=1+1.jpg", "b.jpg", "c, d.jpg", 'e "f".jpg'],
    2: ["g\nh.jpg", "i.jpg", "@SUM(A1).jpg"],
}
"""Wall → names of its photos. Two strangers are added, and copies of two photos."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, and an index of it."""
    home = tmp_path_factory.mktemp("groups")
    photos = home / "photos"
    photos.mkdir()
    for wall, names in NAMES.items():
        for number, name in enumerate(names):
            exif = Image.Exif()
            if wall == 1 and number < len(DAYS):
                exif.get_ifd(0x8769)[0x9003] = DAYS[number]
            wall_view(wall, number).save(photos / name, quality=92, exif=exif)
    shutil.copy(photos / "b.jpg", photos / "b copy.jpg")
    wall_view(2, 1).resize((320, 240), Image.Resampling.LANCZOS).save(photos / "i again.jpg")
    for stranger in (7, 8):
        wall_view(stranger, 0).save(photos / f"stranger {stranger}.jpg", quality=92)
    done = run_veduta(home, "index", "photos", "--encoder", "fast")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(autouse=True)
def cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is verified beside the photos, as `run_veduta` does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return `call(home, command, …)`: the command in this process, with the index in `home`."""

    def called(home: Path, command: str, *arguments: str | Path) -> Any:
        code = run([command, "--index", str(home / "index"), *map(str, arguments)])
        stdout, stderr = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=stdout, stderr=stderr)

    return called


def names_of(photos: Any) -> set[str]:
    return {Path(getattr(photo, "path", photo)).name for photo in photos}


WALL_1 = {*NAMES[1], "b copy.jpg"}
WALL_2 = {*NAMES[2], "i again.jpg"}


def test_from_python(home: Path) -> None:
    asked: list[tuple[int, int]] = []
    with veduta.open(home / "index") as opened:
        groups = opened.groups(on_progress=lambda *state: asked.append(state))
        assert opened.groups() == groups, "the same at every call"
        assert [group.name for group in opened.groups(min_size=4)] == ["group-001"]
        assert opened.groups(min_size=5) == []
    assert [group.name for group in groups] == ["group-001", "group-002"]
    assert [names_of(group.photos) for group in groups] == [WALL_1, WALL_2]
    assert [group.size for group in groups] == [4, 3], "copies count apart"
    assert names_of(groups[0].copies) < {"b.jpg", "b copy.jpg"} and len(groups[0].copies) == 1
    assert names_of(groups[1].copies) == {"i again.jpg"}, "the larger file is the photo"
    for group in groups:
        assert group.best is group.photos[0]
        assert group.photos[group.size :] == group.copies, "the copies come last"
    first, last = groups[0].first_taken, groups[0].last_taken
    assert first and last and (first.year, last.year) == (2014, 2019)
    assert groups[1].first_taken is groups[1].last_taken is None
    assert asked and asked[-1][0] == asked[-1][1] > 0
    assert all(a[0] <= b[0] for a, b in pairwise(asked))


@pytest.mark.parametrize("size", [1, 0, -2, 2.5, "many", None, True])
def test_a_wrong_size_is_refused(home: Path, size: Any) -> None:
    with (
        veduta.open(home / "index") as opened,
        pytest.raises(errors.QueryError, match="at least 2 photos"),
    ):
        opened.groups(min_size=size)


def test_the_command(home: Path) -> None:
    done = run_veduta(home, "group")
    assert (done.returncode, done.stderr) == (0, "")
    summary, first, best, *_ = done.stdout.splitlines()
    assert summary == "2 groups with 9 of 11 photos, 2 copies among them; 2 in no group"
    assert first == "  group-001  4 photos and 1 copy  2014-05-06 to 2019-01-02"
    assert best.strip().startswith("photos/")
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_json(home: Path, call: Callable[..., Any]) -> None:
    done = call(home, "group", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    one, other = json.loads(done.stdout)
    assert list(one) == [
        "group", "size", "best", "first_taken", "last_taken", "photos", "copies",
    ]  # fmt: skip
    assert names_of(one["photos"]) == WALL_1 and names_of(other["photos"]) == WALL_2
    assert one["best"] == one["photos"][0] and one["size"] == 4
    assert one["first_taken"] == "2014-05-06T07:08:09" and other["first_taken"] is None
    assert json.loads(call(home, "group", "--json", "--min-size", "9").stdout) == []


class TestNaming:
    """A table in which each group is named once, and which `veduta index --labels` reads."""

    @pytest.fixture
    def copied(self, home: Path, tmp_path: Path) -> Path:
        """A copy of the index. The photos stay where they are."""
        shutil.copytree(home / "index", tmp_path / "index")
        return tmp_path

    def rows(self, file: Path) -> list[dict[str, str]]:
        with file.open(newline="", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    def write(self, file: Path, rows: list[dict[str, str]], **options: str) -> None:
        """Write the table as a spreadsheet does."""
        with file.open("w", newline="", encoding="utf-8-sig") as lines:
            writer = csv.DictWriter(lines, list(rows[0]), **options)
            writer.writeheader()
            writer.writerows(rows)

    def labels(self, call: Callable[..., Any], home: Path, file: Path) -> dict[str, str | None]:
        """Index with the table and return the label of each photo."""
        done = call(home, "index", "--labels", file)
        assert done.returncode == 0, done.stderr
        with veduta.open(home / "index") as opened:
            return {Path(photo.path).name: photo.label for photo in opened}

    def test_a_group_is_named_in_one_place(self, copied: Path, call: Callable[..., Any]) -> None:
        file = copied / "groups.csv"
        done = call(copied, "group", "--labels", file)
        assert done.returncode == 0, done.stderr
        again = call(copied, "group", "--labels", file)
        assert again.returncode == 3 and "is there already" in again.stderr
        (command,) = re.findall(r"then: veduta (.*)", done.stdout)
        rows = self.rows(file)
        assert [row["label"] for row in rows if row["label"]] == ["group-001", "group-002"]
        assert all(Path(row["path"]).is_file() for row in rows)
        assert names_of(row["path"] for row in rows) == WALL_1 | WALL_2
        labels = self.labels(call, copied, file)
        unnamed = {**dict.fromkeys(WALL_1, "group-001"), **dict.fromkeys(WALL_2, "group-002")}
        assert {name: label for name, label in labels.items() if label} == unnamed
        for row in rows:
            if row["label"] == "group-002":
                row["label"] = "the old wall, north"
        self.write(file, rows[::-1], delimiter=";")  # Sorted in another way.
        assert run(shlex.split(command)) == 0, "the command that was named"
        with veduta.open(copied / "index") as opened:
            labels = {Path(photo.path).name: photo.label for photo in opened}
        named = {**unnamed, **dict.fromkeys(WALL_2, "the old wall, north")}
        assert {name: label for name, label in labels.items() if label} == named
        query = copied / "query.jpg"
        wall_view(2, 4).save(query)
        done = call(copied, "recognize", query, "--json")
        assert done.returncode == 0, done.stderr
        assert "the old wall, north" in done.stdout

    def test_a_new_table_keeps_the_labels(self, copied: Path, call: Callable[..., Any]) -> None:
        file = copied / "groups.csv"
        call(copied, "group", "--labels", file)
        rows = self.rows(file)
        for row in rows:
            row["label"] = {"group-001": "=cmd|'/C calc'!A1", "group-002": ""}.get(row["label"], "")
        stranger = str(Path(rows[0]["path"]).with_name("stranger 7.jpg"))
        self.write(file, [*rows, {"path": stranger, "label": "a gate", "label_group": ""}])
        before = self.labels(call, copied, file)
        assert before["stranger 7.jpg"] == "a gate" and before["i.jpg"] is None
        assert before["b.jpg"] == "=cmd|'/C calc'!A1"
        again = copied / "again.csv"
        done = call(copied, "group", "--labels", again)
        assert done.returncode == 0, done.stderr
        fields = [field for row in self.rows(again) for field in row.values()]
        assert not any(field.startswith(("=", "+", "-", "@")) for field in fields), "no formula"
        after = self.labels(call, copied, again)
        assert after == {**before, **dict.fromkeys(WALL_2, "group-002")}

    def test_a_group_of_several_labels_keeps_them(
        self, copied: Path, call: Callable[..., Any]
    ) -> None:
        file = copied / "groups.csv"
        call(copied, "group", "--labels", file)
        rows = self.rows(file)
        rows[1] |= {"label": "another wall", "label_group": ""}
        self.write(file, rows)
        before = self.labels(call, copied, file)
        call(copied, "group", "--labels", file, "--overwrite")
        assert [row["label_group"] for row in self.rows(file)[: len(WALL_1)]] == [""] * 5
        assert self.labels(call, copied, file) == before

    def test_a_table_that_leaves_labels_out_changes_nothing(
        self, copied: Path, call: Callable[..., Any]
    ) -> None:
        file = copied / "groups.csv"
        call(copied, "group", "--labels", file)
        self.labels(call, copied, file)
        self.write(file, self.rows(file)[-2:])
        done = call(copied, "index", "--labels", file)
        assert done.returncode == 3 and "would lose their label" in done.stderr

    def test_a_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        photos.mkdir()
        for number in range(3):
            wall_view(1, number).save(photos / f"{number}.jpg")
        os.rename(bytes(photos / "0.jpg"), bytes(photos) + b"/\xff.jpg")
        run_veduta(tmp_path, "index", "photos", "--encoder", "fast")
        done = run_veduta(tmp_path, "group", "--labels", "groups.csv")
        assert done.returncode == 0
        assert "1 photo left out of groups.csv" in done.stderr and r"\xff.jpg" in done.stderr
        rows = self.rows(tmp_path / "groups.csv")
        assert [row["label"] for row in rows] == ["group-001", ""]


class TestIndexesWithoutGroups:
    @pytest.mark.parametrize("photos", [0, 1, 3])
    def test_few_photos(self, tmp_path: Path, call: Callable[..., Any], photos: int) -> None:
        """Three photos are copies of one."""
        made = veduta.create(tmp_path / "index", "fast")
        (tmp_path / "photos").mkdir()
        for number in range(photos):
            wall_view(1, 0).save(tmp_path / f"photos/{number}.jpg")
        if photos:
            made.add(tmp_path / "photos")
        assert made.groups() == []
        done = call(
            tmp_path, "group", "--html", tmp_path / "page.html", "--labels", tmp_path / "groups.csv"
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("0 groups with 0 of ")
        assert (tmp_path / "groups.csv").read_text("utf-8") == "path,label,label_group\n"
        assert "No photos hold together" in (tmp_path / "page.html").read_text("utf-8")

    def test_no_index(self, tmp_path: Path, call: Callable[..., Any]) -> None:
        assert call(tmp_path, "group").returncode == 4

    def test_no_keypoints(self, tmp_path: Path, call: Callable[..., Any]) -> None:
        veduta.create(tmp_path / "index", "fast", keypoints=None)
        done = call(tmp_path, "group")
        assert done.returncode == 3
        assert "has no keypoints" in done.stderr and "--keypoints none" in done.stderr

    def test_photos_that_are_not_linked_yet(
        self, home: Path, tmp_path: Path, call: Callable[..., Any]
    ) -> None:
        shutil.copytree(home / "index", tmp_path / "index")
        shutil.rmtree(tmp_path / "index/graph")
        done = call(tmp_path, "group")
        assert done.returncode == 4
        command = f"veduta index --index {tmp_path / 'index'}"
        assert f"not all linked yet. Link them with: {command}" in done.stderr
        assert call(tmp_path, "index").returncode == 0, "the remedy works"
        assert call(tmp_path, "group").stdout.startswith("2 groups")


def test_photos_that_are_gone(home: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    """The index has all that a group needs, also its pictures."""
    shutil.copytree(home / "index", tmp_path / "index")
    hidden = home / "hidden"
    (home / "photos").rename(hidden)
    try:
        done = call(tmp_path, "group", "--html", tmp_path / "page.html")
    finally:
        hidden.rename(home / "photos")
    assert done.returncode == 0 and done.stdout.startswith("2 groups")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count('src="data:image/jpeg') == 7, "copies are not shown"


def test_an_interrupt_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    """Stopped at once or during the work, the index is as before and no file is half written."""
    before = sorted((file, file.stat().st_mtime_ns) for file in (home / "index").rglob("*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "veduta", "group", "--labels", str(tmp_path / "groups.csv")],
        cwd=home,
        env=environment(home),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 130) and "Traceback" not in stderr
    assert process.returncode == 0 or list(tmp_path.iterdir()) == []
    after = sorted((file, file.stat().st_mtime_ns) for file in (home / "index").rglob("*"))
    assert after == before


def test_the_order_of_indexing_does_not_matter(tmp_path: Path) -> None:
    """Groups of two indexes of the same photos, made in another order, are the same."""
    photos = [
        save_view(tmp_path / f"photos/{wall}-{number}.png", wall, number)
        for wall in (3, 4, 5)
        for number in range(4)
    ]
    found = []
    for name, order in (("one", photos), ("other", photos[::-1])):
        index.create_index(tmp_path / name, CentredEncoder(), TinyExtractor())
        for some in (order[:5], order[5:]):
            index.update_index(tmp_path / name, some, CentredEncoder(), TinyExtractor())
        groups = find_groups(tmp_path / name)
        found.append([(group.name, [photo.path for photo in group.photos]) for group in groups])
    assert found[0] == found[1] != []


def test_linked_pairs_are_those_of_the_graph(home: Path) -> None:
    """Each pair once, the photo with the smaller hash first."""
    folder = home / "index"
    snapshot = open_snapshot(folder)
    linked = linked_pairs(folder, Manifest.read(folder), snapshot)
    assert linked is not None
    pairs = list(zip(linked.first.tolist(), linked.second.tolist(), strict=True))
    assert pairs == sorted(set(pairs)) and all(a < b for a, b in pairs)
    descriptors = snapshot.descriptors[linked.photos.row_of_photo].astype(np.float64)
    similar = descriptors @ descriptors.T - 2 * np.eye(len(descriptors))
    nearest = {
        (min(a, b), max(a, b))
        for a in range(len(similar))
        for b in np.argsort(-similar[a], kind="stable")[:8].tolist()
    }
    assert set(pairs) == nearest


class TestWhatIsKept:
    """Pairs are verified once; what is kept changes no group."""

    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Return the numbers of pairs that are verified together."""
        real, numbers = pair_verification.verify_many, []

        def note(query: Any, others: Any, *arguments: Any, **options: Any) -> Any:
            numbers.append(len(others))
            return real(query, others, *arguments, **options)

        monkeypatch.setattr(pair_verification, "verify_many", note)
        return numbers

    @pytest.fixture(autouse=True)
    def empty_cache(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path / "cache/veduta/groups"

    def test_an_interrupted_run_goes_on(
        self, home: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = find_groups(home / "index")
        every = sum(counted)
        assert find_groups(home / "index") == expected and sum(counted) == every > 10
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "another cache"))
        monkeypatch.setattr(pair_verification, "_QUERIES_PER_REPORT", 2)

        def stop(*_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find_groups(home / "index", on_progress=stop)
        assert every < sum(counted) < 2 * every
        assert find_groups(home / "index") == expected
        assert sum(counted) == 2 * every, "each pair once more, not twice"

    @pytest.mark.parametrize("damage", ["cut", "empty", "other", "gone"])
    def test_damage_is_verified_again(
        self, home: Path, counted: list[int], empty_cache: Path, damage: str
    ) -> None:
        expected = find_groups(home / "index")
        every = sum(counted)
        (file,) = empty_cache.iterdir()
        if damage == "gone":
            file.unlink()
        elif damage == "other":
            np.savez(file, pairs=np.zeros((3, 9)), models=[""], inliers=[1], coverages=[0.5])
        else:
            file.write_bytes(file.read_bytes()[:200] if damage == "cut" else b"")
        assert find_groups(home / "index") == expected
        assert sum(counted) == 2 * every

    def test_only_new_pairs_are_verified(
        self, home: Path, tmp_path: Path, counted: list[int]
    ) -> None:
        shutil.copytree(home / "index", tmp_path / "index")
        before = find_groups(tmp_path / "index")
        every = sum(counted)
        opened = veduta.open(tmp_path / "index")
        wall_view(1, 4).save(tmp_path / "later.jpg")
        opened.add(tmp_path / "later.jpg")
        del counted[:]
        after = opened.groups()
        assert 0 < sum(counted) < every
        assert names_of(after[0].photos) == {*names_of(before[0].photos), "later.jpg"}

    def test_a_cache_that_cannot_be_written(
        self, home: Path, counted: list[int], empty_cache: Path
    ) -> None:
        empty_cache.parent.mkdir(parents=True)
        empty_cache.write_text("in the way of the folder")
        assert find_groups(home / "index") == find_groups(home / "index") != []

    def test_hashes_that_end_in_zero_bytes(self, tmp_path: Path) -> None:
        """NumPy shortens such texts; they are other pairs all the same."""
        raw = [bytes([1] * 31 + [0]), bytes([1] * 30 + [0, 0]), bytes(32), bytes([0] * 31 + [1])]
        contents = np.frombuffer(b"".join(raw), "S32")
        pairs = np.array([(a, b) for a in range(4) for b in range(4) if a != b])
        names = pair_names(contents, pairs)
        assert len({names.tobytes()[64 * n : 64 * n + 64] for n in range(12)}) == 12
        found = PairGeometries(np.array(["homography"] * 12), np.arange(12), np.arange(12) / 12)
        write_geometries(tmp_path / "pairs.npz", names, found)
        known, again = read_geometries(tmp_path / "pairs.npz", names[::-1].copy())
        assert known.all() and again.inliers.tolist() == list(range(12))[::-1]
        other = np.frombuffer(bytes([7] * 64), "S64")
        assert not read_geometries(tmp_path / "pairs.npz", other)[0].any()


@pytest.mark.parametrize(
    ("model", "probability", "coverage", "holds"),
    [
        (None, 0.99, 0.0, False),
        ("homography", 0.99, 0.1, True),
        ("fundamental", 0.11, 0.1, True),
        ("homography", 0.1, 0.1, False),
        ("homography", 0.01, 0.7, True),
        ("homography", None, 0.1, True),
        (None, None, 0.1, False),
    ],
)
def test_what_links_two_photos(
    model: str | None, probability: float | None, coverage: float, holds: bool
) -> None:
    found = PairGeometries(np.array([model or ""]), np.array([30]), np.array([coverage]))
    chances = None if probability is None else np.array([probability])
    assert verified_links._hold(found, chances).tolist() == [holds]


def test_strangers_may_have_matches_but_no_link(home: Path) -> None:
    """The graph links them, and their matches are looked at."""
    folder = home / "index"
    snapshot = open_snapshot(folder)
    links = verified_links.verified_links(folder, snapshot)
    names = [Path(os.fsdecode(path)).name for path in snapshot.rows["path"].to_pylist()]
    name_of = dict(zip(links.photo_of_row.tolist(), names, strict=True))
    linked = {name_of[photo] for photo in links.pairs.ravel().tolist()}
    assert not {name for name in linked if name.startswith("stranger")}
    assert (links.inliers >= 20).all() and len(links.pairs) >= 9


def test_names_sort_beyond_a_thousand_groups() -> None:
    digits = max(photo_groups._NAME_DIGITS, len(str(1234)))
    names = [photo_groups._NAME.format(number, digits) for number in (1, 99, 1234)]
    assert names == ["group-0001", "group-0099", "group-1234"] == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 780)])
def test_page(
    open_page: Callable[..., Any],
    home: Path,
    tmp_path: Path,
    call: Callable[..., Any],
    width: int,
    height: int,
) -> None:
    file = tmp_path / "page.html"
    assert call(home, "group", "--html", file).returncode == 0
    page = open_page(file, width, height, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.locator("article").count() == 2
    assert "4 photos and 1 copy, 2014-05-06 to 2019-01-02" in page.inner_text("body")
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        assert image.evaluate("element => element.naturalWidth") > 0
    links = [link.get_attribute("href") for link in page.locator("a.frame").all()]
    assert len(links) == 7 and all(link.startswith("file:///") for link in links)
    boxes = [image.bounding_box()["width"] for image in page.locator("article img").all()[:2]]
    assert boxes[0] > 1.8 * boxes[1], "the best photo is the largest"
