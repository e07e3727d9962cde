"""Labels of datasets: every command takes the same photos and labels, and says what it left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run_veduta
from tiny import save

from veduta.cli.main import run
from veduta.curate.cleaned_labels import write_cleaned_labels
from veduta.curate.cleaning import clean
from veduta.curate.review_decisions import Decision
from veduta.curate.review_files import ReviewFiles, write_results
from veduta.curate.review_set import make_review_set
from veduta.curate.write_split import write_labels
from veduta.datasets import Dataset, open_dataset, read_dataset
from veduta.datasets.folders import labels_from_folders
from veduta.errors import DatasetError
from veduta.explore import describe
from veduta.learn.data.splits import read_splits

PHOTOS = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
CAFE, CAFE_APART = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of two classes of two photos."""
    root = tmp_path / "photos"
    for seed, path in enumerate(PHOTOS):
        save(root / path, seed)
    return root


def rows_of(dataset: Dataset) -> dict[str, tuple[str | None, str]]:
    rows = zip(dataset.paths, dataset.labels, dataset.splits, strict=True)
    return {path: (label, split) for path, label, split in rows}


def labels_of(dataset: Dataset) -> dict[str, str | None]:
    return {path: label for path, (label, _) in rows_of(dataset).items()}


RIGHT = {path: path.split("/")[0] for path in PHOTOS}


def write(file: Path, *lines: str, header: str = "path,label") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


# Paths of a labels file --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("photos/labels.csv", "{}"),
        ("labels.csv", "photos/{}"),
        ("lists/labels.csv", "{}"),
        ("lists/labels.csv", "ROOT/{}"),
        ("lists/labels.csv", "../photos/{}"),
        ("photos/mine.csv", ".\\{}"),
        ("photos/mine.csv", "/home/someone/photos/{}"),
        ("photos/mine.csv", "  {}"),
        ("photos/mine.csv", "file://ROOT/{}"),
    ],
)
def test_paths_from_the_file_or_from_the_dataset(
    tmp_path: Path, photos: Path, name: str, pattern: str
) -> None:
    pattern = pattern.replace("ROOT", os.fspath(photos))
    file = write(tmp_path / name, *(f"{pattern.format(path)},{RIGHT[path]}" for path in PHOTOS))
    dataset = read_dataset(photos, labels=os.fspath(file))
    assert labels_of(dataset) == RIGHT
    assert dataset.root == photos
    assert all(path.is_file() for path in dataset.files)


def test_a_labels_file_of_the_working_directory(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "mine.csv", *(f"photos/{path},{RIGHT[path]}" for path in PHOTOS))
    monkeypatch.chdir(tmp_path)
    assert labels_of(read_dataset("photos", labels="mine.csv")) == RIGHT
    write(photos / "mine.csv", "cat/0.png,tiger")
    assert labels_of(read_dataset("photos", labels="mine.csv")) == {"cat/0.png": "tiger"}
    with pytest.raises(DatasetError, match=r"photos/absent\.csv: cannot be read"):
        read_dataset("photos", labels="absent.csv")


def test_rows_that_were_matched_and_rows_that_were_not_are_told(photos: Path) -> None:
    file = write(photos / "labels.csv", "cat\\0.png,cat", "DOG/0.PNG,dog", "dog/7.png,dog")
    dataset = read_dataset(photos)
    assert labels_of(dataset) == {"cat/0.png": "cat", "dog/0.png": "dog"}
    assert dataset.problems == (
        f"{file}: 1 row matched after backslashes were read as slashes",
        f"{file}: 1 row matched without regard to upper and lower case",
        f"{file}: 1 missing, left out (dog/7.png)",
    )


def test_photos_outside_the_dataset_are_not_taken(tmp_path: Path, photos: Path) -> None:
    save(tmp_path / "lists" / "cat" / "7.png", 7)
    file = write(tmp_path / "lists" / "labels.csv", "cat/7.png,cat", "cat/0.png,cat")
    assert labels_of(read_dataset(photos, labels=os.fspath(file))) == {"cat/0.png": "cat"}
    write(file, f"{tmp_path}/lists/cat/7.png,cat", "cat/0.png,cat")
    with pytest.raises(DatasetError, match=r"line 2: .*7\.png leads out of the dataset"):
        read_dataset(photos, labels=os.fspath(file))


Reader = Callable[[Path, str], object]
READERS: dict[str, Reader] = {
    "describe": lambda photos, labels: describe(photos, labels=labels),
    "clean": lambda photos, labels: clean(photos, labels=labels, only=("corrupt",)),
    "evaluate": lambda photos, labels: open_dataset(photos, labels=labels),
    "train": lambda photos, labels: read_splits(photos, labels=labels),
    "split": lambda photos, labels: read_dataset(photos, labels=labels, keep_columns=True),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_that_names_no_photo_is_refused_by_every_command(
    tmp_path: Path, photos: Path, reader: Reader
) -> None:
    file = write(tmp_path / "lists" / "labels.csv", "x/0.png,cat", "x/1.png,dog")
    with pytest.raises(DatasetError) as caught:
        reader(photos, os.fspath(file))
    assert caught.value.exit_code == 3
    assert str(caught.value) == (
        f"{file}: none of its 2 photos is there (x/0.png, x/1.png); paths are taken from "
        f"{file.parent} and from {photos}"
    )


# Files that commands write are read again --------------------------------------------------------


def test_the_labels_of_a_split_are_read_with_the_dataset(tmp_path: Path, photos: Path) -> None:
    dataset = read_dataset(photos, keep_columns=True)
    above = tmp_path / "split.csv"
    write_labels(dataset, ["train", "test"] * 2, above)
    wanted = {
        path: (RIGHT[path], split)
        for path, split in zip(PHOTOS, ["train", "test"] * 2, strict=True)
    }
    assert rows_of(read_dataset(photos, labels=os.fspath(above))) == wanted
    inside = photos / "split.csv"
    write_labels(dataset, ["train", "test"] * 2, inside)
    assert rows_of(read_dataset(photos, labels="split.csv")) == wanted


def test_the_labels_of_a_review_are_read_with_the_dataset(tmp_path: Path, photos: Path) -> None:
    write(
        photos / "labels.csv", *(f".\\{p},{RIGHT[p]},n" for p in PHOTOS), header="path,label,note"
    )
    dataset = read_dataset(photos)
    decisions = {
        ("cat/0.png", "cat"): Decision("relabel", CAFE_APART),
        ("dog/0.png", "dog"): Decision("drop"),
    }
    files = ReviewFiles(tmp_path / "photos-decisions.csv")
    write_results(files, make_review_set(dataset, {}), decisions, dataset.labels_file)
    assert files.labels.read_text(encoding="utf-8").splitlines() == [
        "path,label,note",
        f".\\cat/0.png,{CAFE},n",
        ".\\cat/1.png,cat,n",
        ".\\dog/1.png,dog,n",
    ]
    again = read_dataset(photos, labels=os.fspath(files.labels))
    assert labels_of(again) == {"cat/0.png": CAFE, "cat/1.png": "cat", "dog/1.png": "dog"}


def test_cleaned_labels_keep_rows_that_are_written_differently(photos: Path) -> None:
    write(photos / "labels.csv", *(f"CAT\\{n}.png,cat" for n in (0, 1)), "dog/0.png,dog")
    dataset = read_dataset(photos)
    file = write_cleaned_labels(dataset, {"cat/1.png"}, {"cat/0.png": "tiger"})
    assert file.read_text() == "path,label\nCAT\\0.png,tiger\ndog/0.png,dog\n"


def test_cleaned_labels_of_split_folders_with_photos_beside_them(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, path in enumerate(("train/cat/0.png", "test/cat/1.png", "loose.png")):
        save(root / path, seed)
    dataset = clean(root, only=("exact-copy",)).dataset
    assert "loose.png" in dataset.paths
    file = write_cleaned_labels(dataset, set(), {"train/cat/0.png": "tiger"})
    assert rows_of(read_dataset(root, labels=file.name)) == {
        "train/cat/0.png": ("tiger", "train"),
        "test/cat/1.png": ("cat", "test"),
    }


def test_links_to_a_photo_that_goes_go_too(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, path in enumerate(("cat/0.png", "dog/1.png")):
        save(root / path, seed)
    (root / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (root / "dog" / "link.jpg").symlink_to(root / "cat" / "broken.jpg")
    cleaning = clean(root, only=("corrupt",))
    assert cleaning.drops() == ("cat/broken.jpg", "dog/link.jpg")


# Class folders -----------------------------------------------------------------------------------


def test_folders_whose_names_look_the_same_are_one_class(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, path in enumerate((f"{CAFE}/0.png", f"{CAFE_APART}/1.png", "bar/2.png")):
        save(root / path, seed)
    dataset = read_dataset(root)
    assert set(dataset.labels) == {CAFE, "bar"}
    assert dataset.problems == (
        f"{root}: 2 folders are one class, '{CAFE}', because their names differ only in their "
        "Unicode form; move their photos into one folder",
    )
    assert clean(root, only=("corrupt",)).dataset.labels == dataset.labels
    assert labels_of(open_dataset(root, distractors=[CAFE_APART]))[f"{CAFE}/0.png"] is None


def test_labels_that_look_the_same_in_a_file_are_one_class(photos: Path) -> None:
    write(photos / "labels.csv", f"cat/0.png,{CAFE}", f"cat/1.png, {CAFE_APART} ", "dog/0.png,x")
    assert set(read_dataset(photos).labels) == {CAFE, "x"}
    for with_photos in (True, False):
        assert describe(photos, photos=with_photos).sizes.names == (CAFE, "x")


def test_labels_that_are_nearly_the_same_are_told(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, path in enumerate(("Old  Gate/0.png", "old gate/1.png", "bridge/2.png")):
        save(root / path, seed)
    description = describe(root)
    assert description.sizes.names == ("Old  Gate", "bridge", "old gate")
    assert description.problems == (
        "the labels 'Old  Gate' and 'old gate' differ only in blanks or case; are they one class?",
    )


def test_a_linked_photo_counts_once_and_keeps_its_own_label(photos: Path) -> None:
    (photos / "a_link").symlink_to(photos / "dog")
    (photos / "best").mkdir()
    (photos / "best" / "0.png").symlink_to(photos / "cat" / "0.png")
    dataset = read_dataset(photos)
    assert labels_of(dataset) == RIGHT
    assert dataset.passed_over.links == [os.fsencode(photos / "best" / "0.png")]


def test_a_path_of_windows_has_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    import ntpath
    import types

    import veduta.datasets.folders as folders

    system = types.SimpleNamespace(
        path=ntpath, fsencode=os.fsencode, fsdecode=os.fsdecode, PathLike=os.PathLike
    )
    monkeypatch.setattr(folders, "os", system)
    paths = [rb"C:\photos\cat\a.jpg", rb"C:\photos\dog\deep\b.jpg", "C:/photos/cat/c.jpg"]
    outside = [rb"C:\photos\d.jpg", rb"C:\other\cat\e.jpg"]
    labels = list(labels_from_folders([*paths, *outside], rb"C:\photos"))
    assert labels == ["cat", "dog", "cat", None, None]


def test_names_that_are_not_utf8_are_named_even_if_all_are(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(2):
        save(root / "cat" / f"{number}.png", number)
        odd = os.fsencode(root / "cat") + b"/caf\xe9%d.png" % number
        os.rename(root / "cat" / f"{number}.png", odd)
    for read in (read_dataset, open_dataset, describe):
        with pytest.raises(DatasetError, match=r"2 left out, their names are not UTF-8 \(cat/caf"):
            read(root)
    assert len(clean(root, only=("corrupt",)).dataset.paths) == 2


READ_BY_NAME = """
import sys
from veduta.datasets import read_dataset
dataset = read_dataset(sys.argv[1])
assert all(file.is_file() for file in dataset.files)
for path, label in zip(dataset.paths, dataset.labels):
    print(ascii((path.encode(sys.getfilesystemencoding(), "surrogateescape"), label)))
print(sys.getfilesystemencoding(), len(dataset.without({dataset.paths[0]: "x"}).paths))
"""


@pytest.mark.parametrize("from_csv", [False, True])
def test_names_that_the_locale_cannot_hold(tmp_path: Path, from_csv: bool) -> None:
    root = tmp_path / "set"
    for seed, name in enumerate(("🏰/0.png", "é/1.png")):
        save(root / name, seed)
    if from_csv:
        write(root / "labels.csv", "🏰/0.png,🏰", "é/1.png,é")
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", READ_BY_NAME, root],
        env={**os.environ, **latin},
        capture_output=True,
        check=True,
    )
    rows = [(f"{label}/{number}.png".encode(), label) for number, label in enumerate("🏰é")]
    rows = rows if from_csv else rows[::-1]
    assert done.stdout.decode().splitlines() == [*map(ascii, rows), "ascii 1"]


@pytest.mark.parametrize("name", ["loop", "loop/labels.csv", "nowhere"])
def test_links_that_lead_nowhere(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("absent")
    for command in (["describe"], ["clean", "--only", "corrupt"]):
        assert run([command[0], os.fspath(tmp_path / name), *command[1:]]) == 3
        message = capsys.readouterr().err
        assert message.startswith(f"veduta: {tmp_path / name}: ")
        assert message.count("\n") == 1


def test_a_labels_file_that_is_a_link_to_nowhere_is_not_passed_over(photos: Path) -> None:
    (photos / "labels.csv").symlink_to("absent.csv")
    with pytest.raises(DatasetError, match=r"labels\.csv: cannot be read"):
        read_dataset(photos)


# What is passed over -----------------------------------------------------------------------------


def test_recycle_bins_are_no_classes(photos: Path) -> None:
    (photos / "dog").rename(photos / "#recycle")
    save(photos / "System Volume Information" / "0.png", 8)
    description = describe(photos, photos=False)
    assert description.sizes.names == ("cat",)
    assert description.as_json()["passed_over"]["folders"] == [
        {"name": "#recycle", "why": "system", "number": 1},
        {"name": "System Volume Information", "why": "system", "number": 1},
    ]
    assert set(clean(photos, only=("corrupt",)).dataset.labels) == {"cat"}


def test_what_decides_the_layout_is_not_what_is_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, path in enumerate(("train/cat/0.png", "test/cat/1.png", "old/cat/2.png")):
        save(root / path, seed)
    assert set(read_dataset(root).labels) == {"train", "test", "old"}
    assert set(read_dataset(root, exclude=["old/"]).splits) == {"train", "test"}
    (root / ".vedutaignore").write_text("/old\n")
    assert set(read_dataset(root).splits) == {"train", "test"}
    (root / ".vedutaignore").unlink()
    (root / "old" / ".nomedia").touch()
    assert set(read_dataset(root).splits) == {"train", "test"}


def test_patterns_take_rows_out_of_a_labels_file_too(photos: Path) -> None:
    file = write(photos / "labels.csv", *(f"{path},{RIGHT[path]}" for path in PHOTOS))
    dataset = read_dataset(photos, exclude=["dog/"])
    assert set(labels_of(dataset)) == {"cat/0.png", "cat/1.png"}
    assert dataset.problems == (
        f"{file}: 2 excluded by patterns (dog{os.sep}0.png, dog{os.sep}1.png)",
    )
    (photos / "cat" / ".vedutaignore").write_text("1.png\n")
    assert set(labels_of(read_dataset(photos, exclude=["dog/"]))) == {"cat/0.png"}
    (photos / "cat" / ".nomedia").touch()
    assert set(labels_of(read_dataset(photos))) == {"dog/0.png", "dog/1.png"}
    with pytest.raises(DatasetError, match="all of its photos are excluded by patterns"):
        read_dataset(photos, exclude=["dog/"])


def test_a_file_may_name_photos_in_hidden_folders(photos: Path) -> None:
    (photos / "cat").rename(photos / ".store")
    write(photos / "labels.csv", ".store/0.png,cat", "dog/0.png,dog")
    assert labels_of(read_dataset(photos)) == {".store/0.png": "cat", "dog/0.png": "dog"}


def test_patterns_of_files_with_rows(photos: Path) -> None:
    write(photos / "labels.csv", *(f"{path},{RIGHT[path]}" for path in PHOTOS))
    assert set(labels_of(read_dataset(photos, exclude=["0.*"]))) == {"cat/1.png", "dog/1.png"}


@pytest.mark.parametrize(
    "command",
    [
        ["describe"],
        ["clean", "--only", "corrupt"],
        ["split", "--into", "train=0.5,test=0.5", "--no-find-copies"],
    ],
    ids=lambda command: command[0],
)
def test_commands_take_patterns(
    photos: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "dog" / "2.png").write_text("no photo")
    save(photos / "bird" / "0.png", 8)
    arguments = ["--exclude", "dog/2*", "--exclude", "/bird/", "--json"]
    assert run([command[0], os.fspath(photos), *command[1:], *arguments]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["photos"] == 4


@pytest.mark.slow
def test_more_commands_take_patterns(photos: Path) -> None:
    home = photos.parent
    save(photos / "bird" / "0.png", 8)
    evaluate = ("evaluate", "photos", "--rerank", "none", "--json")
    done = run_veduta(home, *evaluate, "--exclude", "bird")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queries"] == 4
    augment = ("augment", "photos", "--out", "out", "--all", "--copies", "1")
    done = run_veduta(home, *augment, "--steps", "rotation", "--exclude", "bird")
    assert done.returncode == 0, done.stderr
    assert "bird" not in (home / "out" / "labels.csv").read_text()


def test_training_takes_patterns(photos: Path) -> None:
    save(photos / "bird" / "0.png", 8)
    assert read_splits(photos).class_names == ("bird", "cat", "dog")
    assert read_splits(photos, exclude=["bird"]).class_names == ("cat", "dog")


def test_changed_copies_stay_with_an_original_that_is_written_differently(tmp_path: Path) -> None:
    root = tmp_path / "set"
    rows = []
    for label in ("cat", "dog"):
        for number in range(6):
            save(root / label / f"{number}.png", number + 10 * (label == "dog"))
            save(root / label / f"{number}-copy.png", 100 + number + 10 * (label == "dog"))
            original = f"{label}\\{number}.png"
            copy = f"{label}\\{number}-copy.png"
            rows += [f"{original},{label},{original}", f"{copy},{label},{original}"]
    write(root / "labels.csv", *rows, header="path,label,original_photo")
    splits = read_splits(root, validation=0.3)
    held_out = {splits.paths[row].replace("-copy", "") for row in splits.val}
    trained = {splits.paths[row].replace("-copy", "") for row in splits.train}
    assert held_out and not held_out & trained
