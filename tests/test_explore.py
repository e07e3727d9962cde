"""`veduta describe`: counts against other ways of counting, copies against a known truth."""

from __future__ import annotations

import csv
import json
import math
import random
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import pixels, save

from veduta.cli.main import run
from veduta.datasets.label_counts import count_labels, find_label_list
from veduta.errors import DatasetError
from veduta.explore import describe
from veduta.explore.classes import ClassSizes, class_sizes
from veduta.explore.description_charts import _sizes_by_rank, description_charts


def sized(sizes: list[int]) -> ClassSizes:
    import pyarrow as pa

    return class_sizes(
        pa.table(
            {
                "label": [f"c{n:03}" for n in range(len(sizes))],
                "split": [""] * len(sizes),
                "photos": sizes,
            }
        )
    )


# Figures of the classes


def test_imbalance_by_hand() -> None:
    """Sizes 4, 2, 1, 1: shares 1/2, 1/4, 1/8, 1/8, whose entropy is 1.75 bits."""
    figures = sized([1, 4, 1, 2]).imbalance()
    assert (figures.largest, figures.smallest, figures.single) == (4, 1, 2)
    assert (figures.median, figures.mean, figures.ratio) == (1.5, 2.0, 4.0)
    assert figures.effective == pytest.approx(2**1.75)
    # Half the mean absolute difference over the mean: pairs differ by 2, 3, 3, 1, 1, 0.
    assert figures.gini == pytest.approx(2 * 10 / 16 / 2 / 2)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40))
def test_imbalance_another_way(sizes: list[int]) -> None:
    figures = sized(sizes).imbalance()
    total = sum(sizes)
    differences = sum(abs(a - b) for a in sizes for b in sizes)
    gini = differences / (2 * len(sizes) * total)
    assert figures.gini == pytest.approx(gini, abs=1e-9)
    entropy = -sum(n / total * math.log(n / total) for n in sizes)
    assert figures.effective == pytest.approx(math.exp(entropy))
    assert 1 - 1e-9 <= figures.effective <= len(sizes) + 1e-6


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=60))
def test_histogram_counts_every_class_once(sizes: list[int]) -> None:
    counts, edges = sized(sizes).histogram()
    assert counts.sum() == len(sizes)
    assert len(edges) == len(counts) + 1 <= 30
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        assert count == sum(low < size < high for size in sizes)
    assert counts[0] > 0 and counts[-1] > 0, "no empty bin at an end"


@pytest.mark.parametrize("sizes", [[3, 5, 5, 9, 40], [1, 1, 2, 30, 4000], list(range(1, 15))])
def test_density_is_scipys(sizes: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    some = sized(sizes)
    estimate = some.density()
    assert estimate is not None
    at, height = estimate
    values = np.log10(sizes) if some.wide else np.array(sizes, float)
    axis = np.log10(at) if some.wide else at
    spread = values.std()
    kernel = stats.gaussian_kde(values, bw_method=len(sizes) ** -0.2 * spread / values.std(ddof=1))
    np.testing.assert_allclose(height, kernel(axis), rtol=1e-6, atol=1e-9)


def test_no_density_without_a_spread() -> None:
    assert sized([5] * 9).density() is None
    assert sized([1, 2, 3, 4]).density() is None


def test_distribution_keeps_the_ends_of_a_long_tail() -> None:
    sizes = sized([max(1, 300_000 // rank) for rank in range(1, 20_001)])
    rank, size = _sizes_by_rank(sizes.sizes)
    assert len(rank) < 1000
    assert (rank[0], size[0], rank[-1], size[-1]) == (1, 300_000, 20_001, 15)
    assert (size[:-1] == sizes.sizes[rank[:-1] - 1]).all()
    assert set(size.tolist()) >= set(range(15, 40)), "every small size that a class has"


def test_classes_come_largest_first_and_equal_ones_by_name() -> None:
    import pyarrow as pa

    counted = pa.table(
        {
            "label": ["b", "a", "c", "a", None, " ", "b "],
            "split": ["query", "query", "gallery", "gallery", "distractor", "junk", "gallery"],
            "photos": [1, 2, 9, 3, 7, 1, 4],
        }
    )
    sizes = class_sizes(counted)
    assert sizes.names == ("c", "a", "b")
    assert sizes.sizes.tolist() == [9, 5, 5]
    assert sizes.splits == {"distractor": 7, "gallery": 16, "junk": 1, "query": 3}
    assert sizes.by_split["query"].tolist() == [0, 2, 1]
    assert (sizes.unlabelled, sizes.photos) == (8, 27)
    assert sizes.only_in("gallery", "query") == ("c",)


# CSV files without photos


def landmarks_csv(file: Path, rows: int, classes: int = 50) -> Counter[str]:
    chance = random.Random(rows)
    counts: Counter[str] = Counter()
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "url", "landmark_id"])
        for row in range(rows):
            label = str(int(chance.paretovariate(0.7)) % classes)
            counts[label] += 1
            writer.writerow([f"{row:016x}", f'https://example.org/a,"b"/{row}.jpg', label])
    return counts


def test_google_landmarks_counted_as_csv_does(tmp_path: Path) -> None:
    counts = landmarks_csv(tmp_path / "train.csv", 20_000)
    done = describe(tmp_path / "train.csv")
    assert dict(zip(done.sizes.names, done.sizes.sizes.tolist(), strict=True)) == counts
    assert done.sizes.photos == 20_000 and done.facts is None and done.as_json()["files"] is None


def test_what_spreadsheets_do_to_a_csv(tmp_path: Path) -> None:
    """A mark at the start, other cases and orders, CRLF, quotes, blank lines, a line break."""
    file = tmp_path / "train.csv"
    file.write_bytes(
        b'\xef\xbb\xbf"Landmark_ID",URL, id \r\n'
        b'7,"http://a,b",x\r\n\r\n"7","he said ""so""",y\r\n'
        b'8,"two\r\nlines",z\r\n,u,v\r\nNone,u,w\r\n'
    )
    sizes = describe(file).sizes
    assert dict(zip(sizes.names, sizes.sizes.tolist(), strict=True)) == {"7": 2, "8": 1}
    assert sizes.unlabelled == 2


def test_padding_that_the_fast_reader_refuses(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("id,url,landmark_id\na,u,1\nb,u,1,,,\nc,u,2\n")
    assert describe(file).sizes.sizes.tolist() == [2, 1]


def test_cleaned_list(tmp_path: Path) -> None:
    file = tmp_path / "train_clean.csv"
    file.write_text(
        "landmark_id,images\n1,17660ef415d37059 92b6290d571448f6\n7,25c9dfc7ea69838d\n9,\n"
    )
    sizes = describe(file).sizes
    assert dict(zip(sizes.names, sizes.sizes.tolist(), strict=True)) == {"1": 2, "7": 1}


def test_labels_without_their_photos(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,label,split\na.jpg,x,query\nb.jpg,x,gallery\nc.jpg,y,gallery\nd.jpg,,distractor\n"
    )
    sizes = describe(tmp_path, photos=False).sizes
    assert sizes.names == ("x", "y") and sizes.sizes.tolist() == [2, 1]
    assert sizes.splits == {"distractor": 1, "gallery": 2, "query": 1}
    with pytest.raises(DatasetError, match="none of its 4 photos is there"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"id,url\na,b\n", r"line 1: no column of labels; found 'id', 'url'; wanted 'path' and"),
        (b"id;url;landmark_id\n", "no labelled photo"),
        (b"id:url:landmark_id\n", "separate the columns with commas"),
        (b"", "found none"),
        (b"id,url,landmark_id\n", "no labelled photo"),
        (b"id,url,landmark_id\na,u,\n", "no labelled photo"),
        (b"id,landmark_id,landmark_id\na,1,2\n", "'landmark_id' is there 2 times"),
        (b"id,url,landmark_id\na,u,1\nb,1\n", r"line 3: 2 fields, but the header has 3"),
        (b"id,url,landmark_id\na,u,\xff\n", "line 2: not UTF-8"),
        (b'id,url,landmark_id\na,u,1\n"b,u,2\nc,u,3\n', "line 3: not a CSV record"),
    ],
)
def test_csv_that_is_wrong_names_line_and_columns(
    tmp_path: Path, content: bytes, match: str
) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=match) as caught:
        describe(file)
    assert str(caught.value).startswith(str(file))


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Python's own memory; the benchmark looks at that of the whole process."""
    peaks = []
    for rows in (20_000, 200_000):
        file = tmp_path / f"{rows}.csv"
        landmarks_csv(file, rows)
        labels = find_label_list(file)
        tracemalloc.start()
        count_labels(labels)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 200_000


def test_progress_of_a_csv_ends_at_its_rows(tmp_path: Path) -> None:
    landmarks_csv(tmp_path / "train.csv", 50_000)
    told: list[tuple[str, int, int]] = []
    describe(tmp_path / "train.csv", on_progress=lambda *what: told.append(what))
    assert [what[:2] for what in told][-1] == ("Counting", 50_000)
    assert all(done <= total for _, done, total in told)


# Folders


def test_folders_of_splits(tmp_path: Path) -> None:
    for split, number in (("train", 3), ("Validation", 2), ("test", 1)):
        for at in range(number):
            save(tmp_path / split / f"class{at}" / "a.png", 10 * number + at)
    done = describe(tmp_path)
    assert done.sizes.splits == {"test": 1, "train": 3, "val": 2}
    assert done.lacking() == {
        ("train", "test"): ("class1", "class2"),
        ("train", "val"): ("class2",),
    }


def test_query_and_gallery_named(tmp_path: Path) -> None:
    save(tmp_path / "q" / "x" / "a.png", 1)
    save(tmp_path / "g" / "x" / "b.png", 2)
    done = describe(tmp_path, queries=Path("q"), gallery=Path("g"))
    assert done.sizes.splits == {"gallery": 1, "query": 1}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not a folder"):
        describe(tmp_path / "absent")
    with pytest.raises(DatasetError, match="holds no photos"):
        describe(tmp_path)


# What the photos are


def test_facts_of_photos(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "a").mkdir(parents=True)
    Image.fromarray(pixels(1, 60, 40)).save(root / "a" / "1.jpg")
    Image.fromarray(pixels(2, 60, 40)).convert("L").save(root / "a" / "2.jpg")
    Image.fromarray(pixels(3, 60, 40)).convert("CMYK").save(root / "a" / "3.jpg")
    Image.fromarray(pixels(4, 60, 40)).convert("P").save(root / "a" / "4.png")
    Image.fromarray(pixels(5, 60, 40)).convert("RGBA").save(root / "a" / "5.png")
    Image.fromarray(pixels(6, 60, 40)).save(root / "a" / "6.jpg", "WEBP")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels(7, 60, 40)).save(root / "a" / "7.jpg", exif=turned)
    Image.fromarray(pixels(8, 600, 400)).save(root / "a" / "8.jpg")
    whole = (root / "a" / "8.jpg").read_bytes()
    (root / "a" / "8.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "9.jpg").write_bytes(b"<html>")
    files = describe(root).as_json()["files"]
    assert files["formats"] == {"JPEG": 4, "PNG": 2, "WEBP": 1}
    assert files["colour_modes"] == {"RGB": 3, "L": 1, "CMYK": 1, "P": 1, "RGBA": 1}
    assert files["misnamed"] == [{"path": "a/6.jpg", "format": "WEBP"}]
    assert [row["path"] for row in files["unreadable"]] == ["a/8.jpg", "a/9.jpg"]
    assert "cut short" in files["unreadable"][0]["reason"]
    assert "HTML" in files["unreadable"][1]["reason"]
    assert files["width"] == {"smallest": 40, "median": 60, "largest": 60}, "upright"
    assert files["read"] == 7
    assert files["bytes"]["total"] == sum(
        (root / "a" / name).stat().st_size
        for name in ("1.jpg", "2.jpg", "3.jpg", "4.png", "5.png", "6.jpg", "7.jpg")
    )


# Copies


def test_copies_across_splits_and_labels(tmp_path: Path) -> None:
    """Photos 0 to 9; some of them again, as bytes, smaller, or as JPEG of low quality."""
    for number in range(10):
        file = tmp_path / f"gallery/place{number % 2}/g{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number, 240, 160)).save(file)
    query = tmp_path / "query"
    (query / "place0").mkdir(parents=True)
    (query / "place1").mkdir(parents=True)
    shutil.copy(tmp_path / "gallery/place0/g0.png", query / "place0/same.png")
    shutil.copy(tmp_path / "gallery/place1/g1.png", query / "place0/mislabelled.png")
    Image.fromarray(pixels(2, 240, 160)).resize((120, 80)).save(query / "place0/small.png")
    Image.fromarray(pixels(3, 240, 160)).save(query / "place1/poor.jpg", quality=30)
    save(query / "place1/new.png", 99)
    found = describe(tmp_path).as_json()["duplicates"]
    assert found["exact"] == [
        ["gallery/place0/g0.png", "query/place0/same.png"],
        ["gallery/place1/g1.png", "query/place0/mislabelled.png"],
    ]
    assert found["near"] == [
        ["gallery/place0/g2.png", "query/place0/small.png"],
        ["gallery/place1/g3.png", "query/place1/poor.jpg"],
    ]
    assert found["spare"] == 4
    assert [tuple(row["paths"]) for row in found["across_labels"]] == [
        ("gallery/place1/g1.png", "query/place0/mislabelled.png")[::-1]
    ]
    assert {tuple(sorted(row["paths"])) for row in found["across_splits"]} == {
        *map(tuple, found["exact"]),
        *map(tuple, found["near"]),
    }
    assert {row["same_bytes"] for row in found["across_splits"]} == {True, False}
    assert all(row["likeness"] >= 0.98 for row in found["across_splits"])
    assert sum(row["photos"] for row in found["copies_between_splits"]) == 4


def test_flat_pictures_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for grey in (10, 100, 200):
        (tmp_path / "blank").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (grey,) * 3).save(tmp_path / f"blank/{grey}.png")
    drawing = np.full((160, 160, 3), 255, np.uint8)
    for number in range(3):  # white paper with another dot each: the hashes are much alike
        dot = drawing.copy()
        dot[70 : 70 + 20, 20 + 40 * number : 50 + 40 * number] = 0
        Image.fromarray(dot).save(tmp_path / f"blank/dot{number}.png")
    found = describe(tmp_path).duplicates
    assert found is not None and found.groups == ()


def test_no_copies_among_drawings(shared_data: Callable[[str], Path]) -> None:
    """Sketches on white share their few bits and are not the same picture."""
    found = describe(shared_data("domains4")).duplicates
    assert found is not None and found.groups == ()


# The command


def test_command_prints_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        save(tmp_path / f"a class with a very long name indeed, number {number}" / "a.png", number)
        save(
            tmp_path / f"a class with a very long name indeed, number {number}" / "b.png",
            -number % 9,
        )
    (
        tmp_path / "a class with a very long name indeed, number 3" / ("long" * 30 + ".jpg")
    ).write_bytes(b"\xff\xd8\xff")
    assert run(["describe", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "51 photos, 25 classes" in lines[0]
    assert not [line for line in lines if len(line) > 80 and "longlong" not in line]
    for heading in ("Classes", "Photos", "Duplicates"):
        assert heading in lines
    assert "most frequent" in out and "least frequent" in out and "under two labels" in out
    assert "\x1b" not in out


def test_command_writes_json_and_charts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        save(tmp_path / "set" / f"c{number % 3}" / f"{number}.png", number)
    charts_of = tmp_path / "new" / "charts"
    assert run(["describe", str(tmp_path / "set"), "--json", "--png", str(charts_of)]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["photos"] == 6 and done["classes"] == 3
    assert sum(row["photos"] for row in done["class_sizes"]) == 6
    names = {file.stem for file in charts_of.iterdir()}
    assert names == {*description_charts(describe(tmp_path / "set")), "contact_sheet"}
    with Image.open(charts_of / "contact_sheet.png") as sheet:
        assert sheet.width == 2 * 28 + 2 * 180 + 12  # three classes of two photos
        assert len(sheet.convert("RGB").getcolors(1 << 24) or []) > 50
    assert {"most_frequent_classes", "class_distribution", "photo_sizes", "formats"} <= names
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in charts_of.iterdir())


def test_command_without_photos_reads_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "c" / "a.png", 1)
    monkeypatch.setattr("veduta.explore.description.scan_photos", None)
    assert run(["describe", str(tmp_path), "--no-photos", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["files"] is None and done["photos"] == 1


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["describe"]) == 2
    assert run(["describe", str(tmp_path / "absent")]) == 3
    assert run(["describe", str(tmp_path), "--queries", "q"]) == 3
    (tmp_path / "x.csv").write_text("id,url\n")
    assert run(["describe", str(tmp_path / "x.csv")]) == 3
    save(tmp_path / "set" / "c" / "a.png", 1)
    assert run(["describe", str(tmp_path / "set"), "--html", str(tmp_path / "no" / "x.html")]) == 3
    assert run(["describe", str(tmp_path / "set"), "--png", str(tmp_path / "x.csv")]) == 3
    error = capsys.readouterr().err
    assert "its folder does not exist" in error and "x.csv is not a folder" in error
    assert "found 'id', 'url'" in error and "Traceback" not in error
