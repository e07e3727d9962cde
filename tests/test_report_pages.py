"""The pages of docs/reports run from their first command to their last, on few small photos.

A page that names a file which no command writes fails. Trainings last one epoch here, and networks
see smaller photos: `ADDED` is all that differs from what a reader types.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("skimage")

import skimage
from benchmarks.report_pages import (
    PAGES,
    Command,
    named_files,
    read_commands,
    with_outputs,
    without_progress,
)
from benchmarks.report_photos import CLASSES, OTHER, START, Photos, serving
from benchmarks.reports import CHARTS

from veduta.cli.main import run
from veduta.demo import SUBJECTS, rephotograph

pytestmark = pytest.mark.filterwarnings("default")  # of the exporter, not ours

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reports"
SAMPLES = Path(skimage.__file__).parent / "data"

SIDE = 200  # pixels of the long side of a photo
VIEWS = 9  # photos of a class
FEWER = {"landmark-capstone": 6}  # it has seven classes
OTHERS = 8
WITHOUT_NAMES = 4  # classes of a page whose commands name no class

SMALL = {
    "siamese": ("input.size=32", "training.validation=0.5"),
    "cnn-22": (f"network.classes={WITHOUT_NAMES}", "input.size=32"),
    "autoencoder-32-64": (),  # the layers of the decoder fix the size
    "autoencoder-32-64-128": (),
    "variational-autoencoder": (),
    "scratch-competition": (),  # its strides need 96 pixels
}
"""Recipe → settings that make its training small; `SMALLER` for all others."""

SMALLER = ("input.size=32",)


def added(command: Command) -> list[str]:
    """Return the arguments that the test adds to a command of a page."""
    if command.name == "collect":
        return ["--allow-private"]  # the server of the photos is on this machine
    if command.name == "table" and "--out" in command.words:
        return ["--set", "training.epochs=1", "--set", "input.size=32"]
    if command.name in ("train", "tune"):
        settings = ("training.epochs=1", *SMALL.get(command.words[1], SMALLER))
        small = [word for setting in settings for word in ("--set", setting)]
        return small + (["--trials", "1"] if command.name == "tune" else [])
    return []


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Return photos of several things, seen differently, from photos of scikit-image."""
    folder = tmp_path_factory.mktemp("views")
    things = []
    for number, subject in enumerate(SUBJECTS[: len(CLASSES["landmark-capstone"]) + 1]):
        with Image.open(SAMPLES / subject.photo) as original:
            photo = original.convert("RGB")
        files = []
        for at in range(VIEWS):
            rng = np.random.default_rng((number, at))
            view = Image.open(io.BytesIO(rephotograph(photo, rng, 0.5)))
            view.thumbnail((SIDE, SIDE))
            files.append(folder / f"{subject.name}-{at:02}.jpg")
            view.save(files[-1], quality=92)
        things.append(files)
    return things


def photos_for(page: str, views: list[list[Path]]) -> Photos:
    labels = CLASSES.get(page, tuple(f"class{number}" for number in range(WITHOUT_NAMES)))
    each = [own[: FEWER.get(page, VIEWS)] for own in views]
    return {**dict(zip(labels, each, strict=False)), OTHER: views[-1][:OTHERS]}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(
    page: str,
    views: list[list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (FOLDER / f"{page}.md").read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands = read_commands(text)
    assert len(commands) > 5
    with serving(tmp_path) as server:
        START[page](photos_for(page, views), tmp_path, server)
        for command in commands:
            code = run([*command.arguments(tmp_path), *added(command)])
            printed = capsys.readouterr()
            assert code in command.exit_codes, f"{command.text}\n{printed.out}{printed.err}"
    wanted = [*named_files(text), *CHARTS.get(page, {})]
    assert [name for name in wanted if not (tmp_path / name).exists()] == []


PAGE = """# A page

It writes `runs/a/loss.png` and `photos.html`.

```console
$ veduta train a photos --out runs/a \\
    --set x=1
old output
$ veduta compare runs/*
```
"""


def test_commands_are_read_with_their_continuation() -> None:
    first, second = read_commands(PAGE)
    assert first.words == ["train", "a", "photos", "--out", "runs/a", "--set", "x=1"]
    assert second.text == "veduta compare runs/*"


def test_patterns_stand_for_files(tmp_path: Path) -> None:
    for name in ("runs/b", "runs/a"):
        (tmp_path / name).mkdir(parents=True)
    assert read_commands(PAGE)[1].arguments(tmp_path) == ["compare", "runs/a", "runs/b"]


def test_only_commands_of_veduta_are_run() -> None:
    with pytest.raises(ValueError, match="only commands of veduta"):
        _ = Command("rm -r photos").words


def test_outputs_are_replaced_and_shortened() -> None:
    many = "\n".join(f"line {number}" for number in range(40))
    page = with_outputs(PAGE, [many, ""])
    assert "old output" not in page
    assert "    --set x=1\nline 0\n" in page
    assert "line 11\n…\nline 34\n" in page
    assert page.endswith("line 39\n$ veduta compare runs/*\n```\n")
    assert with_outputs(page, [many, ""]) == page


def test_each_page_has_an_output_for_each_of_its_commands() -> None:
    with pytest.raises(ValueError, match="1 outputs for 2 commands"):
        with_outputs(PAGE, ["x"])


def test_progress_is_left_out_and_results_are_not() -> None:
    progress = "Describing: 3 of 73 photos, 0.2 photos/s, 5 min 3 s left\n"
    result = "transfer: 3 epochs in 5 s, the best is 3 by the val loss\n"
    assert without_progress(progress + result + progress) == result


def test_files_are_named_by_the_text_alone() -> None:
    assert named_files(PAGE) == ["runs/a/loss.png"]


def test_the_index_links_to_every_page() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")
    assert [f"({page}.md)" in index for page in PAGES] == [True] * len(PAGES)
    assert {file.stem for file in FOLDER.glob("*.md")} == {*PAGES, "README"}
