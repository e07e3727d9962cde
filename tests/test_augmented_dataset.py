"""Datasets with changed copies of training photos: no copy crosses a split."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import pixels
from tiny_dataset import content, rows_of, save_photo, split_dataset, write_rows

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")


from veduta.cli.main import run  # noqa: E402
from veduta.curate.splitting import find_leaks  # noqa: E402
from veduta.datasets import open_dataset, read_dataset  # noqa: E402
from veduta.errors import DatasetError, StorageFull  # noqa: E402
from veduta.learn.augmentation.augmented_dataset import (  # noqa: E402
    AugmentedDataset,
    CopyOptions,
    augment_dataset,
)
from veduta.learn.augmentation.steps import read_steps  # noqa: E402
from veduta.photos import load  # noqa: E402

KERAS = [{"rotation": 40}, {"shift": 0.2}, {"shear": 20}, {"zoom": 0.2}, {"flip": "horizontal"}]


def augmented(source: Path, out: Path, **options: object) -> AugmentedDataset:
    """Augment a dataset with the options of `CopyOptions`."""
    steps = read_steps(options.pop("steps", KERAS))  # type: ignore[arg-type]
    on_progress = options.pop("on_progress", None)
    column = str(options.get("column", "split"))
    dataset = read_dataset(source, split_column=column, keep_columns=True)
    return augment_dataset(
        dataset,
        steps,
        out,
        CopyOptions(**options),  # type: ignore[arg-type]
        on_progress=on_progress,  # type: ignore[arg-type]
    )


def test_only_training_photos_are_copied(tmp_path: Path) -> None:
    source, out = split_dataset(tmp_path / "data"), tmp_path / "out"
    before = content(source)
    done = augmented(source, out, copies=4)
    assert content(source) == before
    assert (done.photos, done.copied, done.copies, done.kept) == (10, 6, 4, 0)
    assert done.problems == ()
    rows = rows_of(out / "labels.csv")
    assert list(rows[0]) == ["path", "label", "split", "note", "original_photo"]
    assert len(rows) == 10 + 6 * 4
    assert len({row["path"] for row in rows}) == len(rows)
    written = {row["path"]: (out / row["path"]).read_bytes() for row in rows}
    assert {*written, "labels.csv", "augmentation.json"} == set(content(out))
    originals = {row["path"]: row for row in rows if row["path"] == row["original_photo"]}
    assert {path: written[path] for path in originals} == {
        path: data for path, data in before.items() if path != "labels.csv"
    }
    copies = [row for row in rows if row["path"] not in originals]
    for row in copies:
        of = originals[row["original_photo"]]
        assert of["split"] == "train"
        assert {**row, "path": of["path"]} == of
        with Image.open(out / row["path"]) as opened:
            assert (opened.format, opened.size) == ("JPEG", (40, 30))
    assert len({written[row["path"]] for row in copies}) == len(copies)


def test_no_copy_crosses_a_split(tmp_path: Path) -> None:
    """The sources that the column names never lie in two parts, of any column of splits."""
    source = split_dataset(tmp_path / "data", {"query": 1, "gallery": 3, "train": 2, "": 1})
    rows = rows_of(source / "labels.csv")
    others = [[*row.values(), "train" if at % 3 else "test"] for at, row in enumerate(rows)]
    write_rows(source / "labels.csv", ["path", "label", "split", "note", "cls"], others)
    for column, part in (("split", None), ("split", "gallery"), ("cls", None), ("cls", "test")):
        out = tmp_path / f"{column}-{part}"
        augmented(source, out, column=column, split=part, copies=2)
        for each in ("split", "cls"):
            table = read_dataset(out, split_column=each, keep_columns=True)
            sources = table.column("original_photo")
            assert find_leaks(table.splits, [], sources) == []
            asked = {table.splits[at] for at, path in enumerate(table.paths) if path != sources[at]}
            if each == column:
                assert asked == {part or "train"}


def test_the_same_call_gives_the_same_files(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        augmented(source, tmp_path / name, copies=2, seed=seed)
    first, again, other = (content(tmp_path / name) for name in "abc")
    assert first == again
    changed = {path for path in first if first[path] != other[path]}
    assert changed == {path for path in first if "~" in path} | {"augmentation.json"}


def test_drawing_leaves_the_callers_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    augmented(split_dataset(tmp_path / "data"), tmp_path / "out", copies=1)
    assert torch.equal(torch.rand(3), wanted)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    source, out = split_dataset(tmp_path / "data"), tmp_path / "out"

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augmented(source, out, copies=3, on_progress=stop)
    assert not (out / "labels.csv").exists()
    with pytest.raises(DatasetError, match=r"other settings \(seed\)"):
        augmented(source, out, copies=3, seed=1)
    with pytest.raises(DatasetError, match=r"other settings \(steps, copies\)"):
        augmented(source, out, copies=2, steps=[{"grey": 1}])
    done = augmented(source, out, copies=3)
    assert done.kept == 3 * 4
    augmented(source, tmp_path / "whole", copies=3)
    assert content(out) == content(tmp_path / "whole")
    with pytest.raises(DatasetError, match="already holds a finished augmentation"):
        augmented(source, out, copies=3)


def test_drafts_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    source, out = split_dataset(tmp_path / "data"), tmp_path / "out"
    (out / ".drafts").mkdir(parents=True)  # Of an older version.
    (out / ".drafts" / "draft").touch()
    (out / ".draft-1.json").touch()
    with pytest.raises(KeyboardInterrupt):
        augmented(source, out, copies=1, on_progress=interrupt)
    (out / "photos" / "c0" / ".draft-2.jpg").parent.mkdir(parents=True)
    (out / "photos" / "c0" / ".draft-2.jpg").touch()
    augmented(source, out, copies=1)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


def test_a_planted_link_leads_no_file_elsewhere(tmp_path: Path) -> None:
    """A stranger's unfinished folder has a link in the place of a class folder."""
    source, out, victim = split_dataset(tmp_path / "data"), tmp_path / "out", tmp_path / "victim"
    with pytest.raises(KeyboardInterrupt):
        augmented(source, out, copies=1, on_progress=interrupt)
    victim.mkdir()
    (out / "photos").symlink_to(victim)
    with pytest.raises(DatasetError, match="holds a link"):
        augmented(source, out, copies=1)
    assert not list(victim.iterdir())


def interrupt(_done: int, _total: int) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = split_dataset(tmp_path / "data"), tmp_path / "out"
    write, written = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        written.append(self)
        if len(written) > 9:
            write(self, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", os.fspath(self))
        return write(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageFull, match=r"the disk is full.*run the same command again"):
            augmented(source, out)
    augmented(source, out)
    augmented(source, tmp_path / "whole")
    assert content(out) == content(tmp_path / "whole")


def test_folders_that_are_refused(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty"):
        augmented(source, full)
    (full / "augmentation.json").write_text('["no record"]')
    with pytest.raises(DatasetError, match="is not empty"):
        augmented(source, full)
    with pytest.raises(DatasetError, match="not a folder"):
        augmented(source, full / "mine.txt")
    for inside in (source, source / "photos" / "new"):
        with pytest.raises(DatasetError, match="lies in the dataset"):
            augmented(source, inside)
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(DatasetError, match="lies in the dataset"):
        augmented(source, tmp_path / "link" / "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        augmented(source, tmp_path / "file" / "new")


def test_a_dataset_without_a_split(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data", {"": 10})
    with pytest.raises(DatasetError, match=r"no split.*veduta split.*--all.*--group-column"):
        augmented(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = augmented(source, tmp_path / "out", all_photos=True, copies=2)
    assert (done.photos, done.copied) == (20, 20)
    assert list(rows_of(tmp_path / "out" / "labels.csv")[0]) == [
        "path",
        "label",
        "note",
        "original_photo",
    ]
    code = run(
        [
            "split",
            str(tmp_path / "out"),
            "--no-find-copies",
            "--group-column",
            "original_photo",
            "--out",
            str(tmp_path / "out" / "split.csv"),
        ]
    )
    assert code == 0
    table = read_dataset(tmp_path / "out", labels="split.csv", keep_columns=True)
    assert set(table.splits) == {"train", "val", "test"}
    assert find_leaks(table.splits, [], table.column("original_photo")) == []


def test_splits_that_name_no_training_part(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data", {"query": 1, "gallery": 2})
    with pytest.raises(DatasetError, match=r"in the split 'train'.*gallery 4, query 2; --column"):
        augmented(source, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"has splits.*leave --all out"):
        augmented(source, tmp_path / "out", all_photos=True)


def test_folders_of_splits(tmp_path: Path) -> None:
    for part in ("Training", "validation", "test"):
        for number in range(2):
            save_photo(tmp_path / "data" / part / "a b" / f"{number}.png", number)
    done = augmented(tmp_path / "data", tmp_path / "out", copies=1)
    assert (done.photos, done.copied) == (6, 2)
    table = read_dataset(tmp_path / "out", keep_columns=True)
    assert dict(zip(table.paths, table.splits, strict=True)) == {
        "Training/a b/0.png": "train",
        "Training/a b/0~1.jpg": "train",
        "Training/a b/1.png": "train",
        "Training/a b/1~1.jpg": "train",
        "validation/a b/0.png": "val",
        "validation/a b/1.png": "val",
        "test/a b/0.png": "test",
        "test/a b/1.png": "test",
    }
    assert set(table.labels) == {"a b"}
    assert len(open_dataset(tmp_path / "out").table) == 8


def test_copies_of_copies_belong_to_the_first(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data", {"train": 1, "test": 1}, classes=1)
    augmented(source, tmp_path / "once", copies=1)
    augmented(tmp_path / "once", tmp_path / "twice", copies=1)
    rows = rows_of(tmp_path / "twice" / "labels.csv")
    assert list(rows[0]).count("original_photo") == 1
    trained = {row["path"]: row["original_photo"] for row in rows if row["split"] == "train"}
    assert len(trained) == 4
    assert set(trained.values()) == {"photos/c0/train0.jpg"}


def test_hostile_files_and_names(tmp_path: Path) -> None:
    source = tmp_path / "data"
    good = [
        "a.jpg",
        "a.png",
        "A.JPG",
        "x?y\n.jpg",
        "CON.jpg",
        "...hidden.jpg",
        "no ending",
        "labels.csv.jpg",
        "d:e/ü.jpg",
        "a~1.jpg",
        "labels",
    ]
    for number, name in enumerate(good):
        made = source / name
        made.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(made, "JPEG")
    (source / "broken.jpg").write_bytes((source / "a.jpg").read_bytes()[:200])
    (source / "page.jpg").write_bytes(b"<html><body>not a photo</body></html>")
    (source / "empty.jpg").write_bytes(b"")
    (source / "broken-test.jpg").write_bytes(b"\xff\xd8 nothing")
    rows = [[name, "l,\n\"'=1", "train"] for name in (*good, "broken.jpg", "page.jpg", "empty.jpg")]
    rows += [["broken-test.jpg", "b", "test"], ["gone.jpg", "b", "train"]]
    write_rows(source / "data.csv", ["path", "label", "split"], rows)
    table = read_dataset(source, labels="data.csv", keep_columns=True)
    done = augment_dataset(table, read_steps(KERAS), tmp_path / "out", CopyOptions(copies=1))
    assert done.copied == len(good)
    assert done.photos == len(good) + 1  # a photo that is not changed is not looked into
    told = "\n".join(done.problems)
    for name in ("broken.jpg: left out", "page.jpg: left out", "empty.jpg: left out", "1 missing"):
        assert name in told
    read = read_dataset(tmp_path / "out", keep_columns=True)
    assert len(read.paths) == 2 * len(good) + 1
    assert read.problems == ()
    assert set(read.labels) == {"l,\n\"'=1", "b"}
    folded = {path.casefold() for path in read.paths}
    assert len(folded) == len(read.paths)
    for path in read.paths:
        assert not set(path) & set('?:\n"*<>|\\')
        assert not path.startswith(".")
    assert len(open_dataset(tmp_path / "out").table) == len(read.paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_that_takes_the_place_of_a_photo(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data")
    table = read_dataset(source, keep_columns=True)
    (source / "photos/c0/train0.jpg").unlink()
    os.mkfifo(source / "photos/c0/train0.jpg")
    done = augment_dataset(table, read_steps(KERAS), tmp_path / "out", CopyOptions(copies=1))
    assert done.copied == 5
    assert "a pipe" in done.problems[0]


def test_not_one_training_photo_can_be_read(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data", {"train": 1, "test": 1}, classes=1)
    (source / "photos/c0/train0.jpg").write_bytes(b"nothing")
    with pytest.raises(
        DatasetError, match=r"none of the photos.*can be read: photos/c0/train0\.jpg"
    ):
        augmented(source, tmp_path / "out")


def test_a_copy_is_as_large_as_wanted_and_upright(tmp_path: Path) -> None:
    source = tmp_path / "data"
    (source / "train" / "a").mkdir(parents=True)
    turned = Image.new("RGB", (800, 400), "white")
    turned.paste("black", (0, 0, 400, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: black is on top then
    turned.save(source / "train" / "a" / "1.jpg", exif=exif)
    save_photo(source / "test" / "a" / "1.jpg", 0)
    augmented(source, tmp_path / "out", copies=1, side=100, steps=[])
    with Image.open(tmp_path / "out" / "train/a/1~1.jpg") as copy:
        assert copy.size == (50, 100)
        assert copy.getpixel((25, 10)) < (30, 30, 30)
        assert copy.getpixel((25, 90)) > (220, 220, 220)


@pytest.mark.slow
def test_real_photos_of_all_kinds(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Every broken, odd or misnamed file is copied or named, and what is copied decodes."""
    table = read_dataset(shared_data("messy"), keep_columns=True)
    steps = read_steps([{"rotation": 40}, {"gaussian-noise": 0.1}])
    done = augment_dataset(
        table, steps, tmp_path / "out", CopyOptions(all_photos=True, copies=1, side=64)
    )
    left_out = {problem.split(": left out")[0] for problem in done.problems}
    rows = rows_of(tmp_path / "out" / "labels.csv")
    assert len(rows) == 2 * done.copied
    assert done.copied + len(left_out & set(table.paths)) == len(table.paths)
    assert len(left_out) > 3
    for row in rows:
        assert max(load(tmp_path / "out" / row["path"]).pixels.shape) >= 1


def test_copies_of_a_photo_with_a_wide_gamut_are_in_srgb(tmp_path: Path) -> None:
    samples = Path(__file__).parent / "photos"
    source = tmp_path / "data"
    (source / "train" / "a").mkdir(parents=True)
    (source / "test" / "a").mkdir(parents=True)
    for part in ("train", "test"):
        shutil.copy(samples / "wide_gamut.jpg", source / part / "a" / "1.jpg")
    augmented(source, tmp_path / "out", copies=1, steps=[{"rotation": 0}])
    (copy,) = (tmp_path / "out").rglob("*~1.jpg")
    with Image.open(copy) as changed, Image.open(samples / "the_same_in_srgb.jpg") as same:
        difference = np.abs(np.asarray(changed, np.float32) - np.asarray(same, np.float32))
    assert difference.mean() < 9
