"""Every command sees the same classes and splits of a dataset, whatever its layout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest
from tiny import TinyEncoder, save

from veduta.cli.main import run
from veduta.curate.cleaning import clean
from veduta.datasets import Dataset, labels_from_folders, open_dataset, read_dataset
from veduta.datasets.split_names import SPLITS, split_named
from veduta.errors import DatasetError
from veduta.explore import describe

WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
    "query": ("query", "queries"),
    "gallery": ("gallery", "database", "index"),
    "distractor": ("distractor", "distractors"),
    "junk": ("junk",),
    "unknown": ("unknown",),
}
PARTS = {"train": "train", "gallery": "train", "val": "val", "test": "test", "query": "test"}

Rows = dict[str, tuple[str | None, str]]
"""Path → label and split."""


@dataclass(frozen=True)
class Layout:
    """Photos to write, the CSV file beside them, and what every command should see."""

    rows: Rows
    csv: bytes | None = None
    csv_name: str = "labels.csv"
    other_files: tuple[str, ...] = ()

    def write(self, root: Path) -> Path:
        for seed, path in enumerate(self.rows):
            save(root / path, seed)
        for name in self.other_files:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("no photo")
        if self.csv is None:
            return root
        (root / self.csv_name).write_bytes(self.csv)
        return root if self.csv_name == "labels.csv" else root / self.csv_name


def folders(**split_of: str) -> Layout:
    """Return folders of splits with the classes a and b; `distractors` hold no class folders."""
    rows: Rows = {}
    for word, split in split_of.items():
        if split in ("distractor", "junk"):
            rows |= {f"{word}/{number}.png": (None, split) for number in (1, 2)}
        else:
            rows |= {f"{word}/{label}/{n}.png": (label, split) for label in "ab" for n in (1, 2)}
    return Layout(dict(sorted(rows.items())))


def pairs() -> dict[str, Layout]:
    """Every two names that a training and a test folder, or a query and a gallery folder, have."""
    layouts = {}
    for one, other in (("train", "test"), ("train", "val"), ("gallery", "query")):
        for first in WORDS[one]:
            for second in WORDS[other]:
                layouts[f"{first}+{second}"] = folders(**{first: one, second: other})
    return layouts


def table(header: str, *lines: str, mark: bool = False, name: str = "labels.csv") -> Layout:
    """Return four photos without folders, two of them queries, labelled by a CSV file."""
    rows: Rows = {
        "1.png": ("a", "query"),
        "2.png": ("b", "query"),
        "3.png": ("a", "gallery"),
        "4.png": ("b", "gallery"),
    }
    text = "\n".join([header, *lines]) + "\n"
    return Layout(rows, text.encode("utf-8-sig" if mark else "utf-8"), name)


def fields(*columns: str, separator: str = ",") -> list[str]:
    """Return the rows of `table`, with the columns in this order."""
    values = {
        "path": ("1.png", "2.png", "3.png", "4.png"),
        "label": ("a", "b", "a", "b"),
        "split": ("query", "Queries", "gallery", "database"),
        "other": ("x", "y, z" if separator != "," else "y", "", "w"),
    }
    return [separator.join(values[name][row] for name in columns) for row in range(4)]


def unsplit(*paths: str) -> Layout:
    return Layout({path: (path.split("/")[0], "") for path in sorted(paths)})


LAYOUTS: Mapping[str, Layout] = {
    **pairs(),
    "upper case": folders(TRAIN="train", TEST="test"),
    "title case": folders(Training="train", Validation="val", Testing="test"),
    "with distractors": folders(queries="query", database="gallery", distractors="distractor"),
    "all kinds": folders(query="query", Index="gallery", Distractor="distractor", junk="junk"),
    "three splits": folders(train="train", dev="val", test="test"),
    "one split": folders(training="train"),
    "nested folders": Layout(
        {
            f"{split}/{label}/2019/{number}/x.png": (label, split)
            for split in ("test", "train")
            for label in "ab"
            for number in (1, 2)
        }
    ),
    "beside folders without photos": Layout(
        folders(train="train", test="test").rows,
        other_files=("docs/readme.txt", ".git/train.txt", "__MACOSX/test/._x.txt"),
    ),
    "a class called test": unsplit("test/1.png", "test/2.png", "tower/3.png", "tower/4.png"),
    "classes called index and train": unsplit(
        *(f"{label}/{n}.png" for label in ("index", "train", "tower") for n in (1, 2))
    ),
    "nested classes called test and val": unsplit(
        *(f"{label}/deep/{n}.png" for label in ("test", "val", "dome") for n in (1, 2))
    ),
    "class folders": unsplit("a/1.png", "a/2.png", "b/3.png", "b/4.png"),
    "labels.csv": table("path,label,split", *fields("path", "label", "split")),
    "columns in another order": table(
        "Split,other,LABEL,Path", *fields("split", "other", "label", "path"), mark=True
    ),
    "semicolons": table(
        "path;label;split;other", *fields("path", "label", "split", "other", separator=";")
    ),
    "tabs": table(
        "label\tpath\tsplit", *fields("label", "path", "split", separator="\t"), name="all.tsv"
    ),
    "vertical bars": table("path|label|split", *fields("path", "label", "split", separator="|")),
    "file name and class": table(
        "File Name;Class;Subset", *fields("path", "label", "split", separator=";"), mark=True
    ),
    "image, other, category and set": table(
        "image,other,category,set", *fields("path", "other", "label", "split"), name="list.csv"
    ),
    "names of no known column": table(
        "Bild;Ort;split", *fields("path", "label", "split", separator=";"), name="orte.csv"
    ),
}


# What each command sees: path → label and split, or less where it shows less.


class Stopped(Exception):
    """Ends a command once it has read its dataset."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__()
        self.dataset = dataset


def rows_of(dataset: Dataset) -> Rows:
    labelled = zip(dataset.labels, dataset.splits, strict=True)
    return dict(zip(dataset.paths, labelled, strict=True))


def stopped(call: Callable[[], object]) -> Rows:
    with pytest.raises(Stopped) as caught:
        call()
    return rows_of(caught.value.dataset)


def as_evaluated(rows: Rows) -> Rows:
    if {"query", "gallery"} & {split for _, split in rows.values()}:
        return rows
    roles = {"train": "gallery", "test": "query"}
    return {path: (label, roles.get(split, split)) for path, (label, split) in rows.items()}


@pytest.fixture(params=LAYOUTS.values(), ids=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


@pytest.fixture
def source(layout: Layout, tmp_path: Path) -> Path:
    return layout.write(tmp_path / "data")


def test_evaluate(layout: Layout, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import veduta.evaluation.retrieval_run as module

    def stop(dataset: Dataset, *_: object) -> None:
        raise Stopped(dataset)

    monkeypatch.setattr(module, "rank_by_descriptors", stop)
    assert stopped(lambda: module.evaluate(source)) == as_evaluated(layout.rows)


@pytest.mark.slow
@pytest.mark.parametrize("photos", [True, False])
def test_describe(layout: Layout, source: Path, photos: bool) -> None:
    description = describe(source, photos=photos)
    sizes = description.sizes
    found = {
        (label, split): number
        for split, numbers in sizes.by_split.items()
        for label, number in zip(sizes.names, numbers.tolist(), strict=True)
        if number
    }
    values = list(layout.rows.values())
    assert found == {row: values.count(row) for row in values if row[0]}
    splits = [split for _, split in values]
    assert dict(sizes.splits) == {split: splits.count(split) for split in splits}
    assert sizes.unlabelled == [label for label, _ in values].count(None)


@pytest.mark.slow
def test_clean(layout: Layout, source: Path) -> None:
    assert rows_of(clean(source, only=("exact-copy",)).dataset) == layout.rows


def test_split(layout: Layout, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["split", str(source), "--no-find-copies", "--json"]
    assert run([*command, "--into", "x,y"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["path"]: row["label"] for row in rows} == {
        path: label for path, (label, _) in layout.rows.items()
    }
    splits = [split for _, split in layout.rows.values()]
    assert run([*command, "--check"]) == (0 if any(splits) else 3)
    if any(splits):
        parts = json.loads(capsys.readouterr().out)["parts"]
        assert parts == {split: splits.count(split) for split in splits}


def test_review(
    layout: Layout, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn")
    review = import_module("veduta.web.review_server").review

    def stop(dataset: Dataset, *_: object) -> None:
        raise Stopped(dataset)

    monkeypatch.setattr("veduta.web.open_review.make_review_set", stop)
    out = tmp_path / "decisions.csv"
    assert stopped(lambda: review(source, out=out)) == layout.rows


def test_train(layout: Layout, source: Path) -> None:
    from veduta.learn.data.splits import read_splits

    splits = read_splits(source, validation=0)
    found = {
        splits.paths[row]: (splits.class_names[splits.class_ids[row]], part)
        for part in ("train", "val", "test")
        for row in getattr(splits, part).tolist()
    }
    whole = not any(split for _, split in layout.rows.values())
    assert found == {
        path: (label, "train" if whole else PARTS[split])
        for path, (label, split) in layout.rows.items()
        if label is not None and (whole or split in PARTS)
    }


@pytest.mark.slow
def test_augment(layout: Layout, source: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from veduta.learn.augmentation.augmented_dataset import CopyOptions, augment_dataset
    from veduta.learn.augmentation.steps import REPORTED, read_steps

    splits = {split for _, split in layout.rows.values()}
    part = next((split for split in ("train", "gallery") if split in splits), None)
    dataset = read_dataset(source, keep_columns=True)
    out = tmp_path / "out"
    steps = read_steps(REPORTED)
    options = CopyOptions(split=part, all_photos=splits == {""}, copies=1)
    done = augment_dataset(dataset, steps, out, options)
    copied = [path for path, (_, split) in layout.rows.items() if split == (part or "")]
    assert (done.photos, done.copied) == (len(layout.rows), len(copied))
    # The labels file that it writes is read alike.
    again = rows_of(read_dataset(out, keep_columns=True))
    assert {path: again[path] for path in layout.rows} == layout.rows
    assert len(again) == len(layout.rows) + len(copied)


@pytest.mark.slow
def test_index_labels(layout: Layout, source: Path, tmp_path: Path) -> None:
    from veduta import index

    root = source if source.is_dir() else source.parent
    rule = "folders" if layout.csv is None else root / layout.csv_name
    encoder = TinyEncoder()
    made = tmp_path / "index"
    index.create_index(made, encoder)
    index.update_index(made, [root], encoder, labels=rule, graph=False)
    rows = index.open_snapshot(made).rows.to_pylist()
    found = {os.path.relpath(os.fsdecode(row["path"]), root): row["label"] for row in rows}
    assert found == {path: label for path, (label, _) in layout.rows.items()}
    if layout.csv is None:
        paths = [root / path for path in layout.rows]
        assert list(labels_from_folders(paths, root)) == [
            label for label, _ in layout.rows.values()
        ]


# The rules behind the table.


def test_the_words_of_each_split() -> None:
    assert set(WORDS) == set(SPLITS)
    for split, words in WORDS.items():
        for word in words:
            assert (
                split_named(word) == split_named(word.upper()) == split_named(f" {word}") == split
            )
    for word in ("", "trainval", "tests", "tower", "query_images"):
        assert split_named(word) is None


def put(root: Path, *names: str) -> None:
    numbers = count(len(list(root.rglob("*.png"))) if root.exists() else 0)
    for name in names:
        save(root / name, next(numbers))


def test_folders_of_splits_without_classes_have_no_labels(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "test/2.png")
    for read in (open_dataset, read_dataset, describe):
        with pytest.raises(DatasetError, match=r"its folders \(test, train\) are splits, not cl"):
            read(tmp_path)
    assert clean(tmp_path, only=("blurred",)).dataset.splits == ("test", "train")
    assert list(labels_from_folders([tmp_path / "train/1.png"], tmp_path)) == [None]


def test_a_single_folder_that_is_named_like_a_split(tmp_path: Path) -> None:
    """With photos in it, it is one class; with folders of photos in it, it is a split."""
    put(tmp_path, "test/1.png", "test/2.png")
    assert list(labels_from_folders([tmp_path / "test/1.png"], tmp_path)) == ["test"]
    with pytest.raises(DatasetError, match="are splits, not classes"):
        read_dataset(tmp_path)
    put(tmp_path, "test/a/3.png")
    assert rows_of(read_dataset(tmp_path)) == {
        "test/1.png": (None, "test"),
        "test/2.png": (None, "test"),
        "test/a/3.png": ("a", "test"),
    }


def test_photos_beside_folders_of_splits_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/2.png", "cover.png")
    dataset = read_dataset(tmp_path)
    assert dataset.splits == ("test", "train")
    assert dataset.problems == (f"{tmp_path}: 1 in no folder of a split, left out (cover.png)",)
    every = read_dataset(tmp_path, every_photo=True)
    assert rows_of(every)["cover.png"] == (None, "")


def test_photos_of_a_split_in_no_class_are_told(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/2.png", "distractors/3.png")
    (problem,) = read_dataset(tmp_path).problems
    assert problem == f"{tmp_path}: 1 in no class folder, so without a label (test/2.png)"


def test_a_folder_of_a_split_may_have_its_own_labels_file(tmp_path: Path) -> None:
    put(tmp_path, "train/1.png", "train/2.png", "test/a/3.png")
    (tmp_path / "train/labels.csv").write_text("path,label\n1.png,a\ngone.png,a\n")
    for every in (False, True):
        dataset = read_dataset(tmp_path, every_photo=every)
        assert rows_of(dataset) == {"train/1.png": ("a", "train"), "test/a/3.png": ("a", "test")}
    assert "1 missing" in read_dataset(tmp_path).problems[0]


def test_a_folder_that_joins_the_splits_makes_them_classes(tmp_path: Path) -> None:
    put(tmp_path, "train/a/1.png", "test/a/2.png")
    assert set(read_dataset(tmp_path).labels) == {"a"}
    put(tmp_path, "tower/3.png")
    assert set(read_dataset(tmp_path).labels) == {"train", "test", "tower"}


class TestColumns:
    """Which columns of a CSV file hold the path, the label and the split."""

    def read(self, root: Path, text: str) -> Rows:
        put(root, "1.png", "2.png")
        (root / "labels.csv").write_text(text)
        return rows_of(read_dataset(root))

    def test_own_names_go_first(self, tmp_path: Path) -> None:
        text = "file,class,path,label,set\nx.png,y,1.png,a,test\nz.png,w,2.png,b,train\n"
        assert self.read(tmp_path, text) == {"1.png": ("a", ""), "2.png": ("b", "")}

    def test_a_url_is_no_path(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no column 'path'; found 'url', 'label'"):
            self.read(tmp_path, "url,label\nhttps://example.org/1.png,a\n")

    def test_several_columns_that_may_be_the_label(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no column 'label'; found 'path', 'x', 'y'"):
            self.read(tmp_path, "path,x,y\n1.png,a,b\n")

    def test_a_column_without_a_name_is_passed_over(self, tmp_path: Path) -> None:
        text = ",filename,where\n0,1.png,a\n1,2.png,b\n"
        assert self.read(tmp_path, text) == {"1.png": ("a", ""), "2.png": ("b", "")}

    def test_a_separator_inside_quotes_is_none(self, tmp_path: Path) -> None:
        text = '"path","label","a;b;c;d"\n1.png,a,\n2.png,b,\n'
        assert self.read(tmp_path, text) == {"1.png": ("a", ""), "2.png": ("b", "")}

    def test_any_column_of_splits(self, tmp_path: Path) -> None:
        put(tmp_path, "1.png", "2.png")
        (tmp_path / "labels.csv").write_text(
            "path;label;fold;note\n1.png;a;3;x\n2.png;b;Validation;\n"
        )
        dataset = read_dataset(tmp_path, split_column="fold", keep_columns=True)
        assert dataset.splits == ("3", "val")
        assert dataset.written_splits == ("3", "Validation")
        assert dataset.column("note") == ("x", "")
        with pytest.raises(DatasetError, match="unknown split '3'"):
            read_dataset(tmp_path, split_column="fold")


# What commands write is read alike.


def test_the_labels_that_clean_writes(tmp_path: Path) -> None:
    from veduta.curate.cleaned_labels import write_cleaned_labels

    put(tmp_path, "training/a/1.png", "training/b/2.png", "testing/a/3.png")
    dataset = clean(tmp_path, only=("exact-copy",)).dataset
    file = write_cleaned_labels(dataset, {"training/b/2.png"}, {"testing/a/3.png": "b"})
    assert rows_of(read_dataset(file)) == {
        "training/a/1.png": ("a", "train"),
        "testing/a/3.png": ("b", "test"),
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_labels_that_clean_writes_keep_every_column(tmp_path: Path, separator: str) -> None:
    from veduta.curate.cleaned_labels import write_cleaned_labels

    put(tmp_path, "1.png", "2.png")
    lines = (("note", "Class", "File"), ("x", "a", "1.png"), ("y", "b", "./2.png"))
    (tmp_path / "labels.csv").write_text("".join(separator.join(line) + "\n" for line in lines))
    file = write_cleaned_labels(read_dataset(tmp_path), {"1.png"}, {"2.png": "c"})
    assert file.read_text() == "note,Class,File\ny,c,./2.png\n"


def test_the_labels_that_a_review_writes(tmp_path: Path) -> None:
    from veduta.curate.review_decisions import Decision
    from veduta.curate.review_files import ReviewFiles, write_results
    from veduta.curate.review_set import make_review_set

    put(tmp_path, "queries/a/1.png", "database/a/2.png", "database/b/3.png")
    review_set = make_review_set(read_dataset(tmp_path), {})
    decisions = {
        ("database/a/2.png", "a"): Decision("relabel", "b"),
        ("database/b/3.png", "b"): Decision("drop"),
    }
    files = ReviewFiles(tmp_path / "out.csv")
    write_results(files, review_set, decisions, None)
    assert rows_of(read_dataset(files.labels)) == {
        "queries/a/1.png": ("a", "query"),
        "database/a/2.png": ("b", "gallery"),
    }
