"""What a walk over folders passes over: nobody's photos, and what the user excludes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from veduta import photos
from veduta.errors import PhotoError
from veduta.photos import PassedOver
from veduta.photos.exclusion import ExclusionRules
from veduta.photos.finding import outermost_folders

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the file systems of Linux")


def put(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def listed(root: Path, *folders: Path, exclude: tuple[str, ...] = ()) -> list[str]:
    """Return the paths of the photos below `root`, or below folders in it, relative to `root`."""
    found = photos.find_photos(folders or [root], exclude=exclude, roots=[root])
    return [os.path.relpath(os.fsdecode(photo.path), root) for photo in found]


# Nobody's photos ---------------------------------------------------------------------------------


NOBODYS_FOLDERS = (
    "#recycle",
    "#snapshot",
    "@eaDir",
    "@Recycle",
    "@Recently-Snapshot",
    "@__thumb",
    ".@__thumb",
    "$RECYCLE.BIN",
    "$Recycle.Bin",
    "RECYCLER",
    "System Volume Information",
    "system volume information",
    ".Trash-1000",
    ".Trashes",
    ".snapshot",
    ".snapshots",
    ".zfs",
    "~snapshot",
    "lost+found",
    "LOST.DIR",
    ".fseventsd",
    ".Spotlight-V100",
    ".thumbnails",
    ".dtrash",
    ".picasaoriginals",
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "Catalog Previews.lrdata",
    "Smart Previews.lrdata",
)
NOBODYS_FILES = (".hidden.jpg", "._1.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r")


@pytest.mark.parametrize("name", NOBODYS_FOLDERS)
def test_folders_that_systems_and_programs_keep(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / "a" / "1.jpg")
    put(tmp_path / "b" / name / "2.jpg")
    put(tmp_path / "b" / "3.jpg")
    passed_over = PassedOver()
    found = [photo.path for photo in photos.find_photos([tmp_path], passed_over=passed_over)]
    assert found == [os.fsencode(tmp_path / "b" / "3.jpg")]
    why = "hidden" if name.startswith(".") else "system"
    assert passed_over.folders == {(name, why): 2}


@pytest.mark.parametrize("name", NOBODYS_FILES)
def test_files_that_systems_and_programs_keep(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, b"\xff\xd8\xff\xe0" + b"\0" * 100)
    passed_over = PassedOver()
    assert list(photos.find_photos([tmp_path], passed_over=passed_over)) == []
    assert passed_over == PassedOver(hidden=1)


@pytest.mark.parametrize("name", ["recycle", "snapshot", "Recycled bottles", "tmp", "@home"])
def test_folders_with_similar_names_are_read(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / "1.jpg")
    assert listed(tmp_path) == [f"{name}/1.jpg"]


def test_a_photos_library_gives_its_originals(tmp_path: Path) -> None:
    library = tmp_path / "Photos Library.photoslibrary"
    for path in (
        "originals/A/1.jpg",
        "resources/derivatives/A/1_thumb.jpg",
        "resources/renders/1.jpg",
        "scopes/cloudsharing/2.jpg",
    ):
        put(library / path)
    put(tmp_path / "Old.photolibrary" / "Masters" / "2010" / "3.jpg")
    put(tmp_path / "Old.photolibrary" / "Previews" / "2010" / "3.jpg")
    assert listed(tmp_path) == [
        "Old.photolibrary/Masters/2010/3.jpg",
        "Photos Library.photoslibrary/originals/A/1.jpg",
    ]


def test_a_folder_that_is_named_is_read_whatever_its_name(tmp_path: Path) -> None:
    put(tmp_path / "#recycle" / "1.jpg")
    put(tmp_path / ".private" / ".nomedia")
    put(tmp_path / ".private" / "2.jpg")
    assert listed(tmp_path, tmp_path / "#recycle") == ["#recycle/1.jpg"]
    assert listed(tmp_path, tmp_path / ".private") == [".private/2.jpg"]
    assert listed(tmp_path) == []


def test_nomedia_passes_over_its_folder_and_all_below(tmp_path: Path) -> None:
    put(tmp_path / "a" / ".nomedia")
    put(tmp_path / "a" / "1.jpg")
    put(tmp_path / "a" / "b" / "2.jpg")
    put(tmp_path / "c" / "3.jpg")
    passed_over = PassedOver()
    found = photos.find_photos([tmp_path], passed_over=passed_over)
    assert [os.path.basename(photo.path) for photo in found] == [b"3.jpg"]
    assert passed_over.folders == {("a", ".nomedia"): 1}


def test_files_that_are_no_photos_are_counted_by_extension(tmp_path: Path) -> None:
    for name in ("a.mov", "b.MOV", "c.xmp", "d.PSD", "e.svg", "notes", "f.unknown", "g.jpg"):
        put(tmp_path / name)
    passed_over = PassedOver()
    assert len(list(photos.find_photos([tmp_path], passed_over=passed_over))) == 1
    assert passed_over.unread_images == {"psd": 1, "svg": 1}
    assert passed_over.other_files == {"mov": 2, "xmp": 1, "": 1, "unknown": 1}


# Links -------------------------------------------------------------------------------------------


@linux
def test_a_photo_is_listed_at_its_own_place_and_not_under_a_link(tmp_path: Path) -> None:
    put(tmp_path / "z_cat" / "1.jpg")
    put(tmp_path / "z_cat" / "more" / "2.jpg")
    (tmp_path / "a_link").symlink_to(tmp_path / "z_cat")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link.jpg").symlink_to(tmp_path / "z_cat" / "1.jpg")
    passed_over = PassedOver()
    found = list(photos.find_photos([tmp_path], passed_over=passed_over))
    assert [os.path.relpath(os.fsdecode(one.path), tmp_path) for one in found] == [
        "z_cat/1.jpg",
        "z_cat/more/2.jpg",
    ]
    assert passed_over.links == [os.fsencode(tmp_path / "b" / "link.jpg")]


@linux
def test_a_folder_is_listed_at_its_own_place_even_if_another_folder_links_to_it(
    tmp_path: Path,
) -> None:
    put(tmp_path / "b" / "cat" / "1.jpg")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "b" / "cat")
    both = [tmp_path / "a", tmp_path / "b"]
    assert [photo.path for photo in photos.find_photos(both)] == [
        os.fsencode(tmp_path / "b" / "cat" / "1.jpg")
    ]


@linux
def test_a_link_to_a_photo_that_is_passed_over_at_its_own_place_is_listed(tmp_path: Path) -> None:
    put(tmp_path / ".store" / "1")
    put(tmp_path / "out" / "2.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").symlink_to(tmp_path / ".store" / "1")
    (tmp_path / "in" / "2.jpg").symlink_to(tmp_path / "out" / "2.jpg")
    assert listed(tmp_path, exclude=("out/",)) == ["in/1.jpg", "in/2.jpg"]


@linux
def test_links_that_lead_in_a_circle_are_told_unless_they_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / ".loop.jpg").symlink_to(".loop.jpg")
    (tmp_path / "folder").symlink_to("folder")
    put(tmp_path / "a.jpg")
    assert listed(tmp_path) == ["a.jpg", "loop.jpg"]


# Patterns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (("b/",), ["a.jpg", "c/b.jpg"]),
        (("b",), ["a.jpg", "c/b.jpg"]),
        (("b.jpg",), ["a.jpg", "b/1.jpg", "b/d/2.png", "c/b/3.jpg"]),
        (("/b/",), ["a.jpg", "c/b/3.jpg", "c/b.jpg"]),
        (("*.png",), ["a.jpg", "b/1.jpg", "c/b/3.jpg", "c/b.jpg"]),
        (("c/**/3.jpg",), ["a.jpg", "b/1.jpg", "b/d/2.png", "c/b.jpg"]),
        (("*", "!a.jpg"), ["a.jpg"]),
        (("*.jpg", "!b.jpg"), ["b/d/2.png", "c/b.jpg"]),
        (("b/*", "!b/1.jpg"), ["a.jpg", "b/1.jpg", "c/b/3.jpg", "c/b.jpg"]),
        (("b", "!b/1.jpg"), ["a.jpg", "c/b.jpg"]),
        (("",), ["a.jpg", "b/1.jpg", "b/d/2.png", "c/b/3.jpg", "c/b.jpg"]),
    ],
)
def test_patterns_of_the_user(tmp_path: Path, patterns: tuple[str, ...], left: list[str]) -> None:
    for name in ("a.jpg", "b/1.jpg", "b/d/2.png", "c/b/3.jpg", "c/b.jpg"):
        put(tmp_path / name)
    assert sorted(listed(tmp_path, exclude=patterns)) == sorted(left)


def test_a_single_pattern_needs_no_list(tmp_path: Path) -> None:
    put(tmp_path / "raw" / "1.jpg")
    put(tmp_path / "r.jpg")
    found = list(photos.find_photos([tmp_path], exclude="raw/"))
    assert [os.path.basename(photo.path) for photo in found] == [b"r.jpg"]


def test_a_pattern_of_the_user_may_begin_with_a_hash(tmp_path: Path) -> None:
    put(tmp_path / "#old" / "1.jpg")
    put(tmp_path / "a.jpg")
    assert listed(tmp_path, exclude=("#old",)) == ["a.jpg"]


def test_names_that_look_alike_are_alike(tmp_path: Path) -> None:
    put(tmp_path / "Cafe\u0301" / "1.jpg")
    put(tmp_path / "a.jpg")
    assert listed(tmp_path, exclude=("Caf\u00e9/",)) == ["a.jpg"]
    put(tmp_path / ".vedutaignore", "Caf\u00e9\n".encode())
    assert listed(tmp_path) == ["a.jpg"]


@linux
def test_a_pattern_of_bytes_that_are_no_utf8(tmp_path: Path) -> None:
    put(Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg"))))
    assert listed(tmp_path, exclude=(os.fsdecode(b"caf\xe9*"),)) == []
    put(tmp_path / ".vedutaignore", b"caf\xe9.jpg\n")
    assert listed(tmp_path) == []


def test_ignore_files_of_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "a/keep/1.jpg", "b/1.jpg"):
        put(tmp_path / name)
    put(tmp_path / ".vedutaignore", b"# a comment\r\n1.jpg\r\n")
    put(tmp_path / "a" / "keep" / ".vedutaignore", b"\xef\xbb\xbf!1.jpg")
    assert listed(tmp_path) == ["a/2.jpg", "a/keep/1.jpg"]
    assert listed(tmp_path, tmp_path / "a") == ["a/2.jpg", "a/keep/1.jpg"]
    assert listed(tmp_path, exclude=("/a/keep/*",)) == ["a/2.jpg"]
    assert listed(tmp_path, tmp_path / "a" / "keep", exclude=("/a/keep/*",)) == []
    passed_over = PassedOver()
    assert len(list(photos.find_photos([tmp_path], passed_over=passed_over))) == 2
    assert passed_over.excluded == 2
    assert passed_over.hidden == 2  # The files with the patterns.


def test_an_ignore_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.jpg")
    (tmp_path / "a" / ".vedutaignore").mkdir()
    with pytest.raises(
        PhotoError, match=r"a/\.vedutaignore: its patterns cannot be read: a folder"
    ):
        listed(tmp_path)


def test_the_outermost_folder_that_reaches_another(tmp_path: Path) -> None:
    top, inner, hidden = (os.fsencode(tmp_path / name) for name in ("p", "p/cat", "p/.x"))
    put(tmp_path / "p" / "cat" / "1.jpg")
    assert outermost_folders([inner, top, hidden]) == {top: top, inner: top, hidden: hidden}
    assert outermost_folders([inner, top], ["cat"]) == {top: top, inner: inner}
    beside = os.fsencode(tmp_path / "pp")
    assert outermost_folders([top, beside]) == {top: top, beside: beside}


NAMES = ("a", "b", "ab", "a.b", "b.a", "#a", "!a", "a b", "[a]", "*", "a*", "A", "\\a")
PIECES = (
    *("x", "a", "b", "*", "**", "***", "?", "[ab]", "[!a]", "/", "/", "\\*", "\\#", "#", "!"),
    *(".", "a*", "*.a", "\\ ", " ", "\\!"),
)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_patterns_mean_what_they_mean_to_git(tmp_path: Path) -> None:
    draw = random.Random(1)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for depth in (3, 2, 1):
        for _ in range(60):
            name = "/".join(draw.choice(NAMES) for _ in range(depth))
            if not (tmp_path / f"{name}x").exists():
                put(tmp_path / f"{name}x")
    entries = [path for path in tmp_path.rglob("*") if ".git" not in path.parts]
    entries.sort(key=lambda path: len(path.parts))
    names = [os.fspath(path.relative_to(tmp_path)) for path in entries]
    command = ["git", "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"]
    matched: Counter[bool] = Counter()
    for _ in range(120):
        patterns = [
            "!" * (draw.random() < 0.25)
            + "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 5)))
            for _ in range(draw.randint(1, 4))
        ]
        text = "\n".join(patterns) + "\n"
        (tmp_path / ".git" / "info" / "exclude").write_text(text)
        answer = subprocess.run(
            command, check=False, input="\0".join(names), text=True, capture_output=True
        )
        expected = set(answer.stdout.split("\0")) - {""}
        rules = ExclusionRules().with_file(text.encode(), os.fsencode(tmp_path))
        ours: set[str] = set()
        for name, path in zip(names, entries, strict=True):
            excluded = rules.exclude(os.fsencode(path), is_folder=path.is_dir())
            if excluded or os.path.dirname(name) in ours:
                ours.add(name)
        assert ours == expected, patterns
        matched[bool(ours)] += 1
    assert min(matched.values()) > 20
