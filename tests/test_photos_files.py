"""Finding photos in folders, and reading their bytes."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from PIL import Image

from veduta import photos
from veduta.errors import PhotoError, PhotoTooLarge, PhotoUnreadable
from veduta.photos import Candidate

linux = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and odd names")


def names(folders: list[Path], *, root: Path | None = None) -> list[str]:
    top = os.fsencode(root or folders[0])
    return [os.fsdecode(os.path.relpath(found.path, top)) for found in photos.find_photos(folders)]


def put(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# read_bytes --------------------------------------------------------------------------------------


def test_read_bytes_takes_every_kind_of_path(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", b"\x00\x01" * 100_000)
    for given in (path, str(path), os.fsencode(path)):
        assert photos.read_bytes(given) == b"\x00\x01" * 100_000
    assert photos.read_bytes(put(tmp_path / "empty", b"")) == b""


@linux
@pytest.mark.parametrize(
    "name", [b"two words.jpg", b"line\nbreak.jpg", "📷.jpg".encode(), b"caf\xe9.jpg", b"-rf.jpg"]
)
def test_names_of_any_bytes(tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    with open(path, "wb") as file:
        Image.new("RGB", (5, 4)).save(file, "PNG")
    for given in (path, os.fsdecode(path), Path(os.fsdecode(path))):
        assert photos.load(given).width == 5
    assert [found.path for found in photos.find_photos([tmp_path])] == [path]


@linux
def test_what_is_no_regular_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(".", os.O_RDONLY)
        os.chdir(tmp_path)  # the path of a socket may have only about a hundred bytes
        try:
            listener.bind("socket.jpg")
        finally:
            os.fchdir(here)
            os.close(here)
        for name, words in (("pipe", "a pipe"), ("folder", "a folder"), ("socket", "a socket")):
            with pytest.raises(PhotoUnreadable, match=f"{name}.jpg: {words}"):
                photos.read_bytes(tmp_path / f"{name}.jpg")
    with pytest.raises(PhotoUnreadable, match="a device"):
        photos.read_bytes("/dev/zero")


@linux
def test_a_file_replaced_by_a_pipe_after_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regular = put(tmp_path / "regular")
    os.mkfifo(tmp_path / "pipe")
    look = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: look(regular, **options))
    with pytest.raises(PhotoUnreadable, match="a pipe"):
        photos.read_bytes(tmp_path / "pipe")


@linux
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to("gone.jpg")
    (tmp_path / "one.jpg").symlink_to("two.jpg")
    (tmp_path / "two.jpg").symlink_to("one.jpg")
    put(tmp_path / "file")
    for name, words in (
        ("broken.jpg", "a link to a file that is not there"),
        ("one.jpg", "its links lead in a circle"),
        ("absent.jpg", "the file is not there"),
        ("file/absent.jpg", "a part of its path is not a folder"),
        ("x" * 300, "its name is too long"),
        ("null\0byte", "no file can have this name"),
    ):
        with pytest.raises(PhotoUnreadable, match=words):
            photos.read_bytes(tmp_path / name)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EIO, "read error"),
        (errno.ENOTCONN, "it cannot be read"),
    ],
)
def test_errors_of_the_system_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path = put(tmp_path / "a.jpg")

    def fail(*args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(PhotoUnreadable, match=words) as caught:
        photos.read_bytes(path)
    assert isinstance(caught.value.__cause__, OSError)


@linux
def test_permission_denied_for_real() -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        top = Path(name)
        put(top / "secret.jpg").chmod(0)
        put(top / "closed" / "inside.jpg")
        (top / "closed").chmod(0)
        top.chmod(0o755)
        if root:
            os.seteuid(65534)  # the superuser may read everything
        try:
            found = list(photos.find_photos([top]))
            reasons = []
            for candidate in found:
                with pytest.raises(PhotoUnreadable) as caught:
                    photos.read_bytes(candidate.path)
                reasons.append(str(caught.value))
        finally:
            if root:
                os.seteuid(0)
            (top / "closed").chmod(0o700)
    assert [(os.path.basename(c.path), c.size) for c in found] == [
        (b"closed", -1),
        (b"secret.jpg", 4),
    ]
    words = "permission denied: make it readable for the user who runs this"
    assert reasons == [f"{name}/closed: {words}", f"{name}/secret.jpg: {words}"]


def test_cap_on_bytes(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", b"x" * 1000)
    assert len(photos.read_bytes(path, max_bytes=1000)) == 1000
    with pytest.raises(PhotoTooLarge, match=r"a\.jpg"):
        photos.read_bytes(path, max_bytes=999)


@linux
def test_a_sparse_giant_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "giant.jpg"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    start = time.process_time()
    with pytest.raises(PhotoTooLarge, match=r"1099511\.6 MB are more than the cap of 268\.4 MB"):
        photos.read_bytes(path)
    assert time.process_time() - start < 1


@pytest.mark.parametrize("before", [0, 10, 5000])
def test_a_file_that_grows_or_shrinks_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    path = put(tmp_path / "a.jpg", b"x" * 1000)

    class Status:
        st_mode = stat.S_IFREG
        st_size = before

    monkeypatch.setattr(os, "fstat", lambda descriptor: Status)
    assert photos.read_bytes(path) == b"x" * 1000
    with pytest.raises(PhotoTooLarge):
        photos.read_bytes(path, max_bytes=999)


@linux
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", b"not a photo")
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        photos.read_bytes(path)
        for name in ("a.jpg", "pipe", "absent"):
            with pytest.raises(PhotoError):
                photos.load(tmp_path / name)
    assert len(os.listdir("/dev/fd")) == before


# find_photos -------------------------------------------------------------------------------------


def test_found_in_the_order_of_names_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/2.png", "a/1.JPEG", "c/d/e.HeIc", "a.jpg", "B.tif"):
        put(tmp_path / name, name.encode())
    assert names([tmp_path]) == ["B.tif", "a/1.JPEG", "a/2.png", "a.jpg", "b.jpg", "c/d/e.HeIc"]
    found = {os.path.basename(c.path): c for c in photos.find_photos([tmp_path])}
    one = tmp_path / "a" / "1.JPEG"
    os.utime(one, ns=(7, 1_600_000_000_123_456_700))
    (again,) = photos.find_photos([one.parent / "1.JPEG"])
    assert again == Candidate(os.fsencode(one), 8, 1_600_000_000_123_456_700)
    assert found[b"B.tif"].size == 5


def test_hidden_and_system_files_are_skipped(tmp_path: Path) -> None:
    for name in (
        ".hidden.jpg",
        ".git/a.jpg",
        "._a.jpg",
        "@eaDir/a.jpg/THUMB.jpg",
        "__MACOSX/a.jpg",
        "Thumbs.db",
        ".DS_Store",
        "desktop.ini",
        "$RECYCLE.BIN/a.jpg",
        "a.jpg",
    ):
        put(tmp_path / name)
    assert names([tmp_path]) == ["a.jpg"]


def test_other_files_count_by_their_first_bytes(tmp_path: Path) -> None:
    photo = b"\xff\xd8\xff\xe0" + b"\0" * 100
    for name in ("none", "odd.original", "IMG_1.jpg_large", "wrong.txt", "trailing."):
        put(tmp_path / name, photo)
    put(tmp_path / "text", b"only words")
    put(tmp_path / "empty", b"")
    put(tmp_path / "page.jpg", b"<html>")  # named like a photo: reading it will say what it is
    assert names([tmp_path]) == ["IMG_1.jpg_large", "none", "odd.original", "page.jpg", "trailing."]


@linux
def test_a_folder_once_and_every_name_of_a_file(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.jpg")
    put(tmp_path / "a" / "b" / "2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "a")
    (tmp_path / "d.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    os.link(tmp_path / "a" / "1.jpg", tmp_path / "e.jpg")
    once = ["a/1.jpg", "a/b/2.jpg", "e.jpg"]  # d.jpg and c are links to what is listed
    assert names([tmp_path]) == once
    assert names([tmp_path, tmp_path / "a", tmp_path / "c"]) == once


@linux
def test_links_to_other_places_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "1.jpg")
    put(tmp_path / "far" / "2.jpg")
    top = tmp_path / "top"
    top.mkdir()
    (top / "folder").symlink_to(tmp_path / "elsewhere")
    (top / "file.jpg").symlink_to(tmp_path / "far" / "2.jpg")
    assert names([top]) == ["file.jpg", "folder/1.jpg"]
    (found, _) = photos.find_photos([top])
    assert found.size == 4  # of the file, not of the link


@linux
def test_broken_links_are_found_so_that_they_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "lock").symlink_to("host.1234")  # not named like a photo: someone's lock
    found = list(photos.find_photos([tmp_path]))
    assert found == [
        Candidate(os.fsencode(tmp_path / "gone.jpg"), -1, 0),
        Candidate(os.fsencode(tmp_path / "loop.png"), -1, 0),
    ]
    for candidate in found:
        with pytest.raises(PhotoUnreadable, match="link"):
            photos.read_bytes(candidate.path)


def test_a_folder_that_cannot_be_listed_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "closed" / "1.jpg")
    put(tmp_path / "open" / "2.jpg")
    scan = os.scandir

    def guarded(path: bytes) -> object:
        if path.endswith(b"closed"):
            raise PermissionError(errno.EACCES, "no", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = list(photos.find_photos([tmp_path]))
    assert [(os.path.basename(c.path), c.size) for c in found] == [(b"closed", -1), (b"2.jpg", 4)]
    with pytest.raises(PhotoUnreadable, match="closed: permission denied"):
        list(photos.find_photos([tmp_path / "closed"]))


def test_a_file_that_vanishes_between_listing_and_reading(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg")
    put(tmp_path / "b.jpg")
    found = photos.find_photos([tmp_path])
    first = next(found)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(PhotoUnreadable, match="not there"):
        photos.read_bytes(first.path)
    (tmp_path / "b.jpg").unlink()
    # Its directory entry was read already; it is reported, not lost.
    assert [c.size for c in found] == [-1]


@linux
def test_pipes_among_photos_are_found_and_refused_but_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names([tmp_path]) == ["pipe.jpg"]


def test_given_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PhotoUnreadable, match="absent: the file is not there"):
        list(photos.find_photos([tmp_path / "absent"]))
    with pytest.raises(PhotoUnreadable, match="no file can have this name"):
        list(photos.find_photos(["null\0byte"]))


def test_an_empty_folder_and_a_single_file(tmp_path: Path) -> None:
    assert list(photos.find_photos([tmp_path])) == []
    assert list(photos.find_photos([])) == []
    text = put(tmp_path / "notes.txt")
    assert [c.path for c in photos.find_photos([text])] == [os.fsencode(text)]


@linux
def test_a_tree_deeper_than_the_stack(tmp_path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    depth = 1500
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        put(Path("deep.jpg"))
        found = list(photos.find_photos([tmp_path]))
        assert len(found) == 1
        assert found[0].path.endswith(b"d/deep.jpg")
    finally:
        # pytest's own clean-up recurses; this tree is too deep for that.
        os.fchdir(here)
        os.close(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


def test_ten_thousand_files_in_no_time(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05d}.jpg").touch()
    start = time.process_time()
    count = sum(1 for _ in photos.find_photos([tmp_path]))
    seconds = time.process_time() - start
    assert count == 10_000
    assert seconds < 1.5  # a tenth of that where nothing else runs
