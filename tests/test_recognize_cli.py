"""`veduta recognize`, by the real command line in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import Run, environment, run_veduta
from tiny import save, save_view

from veduta.cli import recognize

PLACES = ("arch", "dome", "tower")
QUICK = ("--method", "linear")  # learned at once, where it does not matter what is learned


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three places and of other things, two indexes, one with labels, and new photos."""
    folder = tmp_path_factory.mktemp("recognize-cli")
    for scene, place in enumerate(PLACES):
        for number in range(11):
            save_view(folder / "photos" / place / f"{number}.png", scene, number, 0.25)
        for number in range(50, 52):
            save_view(folder / "new" / f"{place} {number}.png", scene, number, 0.25)
    for scene in range(100, 112):
        save_view(folder / "photos" / f"{scene}.png", scene)
    save_view(folder / "new" / "else.png", 200)
    save(folder / "plain" / "a.png", 1)
    done = run(folder, "index", "photos", "--encoder", "fast", "--labels", "folders")
    assert done.returncode == 0, done.stderr
    done = run(folder, "index", "plain", "--encoder", "fast", "--index", "plain-index")
    assert done.returncode == 0, done.stderr
    return folder


def run(home: Path, *arguments: str | Path, **options: Any) -> Run:
    """Run `veduta` with file names that need not be UTF-8."""
    utf8 = {**environment(home), "PYTHONUTF8": "1"}
    return run_veduta(home, *arguments, env=utf8, errors="surrogateescape", **options)


def told(done: Run) -> list[dict[str, Any]]:
    """Return what `--json` printed, which must be JSON without NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the JSON")

    found: list[dict[str, Any]] = json.loads(done.stdout, parse_constant=refuse)
    return found


def test_help(home: Path) -> None:
    done = run(home, "recognize", "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.slow
def test_two_at_once_then_a_folder(home: Path) -> None:
    """The first run learns; two of them at the same time do not break each other."""
    photos = ("new/dome 50.png", "new/arch 51.png")
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda photo: run(home, "recognize", photo, *QUICK), photos))
    for one, photo in zip(done, photos, strict=True):
        assert one.returncode == 0
        # On a busy machine learning takes long enough to report its progress.
        assert [line for line in one.stderr.splitlines() if "Learning: " not in line] == []
        first, second, *rest = one.stdout.splitlines()
        assert first == photo
        name, confidence = second.split()
        assert name in photo and 0 < float(confidence) <= 1
        for line in rest:
            assert line.startswith("  ") and len(line) <= 80
        assert f"photos/{name}/" in rest[-1]
        assert "\x1b" not in one.stdout
    (kept,) = (home / "index" / "recognition").iterdir()
    before = kept.stat().st_mtime_ns
    done_again = run(home, "recognize", "new", *QUICK)
    assert done_again.returncode == 0
    names = [line for line in done_again.stdout.splitlines() if not line.startswith(" ")]
    assert sorted(names) == sorted(f"new/{file.name}" for file in (home / "new").iterdir())
    assert kept.stat().st_mtime_ns == before


def test_json(home: Path) -> None:
    done = run(home, "recognize", "new", "new/dome 51.png", *QUICK, "--json")
    assert done.returncode == 0 and done.stderr == ""
    answers = told(done)
    assert len(answers) == 8
    for answer in answers:
        assert list(answer) == [
            "photo",
            "label",
            "guess",
            "confidence",
            "threshold",
            "reason",
            "runners_up",
            "orientation",
            "hits",
        ]
        name = Path(answer["photo"]).name
        assert answer["label"] == (None if name == "else.png" else name.split()[0])
        assert (answer["label"] is None) == bool(answer["reason"])
        assert 0 <= answer["confidence"] <= 1 and 0 <= answer["threshold"] <= 1
        assert len(answer["runners_up"]) <= 4 and len(answer["hits"]) <= 5
        for one in answer["runners_up"]:
            assert set(one) == {"label", "confidence"} and one["label"] in PLACES
        for hit in answer["hits"]:
            assert answer["label"] is None or hit["label"] == answer["label"]
            assert {"path", "score", "label"} <= set(hit)


def test_unknown_and_why(home: Path) -> None:
    done = run(home, "recognize", "new/else.png", *QUICK)
    assert done.returncode == 0
    first, second, *hits = done.stdout.splitlines()
    assert first == "new/else.png"
    assert second.startswith("  unknown: ") and len(second) > 30
    assert hits


@pytest.mark.slow
def test_a_broken_photo_among_good_ones(home: Path) -> None:
    (home / "page.jpg").write_text("<html>no photo</html>")
    photos = ("page.jpg", "new/dome 50.png", "nowhere.jpg")
    done = run(home, "recognize", *QUICK, *photos)
    assert done.returncode == 3
    assert "page.jpg: " in done.stderr and "nowhere.jpg: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "  dome " in done.stdout and "page.jpg" not in done.stdout
    done = run(home, "recognize", *QUICK, *photos, "--json")
    assert done.returncode == 3
    page, dome, nowhere = told(done)
    assert page.keys() == nowhere.keys() == {"photo", "problem"}
    assert "HTML" in page["problem"] and dome["label"] == "dome"


def test_another_method(home: Path) -> None:
    done = run(home, "recognize", "new/tower 50.png", "--method", "prototypes", "--json")
    assert done.returncode == 0 and done.stderr == ""
    (answer,) = told(done)
    assert answer["label"] == "tower"


class TestFilter:
    """`--filter DIR --label NAME`: a list, and nothing is moved."""

    @pytest.fixture
    def pile(self, home: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "pile"
        for scene in range(3):
            for number in range(60, 63):
                save_view(folder / "in" / f"{scene}-{number}.png", scene, number, 0.25)
        (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
        return folder

    @staticmethod
    def state(folder: Path) -> list[tuple[str, int, int]]:
        return sorted(
            (os.fspath(file), file.stat().st_mtime_ns, file.stat().st_ino)
            for file in folder.rglob("*")
        )

    def test_the_list_is_exact_and_nothing_is_touched(
        self, home: Path, pile: Path, tmp_path: Path
    ) -> None:
        before = self.state(pile)
        done = run(
            home,
            "recognize",
            *QUICK,
            "--filter",
            pile,
            "--label",
            "dome",
            "--label",
            "tower",
            "--list",
            tmp_path / "kept.txt",
        )
        assert done.returncode == 3  # for the broken one
        assert "broken.jpg" in done.stderr and "kept 6 of 10 photos, listed in" in done.stderr
        assert done.stdout == ""
        kept = (tmp_path / "kept.txt").read_text().splitlines()
        assert sorted(Path(name).name for name in kept) == [
            f"{scene}-{number}.png" for scene in (1, 2) for number in (60, 61, 62)
        ]
        assert all((home / name).is_file() for name in kept)
        assert self.state(pile) == before

    @pytest.mark.slow
    def test_without_a_list_the_names_are_printed(self, home: Path, pile: Path) -> None:
        (pile / "broken.jpg").unlink()
        done = run(home, "recognize", *QUICK, "--filter", pile, "--label", "arch")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 3
        assert done.stderr == "kept 3 of 9 photos\n"
        done = run(home, "recognize", *QUICK, "--filter", pile, "--label", "arch", "--json")
        assert done.returncode == 0 and done.stderr == ""
        answers = told(done)
        assert len(answers) == 9
        assert all(one["kept"] == Path(one["photo"]).name.startswith("0-") for one in answers)

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="names of a Linux file system")
    def test_odd_names(self, home: Path, tmp_path: Path) -> None:
        pile = tmp_path / "pile"
        source = save_view(tmp_path / "a.png", 1, 70, 0.25)
        names = [b"caf\xe9.png", "日本.png".encode(), b"-rf.png", b" space .png", b"'\"$x;.png"]
        for name in (*names, b"two\nlines.png"):
            pile.mkdir(exist_ok=True)
            shutil.copy(source, os.path.join(os.fsencode(pile), name))
        arguments = ("recognize", *QUICK, "--filter", pile, "--label", "dome")
        done = run(home, *arguments, "--list", tmp_path / "kept.txt")
        assert done.returncode == 3
        assert "kept, but not listed" in done.stderr and r"two\nlines.png" in done.stderr
        kept = (tmp_path / "kept.txt").read_bytes().splitlines()
        assert sorted(os.path.basename(name) for name in kept) == sorted(names)
        assert all(os.path.isfile(os.path.join(os.fsencode(home), name)) for name in kept)
        done = run(home, *arguments)
        assert [os.fsencode(line) for line in done.stdout.splitlines()] == kept
        done = run(home, *arguments, "--json")
        assert done.returncode == 0
        assert {os.path.basename(os.fsencode(one["photo"])) for one in told(done)} == {
            *names,
            b"two\nlines.png",
        }

    def test_a_label_that_nothing_has(self, home: Path, pile: Path) -> None:
        done = run(home, "recognize", *QUICK, "--filter", pile, "--label", "Dome")
        assert done.returncode == 3
        assert "No photo has the label 'Dome'" in done.stderr
        assert "'dome'" in done.stderr and done.stdout == ""

    def test_a_list_that_cannot_be_written(self, home: Path, pile: Path) -> None:
        arguments = ("recognize", *QUICK, "--filter", pile, "--label", "dome", "--list")
        done = run(home, *arguments, "nowhere/kept.txt")
        assert done.returncode == 3
        assert done.stderr == (
            "veduta: nowhere/kept.txt: cannot be written: its folder does not exist\n"
        )
        assert run(home, *arguments, "new").returncode == 3
        if Path("/dev/full").exists():
            done = run(home, *arguments, "/dev/full")
            assert done.returncode == 3 and "/dev/full: cannot be written" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--filter", "new"), "a --label to keep"),
            (("--filter", "new", "--label", "dome", "new/else.png"), "no PHOTO"),
            (("--filter", "new/else.png", "--label", "dome"), "is not a folder"),
            (("--filter", "nowhere", "--label", "dome"), "is not a folder"),
            (("new/else.png", "--label", "dome"), "go with --filter"),
            (("new/else.png", "--list", "kept.txt"), "go with --filter"),
        ],
    )
    def test_what_does_not_go_together(
        self, home: Path, arguments: tuple[str, ...], said: str
    ) -> None:
        done = run(home, "recognize", *arguments)
        assert done.returncode == 2 and said in done.stderr

    def test_an_empty_folder(self, home: Path, tmp_path: Path) -> None:
        done = run(home, "recognize", "--filter", tmp_path, "--label", "dome")
        assert done.returncode == 3 and "no photo in this folder" in done.stderr


def test_wrong_calls(home: Path) -> None:
    for arguments in (
        (),
        ("new/else.png", "--precision", "0.4"),
        ("new/else.png", "--precision", "1"),
        ("new/else.png", "--method", "guess"),
        ("new/else.png", "--model", "m", "--export", "n"),
        ("new/else.png", "--model", "m", "--method", "linear"),
        ("new/else.png", "--model", "m", "--ignore-unlabelled"),
        ("new/else.png", "--model", "m", "--index", "index"),
    ):
        done = CliRunner().invoke(recognize.command, arguments, standalone_mode=True)
        assert done.exit_code == 2, (arguments, done.output)


@pytest.mark.slow
def test_the_bounds_of_precision(home: Path) -> None:
    thresholds = []
    for precision in ("0.5", "0.99"):
        done = run(home, "recognize", "new/dome 50.png", *QUICK, "--precision", precision, "--json")
        assert done.returncode == 0
        thresholds.append(told(done)[0]["threshold"])
    assert thresholds == sorted(thresholds)
    done = run(home, "recognize", "new/dome 50.png", *QUICK, "--precision", "nan")
    assert done.returncode == 2 and "nan is not a finite number" in done.stderr


def test_an_index_without_labels(home: Path) -> None:
    done = run(home, "recognize", "new/else.png", "--index", "plain-index")
    assert done.returncode == 3 and done.stdout == ""
    assert "no photo of this collection has a label" in done.stderr
    assert "into a folder of its own in" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_remedy_for_an_index_without_labels_works(home: Path) -> None:
    """The command of the message, pasted into a shell, lets the first command succeed."""
    done = run(home, "index", "photos", "--encoder", "fast", "--index", "no labels")
    assert done.returncode == 0, done.stderr
    first = ("recognize", "new/dome 50.png", "--index", "no labels", *QUICK)
    refused = run(home, *first)
    assert refused.returncode == 3
    remedy = refused.stderr.strip().partition("as labels: veduta ")[2]
    done = run(home, *shlex.split(remedy))
    assert done.returncode == 0, done.stderr
    done = run(home, *first)
    assert done.returncode == 0 and done.stdout.splitlines()[1].split()[0] == "dome"


def test_no_index(home: Path) -> None:
    done = run(home, "recognize", "new/else.png", "--index", "nowhere")
    assert done.returncode == 4 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_ignore_unlabelled(home: Path) -> None:
    """An unlabelled photo of the index may show a place of it: it is no evidence against that."""
    arguments = ("recognize", "photos/100.png", "new/dome 50.png", "--json", *QUICK)
    (first, dome), (second, same) = (
        told(run(home, *arguments, *option)) for option in ((), ("--ignore-unlabelled",))
    )
    assert first["label"] is second["label"] is None
    assert first["hits"][0]["path"].endswith("photos/100.png")
    assert dome["label"] == same["label"] == "dome"
    assert dome["threshold"] != same["threshold"]


class TestModel:
    @pytest.mark.slow
    def test_export_and_use(self, home: Path) -> None:
        done = run(home, "recognize", "--export", "model")
        assert done.returncode == 0 and done.stdout == "", done.stderr
        # On a busy machine learning takes long enough to report its progress.
        assert [line for line in done.stderr.splitlines() if "Learning: " not in line] == [
            "wrote model"
        ]
        photos = sorted(f"new/{file.name}" for file in (home / "new").iterdir())
        by_model = told(run(home, "recognize", "--model", "model", "--json", *photos))
        by_index = told(run(home, "recognize", *QUICK, "--json", *photos))
        for one, other in zip(by_model, by_index, strict=True):
            for key in ("photo", "label", "guess", "threshold"):
                assert one[key] == other[key]
            assert one["confidence"] == pytest.approx(other["confidence"], abs=2e-6)
            assert one["hits"] == []
        done = run(home, "recognize", "--model", "model", photos[0])
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.splitlines()[0] == photos[0]

        done = run(home, "recognize", "--export", "model")
        assert done.returncode == 4 and "is there already" in done.stderr
        done = run(home, "recognize", "--model", "model", "--filter", "new", "--label", "tower")
        assert done.returncode == 0
        assert sorted(done.stdout.splitlines()) == ["new/tower 50.png", "new/tower 51.png"]
        done = run(home, "recognize", "--model", "model", "--filter", "new", "--label", "towr")
        assert done.returncode == 3 and "'tower'" in done.stderr

        facts = json.loads((home / "model" / "model.json").read_text())
        facts["encoder"]["identity"] = "0000"
        (home / "model" / "model.json").write_text(json.dumps(facts))
        done = run(home, "recognize", "--model", "model", photos[0])
        assert done.returncode == 4 and "another version of encoder 'fast'" in done.stderr
        (home / "model" / "model.json").write_text("{")
        done = run(home, "recognize", "--model", "model", photos[0])
        assert done.returncode == 4 and "does not read back" in done.stderr

    def test_no_model(self, home: Path) -> None:
        done = run(home, "recognize", "--model", "nowhere", "new/else.png")
        assert done.returncode == 4 and "no model there" in done.stderr
        assert "--export" in done.stderr


@pytest.mark.slow
def test_few_photos_go_by_other_collections(home: Path) -> None:
    """Evidence, geometry included, where the index is too small to learn from."""
    for scene in range(2):
        for number in range(3):
            save_view(home / "few" / PLACES[scene] / f"{number}.png", scene, number, 0.25)
    run(home, "index", "few", "--encoder", "fast", "--labels", "folders", "--index", "few-index")
    done = run(home, "recognize", "new/dome 50.png", "--index", "few-index", "--json")
    assert done.returncode == 0
    assert "30 photos that share their label with another photo are needed, and 6 are there" in (
        done.stderr
    )
    (answer,) = told(done)
    assert answer["label"] == "dome"
    for hit in answer["hits"]:
        assert hit["label"] == "dome" and hit["inliers"] > 8
    done = run(home, "recognize", "new/dome 50.png", "--index", "few-index")
    _, second, *rest = done.stdout.splitlines()
    assert second.split()[0] == "dome"
    assert all(" inliers  few/dome/" in hit for hit in rest[-3:])
    note = "fitted without a projection"
    assert note not in done.stderr
    run(home, "index", "--index", "few-index", "--project", "4")
    done = run(home, "recognize", "new/dome 50.png", "--index", "few-index", "--precision", "0.5")
    assert done.returncode in {0, 1} and note in done.stderr
