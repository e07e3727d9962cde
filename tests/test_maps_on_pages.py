"""`--maps` of `veduta search` and `veduta evaluate`: maps of the similarity on their pages."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from tiny import save
from tiny_onnx import channel_means, write

import veduta
from veduta.cli.main import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with eight photos of two classes and an index of them."""
    home = tmp_path_factory.mktemp("pages")
    for number in range(8):
        save(home / f"photos/{('dome', 'tower')[number % 2]}/{number}.png", number)
    index = veduta.create(home / "index", encoder="fast", keypoints=None)
    index.add(home / "photos", labels="folders")
    return home


@pytest.fixture(autouse=True)
def own_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("VEDUTA_INDEX", str(home / "index"))
    monkeypatch.chdir(home)


def called(*arguments: str | Path) -> int:
    return run([str(argument) for argument in arguments])


def map_pictures(page: Path) -> list[Image.Image]:
    """Return the pictures of the dialogs that the buttons "Show map" open."""
    text = page.read_text("utf-8")
    targets = re.findall(r'popovertarget="([\w-]+)">Show map<', text)
    assert len(set(targets)) == len(targets), "each button opens a picture of its own"
    pictures = []
    for target in targets:
        (encoded,) = re.findall(
            rf'<dialog popover id="{target}".*?src="data:image/jpeg;base64,([^"]+)"',
            text,
            re.DOTALL,
        )
        data = base64.b64decode(encoded)
        assert len(data) <= 150_000
        pictures.append(Image.open(io.BytesIO(data)))
    return pictures


def test_the_first_hits_of_a_search_have_maps_if_they_are_wanted(home: Path) -> None:
    query = "photos/dome/0.png"
    assert called("search", query, "--html", "plain.html") == 0
    assert map_pictures(home / "plain.html") == []
    assert called("search", query, "--html", "maps.html", "--maps") == 0
    pictures = map_pictures(home / "maps.html")
    assert len(pictures) == 5, "of eight hits"
    assert {picture.width for picture in pictures} == {1200}


def test_a_hit_whose_file_is_gone_has_no_map(home: Path, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"photos/{number}.png", number)
    index = veduta.create(tmp_path / "index", encoder="fast", keypoints=None)
    index.add(tmp_path / "photos")
    (tmp_path / "photos/1.png").unlink()
    query, page = home / "photos/dome/0.png", tmp_path / "page.html"
    assert called("search", query, "--index", index.path, "--html", page, "--maps") == 0
    assert len(map_pictures(page)) == 2


def test_an_evaluation_shows_maps_of_the_first_answers(home: Path) -> None:
    for number, name in enumerate(("dome", "tower")):
        save(home / f"queries/{name}/query.png", number, compress_level=0)
    dataset = ("--queries", "queries", "--gallery", "photos", "--encoder", "fast", "--maps")
    called("evaluate", *dataset, "--rows", "1", "--html", "page.html", "--report", "report")
    assert len(map_pictures(home / "page.html")) == 3
    assert len(map_pictures(home / "report/report.html")) == 2 * 3
    called("evaluate", *dataset, "--task", "recognize", "--method", "knn", "--report", "named")
    assert len(map_pictures(home / "named/report.html")) == 2 * 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("search", "photos/dome/0.png", "--maps"), 2, "--html or --open"),
        (("evaluate", "photos", "--maps"), 2, "--html or --report"),
        (("evaluate", "photos", "--maps", "--html", "x.html", "--project", "4"), 2, "--project"),
        (("evaluate", "photos", "--maps", "--html", "x.html", "--method", "sift"), 2, "--maps"),
        (("evaluate", "photos", "--maps", "--report", "x", "--model", "run"), 2, "--maps"),
        (("evaluate", "gnd_x.pkl", "--maps", "--report", "x"), 2, "--maps"),
    ],
)
def test_where_there_is_no_page_for_maps(
    arguments: tuple[str, ...], code: int, said: str, capfd: Capture
) -> None:
    assert called(*arguments) == code
    assert said in capfd.readouterr().err


def test_an_encoder_whose_descriptor_cannot_be_divided(tmp_path: Path, capfd: Capture) -> None:
    encoder = write(tmp_path, channel_means(), {"sizes": [24]})
    index = veduta.create(tmp_path / "index", encoder=encoder, keypoints=None)
    index.add("photos")
    capfd.readouterr()
    page = tmp_path / "page.html"
    query = ("search", "photos/dome/0.png", "--index", index.path)
    for command in (query, ("evaluate", "photos", "--encoder", encoder)):
        assert called(*command, "--html", page, "--maps") == 5
        printed = capfd.readouterr()
        assert "occlusion" in printed.err and printed.out == "", "before the search"
        assert not page.exists()
