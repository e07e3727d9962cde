"""Labels of an index: where they come from, and that none is lost without a word."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, run_veduta
from tiny import TinyEncoder, save

from veduta.errors import DatasetError
from veduta.index import UpdateReport, create_index, open_snapshot, read_status, update_index
from veduta.index.manifest import Manifest
from veduta.search import SearchOptions
from veduta.search.filters import allowed_rows

PHOTOS = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
RIGHT: dict[str, str | None] = {path: path.split("/")[0] for path in PHOTOS}

Labels = dict[str, str | None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of two classes of two photos."""
    root = tmp_path / "photos"
    for seed, path in enumerate(PHOTOS):
        save(root / path, seed)
    return root


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Return an empty index."""
    create_index(tmp_path / "index", TinyEncoder())
    return tmp_path / "index"


def update(index: Path, *folders: Path, **options: Any) -> UpdateReport:
    return update_index(index, folders, TinyEncoder(), workers=1, graph=False, **options)


def labels_of(index: Path, root: Path) -> Labels:
    snapshot = open_snapshot(index)
    rows = snapshot.rows.slice(0, snapshot.photos).select(["path", "label"]).to_pylist()
    return {os.path.relpath(os.fsdecode(row["path"]), root): row["label"] for row in rows}


def table(file: Path, *paths: str, labels: tuple[str, ...] = ("cat", "cat", "dog", "dog")) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [f'"{path}",{label}' for path, label in zip(paths, labels, strict=False)]
    file.write_text("\n".join(["path,label", *rows]) + "\n", encoding="utf-8")
    return file


# Class folders -----------------------------------------------------------------------------------


def test_the_update_of_a_sub_folder_keeps_its_labels(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    assert labels_of(index, photos) == RIGHT
    save(photos / "cat" / "2.png", 9)
    report = update(index, photos / "cat")
    assert (report.added, report.relabelled, report.unlabelled) == (1, 0, 0)
    assert labels_of(index, photos) == RIGHT | {"cat/2.png": "cat"}
    assert Manifest.read(index).folders == (os.fspath(photos),)


def test_a_single_new_photo_gets_its_label(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    new = save(photos / "dog" / "deep" / "2.png", 9)
    assert update(index, new).added == 1
    assert labels_of(index, photos) == RIGHT | {"dog/deep/2.png": "dog"}
    assert update(index).removed == 0


def test_a_folder_that_comes_after_its_sub_folder_takes_its_place(
    index: Path, photos: Path
) -> None:
    update(index, photos / "cat", labels="folders")
    assert labels_of(index, photos) == {"cat/0.png": None, "cat/1.png": None}
    report = update(index, photos)
    assert (report.added, report.relabelled) == (2, 2)
    assert labels_of(index, photos) == RIGHT
    assert Manifest.read(index).folders == (os.fspath(photos),)
    assert update(index).unchanged == 4


@pytest.mark.parametrize("inner_first", [True, False])
def test_overlapping_folders_in_one_run(index: Path, photos: Path, inner_first: bool) -> None:
    both = [photos / "cat", photos] if inner_first else [photos, photos / "cat"]
    report = update(index, *both, labels="folders")
    assert report.added == 4
    assert labels_of(index, photos) == RIGHT


def test_where_labels_of_a_sub_folder_come_from_is_told(index: Path, photos: Path) -> None:
    update(index, photos)
    report = update(index, photos / "cat", labels="folders")
    assert report.notes == [
        f"{photos / 'cat'} lies in {photos}, which the index knows, so its labels are the names of "
        f"the folders in {photos}"
    ]
    assert labels_of(index, photos) == RIGHT | {"dog/0.png": None, "dog/1.png": None}


def test_a_link_takes_no_label_from_the_folder_itself(index: Path, photos: Path) -> None:
    (photos / "a_link").symlink_to(photos / "cat")
    (photos / "dog" / "z.png").symlink_to(photos / "cat" / "0.png")
    report = update(index, photos, labels="folders")
    assert labels_of(index, photos) == RIGHT
    assert report.passed_over.links == [os.fsencode(photos / "dog" / "z.png")]


def test_names_that_look_the_same_are_one_label(index: Path, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    root = tmp_path / "photos"
    save(root / composed / "0.png", 0)
    save(root / decomposed / "1.png", 1)
    report = update(index, root, labels="folders")
    assert set(labels_of(index, root).values()) == {composed}
    assert report.notes == [
        f"{root}: 2 folders are one class, '{composed}', because their names differ only in their "
        "Unicode form; move their photos into one folder"
    ]
    file = table(
        root / "labels.csv",
        f"{composed}/0.png",
        f"{decomposed}/1.png",
        labels=(decomposed, composed),
    )
    update(index, root, labels=file)
    assert labels_of(index, root) == {
        f"{composed}/0.png": composed,
        f"{decomposed}/1.png": composed,
    }


# A CSV file --------------------------------------------------------------------------------------


WRITTEN = {
    "as they are": ("photos/labels.csv", "{}", ""),
    "with ./ in front": ("photos/labels.csv", "./{}", ""),
    "from a file above": ("labels.csv", "photos/{}", ""),
    "from a file elsewhere": ("lists/labels.csv", "{}", ""),
    "with two dots": ("lists/labels.csv", "../photos/{}", ""),
    "whole": ("lists/labels.csv", "/ROOT/{}", ""),
    "with blanks": ("photos/labels.csv", " {} ", "without the blanks around the path"),
    "as addresses": (
        "photos/labels.csv",
        "file:///ROOT/{}",
        "after the address was read as a path",
    ),
    "with another ending": (
        "photos/labels.csv",
        "{}.PNG",
        "without regard to upper and lower case",
    ),
    "from another machine": (
        "photos/labels.csv",
        "/home/someone/photos/{}",
        "without the folder /home/someone/photos/",
    ),
    "from Windows": (
        "photos/labels.csv",
        "C:/Users/Someone/My photos/{}",
        "without the folder C:/Users/Someone/My photos/",
    ),
    "with the name of the folder": ("photos/labels.csv", "photos/{}", "without the folder photos/"),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_paths_that_are_written_differently(
    index: Path, photos: Path, tmp_path: Path, written: tuple[str, str, str]
) -> None:
    name, pattern, difference = written
    pattern = pattern.replace("/ROOT", os.fspath(photos))
    paths = [
        pattern.format(path.removesuffix(".png") if pattern.endswith(".PNG") else path)
        for path in PHOTOS
    ]
    file = table(tmp_path / name, *paths)
    report = update(index, photos, labels=file)
    assert labels_of(index, photos) == RIGHT
    assert report.notes == ([f"{file}: 4 rows matched {difference}"] if difference else [])


def test_backslashes(index: Path, photos: Path) -> None:
    paths = [path.replace("/", "\\") for path in PHOTOS]
    file = table(photos / "windows.csv", *paths)
    update(index, photos, labels="folders")
    report = update(index, labels=file)
    assert labels_of(index, photos) == RIGHT
    assert report.notes == [f"{file}: 4 rows matched after backslashes were read as slashes"]
    whole = table(photos / "whole.csv", *(f"D:\\Data\\photos\\{path}" for path in paths))
    report = update(index, labels=whole)
    assert labels_of(index, photos) == RIGHT
    assert report.notes == [f"{whole}: 4 rows matched without the folder D:/Data/photos/"]


def test_names_in_another_unicode_form_and_with_percent_signs(index: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    names = [unicodedata.normalize("NFD", "é.png"), "a b.png", "50% off.png"]
    for seed, name in enumerate(names):
        save(root / name, seed)
    file = table(root / "labels.csv", "é.png", "a%20b.png", "50% off.png")
    report = update(index, root, labels=file)
    assert labels_of(index, root) == dict(zip(names, ("cat", "cat", "dog"), strict=True))
    assert report.notes == [
        f"{file}: 1 row matched in another Unicode form",
        f"{file}: 1 row matched after the address was read as a path",
    ]


def test_names_that_differ_only_in_case_stay_apart(index: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "A.png", "b.png", "B.png", "c.png")):
        save(root / name, seed)
    if len(list(root.iterdir())) < 5:
        pytest.skip("the file system does not tell upper and lower case apart")
    file = table(root / "labels.csv", "a.png", "A.png", "b.PNG", "C.PNG")
    report = update(index, root, labels=file)
    assert labels_of(index, root) == {
        "a.png": "cat",
        "A.png": "cat",
        "b.png": None,  # The row may mean B.png.
        "B.png": None,
        "c.png": "dog",
    }
    assert report.notes == [
        f"{file}: 1 row matched without regard to upper and lower case",
        f"{file}: 1 row names no photo, of 4 (b.PNG)",
    ]


def test_a_folder_in_front_is_not_left_out_if_that_could_be_wrong(
    index: Path, tmp_path: Path, photos: Path
) -> None:
    file = table(tmp_path / "dogs.csv", "dog/0.png", "dog/1.png", labels=("dog", "dog"))
    with pytest.raises(DatasetError, match="none of its 2 photos is there"):
        update(index, photos / "cat", labels=file)
    more = table(tmp_path / "more.csv", "2019/cat/0.png", "2020/dog/0.png")
    with pytest.raises(DatasetError, match="none of its 2 photos is there"):
        update(index, photos, labels=more)


def test_a_path_that_could_be_two_photos_is_refused(
    index: Path, tmp_path: Path, photos: Path
) -> None:
    other = tmp_path / "lists"
    save(other / "cat" / "0.png", 7)
    file = table(other / "labels.csv", "cat/0.png")
    with pytest.raises(DatasetError, match=r"labels\.csv, line 2: cat/0\.png names two photos, "):
        update(index, photos, other, labels=file)
    # The remedy that the message names.
    table(file, os.fspath(photos / "cat" / "0.png"))
    update(index, photos, other, labels=file)
    assert labels_of(index, photos)["cat/0.png"] == "cat"
    assert labels_of(index, photos)["../lists/cat/0.png"] is None


def test_two_rows_for_one_photo_are_refused(index: Path, photos: Path) -> None:
    file = table(photos / "labels.csv", "cat\\0.png", " cat/0.png")
    message = r"line 3: .*cat/0\.png names the same photo as line 2"
    with pytest.raises(DatasetError, match=message):
        update(index, photos, labels=file)


def test_rows_that_name_no_photo_are_told(index: Path, photos: Path) -> None:
    paths = [*PHOTOS, "a.png", "b.png", "c.png", "d.png"]
    file = table(photos / "labels.csv", *paths, labels=("cat", "cat", "dog", "dog") * 2)
    report = update(index, photos, labels=file)
    assert report.notes == [f"{file}: 4 rows name no photo, of 8 (a.png, b.png, c.png, and 1 more)"]


def test_a_file_that_names_no_photo_changes_nothing(
    index: Path, photos: Path, tmp_path: Path
) -> None:
    update(index, photos, labels="folders")
    version = read_status(index)["version"]
    file = table(tmp_path / "lists" / "other.csv", "x/0.png", "x/1.png", "x/2.png", "x/3.png")
    for allow in (False, True):
        with pytest.raises(DatasetError) as caught:
            update(index, labels=file, allow_label_loss=allow)
        assert str(caught.value) == (
            f"{file}: none of its 4 photos is there (x/0.png, x/1.png, x/2.png, and 1 more); paths "
            f"are taken from {file.parent} and from {photos}"
        )
    assert labels_of(index, photos) == RIGHT
    state = read_status(index)
    assert (state["version"], state["labels"]) == (version, "folders")


def test_a_file_without_rows_changes_nothing(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    file = table(photos / "labels.csv")
    with pytest.raises(DatasetError, match=r"labels\.csv: holds no labelled photo"):
        update(index, labels=file)
    assert labels_of(index, photos) == RIGHT


# Labels that would be lost -----------------------------------------------------------------------


def test_labels_are_lost_only_if_that_is_allowed(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    file = table(photos / "labels.csv", "cat/0.png")
    message = (
        "3 of 4 labelled photos would lose their label. Nothing was changed. Name the source of "
        "all labels with --labels, or run with --allow-label-loss."
    )
    with pytest.raises(DatasetError) as caught:
        update(index, labels=file)
    assert str(caught.value) == message
    assert caught.value.exit_code == 3
    assert labels_of(index, photos) == RIGHT
    assert read_status(index)["labels"] == "folders"
    report = update(index, labels=file, allow_label_loss=True)
    assert report.unlabelled == 3
    assert labels_of(index, photos) == dict.fromkeys(PHOTOS) | {"cat/0.png": "cat"}
    assert update(index).unlabelled == 0


def test_a_changed_photo_loses_its_label_only_if_that_is_allowed(index: Path, photos: Path) -> None:
    file = table(photos / "labels.csv", *PHOTOS)
    update(index, photos, labels=file)
    table(file, *PHOTOS[1:], labels=("cat", "dog", "dog"))
    save(photos / PHOTOS[0], 99)
    with pytest.raises(DatasetError, match="1 of 4 labelled photos"):
        update(index)
    assert update(index, allow_label_loss=True).unlabelled == 1


def test_a_photo_that_is_gone_or_moved_to_another_class_is_no_loss(
    index: Path, photos: Path
) -> None:
    update(index, photos, labels="folders")
    (photos / "cat" / "0.png").unlink()
    (photos / "cat" / "1.png").rename(photos / "dog" / "2.png")
    report = update(index)
    assert (report.moved, report.removed, report.unlabelled) == (1, 1, 0)
    assert labels_of(index, photos)["dog/2.png"] == "dog"
    (photos / "dog" / "2.png").rename(photos / "2.png")
    assert update(index).unlabelled == 1, "what the move took away is counted"


def test_all_labels_can_be_taken_away(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    with pytest.raises(DatasetError, match="4 of 4 labelled photos"):
        update(index, labels="none")
    assert update(index, labels="none", allow_label_loss=True).unlabelled == 4
    assert labels_of(index, photos) == dict.fromkeys(PHOTOS)
    save(photos / "cat" / "2.png", 9)
    update(index)
    assert labels_of(index, photos)["cat/2.png"] is None
    assert read_status(index)["labels"] is None


def test_a_file_of_labels_that_is_gone_is_named_with_a_remedy(index: Path, photos: Path) -> None:
    file = table(photos / "labels.csv", *PHOTOS)
    update(index, photos, labels=file)
    moved = file.rename(photos / "moved.csv")
    with pytest.raises(DatasetError, match=r"labels\.csv: cannot be read: .* with --labels"):
        update(index)
    update(index, labels=moved)
    assert labels_of(index, photos) == RIGHT


# What is passed over -----------------------------------------------------------------------------


def test_patterns_are_remembered_and_their_photos_leave(index: Path, photos: Path) -> None:
    update(index, photos, labels="folders")
    report = update(index, exclude=["dog/"])
    assert (report.removed, report.excluded) == (2, 2)
    assert report.passed_over.folders == {("dog", "excluded"): 1}
    save(photos / "dog" / "2.png", 9)
    assert update(index).added == 0
    assert read_status(index)["exclude"] == ["dog/"]
    report = update(index, exclude=[])
    assert report.added == 3
    assert labels_of(index, photos) == RIGHT | {"dog/2.png": "dog"}


def test_a_pattern_counts_from_the_outermost_folder(index: Path, photos: Path) -> None:
    save(photos / "cat" / "cat" / "2.png", 9)
    update(index, photos, exclude=["/cat/0.png"])
    assert sorted(labels_of(index, photos)) == [
        "cat/1.png",
        "cat/cat/2.png",
        "dog/0.png",
        "dog/1.png",
    ]
    report = update(index, photos / "cat")
    assert (report.added, report.removed) == (0, 0)


def test_an_ignore_file_takes_photos_out(index: Path, photos: Path) -> None:
    update(index, photos)
    (photos / "cat" / ".vedutaignore").write_text("0.*\n")
    (photos / "dog" / ".nomedia").touch()
    report = update(index)
    assert (report.removed, report.excluded) == (3, 3)
    assert sorted(labels_of(index, photos)) == ["cat/1.png"]
    assert report.passed_over.folders == {("dog", ".nomedia"): 1}


def test_patterns_that_exclude_everything_are_no_missing_disk(index: Path, photos: Path) -> None:
    update(index, photos)
    assert update(index, exclude=["*"]).removed == 4


def test_a_hidden_folder_that_is_named_is_kept(index: Path, photos: Path) -> None:
    save(photos / ".private" / "0.png", 9)
    update(index, photos, photos / ".private")
    assert len(labels_of(index, photos)) == 5
    assert update(index, photos).removed == 0
    assert update(index).removed == 0
    assert Manifest.read(index).folders == (os.fspath(photos), os.fspath(photos / ".private"))


def test_old_recycle_bins_leave_the_index(index: Path, photos: Path) -> None:
    (photos / "dog").rename(photos / "#recycle")
    report = update(index, photos, labels="folders")
    assert labels_of(index, photos) == {"cat/0.png": "cat", "cat/1.png": "cat"}
    assert report.passed_over.folders == {("#recycle", "system"): 1}


# The command line --------------------------------------------------------------------------------


def veduta(home: Path, *arguments: str | Path, code: int = 0) -> Run:
    done = run_veduta(home, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_the_command_tells_what_it_lost_and_passed_over(tmp_path: Path, photos: Path) -> None:
    for name in ("clip.mov", "0.xmp", "1.xmp", "drawing.psd", "notes"):
        (photos / name).write_text("no photo")
    save(photos / "@eaDir" / "0.png", 8)
    save(photos / "raw" / "0.png", 9)
    index = ("index", "photos", "--keypoints", "none")
    done = veduta(tmp_path, *index, "--labels", "folders", "--exclude", "raw/")
    assert done.stdout.splitlines()[1:] == [
        "1 image of a kind that is not read: 1 .psd",
        "4 files are no photos: 2 .xmp, 1 .mov, 1 without an extension",
        "passed over 1 folder kept by a system or program: 1 @eaDir",
        "passed over 1 folder excluded by a pattern: 1 raw",
        "4 photos in index",
    ]
    file = table(photos / "some.csv", "cat\\0.png")
    refused = veduta(tmp_path, "index", "--labels", file, code=3)
    assert "3 of 4 labelled photos would lose their label" in refused.stderr
    status = veduta(tmp_path, "status").stdout
    assert "folders (2 labels, 4 labelled photos)" in status
    assert "  excluded    raw/\n" in status
    done = veduta(tmp_path, "index", "--labels", file, "--allow-label-loss")
    assert "3 without a label now" in done.stdout
    assert "photos/some.csv: 1 row matched after backslashes were read as slashes" in done.stdout
    done = veduta(tmp_path, "index", "--no-exclude", "--exclude", "dog/")
    assert done.stdout.startswith("1 added, 2 removed, 2 unchanged, 2 of the removed excluded in ")
    assert "  excluded    dog/\n" in veduta(tmp_path, "status").stdout
    done = veduta(tmp_path, "index", "--no-exclude", "--json")
    assert '"added": 2' in done.stdout and '"unread_images": {\n      "psd": 1' in done.stdout


def test_a_label_is_found_in_either_unicode_form(index: Path, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    root = tmp_path / "photos"
    save(root / decomposed / "0.png", 0)
    save(root / "bar" / "1.png", 1)
    update(index, root, labels="folders")
    for label in (composed, decomposed):
        allowed = allowed_rows(open_snapshot(index), SearchOptions(labels=(label,)))
        assert allowed is not None and allowed.sum() == 1
