"""`veduta split`: parts that share nothing, right to within one photo, in any order of files."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import pixels, save

from veduta.cli.main import run
from veduta.curate.copies import CopyPair
from veduta.curate.splitting import (
    NO_PART,
    bound_together,
    find_leaks,
    parse_parts,
    short_classes,
    split,
)
from veduta.curate.write_split import write_folders, write_labels
from veduta.datasets import read_dataset
from veduta.errors import DatasetError

PARTS = {"train": 0.8, "val": 0.1, "test": 0.1}


def random_case(
    seed: int,
) -> tuple[list[str], list[str | None], list[int], dict[str, float]]:
    """Classes of 1 to 60 photos, some of them in groups of up to 5 within their class."""
    rng = np.random.default_rng(seed)
    labels: list[str | None] = []
    groups: list[int] = []
    for label in range(int(rng.integers(1, 12))):
        left = int(rng.integers(1, 60))
        while left:
            size = min(left, int(rng.choice([1, 1, 1, 1, 2, 3, 5])))
            groups += [len(labels)] * size
            labels += [f"class {label}"] * size
            left -= size
    names = [f"{rng.integers(10**9)}-{at}.jpg" for at in range(len(labels))]
    shares = rng.dirichlet(np.full(int(rng.integers(2, 6)), 2.0)) * 0.95 + 0.0
    shares /= shares.sum()
    return names, labels, groups, {f"part{at}": float(s) for at, s in enumerate(shares)}


@pytest.mark.parametrize("seed", range(60))
def test_shares_hold_within_one_photo_or_group(seed: int) -> None:
    names, labels, groups, parts = random_case(seed)
    chosen = split(names, labels, groups, parts, seed=seed)
    assert len(chosen) == len(names)
    assert set(chosen) <= set(parts)
    for group in set(groups):
        assert len({part for part, own in zip(chosen, groups, strict=True) if own == group}) == 1
    for label in set(labels):
        mine = [at for at, other in enumerate(labels) if other == label]
        largest = max(Counter(groups[at] for at in mine).values())
        for part, share in parts.items():
            has = sum(chosen[at] == part for at in mine)
            assert abs(has - share * len(mine)) < max(1, largest) + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_the_files_does_not_matter(seed: int) -> None:
    names, labels, groups, parts = random_case(seed)
    chosen = dict(zip(names, split(names, labels, groups, parts, seed=3), strict=True))
    order = np.random.default_rng(seed).permutation(len(names)).tolist()
    again = split(
        [names[at] for at in order],
        [labels[at] for at in order],
        [groups[at] for at in order],
        parts,
        seed=3,
    )
    assert [chosen[names[at]] for at in order] == again


def test_another_seed_is_another_split() -> None:
    names = [f"{at}.jpg" for at in range(100)]
    first, second = (split(names, ["a"] * 100, range(100), PARTS, seed=seed) for seed in (0, 1))
    assert first != second
    assert Counter(first) == Counter(second) == {"train": 80, "val": 10, "test": 10}


def test_what_rounding_leaves_goes_to_the_part_that_is_behind() -> None:
    """Sixty classes of four photos: 3.2, 0.4 and 0.4 of each, yet the whole is 192, 24, 24."""
    names = [f"{at}.jpg" for at in range(240)]
    labels = [f"class {at % 60}" for at in range(240)]
    chosen = split(names, labels, range(240), PARTS)
    assert all(
        abs(n - w) <= 1 for n, w in ((Counter(chosen)[p], 240 * s) for p, s in PARTS.items())
    )


def test_a_class_of_one_photo_is_learned_from() -> None:
    names = [f"{at}.jpg" for at in range(30)]
    labels = [f"class {at}" for at in range(30)]
    chosen = split(names, labels, range(30), PARTS)
    assert set(chosen) == {"train"}
    labels = ["many"] * 28 + ["few"] * 2
    chosen = split(names, labels, [*range(28), 28, 28], PARTS)
    assert short_classes(labels, [*range(28), 28, 28], chosen) == [("few", 2, 1, ("test", "val"))]


def test_folds_are_equal() -> None:
    names = [f"{at}.jpg" for at in range(103)]
    chosen = split(names, ["a"] * 103, range(103), {str(fold): 1 / 5 for fold in range(5)})
    assert sorted(Counter(chosen).values()) == [20, 20, 21, 21, 21]


def test_distractors_are_what_has_no_label() -> None:
    parts = parse_parts("query=0.2,gallery=0.8,distractor")
    labels = ["a"] * 10 + [None] * 7
    chosen = split([str(at) for at in range(17)], labels, range(17), parts)
    assert chosen[10:] == ["distractor"] * 7
    assert Counter(chosen[:10]) == {"query": 2, "gallery": 8}
    # One that is a copy of a labelled photo goes with it.
    groups = [*range(10), 0, *range(11, 17)]
    chosen = split([str(at) for at in range(17)], labels, groups, parts)
    assert chosen[10] == chosen[0]


def test_groups_over_several_classes_stay_together() -> None:
    names = [f"{at}.jpg" for at in range(100)]
    labels = ["a"] * 50 + ["b"] * 50
    groups = [at % 50 for at in range(100)]
    chosen = split(names, labels, groups, PARTS)
    assert chosen[:50] == chosen[50:]
    assert Counter(chosen) == {"train": 80, "val": 10, "test": 10}


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("train=0.8,val=0.1,test=0.1", PARTS),
        ("train=80, val=10, test=10", PARTS),
        ("train,test=0.25", {"train": 0.75, "test": 0.25}),
        ("a,b", {"a": 0.5, "b": 0.5}),
        ("all=1", {"all": 1.0}),
        ("train,val=100,test=200", {"train": 1.0, "val": 100, "test": 200}),
        ("train=100,test=20", {"train": 100, "test": 20}),
        ("train=80,test=20,rest", {"train": 80, "test": 20, "rest": 1.0}),
        ("test=20,train=0.9,val=0.1", {"test": 20, "train": 0.9, "val": 0.1}),
        ("query=20,gallery,distractor", {"query": 20, "gallery": 1.0, "distractor": 0.0}),
        (
            "query=0.2,gallery=0.8,distractor",
            {"query": 0.2, "gallery": 0.8, "distractor": 0.0},
        ),
    ],
)
def test_parts(text: str, shares: dict[str, float]) -> None:
    parts = parse_parts(text)
    assert parts == pytest.approx(shares)
    assert {name: type(amount) for name, amount in parts.items()} == {
        name: type(amount) for name, amount in shares.items()
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("train,val=37,test=101", {"train": 862, "val": 37, "test": 101}),
        ("train=300,test=50", {"train": 300, "test": 50, NO_PART: 650}),
        ("test=100,train=0.9,val=0.1", {"test": 100, "train": 810, "val": 90}),
        ("train=999,test=1", {"train": 999, "test": 1}),
    ],
)
def test_fixed_numbers_are_met_and_each_class_has_its_share(
    text: str, sizes: dict[str, int], seed: int
) -> None:
    class_sizes = [500, 250, 120, 60, 30, 20, 10, 5, 3, 1, 1]
    labels = [f"c{at}" for at, size in enumerate(class_sizes) for _ in range(size)]
    names = [f"{at}.jpg" for at in range(1000)]
    chosen = split(names, labels, range(1000), parse_parts(text), seed=seed)
    counted = Counter(chosen)
    exact = {name: size for name, size in sizes.items() if "=0." not in text or name == "test"}
    assert {name: counted[name] for name in exact} == exact
    assert all(abs(counted[name] - size) <= 1 for name, size in sizes.items())
    for name, size in sizes.items():
        for at, class_size in enumerate(class_sizes):
            both = zip(chosen, labels, strict=True)
            own = sum(part == name and label == f"c{at}" for part, label in both)
            assert abs(own - size * class_size / 1000) < 2.5, (name, at)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=30),
    st.integers(0, 3),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_groups_stay_together_and_a_number_is_missed_by_less_than_a_group(
    group_sizes: list[int], seed: int, first: int, second: int
) -> None:
    groups = [number for number, size in enumerate(group_sizes) for _ in range(size)]
    names = [f"{at}.jpg" for at in range(len(groups))]
    labels = [f"c{group % 3}" for group in groups]
    parts = {"a": first, "b": second}
    if first + second > len(groups):
        with pytest.raises(DatasetError, match="ask for fewer"):
            split(names, labels, groups, parts, seed=seed)
        return
    chosen = split(names, labels, groups, parts, seed=seed)
    assert len(set(zip(groups, chosen, strict=True))) == len(group_sizes)
    sizes = Counter(chosen)
    assert all(abs(sizes[name] - wanted) < max(group_sizes) for name, wanted in parts.items())


def test_a_fixed_number_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    for at in range(12):
        save(root / "ab"[at % 2] / f"{at}.png", at)
    call = ["split", str(root), "--no-find-copies", "--into"]
    out = root / "split.csv"
    assert run([*call, "train=6,test=2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "4 photos in no part, and in nothing that is written" in printed
    rows = list(csv.DictReader(out.read_text("utf-8").splitlines()))
    assert Counter((row["split"], row["label"]) for row in rows) == {
        ("train", "a"): 3,
        ("train", "b"): 3,
        ("test", "a"): 1,
        ("test", "b"): 1,
    }
    assert run([*call, "train=6,test=2", "--folders", str(tmp_path / "made")]) == 0
    assert len(list((tmp_path / "made").rglob("*.png"))) == 8
    capsys.readouterr()
    assert run([*call, "train,test=3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["parts"], answer["in_no_part"]) == ({"train": 9, "test": 3}, 0)
    assert run([*call, "train=10,test=3"]) == 3
    assert "ask for 13 photos, but there are 12" in capsys.readouterr().err


def test_a_number_that_groups_do_not_fit_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["path,label,source"]
    for at in range(8):
        save(tmp_path / f"{at}.png", at)
        rows.append(f"{at}.png,a,s{at // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    call = ["split", str(tmp_path), "--no-find-copies", "--group-column", "source"]
    assert run([*call, "--into", "train,test=3"]) == 0
    printed = capsys.readouterr().out
    assert "test has 2 and not 3: photos that stay together do not fit" in printed or (
        "test has 4 and not 3: photos that stay together do not fit" in printed
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train=0.8,test=0.1",
        "train=0.8,test=0.8",
        "a=x,b",
        "a=0.5,a=0.5",
        "a=-1,b=2",
        "../x,b",
        "a=nan,b",
        "a=0,b=1",
        "a=0,b",
        "a=0.5,b=10",
        "a=1.0,b",
        "distractor",
    ],
)
def test_parts_that_are_none(text: str) -> None:
    with pytest.raises(DatasetError, match="wanted for example"):
        parse_parts(text)


def test_bound_together_joins_copies_and_sources() -> None:
    pairs = [CopyPair(0, 3, "cut", 0.99), CopyPair(3, 5, "mirrored", 0.98)]
    sources = ["", "x", None, "", "x", "y"]
    assert bound_together(6, pairs, sources) == [0, 1, 2, 0, 1, 0]


def test_leaks() -> None:
    pairs = [
        CopyPair(0, 1, "cut", 0.9),
        CopyPair(0, 2, "mirrored", 0.99),
        CopyPair(3, 4, "same bytes", 1.0),
        CopyPair(3, 5, "same bytes", 1.0),
        CopyPair(6, 7, "cut", 0.9),
    ]
    parts = ["train", "test", "train", "junk", "train", "test", "train", ""]
    found = [(leak.first, leak.second, leak.kind) for leak in find_leaks(parts, pairs)]
    # The junk photo takes no part, but it tells that 4 and 5 are copies.
    assert found == [(0, 1, "cut"), (4, 5, "copies of another")]
    sources = ["s", "", "", "", "", "s", "", ""]
    assert [leak.kind for leak in find_leaks(parts, [], sources)] == ["same source"]
    assert find_leaks(["a"] * 8, pairs, sources) == []


def dataset(root: Path, classes: int = 3, each: int = 10) -> Path:
    """Write a labels.csv with class, source and an evil name."""
    rows = []
    for at in range(classes * each):
        path = f"images/c{at % classes}/photo, {at}.png"
        save(root / path, 1000 + at)
        rows.append({"path": path, "label": f"c{at % classes}", "source": f"s{at // 2}"})
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, ["path", "label", "source"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as source:
        return list(csv.DictReader(source))


def test_a_labels_file_comes_back_with_its_columns(tmp_path: Path) -> None:
    root = dataset(tmp_path / "set")
    before = (root / "labels.csv").read_bytes()
    arguments = ["split", str(root), "--no-find-copies", "--group-column", "source"]
    out = root / "split.csv"
    assert run([*arguments, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert list(rows[0]) == ["path", "label", "split", "source"]
    assert [row["path"] for row in rows] == [row["path"] for row in rows_of(root / "labels.csv")]
    for source in {row["source"] for row in rows}:
        assert len({row["split"] for row in rows if row["source"] == source}) == 1
    assert (root / "labels.csv").read_bytes() == before
    # Never over what is there, unless asked.
    assert run([*arguments, "--out", str(root / "labels.csv")]) == 3
    assert (root / "labels.csv").read_bytes() == before
    assert run([*arguments, "--out", str(root / "labels.csv"), "--overwrite"]) == 0
    assert rows_of(root / "labels.csv") == rows
    assert run(["split", str(root), "--check", "--no-find-copies"]) == 0


def test_a_labels_file_above_its_photos_is_a_dataset(tmp_path: Path) -> None:
    table = read_dataset(dataset(tmp_path / "set"), keep_columns=True)
    above = tmp_path / "above.csv"
    write_labels(table, ["train"] * 30, above)
    assert all((tmp_path / row["path"]).is_file() for row in rows_of(above))
    assert read_dataset(above, keep_columns=True).labels == table.labels


def test_a_labels_file_elsewhere_is_read_as_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dataset(tmp_path / "a set")
    monkeypatch.chdir(tmp_path)
    Path("else where").mkdir()
    file = Path("else where") / "split.csv"
    assert run(["split", "a set", "--no-find-copies", "--out", str(file)]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "read it with" in line]
    place, option, labels = shlex.split(said.split("read it with ")[1])
    assert option == "--labels"
    read = read_dataset(Path(place), labels=labels)
    assert {row["path"]: row["split"] for row in rows_of(file)} == dict(
        zip(read.paths, read.splits, strict=True)
    )
    assert read.root == root.relative_to(tmp_path) and set(read.splits) == {"train", "val", "test"}
    assert run(["split", "a set", "--no-find-copies", "--out", "a set/s.csv"]) == 0
    assert "read it with" not in capsys.readouterr().out


@pytest.mark.parametrize("links", [True, False])
def test_folders(tmp_path: Path, links: bool) -> None:
    root = tmp_path / "set"
    for folder in ("x", "y"):
        save(root / "a" / folder / "same name.png", len(folder))
        save(root / "b" / folder / "1.png", 7)
    table = read_dataset(root, keep_columns=True)
    write_folders(table, ["train", "train", "test", "test"], tmp_path / "new", links=links)
    made = sorted(p.relative_to(tmp_path / "new") for p in (tmp_path / "new").rglob("*.png"))
    assert list(map(str, made)) == [
        "test/b/1-2.png",
        "test/b/1.png",
        "train/a/same name-2.png",
        "train/a/same name.png",
    ]
    assert all((tmp_path / "new" / path).is_symlink() == links for path in made)
    assert all((tmp_path / "new" / path).stat().st_size > 0 for path in made)
    with pytest.raises(DatasetError, match="not empty"):
        write_folders(table, ["train"] * 4, tmp_path / "new", links=links)
    again = read_dataset(tmp_path / "new", keep_columns=True)
    assert Counter(again.splits) == {"train": 2, "test": 2}
    assert set(again.labels) == {"a", "b"}


def test_labels_that_are_no_folder_names(tmp_path: Path) -> None:
    root = tmp_path / "set"
    names = ["../../evil", "a/b", "..", None]
    for at in range(4):
        save(root / f"{at}.png", at)
    lines = [f"{at}.png,{name or ''}" for at, name in enumerate(names)]
    (root / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    table = read_dataset(root, keep_columns=True)
    write_folders(table, ["train"] * 4, tmp_path / "deep" / "new")
    made = list((tmp_path / "deep").rglob("*.png"))
    assert len(made) == 4
    assert all(p.parent.parent == tmp_path / "deep" / "new" / "train" for p in made)
    (root / "labels.csv").write_text("path,label\n0.png,a/b\n1.png,a_b\n")
    write_folders(read_dataset(root, keep_columns=True), ["train"] * 2, tmp_path / "other")
    assert len(list((tmp_path / "other/train").iterdir())) == 2


@pytest.mark.parametrize("parts", [["train", "test"] * 2, ["left", "right"] * 2])
def test_labels_survive_folders_that_cannot_have_their_names(
    tmp_path: Path, parts: list[str]
) -> None:
    root = tmp_path / "set"
    labels = ["Paris/Eiffel", "St. Peter's: dome", "\x1b[2Jred", "x" * 300]
    for at in range(4):
        save(root / f"{at}.png", at)
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(
            [["path", "label"], *((f"{n}.png", labels[n]) for n in range(4))]
        )
    table = read_dataset(root, keep_columns=True)
    assert write_folders(table, parts, tmp_path / "new") == sorted(
        [labels[0], labels[2], labels[3]]
    )
    assert (tmp_path / "new" / parts[1] / labels[1]).is_dir()
    again = read_dataset(tmp_path / "new", every_photo=True)
    assert sorted(map(str, again.labels)) == sorted(labels)
    assert Counter(again.splits) == ({"train": 2, "test": 2} if "train" in parts else {"": 4})


def test_folders_that_have_the_names_of_all_labels_need_no_labels_file(tmp_path: Path) -> None:
    save(tmp_path / "set/🏰 castle/1.png", 1)
    table = read_dataset(tmp_path / "set", keep_columns=True)
    assert write_folders(table, ["train"], tmp_path / "new") == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\n0.png\n", "no column 'label'"),
        ("path,label\n../0.png,a\n", "line 2: .* leads out of the dataset"),
        ("path,label\n0.png,a\n0.png,b\n", "line 3: .* already on line 2"),
        ("path,label\nnone.png,a\n", "none of its 1 photos"),
        ("path,label\n0.png,a,b\n", "3 fields"),
    ],
)
def test_labels_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path / "0.png", 0)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path, keep_columns=True)


def test_a_check_needs_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["split", str(dataset(tmp_path)), "--check", "--no-find-copies"]) == 3
    assert "has no split to check" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--check", "--into", "a,b"],
        ["--folds", "3", "--into", "a,b"],
        ["--folds", "1"],
        ["--html", "x.html"],
    ],
)
def test_wrong_calls(tmp_path: Path, arguments: list[str]) -> None:
    assert run(["split", str(tmp_path), *arguments]) == 2


def photo(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """Something with corners: rectangles and smooth noise."""
    rng = np.random.default_rng(seed)
    made = np.array(pixels(seed, width, height))
    for _ in range(60):
        x, y = rng.integers(0, width - 8), rng.integers(0, height - 8)
        w, h = rng.integers(6, 50, 2)
        made[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return made


@pytest.mark.slow
def test_the_command_finds_leaks_and_shows_them(tmp_path: Path) -> None:
    """The real command: copies across splits are told, with exit code 1, a page and JSON."""
    from PIL import Image

    root = tmp_path / "set"
    for at in range(8):
        folder = root / ("train" if at < 5 else "test") / f"c{at % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(at)).save(folder / f"{at}.jpg", quality=90)
    Image.fromarray(photo(0)[:, ::-1]).save(root / "test" / "c0" / "mirrored.jpg", quality=60)
    Image.fromarray(photo(1)[20:230, 40:300]).save(root / "test" / "c1" / "<b>cut.jpg", quality=60)
    (root / "test" / "c1" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    command = [sys.executable, "-m", "veduta", "split", str(root), "--cache", str(tmp_path / "c")]
    page = tmp_path / "leaks.html"
    done = subprocess.run(
        [*command, "--check", "--html", str(page)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "test and train: 2 leaks" in done.stdout
    assert "broken.jpg: not compared" in done.stderr
    html = page.read_text("utf-8")
    assert html.count("<img") == 4
    assert "<b>cut" not in html
    done = subprocess.run(
        [*command, "--check", "--json"], capture_output=True, text=True, check=False
    )
    leaks = json.loads(done.stdout)["leaks"]
    assert [(leak["paths"], leak["kind"]) for leak in leaks] == [
        (["test/c0/mirrored.jpg", "train/c0/0.jpg"], "mirrored"),
        (["test/c1/<b>cut.jpg", "train/c1/1.jpg"], "cut"),
    ]
    # Split anew, it has none; and a second run finds the photos described already.
    new = tmp_path / "new"
    done = subprocess.run(
        [*command, "--into", "train=0.5,test=0.5", "--folders", str(new), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    part_of = {row["path"]: row["split"] for row in told["rows"]}
    assert part_of["test/c0/mirrored.jpg"] == part_of["train/c0/0.jpg"]
    assert part_of["test/c1/<b>cut.jpg"] == part_of["train/c1/1.jpg"]
    assert sum(told["parts"].values()) == len(part_of) == 11
    checked = subprocess.run(
        [*command[:4], str(new), "--cache", str(tmp_path / "c"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert "no leaks" in checked.stdout


@pytest.mark.skipif(os.name == "nt", reason="permissions")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    root = dataset(tmp_path / "set")
    (tmp_path / "closed").mkdir(mode=0o500)
    out = str(tmp_path / "closed" / "labels.csv")
    assert run(["split", str(root), "--no-find-copies", "--out", out]) == 3
