"""When a photo was taken, as cameras, phones and programs write it, and searches by time."""

from __future__ import annotations

import os
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from command_line import run_veduta
from PIL import Image
from tiny import TinyEncoder, pixels, save

from veduta.errors import QueryError
from veduta.index import create_index, open_snapshot, read_status, update_index
from veduta.photos.exif import read_exif
from veduta.search import SearchOptions
from veduta.search.filters import allowed_rows, undated_photos

MOMENT = datetime(2014, 5, 6, 7, 8, 9)
ORIGINAL, DIGITIZED = 0x9003, 0x9004


def exif_block(text: bytes, *, kind: int = 2, order: str = "<", tag: int = ORIGINAL) -> bytes:
    """Return an Exif block with one date, in the inner directory."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    main = struct.pack(order + "IHHHIII", 8, 1, 0x8769, 4, 1, 26, 0)
    value = text.ljust(4, b"\0") if len(text) <= 4 else struct.pack(order + "I", 44)
    inner = struct.pack(order + "HHHI", 1, tag, kind, len(text)) + value + struct.pack("I", 0)
    return mark + main + inner + text


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (b"2014:05:06 07:08:09\0", MOMENT),
        (b"2014:05:06 07:08:09", MOMENT),
        (b"2014:05:06 07:08:09.123\0", MOMENT),
        (b"2014:05:06 07:08:09,5\0", MOMENT),
        (b"2014:05:06 07:08:09:123\0", MOMENT),
        (b"2014:05:06 07:08:09+02:00\0", MOMENT),
        (b"2014:05:06 07:08:09 -0500\0", MOMENT),
        (b"2014:05:06 07:08:09Z\0", MOMENT),
        (b"2014-05-06 07:08:09\0", MOMENT),
        (b"2014/05/06 07:08:09\0", MOMENT),
        (b"2014.05.06 07:08:09\0", MOMENT),
        (b"2014-05-06T07:08:09\0", MOMENT),
        (b"2014-05-06T07:08:09.123456+02:00\0", MOMENT),
        (b"2014: 5: 6  7: 8: 9\0", MOMENT),
        (b"2014:5:6 7:8:9\0", MOMENT),
        (b"2014:05:06 07:08:09   \0\0\0", MOMENT),
        (b"  2014:05:06 07:08:09\0", MOMENT),
        (b"2014:05:06 07:08:09\0what came before\0", MOMENT),
        (b"2014:05:06 24:08:09\0", MOMENT.replace(hour=0)),
        (b"2014:05:06 07:08:60\0", MOMENT.replace(second=59)),
        (b"2014:05:06 07:08\0", MOMENT.replace(second=0)),
        (b"2014:05:06\0", datetime(2014, 5, 6)),
        (b"0000:00:00 00:00:00\0", None),
        (b"    :  :     :  :  \0", None),
        (b"2014:13:06 07:08:09\0", None),
        (b"2014:02:30 07:08:09\0", None),
        (b"2014:05:06 25:08:09\0", None),
        (b"2014:05:06 07:61:09\0", None),
        (b"1801:05:06 07:08:09\0", None),
        (b"9999:05:06 07:08:09\0", None),
        (b"yesterday evening\0", None),
        (b"2014:05:06 07:08:09 and more\0", None),
        (b"\0" * 20, None),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_dates_as_they_are_written(text: bytes, taken: datetime | None, order: str) -> None:
    assert read_exif(exif_block(text, order=order)).taken == taken


@pytest.mark.parametrize("kind", [7, 129])
def test_dates_of_other_kinds_of_text(kind: int) -> None:
    assert read_exif(exif_block(b"2014:05:06 07:08:09\0", kind=kind)).taken == MOMENT


def gps_exif(stamp: Any, day: str | None) -> Image.Exif:
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    if stamp is not None:
        gps[7] = stamp
    if day is not None:
        gps[0x1D] = day
    exif[0x8825] = gps
    return exif


@pytest.mark.parametrize(
    ("stamp", "day", "taken"),
    [
        ((7.0, 8.0, 9.0), "2014:05:06", MOMENT),
        ((7.0, 8.0, 9.75), "2014-05-06", MOMENT),
        (None, "2014:05:06", datetime(2014, 5, 6)),
        ((7.0, 8.0, 9.0), None, None),
        ((99.0, 8.0, 9.0), "2014:05:06", None),
    ],
)
def test_the_time_of_gps_stands_in(stamp: Any, day: str | None, taken: datetime | None) -> None:
    exif = gps_exif(stamp, day)
    assert read_exif(exif.tobytes()).taken == taken
    exif[0x0132] = "2001:02:03 04:05:06"
    assert read_exif(exif.tobytes()).taken == datetime(2001, 2, 3, 4, 5, 6)


# Searches by time --------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Return an index of a photo of 2014 and of two without a date, of files of 2010 and 2020."""
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0132] = "2014:05:06 07:08:09"
    Image.fromarray(pixels(1)).save(folder / "dated.jpg", exif=exif)
    for year in (2010, 2020):
        file = save(folder / f"{year}.png", year)
        os.utime(file, (datetime(year, 6, 1).timestamp(),) * 2)
    create_index(tmp_path / "index", TinyEncoder())
    update_index(tmp_path / "index", [folder], TinyEncoder())
    return tmp_path / "index"


def within(index: Path, **when: Any) -> list[str]:
    snapshot = open_snapshot(index)
    allowed = allowed_rows(snapshot, SearchOptions(**when))
    assert allowed is not None
    paths = snapshot.rows["path"].to_pylist()
    return sorted(os.fsdecode(os.path.basename(paths[row])) for row in allowed.nonzero()[0])


def local(year: int, month: int = 1, day: int = 1) -> datetime:
    return datetime(year, month, day).astimezone()


@pytest.mark.parametrize(
    "after",
    [
        datetime(2014, 5, 6),
        date(2014, 5, 6),
        "2014-05-06",
        "2014-05",
        "2014",
        " 2014-05-06T07:08:09 ",
        "2014-05-06 07:08",
        local(2014, 5, 6),
        local(2014, 5, 6).astimezone(UTC),
        local(2014, 5, 6).astimezone(timezone(timedelta(hours=-9))).isoformat(),
    ],
    ids=str,
)
def test_times_of_every_kind(index: Path, after: Any) -> None:
    assert within(index, after=after) == ["2020.png", "dated.jpg"]
    assert within(index, after=after, before=date(2015, 1, 1)) == ["dated.jpg"]
    assert within(index, before=after) == ["2010.png"]


@pytest.mark.parametrize("when", ["soon", "2014-13", "", "14", 2014, 1.5e9, b"2014", [2014]])
def test_what_is_no_time(index: Path, when: Any) -> None:
    for name in ("after", "before"):
        with pytest.raises(QueryError, match=rf"{name} .* is no date. Write it like 2014-05-06"):
            within(index, **{name: when})


@pytest.mark.parametrize(
    "when",
    [datetime(1, 1, 1), "0001-01-01", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))],
)
def test_the_first_year_is_refused(index: Path, when: Any) -> None:
    with pytest.raises(QueryError, match="does not know that year"):
        within(index, before=when)


def test_the_last_year_is_no_limit(index: Path) -> None:
    assert within(index, before=datetime(9999, 12, 31)) == ["2010.png", "2020.png", "dated.jpg"]


def test_photos_without_a_date_are_counted(index: Path) -> None:
    snapshot = open_snapshot(index)
    assert undated_photos(snapshot, SearchOptions()) is None
    undated = undated_photos(snapshot, SearchOptions(after="2014", before="2015"))
    assert undated is not None
    assert (undated.photos, undated.left_out) == (2, 2)
    undated = undated_photos(snapshot, SearchOptions(after="2015"))
    assert undated is not None
    assert (undated.photos, undated.left_out) == (2, 1)
    assert read_status(index)["undated"] == 2


@pytest.mark.slow
def test_the_command_line_tells_photos_without_a_date(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x9003] = "2014:05:06 24:08:09"
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels(1)).save(tmp_path / "photos" / "dated.jpg", exif=exif)
    save(tmp_path / "photos" / "undated.png", 2)
    done = run_veduta(tmp_path, "index", "photos", "--keypoints", "none")
    assert done.returncode == 0, done.stderr
    status = run_veduta(tmp_path, "status").stdout
    assert "undated     1 photo without a date of exposure" in status
    search = ("search", "photos/dated.jpg", "--rerank", "none")
    limited = run_veduta(tmp_path, *search, "--after", "2014-05-06", "--before", "2014-05-07")
    assert limited.returncode == 0
    assert "dated.jpg" in limited.stdout and "undated.png" not in limited.stdout
    assert "1 photo of the index has no date of exposure" in limited.stderr
    assert "1 left out by it" in limited.stderr
    assert "no date of exposure" not in run_veduta(tmp_path, *search).stderr
    first = run_veduta(tmp_path, *search, "--before", "0001-01-01")
    assert first.returncode == 3
    assert first.stderr == (
        "veduta: before 0001-01-01T00:00:00: the clock of this system does not know that year.\n"
    )
