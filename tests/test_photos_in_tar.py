"""Photos in tar files: only what is wanted is written, and no tar file can do harm."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from veduta.datasets.protocols import photos_in_tar
from veduta.datasets.protocols.photos_in_tar import tar_files, unpack_tars, unpacked_in_tar
from veduta.datasets.protocols.unpacked_photos import unpack_folder
from veduta.errors import CannotWrite, DatasetError

Members = Sequence[tuple[str, bytes]]

FIRST = [("a.jpg", b"photo a"), ("a.json", b"{}"), ("b.jpg", b"photo b"), ("c.jpg", b"c" * 9000)]
SECOND = [("a.jpg", b"another a"), ("d.JPEG", b"photo d"), ("x/e.jpg", b"photo e")]
LISTED = ["s_0.tar/a", "s_0/c.jpg", "s_1.tar/a", "d", "s_1/x/e"]
CONTENT = [b"photo a", b"c" * 9000, b"another a", b"photo d", b"photo e"]


def tar(file: Path, members: Members, kind: int = tarfile.USTAR_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=kind) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file


def member(name: str, **facts: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(made, key, value)
    return made


@pytest.fixture
def tars(tmp_path: Path) -> list[Path]:
    return [tar(tmp_path / "s_0.tar", FIRST), tar(tmp_path / "s_1.tar", SECOND)]


def written(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}


def refusal(tars: Sequence[Path], photos: Sequence[str], folder: Path) -> str:
    """Return the message; nothing has been written."""
    with pytest.raises(DatasetError) as caught:
        unpack_tars(tars, photos, folder)
    assert not folder.exists()
    return str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_only_listed_photos_are_written(tmp_path: Path, kind: int) -> None:
    long = f"{'k' * 150}/ä"
    tars = [
        tar(tmp_path / "s_0.tar", FIRST, kind),
        tar(tmp_path / "s_1.tar", [*SECOND, (f"./{'k' * 90}.jpg", b"long")], kind),
    ]
    listed, content = [*LISTED, "k" * 90], [*CONTENT, b"long"]
    if kind != tarfile.USTAR_FORMAT:
        tars.append(tar(tmp_path / "s_2.tar", [(f"{long}.jpg", b"longer")], kind))
        listed, content = [*listed, f"s_2/{long}"], [*content, b"longer"]
    told: list[tuple[str, int, int]] = []
    folder = tmp_path / "cache/photos"
    unpack_tars(tars, listed, folder, lambda *progress: told.append(progress))
    assert [(folder / unpacked_in_tar(each)).read_bytes() for each in listed] == content
    assert written(folder) == set(map(unpacked_in_tar, listed))
    shards, photos = len(tars), len(listed)
    assert told == [
        *(("Reading tar files", number + 1, shards) for number in range(shards)),
        ("Unpacking photos", photos, photos),
    ]


def test_what_is_there_is_not_written_again(tmp_path: Path, tars: list[Path]) -> None:
    folder = tmp_path / "cache"
    unpack_tars(tars, LISTED, folder)
    files = [folder / unpacked_in_tar(each) for each in LISTED]
    times = [file.stat().st_mtime_ns for file in files]
    files[1].unlink()
    # The second is not opened, since none of its photos is missing.
    tars[1].write_bytes(b"damaged")
    unpack_tars(tars, LISTED, folder)
    assert files[1].read_bytes() == CONTENT[1]
    assert [f.stat().st_mtime_ns for f in files[::2]] == times[::2]
    tars[0].unlink()
    unpack_tars(tars, LISTED, folder)


def test_photos_that_no_tar_file_has_stay_missing(tmp_path: Path, tars: list[Path]) -> None:
    listed = ["s_0.tar/a", "s_0.tar/zz", "s_9.tar/a", "nowhere", "s_0/a.json"]
    unpack_tars(tars, listed, tmp_path / "cache")
    assert written(tmp_path / "cache") == {unpacked_in_tar("s_0.tar/a")}


def test_the_first_member_of_a_name_counts(tmp_path: Path) -> None:
    tars = [
        tar(tmp_path / "s_0.tar", [("a.jpg", b"1"), ("a.jpg", b"2"), ("a.png", b"3")]),
        tar(tmp_path / "s_1.tar", [("a.jpg", b"4")]),
    ]
    unpack_tars(tars, ["a"], tmp_path / "cache")
    assert (tmp_path / "cache" / unpacked_in_tar("a")).read_bytes() == b"1"


def test_two_ids_of_one_photo(tmp_path: Path, tars: list[Path]) -> None:
    message = refusal(tars, ["s_0.tar/a", "s_0/a.jpg"], tmp_path / "cache")
    assert "the ids s_0.tar/a and s_0/a.jpg name one photo; keep one" in message


def test_another_state_of_a_tar_file_has_another_folder(tars: list[Path]) -> None:
    first = unpack_folder(tars)
    assert unpack_folder(tars[::-1]) == first
    os.utime(tars[0], ns=(1, 1))
    assert unpack_folder(tars) != first


def test_tar_files_of_a_folder(tmp_path: Path, tars: list[Path]) -> None:
    tar(tmp_path / "ilias_core.tar", [])
    (tmp_path / "gone.tar").symlink_to("nothing")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "a.tar.gz").write_bytes(b"")
    assert tar_files(tmp_path, ["ilias_core.tar"]) == tars
    assert tar_files(tmp_path / "none") == []


def test_names_of_members_never_become_paths(tmp_path: Path) -> None:
    names = ["../../x.jpg", f"{tmp_path}/absolute.jpg", "/etc/y.jpg", "a\\..\\b.jpg", "\udcff.jpg"]
    file = tar(tmp_path / "in/s_0.tar", [(name, b"hostile") for name in names])
    folder = tmp_path / "in/cache"
    unpack_tars([file], ["s_0/other", "other"], folder)
    assert not folder.exists()
    listed = ["s_0.tar/../../x", f"s_0.tar/{tmp_path}/absolute", "s_0.tar//etc/y", "s_0/a\\..\\b"]
    unpack_tars([file], listed, folder)
    assert written(folder) == set(map(unpacked_in_tar, listed))
    assert {each.name for each in tmp_path.iterdir()} == {"in"}


def test_only_regular_files_are_taken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    file = tmp_path / "s_0.tar"
    with tarfile.open(file, "w") as archive:
        archive.addfile(member("a.jpg", type=tarfile.SYMTYPE, linkname=str(secret)))
        archive.addfile(member("b.jpg", type=tarfile.LNKTYPE, linkname=str(secret)))
        archive.addfile(member("c.jpg", type=tarfile.CHRTYPE, devmajor=1, devminor=5))
        archive.addfile(member("d.jpg", type=tarfile.FIFOTYPE))
        archive.addfile(member("e.jpg", type=tarfile.DIRTYPE))
        archive.addfile(member("f.jpg", size=1), io.BytesIO(b"f"))
    unpack_tars([file], [f"s_0/{key}" for key in "abcdef"], tmp_path / "cache")
    assert written(tmp_path / "cache") == {unpacked_in_tar("s_0/f")}


def test_a_photo_that_is_too_large(
    tmp_path: Path, tars: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos_in_tar, "MAX_PHOTO_BYTES", 8999)
    message = refusal(tars, LISTED, tmp_path / "cache")
    assert "s_0.tar: the photo c.jpg has 9,000 bytes, and at most 8,999 are read" in message
    unpack_tars(tars, ["s_0/a", "d"], tmp_path / "cache")


def test_a_size_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "s_0.tar"
    huge = member("a.jpg", size=2**40).tobuf(tarfile.GNU_FORMAT)
    file.write_bytes(huge)
    assert "a.jpg has 1,099,511,627,776 bytes" in refusal([file], ["a"], tmp_path / "cache")
    assert "damaged, cut off" in refusal([file], ["b"], tmp_path / "cache")


def test_no_room(tmp_path: Path, tars: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    asked: list[Path] = []

    def disk_usage(place: Path, free: int = 4096 * 7 - 1) -> Any:
        asked.append(place)
        return usage(10**9, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    message = refusal(tars, LISTED, tmp_path / "cache/photos")
    assert asked == [tmp_path]
    assert f"{tmp_path}/cache/photos: no room for 5 photos: 28,672 bytes are needed" in message
    assert "28,671 are free; unpack the tar files elsewhere" in message
    assert "--photos" in message and "XDG_CACHE_HOME" in message
    monkeypatch.setattr(shutil, "disk_usage", lambda place: disk_usage(place, 4096 * 7))
    unpack_tars(tars, LISTED, tmp_path / "cache/photos")
    # Of what is there already no room is needed.
    (tmp_path / "cache/photos" / unpacked_in_tar("d")).unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: disk_usage(place, 4096))
    unpack_tars(tars, LISTED, tmp_path / "cache/photos")


def test_a_folder_that_cannot_be_made(tmp_path: Path, tars: list[Path]) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(CannotWrite, match="cannot be written"):
        unpack_tars(tars, LISTED, tmp_path / "cache")


@pytest.mark.parametrize("length", [0, 1, 511, 513, 700, 1024, 1100, 4096, -10240])
def test_a_tar_file_that_is_cut_off(tmp_path: Path, length: int) -> None:
    file = tar(tmp_path / "s_0.tar", FIRST)
    data = file.read_bytes()
    assert len(data) == 20480
    file.write_bytes(data[:length])
    message = refusal([file], ["s_0/a"], tmp_path / "cache")
    assert f"{file}: damaged, cut off, or no tar file" in message
    assert "fetch it again" in message


def test_other_files_that_are_refused(tmp_path: Path, tars: list[Path]) -> None:
    packed = tmp_path / "s_2.tar"
    with tarfile.open(packed, "w:gz") as archive:
        archive.addfile(member("a.jpg", size=1), io.BytesIO(b"a"))
    assert "without compression" in refusal([packed], ["a"], tmp_path / "cache")
    data = bytearray(tars[0].read_bytes())
    data[1024 + 3] ^= 1  # In the header of the second member.
    tars[0].write_bytes(data)
    assert "s_0.tar: damaged" in refusal(tars, LISTED, tmp_path / "cache")
    (tmp_path / "s_3.tar").mkdir()
    assert "s_3.tar: cannot be read" in refusal([tmp_path / "s_3.tar"], ["a"], tmp_path / "cache")


def test_a_tar_file_that_changes_while_it_is_read(
    tmp_path: Path, tars: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        photos_in_tar, "check_room", lambda *_: tars[1].write_bytes(tars[1].read_bytes()[:600])
    )
    with pytest.raises(DatasetError, match=r"s_1\.tar: damaged, cut off"):
        unpack_tars(tars, LISTED, tmp_path / "cache")


def test_headers_that_lead_nowhere(tmp_path: Path) -> None:
    def bounded(size: int, kind: bytes) -> bytes:
        made = bytearray(member("a", size=8, type=kind).tobuf(tarfile.GNU_FORMAT))
        made[124:136] = (size % 2**96).to_bytes(12, "big")
        made[124] = 255 if size < 0 else 128
        made[148:156] = b" " * 8
        made[148:156] = b"%06o\0 " % sum(made)
        return bytes(made)

    file = tmp_path / "s_0.tar"
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        for size in (-512, -1024, -(2**40), 2**40, 2**30):
            file.write_bytes(bounded(512, tarfile.REGTYPE) + bytes(512) + bounded(size, kind))
            assert "s_0.tar" in refusal([file], ["b"], tmp_path / "cache")
    chain = member("x", type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    file.write_bytes(chain * 9999)
    assert "damaged" in refusal([file], ["b"], tmp_path / "cache")


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damage_of_any_kind(tmp_path: Path, kind: int) -> None:
    file = tar(tmp_path / "s_0.tar", [("k" * 120 + "/ä.jpg", b"1"), *FIRST], kind)
    whole = file.read_bytes()
    generator = random.Random(5)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            data[generator.randrange(6000)] = generator.randrange(256)
        file.write_bytes(data)
        try:
            unpack_tars([file], ["s_0/a", f"s_0/{'k' * 120}/ä"], tmp_path / "cache")
        except DatasetError as error:
            refused += 1
            assert "s_0.tar" in str(error)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert refused > 50


def test_many_members_cost_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    file = tar(tmp_path / "s_0.tar", [(f"{number}.jpg", b"") for number in range(5000)])
    tracemalloc.start()
    try:
        unpack_tars([file], ["s_0/none"], tmp_path / "cache")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 500_000
