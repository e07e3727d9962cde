"""`veduta augment` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_dataset import save_photo, split_dataset

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")


from veduta.cli.main import run  # noqa: E402
from veduta.learn.augmentation import (  # noqa: E402
    catalogue,
)
from veduta.learn.augmentation.preview import draw_preview, preview_rows  # noqa: E402
from veduta.learn.augmentation.steps import read_steps  # noqa: E402

WORDS = list(catalogue.WORDS)


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["augment", "--list"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert all(f"  {word}=" in out for word in WORDS)
    assert run(["augment", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [one["word"] for one in listed] == WORDS
    assert listed[0] == {
        "word": "rotation",
        "kind": "geometry",
        "about": "turns the photo",
        "unit": "degrees",
        "values": [0, 180],
        "default": 40.0,
        "drawn": "both ways",
        "probability": 1,
        "source": ["landmark capstone", "image search competition"],
    }


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from veduta.cli.main import run; run(['augment', '--list']); "
        "print([name for name in ('torch', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def size_of(file: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(file) as opened:
        return opened.format, opened.size


@pytest.mark.slow
def test_a_sheet_of_each_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_photo(tmp_path / "a.png", 0, width=400, height=300)
    for name, seed in (("1.png", "0"), ("2.png", "0"), ("3.png", "1")):
        call = ["augment", str(tmp_path / "a.png"), "--preview", str(tmp_path / name)]
        assert run([*call, "--seed", seed]) == 0
    assert f"{len(WORDS)} rows, seed 1" in capsys.readouterr().out
    first, again, other = ((tmp_path / f"{n}.png").read_bytes() for n in (1, 2, 3))
    assert first == again != other
    kind, (width, height) = size_of(tmp_path / "1.png")
    assert kind == "PNG"
    assert 800 < width < 2000
    assert 1500 < height < 4000


def test_a_sheet_of_steps_over_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "photos"
    for number in range(6):
        save_photo(photos / f"{number}.png", number, width=60, height=80)
    (photos / "0.png").write_bytes(b"nothing")
    call = ["augment", str(photos), "--preview", str(tmp_path / "s.jpg"), "--json"]
    assert run([*call, "--steps", "rotation=20,canny=1@0.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 4
    assert told["rows"] == ["rotation=20", "canny=1", "all of them"]
    assert told["unchanged"]["rotation=20"] == told["unchanged"]["all of them"] == 0
    assert "0.png" in told["problems"][0]
    assert size_of(tmp_path / "s.jpg")[0] == "JPEG"


def test_unchanged_tiles_of_a_sheet_are_marked() -> None:
    photo = np.full((60, 80, 3), 120, np.uint8)
    photo[:, :40] = 60
    row, together = preview_rows(
        read_steps([{"flip": "horizontal", "probability": 0.5}]), together=True
    )
    assert (row.title, row.probability) == ("flip=horizontal (probability 0.5, here 1)", 1)
    assert together.probability == 0.5
    sheet, unchanged = draw_preview([photo], [row, together], seed=3)
    assert unchanged["flip=horizontal"] == 0 and 0 < unchanged["all of them"] < 4
    # Only the bars of the notes have many dark pixels below each other.
    dark = (np.asarray(sheet).astype(int).max(axis=2) < 40).sum(axis=0)
    assert (dark > 25).sum() == pytest.approx(200 * unchanged["all of them"], abs=60)
    twice = read_steps([{"flip": "horizontal", "probability": 0.5}] * 2)
    assert preview_rows(twice, together=True)[-1].probability == 0.75


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "one of --list, --preview FILE and --out DIR"),
        (["--list", "--out", "x"], 2, "one of --list"),
        (["--out", "x"], 2, "Name a photo or a dataset"),
        (["photo.png", "--preview", "x.gif"], 2, "expected a .png or a .jpg"),
        (["photo.png", "--preview", "none/x.png"], 3, "its folder does not exist"),
        (["photo.png", "--preview", "x.png", "--steps", "rotate=4"], 3, "did you mean 'rotation'?"),
        (["photo.png", "--preview", "x.png", "--steps", "zoom=4"], 3, "from 0 to 0.9"),
        (["photo.png", "--preview", "x.png", "--recipe", "none"], 3, "no recipe is called"),
        (["photo.png", "--preview", "x.png", "--recipe", "bare.toml"], 3, "has no augment"),
        (["photo.png", "--preview", "x.png", "--recipe", "a", "--steps", "b"], 2, "Either --st"),
        (["text.jpg", "--preview", "x.png"], 3, "text.jpg: not a photo"),
        (["texts", "--preview", "x.png"], 3, "text.jpg: not a photo"),
        (["empty", "--preview", "x.png"], 3, "no photo in this folder"),
        (["gone", "--preview", "x.png"], 2, "does not exist"),
        (["data", "--out", "x", "--copies", "0"], 2, "copies"),
        (["data", "--out", "x", "--all", "--part", "a"], 2, "Either --all or --part"),
        (["data", "--out", "x", "--part", "other"], 3, "no photo is in the split 'other'"),
        (["data", "--out", "x", "--column", "none"], 3, "has no split"),
        (["data", "--out", "x", "--labels", "none.csv"], 3, "none.csv"),
        (["empty", "--out", "x"], 3, "empty"),
    ],
)
def test_wrong_calls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "photo.png", 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for text in ("text.jpg", "texts/text.jpg"):
        (tmp_path / text).write_text("no photo at all")
    (tmp_path / "bare.toml").write_text('about = "nothing"\n')
    split_dataset(tmp_path / "data")
    assert run(["augment", *arguments]) == code
    told = capsys.readouterr().err
    assert message in " ".join(told.split())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_the_command_writes_a_dataset(tmp_path: Path) -> None:
    source = split_dataset(tmp_path / "data")
    (source / "photos/c0/train0.jpg").write_bytes(b"nothing")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "veduta",
            "augment",
            "data",
            "--out",
            "out",
            "--copies",
            "2",
            "--steps",
            "grey@1",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "wrote out: 9 unchanged photos, and 2 changed copies of 5 of them" in done.stdout
    assert "photos/c0/train0.jpg: left out" in done.stderr
    with Image.open(tmp_path / "out/photos/c1/train0~2.jpg") as copy:
        red, green, blue = np.moveaxis(np.asarray(copy).astype(int), 2, 0)
    assert max(np.abs(red - green).max(), np.abs(red - blue).max()) <= 4


def test_a_dataset_by_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = split_dataset(tmp_path / "data")
    (tmp_path / "mine.toml").write_text('augment = [{flip = "vertical", probability = 1}]\n')
    call = ["augment", "data", "--out", "flipped", "--copies", "2", "--recipe", "mine.toml"]
    assert run([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": "flipped",
        "photos": 10,
        "copied": 6,
        "copies": 2,
        "kept": 0,
        "group_column": "original_photo",
        "problems": [],
    }
    with Image.open(tmp_path / "flipped/photos/c1/train0~1.jpg") as copy:
        made = np.asarray(copy).astype(int)
    with Image.open(source / "photos/c1/train0.jpg") as original:
        mirrored = np.asarray(original)[::-1].astype(int)
    assert np.abs(made - mirrored).mean() < 12  # saved again as JPEG
    assert run(call) == 3
    assert "finished augmentation" in capsys.readouterr().err
