"""The commands of docs/explanations.md run from the first to the last, on few small photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
pytest.importorskip("skimage")

from benchmarks.explanation_pictures import (
    MAX_BYTES,
    PAIR,
    PICTURES,
    WIDTHS,
    write_small_jpeg,
    write_start,
)
from benchmarks.report_pages import Command, read_commands

from veduta.cli.main import run
from veduta.explanation import METHODS

pytestmark = pytest.mark.filterwarnings("default")  # of the exporter, not ours

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanations.md"
IMAGES = PAGE.parent / "images"


def smaller(command: Command) -> list[str]:
    """Return the arguments that make a training of the page small."""
    if command.name != "train":
        return []
    return ["--set", "training.epochs=1", "--set", "input.size=32"]


@pytest.mark.slow
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_start(tmp_path, names=PAIR, views=6)
    commands = read_commands(PAGE.read_text("utf-8"))
    assert len(commands) > 5
    for command in commands:
        code = run([*command.arguments(tmp_path), *smaller(command)])
        printed = capsys.readouterr()
        assert code == 0, f"{command.text}\n{printed.out}{printed.err}"
    for name in PICTURES:
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 1200
    assert np.load(tmp_path / "map.npy").ndim == np.load(tmp_path / "map-against.npy").ndim == 2


def test_the_page_names_every_method_and_shows_every_picture() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in METHODS if f"`{name}`" not in text] == []
    for name in PICTURES:
        picture = f"explanations-{Path(name).stem}.jpg"
        assert f"(images/{picture})" in text
        with Image.open(IMAGES / picture) as shown:
            assert shown.width <= WIDTHS[0]
        assert (IMAGES / picture).stat().st_size <= MAX_BYTES


def test_a_picture_that_cannot_be_made_small_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(SystemExit, match="larger than 150,000 bytes"):
        write_small_jpeg(tmp_path / "noise.png", tmp_path / "noise.jpg")
