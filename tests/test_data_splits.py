"""The splits of a dataset: held-out photos, leaks, classes and unreadable photos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny import save
from tiny_training import coloured_photos, tiny_recipe, train, write_labels

from veduta.errors import DatasetError, LearnError
from veduta.learn.data.image_cache import cache_images
from veduta.learn.data.splits import DatasetSplits, read_splits
from veduta.learn.recipe import Input
from veduta.learn.training.loop import fit
from veduta.learn.training.recipe_network import build_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_share_of_each_class_is_held_out(coloured_dataset: Path) -> None:
    splits = read_splits(coloured_dataset, validation=0.25)
    assert splits.held_out
    assert splits.class_names == ("class0", "class1", "class2")
    assert Counter(splits.class_ids[splits.val].tolist()) == {0: 2, 1: 2, 2: 2}
    assert sorted([*splits.train, *splits.val]) == list(range(24))
    assert splits.test.size == 0
    again = read_splits(coloured_dataset, validation=0.25)
    assert again.val.tolist() == splits.val.tolist()
    assert again.digest == splits.digest
    other = read_splits(coloured_dataset, validation=0.25, seed=1)
    assert other.val.tolist() != splits.val.tolist()
    assert other.digest != splits.digest
    assert read_splits(coloured_dataset, validation=0).val.size == 0


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    folder = coloured_photos(tmp_path, 2, 3)
    before = read_splits(folder).digest
    save(folder / "class1" / "2.png", 7)
    assert read_splits(folder).digest != before


def test_copies_are_held_out_together(tmp_path: Path) -> None:
    for code in range(2):
        for number in range(12):
            save(tmp_path / f"class{code}" / f"{number:02}.png", 100 * code + number // 3)
    splits = read_splits(tmp_path, validation=0.25)
    held = [splits.paths[row] for row in splits.val]
    groups = Counter((path.split("/")[0], int(path.split("/")[1][:2]) // 3) for path in held)
    assert set(groups.values()) == {3}
    assert len(groups) == 2


def test_changed_copies_are_held_out_with_their_photo(tmp_path: Path) -> None:
    rows = ["path,label,split,original_photo"]
    for number in range(20):
        for copy in range(3):
            path = f"{number}-{copy}.png"
            save(tmp_path / path, 10 * number + copy)
            rows.append(f"{path},class{number % 2},train,{number}-0.png")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", "utf-8")
    splits = read_splits(tmp_path, validation=0.25)
    held = Counter(splits.paths[row].split("-")[0] for row in splits.val)
    assert set(held.values()) == {3} and len(held) >= 4


def test_a_subset_is_drawn_by_content(tmp_path: Path) -> None:
    folder = coloured_photos(tmp_path / "a" / "train", 2, 8).parent
    coloured_photos(folder / "test", 2, 3)
    for file in (folder / "test").rglob("*.png"):
        save(file, 1000 + int(file.stem) + 10 * int(file.parent.name[-1]))
    all_photos = read_splits(folder, validation=0)
    small = read_splits(folder, validation=0, photos_per_class=3)
    assert Counter(small.class_ids[small.train].tolist()) == {0: 3, 1: 3}
    assert len(small.test) == len(all_photos.test) == 6
    assert small.digest != all_photos.digest
    assert any("6 of 16 training photos, at most 3 of each class" in one for one in small.problems)

    def contents(splits: DatasetSplits) -> set[bytes]:
        return {(splits.root / splits.paths[row]).read_bytes() for row in splits.train}

    # The same photos under other names, in another order.
    for file in sorted((folder / "train").rglob("*.png")):
        target = tmp_path / "b" / file.parent.name / f"{9 - int(file.stem)}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    assert contents(read_splits(tmp_path / "b", validation=0, photos_per_class=3)) == contents(
        small
    )
    other = read_splits(folder, validation=0, photos_per_class=3, subset_seed=1)
    assert contents(other) != contents(small)
    assert other.digest != small.digest
    # A larger subset has all photos of a smaller one, and validation comes from the subset.
    assert contents(small) < contents(read_splits(folder, validation=0, photos_per_class=5))
    held_out = read_splits(folder, validation=0.25, photos_per_class=4)
    assert len(held_out.train) == 6 and len(held_out.val) == 2


def test_copies_count_as_one_photo_of_a_subset(tmp_path: Path) -> None:
    for code in range(2):
        for number in range(12):
            save(tmp_path / f"class{code}" / f"{number:02}.png", 100 * code + number // 3)
    splits = read_splits(tmp_path, validation=0, photos_per_class=2)
    groups = Counter(
        (splits.paths[row][:6], int(splits.paths[row][7:9]) // 3) for row in splits.train
    )
    assert len(groups) == 4
    assert set(groups.values()) == {3}


def test_the_names_of_splits(tmp_path: Path) -> None:
    words = ["train", "gallery", "Validation", "query", "test", "junk", "", "train", "distractor"]
    rows = []
    for number, word in enumerate(words):
        save(tmp_path / f"{number}.png", number)
        rows.append((f"{number}.png", f"class {number % 2}", word))
    save(tmp_path / "none.png", 99)
    write_labels(tmp_path, [*rows, ("none.png", "", "train")], "cls_split")
    splits = read_splits(tmp_path, column="cls_split")
    of = {
        name: [splits.paths[row] for row in getattr(splits, name)]
        for name in ("train", "val", "test")
    }
    assert of == {
        "train": ["0.png", "1.png", "7.png"],
        "val": ["2.png"],
        "test": ["3.png", "4.png"],
    }
    assert not splits.held_out
    assert [splits.class_names[code] for code in splits.class_ids[splits.test]] == [
        "class 1",
        "class 0",
    ]
    with pytest.raises(DatasetError, match=r"no column 'cls_splt'.*'cls_split'"):
        read_splits(tmp_path, column="cls_splt")


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        save(tmp_path / f"{number}.png", number)
        rows.append((f"{number}.png", f"c{number % 2}", "train" if number < 6 else "test"))
    one = read_splits(write_labels(tmp_path, rows))
    other = read_splits(write_labels(tmp_path, rows[::-1]))
    assert one.paths == other.paths
    assert one.digest == other.digest
    assert one.val.tolist() == other.val.tolist()


def test_folders_of_splits(tmp_path: Path) -> None:
    for part, first in (("train", 0), ("validation", 50), ("test", 70)):
        coloured_photos(tmp_path / part, 2, 2)
        for number, file in enumerate(sorted((tmp_path / part).rglob("*.png"))):
            save(file, first + number)
    splits = read_splits(tmp_path)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [4, 4, 4]
    assert splits.class_names == ("class0", "class1")


def test_one_class_is_refused_by_name(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 1)
    with pytest.raises(LearnError, match=r"one class only, 'class0'.*two classes"):
        read_splits(tmp_path)


def test_a_dataset_without_training_photos_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    write_labels(tmp_path, [("a.png", "x", "test")])
    with pytest.raises(LearnError, match=r"no labelled photo is for training.*but contains 'test'"):
        read_splits(tmp_path)


def test_a_class_of_one_photo_is_trained_and_not_held_out(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 2, 5)
    save(tmp_path / "lonely" / "1.png", 77)
    for share in (0.2, 0.8):
        splits = read_splits(tmp_path, validation=share)
        (row,) = np.flatnonzero(splits.class_ids == splits.class_names.index("lonely"))
        assert row in splits.train
        assert any("one photo" in problem and "'lonely'" in problem for problem in splits.problems)


def test_odd_names_survive(tmp_path: Path) -> None:
    odd = ["Café “Москва”, 1; 日本", "a b\\c", "#%&{}$!'", "=1+1", "-x"]
    for number, name in enumerate(odd):
        for photo in range(4):
            save(tmp_path / name / f"{photo}.png", 10 * number + photo)
    recipe = tiny_recipe(epochs=1)
    done = train(recipe, tmp_path, tmp_path.parent / "odd-run")
    assert done.net.classes == 5
    splits = read_splits(tmp_path)
    assert list(splits.class_names) == sorted(odd)
    assert splits.without({int(splits.val[0]): "gone"}).class_names == splits.class_names


def test_classes_that_only_the_test_has(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 2, 3)
    save(tmp_path / "new" / "n.png", 55)
    rows = [(f"class{c}/{n}.png", f"class{c}", "train") for c in range(2) for n in range(3)]
    splits = read_splits(write_labels(tmp_path, [*rows, ("new/n.png", "new", "test")]))
    assert splits.class_names == ("class0", "class1")
    assert splits.test.size == 0
    assert [splits.paths[row] for row in splits.unknown] == ["new/n.png"]
    assert splits.class_ids[splits.unknown].tolist() == [-1]
    assert any(
        "1 photo of test count as unknown" in problem and "'new'" in problem
        for problem in splits.problems
    )


def test_photos_of_none_of_the_classes(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 2, 4)
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png", 90 + number)
    rows = [(f"class{c}/{n}.png", f"class{c}", "train") for c in range(2) for n in range(4)]
    without = read_splits(write_labels(tmp_path, rows))
    rows += [("a/0.png", "", "unknown"), ("a/1.png", "class0", "unknown"), ("a/2.png", "a", "junk")]
    splits = read_splits(write_labels(tmp_path, rows))
    assert splits.class_names == ("class0", "class1")
    assert [splits.paths[row] for row in splits.unknown] == ["a/0.png", "a/1.png"]
    assert splits.digest != without.digest
    assert [splits.paths[row] for row in splits.train] == [
        without.paths[row] for row in without.train
    ]
    shorter = splits.without({int(splits.unknown[0]): "gone"})
    assert [shorter.paths[row] for row in shorter.unknown] == ["a/1.png"]
    assert shorter.class_ids[shorter.unknown].tolist() == [-1]
    # A photo of a class among the photos of none would make the figures wrong.
    save(tmp_path / "a" / "1.png", 0)
    save(tmp_path / "class0" / "0.png", 0)
    with pytest.raises(LearnError, match=r"1 photo of unknown is also in train"):
        read_splits(tmp_path)


def test_leaks_are_refused_with_the_list(tmp_path: Path) -> None:
    rows = []
    for number in range(14):
        save(tmp_path / f"learn{number:02}.png", number)
        rows.append((f"learn{number:02}.png", f"c{number % 2}", "train"))
        save(tmp_path / f"ask{number:02}.png", number if number < 12 else 100 + number)
        rows.append((f"ask{number:02}.png", f"c{number % 2}", "test" if number else "val"))
    write_labels(tmp_path, rows)
    with pytest.raises(LearnError) as caught:
        read_splits(tmp_path)
    text = str(caught.value)
    assert "12 photos of val or test are also in train" in text
    assert "ask00.png (val) is learn00.png" in text
    assert "ask09.png (test) is learn09.png" in text
    assert "ask10.png" not in text
    assert "and 2 more" in text
    assert "--allow-leak" in text
    splits = read_splits(tmp_path, allow_leak=True)
    assert len(splits.test) == 13
    assert any(problem.startswith("leak allowed: 12 photos of val") for problem in splits.problems)


def test_unreadable_photos_are_left_out_and_shift_no_row(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 3, 6)
    (tmp_path / "class0" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (tmp_path / "class1" / "3.png").write_text("<html>no photo</html>")
    (tmp_path / "class2" / "9.png").symlink_to(tmp_path / "nowhere.png")
    recipe = tiny_recipe()
    splits = read_splits(tmp_path)
    reports = []
    images, left = cache_images(
        splits,
        recipe.input,
        workers=2,
        max_bytes=2**20,
        on_progress=lambda *now: reports.append(now),
    )
    assert reports[-1] == ("Reading photos", 18, 18)
    assert len(left.paths) == 16
    assert left.digest != splits.digest
    for name in ("class0/0.png", "class1/3.png"):
        assert any(name in problem for problem in left.problems)
    assert any("9.png" in problem for problem in left.problems)
    for row, path in enumerate(left.paths):
        with Image.open(tmp_path / path) as image:
            colour = np.asarray(image).mean(axis=(0, 1)).argmax()
        shown = images.batch([row]).float().mean(dim=(0, 2, 3)).argmax()
        assert int(shown) == colour == left.class_ids[row]
    assert sorted([*left.train, *left.val]) == list(range(16))
    done = fit(recipe, build_network(recipe, 3), left, images, tmp_path.parent / "broken-run")
    assert len(done.history) == 3


def test_a_class_of_unreadable_photos_is_left_out(tmp_path: Path) -> None:
    coloured_photos(tmp_path, 2, 4)
    (tmp_path / "class2").mkdir()
    (tmp_path / "class2" / "x.png").write_bytes(b"no photo")
    splits = read_splits(tmp_path)
    _, left = cache_images(splits, Input(size=8), workers=1, max_bytes=2**20)
    assert left.class_names == ("class0", "class1")
    for file in (tmp_path / "class1").iterdir():
        file.write_bytes(b"no photo")
    with pytest.raises(LearnError, match="one class only, 'class0'"):
        cache_images(read_splits(tmp_path), Input(size=8), workers=1, max_bytes=2**20)
