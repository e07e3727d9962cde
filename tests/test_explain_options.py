"""`veduta explain`: which options go together, what it prints, and which photos it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import save

import veduta
from veduta import api
from veduta.cli.main import run

PAIR = ("--against", "dome/0.png", "--encoder", "fast")
Answer = tuple[int, str, str]
Explain = Callable[..., Answer]


@pytest.fixture
def explain(
    explained_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    """Return `explain(arguments…)`: exit code, output and errors, in the folder of the photos."""
    monkeypatch.chdir(explained_home / "photos")
    monkeypatch.setenv("VEDUTA_INDEX", str(explained_home / "no index"))

    def explained(*arguments: str | Path) -> Answer:
        code = run(["explain", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return explained


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--against PHOTO, --index PATH or --model RUN"),
        ((*PAIR, "--index", "../index"), "--index does not go with"),
        ((*PAIR, "--hits", "2"), "--hits goes with --index"),
        (("--model", "../recogniser", "--encoder", "fast"), "--encoder goes with --against"),
        (("--index", "../index", "--class", "dome"), "--class goes with --model"),
        (("--model", "../recogniser", "--region", "0,0,9,9"), "--region goes with two photos"),
        ((*PAIR, "--class-sheet"), "--class-sheet goes with --model and one --method"),
        (("--model", "../recogniser", "--class-sheet", "--method", "all"), "one --method"),
        (("dome", *PAIR, "--npy", "map.npy"), "--npy takes one photo"),
        ((*PAIR, "--method", "all", "--npy", "map.npy"), "--npy takes one photo"),
    ],
)
def test_options_that_do_not_go_together(
    explain: Explain, options: tuple[str, ...], said: str
) -> None:
    code, out, err = explain("tower/1.png", *options)
    assert (code, out) == (2, "")
    assert said in err


def test_the_answer_in_words(explain: Explain) -> None:
    code, out, err = explain("tower/1.png", *PAIR)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "tower/1.png and dome/0.png"
    assert lines[1].startswith("  similarity 0.") or lines[1].startswith("  similarity -0.")
    assert lines[2].startswith("  shares  1.png, ")
    assert "% of the positive sum in" in out
    numbers = next(line for line in lines if line.strip().startswith("sum "))
    parts = numbers.replace(" - constant ", " + constant -").split()
    assert float(parts[1]) + float(parts[4]) == pytest.approx(float(parts[7]), abs=2e-4)
    assert max(map(len, lines)) <= 80


def test_the_default_index_is_searched(
    explain: Explain, explained_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEDUTA_INDEX", str(explained_home / "index"))
    code, out, _ = explain("tower/1.png", "--json")
    assert code == 0
    assert not json.loads(out)["against"]["photo"].endswith("tower/1.png"), "the photo is no hit"


def test_several_hits_are_a_list(explain: Explain) -> None:
    code, out, _ = explain("tower/1.png", "--index", "../index", "--hits", "3", "--json")
    answers = json.loads(out)
    assert (code, len({answer["against"]["photo"] for answer in answers})) == (0, 3)
    assert sorted(answers, key=lambda one: -one["similarity"]) == answers


def test_an_index_of_nothing_but_the_photo(explain: Explain, tmp_path: Path) -> None:
    alone = save(tmp_path / "alone/a.png", 1)
    veduta.create(tmp_path / "index", encoder="fast", keypoints=None).add(alone.parent)
    code, _, err = explain(alone, "--index", tmp_path / "index")
    assert code == 3
    assert "no other photo" in err


def test_one_unreadable_photo_does_not_stop_the_others(explain: Explain, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    code, out, err = explain(broken, "tower/1.png", *PAIR, "--json")
    assert code == 3
    assert [one["photo"] for one in json.loads(out)] == ["tower/1.png"]
    assert "broken.jpg" in err
    assert explain(broken, *PAIR)[:2] == (3, "")


def test_all_methods_leave_out_what_the_model_does_not_allow(explain: Explain) -> None:
    code, out, err = explain("tower/1.png", "--model", "../recogniser", "--method", "all", "--json")
    assert code == 0
    answers = json.loads(out)
    assert [one["method"] for one in answers] == ["shares", "occlusion", "rise"]
    assert all(one["strongest"] is None or one["strongest"]["place"] for one in answers)
    assert err.count("veduta: left out ") == 1 and len(err.splitlines()) == 1
    assert "left out cam, grad-cam, " in err and "shares, occlusion, rise" in err


def test_a_line_is_free_between_two_photos(explain: Explain) -> None:
    code, out, _ = explain("tower/1.png", "tower/3.png", *PAIR)
    blocks = out.split("\n\n")
    assert (code, len(blocks)) == (0, 2)
    assert blocks[1].startswith("tower/3.png and dome/0.png\n")


def test_names_of_photos_stay_whole_in_lines(explain: Explain, tmp_path: Path) -> None:
    photo = save(tmp_path / "a-\tlong-name\nof-a-tower-beside-the-old-bridge-of-the-town.png", 1)
    code, out, _ = explain(photo, *PAIR)
    assert code == 0
    assert "shares  a-\\x09long-name\\x0aof-a-tower-beside-the-old-bridge-of-the-town.png," in out


def test_a_region_and_the_answer_to_it(explain: Explain) -> None:
    code, out, _ = explain("tower/1.png", *PAIR, "--region", "0,0,20,16")
    said = " ".join(out.split()).split("the chosen region adds ")[1].replace(" - ", " + -")
    whole, answer, *_, rest = said[: said.index(" of the constant")].replace(":", "").split()
    assert code == 0
    assert float(answer) + float(rest.lstrip("+")) == pytest.approx(float(whole), abs=2e-4)


def test_a_photo_without_the_region_does_not_stop_the_others(
    explain: Explain, tmp_path: Path
) -> None:
    tiny = tmp_path / "tiny.png"
    Image.new("RGB", (1, 1)).save(tiny)
    options = (*PAIR, "--region", "10,10,9,9", "--json")
    code, out, err = explain("tower/1.png", tiny, "tower/3.png", *options)
    assert code == 3
    assert [one["photo"] for one in json.loads(out)] == ["tower/1.png", "tower/3.png"]
    assert "the photo, which has 1 × 1 pixels" in err


def test_the_other_photo_is_reported_once(explain: Explain, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    code, out, err = explain(".", "--against", broken, "--encoder", "fast", "--json")
    assert (code, out, err.count("broken.jpg")) == (3, "", 1)


def test_a_hit_that_is_gone_does_not_stop_the_others(explain: Explain, tmp_path: Path) -> None:
    photos = [save(tmp_path / f"all/{number}.png", number) for number in range(3)]
    veduta.create(tmp_path / "index", encoder="fast", keypoints=None).add(tmp_path / "all")
    photos[1].unlink()
    options = ("--index", tmp_path / "index", "--hits", "2", "--json")
    code, out, err = explain(photos[0], *options)
    assert code == 3
    assert [one["against"]["photo"] for one in json.loads(out)] == [str(photos[2])]
    assert "1.png: the file is not there" in err


def test_all_methods_that_all_fail_say_why(explain: Explain) -> None:
    options = ("--model", "../recogniser", "--method", "all", "--class", "domee")
    code, out, err = explain("tower/1.png", *options)
    assert (code, out) == (3, "")
    assert "dome" in err


def test_a_class_sheet_takes_photos_from_all_over(
    explain: Explain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("veduta.cli.explain._CLASS_SHEET_PHOTOS", 4)
    sheet = tmp_path / "sheet.png"
    options = ("--model", "../recogniser", "--class", "dome", "--class-sheet", "--json")
    code, out, err = explain(".", *options, "--png", sheet)
    assert code == 0
    assert [one["photo"] for one in json.loads(out)] == [
        "dome/0.png",
        "dome/2.png",
        "tower/1.png",
        "tower/3.png",
    ]
    assert "4 of 6 photos, at equal distances" in err
    with Image.open(sheet) as picture:
        assert picture.width > 2000


def test_more_maps_than_a_picture_holds(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veduta.pages.explanation_sheet.MAX_PANELS", 3)
    code, out, err = explain("dome", *PAIR, "--png", "never.png")
    assert (code, out) == (3, "")
    assert "holds 3 maps, and these are 6" in err and "--html" in err
    assert not Path("never.png").exists()


def test_a_map_of_damaged_weights_is_refused(
    explain: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = api.explain

    def damaged(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        return replace(found, map=np.full_like(found.map, np.nan))

    monkeypatch.setattr(api, "explain", damaged)
    code, out, err = explain("tower/1.png", *PAIR, "--json")
    assert (code, out) == (5, "")
    assert "the map by shares has values that are infinite or no numbers" in err
