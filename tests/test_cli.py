"""The real command line, in a process of its own, as people and scripts use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import environment, run_veduta
from tiny import photo_folder, save


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos and an index of them, made by the command line itself."""
    folder = tmp_path_factory.mktemp("home")
    photo_folder(folder / "photos", 9)
    done = run_veduta(folder, "index", "photos", "--encoder", "fast", "--labels", "folders")
    assert done.returncode == 0, done.stderr
    assert "9 added" in done.stdout
    return folder


def test_help_and_version(home: Path) -> None:
    done = run_veduta(home, "--help")
    assert done.returncode == 0
    for name in ("index", "search", "evaluate", "models", "status", "check", "repair", "demo"):
        assert f"  {name} " in done.stdout
        shown = run_veduta(home, name, "--help")
        assert shown.returncode == 0 and shown.stderr == ""
        assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert run_veduta(home, "--version").stdout.startswith("veduta, version 0")


def test_help_loads_nothing_heavy(home: Path) -> None:
    code = "import sys; from veduta.cli.main import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"numpy", "PIL", "pyarrow", "lance", "onnxruntime", "rich"}


def test_search_loads_no_lance(home: Path) -> None:
    code = (
        "import sys; from veduta.cli.main import run; "
        "run(['search', 'photos/class0/photo0000.png']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "onnxruntime" in done.stdout.split()
    assert "lance" not in done.stdout.split()


def test_no_command_imports_pandas(home: Path) -> None:
    pytest.importorskip("pandas")
    command = [sys.executable, "-X", "importtime", "-m", "veduta", "search"]
    done = subprocess.run(
        [*command, "photos/class0/photo0000.png"],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pyarrow" in loaded and not any(name.startswith("pandas.") for name in loaded)


@pytest.mark.slow
def test_search_prints_a_table(home: Path) -> None:
    done = run_veduta(home, "search", "photos/class0/photo0000.png", "-k", "3")
    assert done.returncode == 0 and done.stderr == ""
    first, *rest = done.stdout.splitlines()
    number, score, inliers, word, *what = first.split()
    assert (number, word, what) == ("1", "inliers", ["photos/class0/photo0000.png", "[class0]"])
    assert 0.5 < float(score) <= 1 and int(inliers) > 50
    assert len(rest) == 2
    assert "\x1b" not in done.stdout
    done = run_veduta(home, "search", "photos/class0/photo0000.png", "-k", "3", "--rerank", "none")
    first, *rest = done.stdout.splitlines()
    assert first.split() == ["1", "1.000", "photos/class0/photo0000.png", "[class0]"]
    assert len(rest) == 2


def test_search_json_and_filters(home: Path) -> None:
    done = run_veduta(
        home,
        "search",
        "photos/class0/photo0000.png",
        "--json",
        "--label",
        "class1",
        "--label",
        "class2",
        "--under",
        "photos/class2",
    )
    (answer,) = json.loads(done.stdout)
    assert answer["query"] == "photos/class0/photo0000.png"
    assert len(answer["hits"]) == 3
    for hit in answer["hits"]:
        assert hit["label"] == "class2"
        assert Path(hit["path"]).is_file()
        assert -1 <= hit["score"] <= 1


def test_search_dictionary(home: Path) -> None:
    done = run_veduta(home, "search", "photos/class0", "--dict", "-k", "2")
    answers = json.loads(done.stdout)
    assert len(answers) == 3
    for query, found in answers.items():
        assert len(found) == 2
        assert Path(found[0]).samefile(home / query)


@pytest.mark.slow
def test_search_together_and_crop(home: Path) -> None:
    pair = ("photos/class0/photo0000.png", "photos/class1/photo0001.png")
    (answer,) = json.loads(run_veduta(home, "search", *pair, "--together", "--json").stdout)
    assert answer["query"] == " + ".join(pair)
    best = {Path(hit["path"]).name for hit in answer["hits"][:2]}
    assert best == {"photo0000.png", "photo0001.png"}
    done = run_veduta(home, "search", pair[0], "--crop", "0,0,48,32", "-k", "1")
    assert "photo0000.png" in done.stdout
    done = run_veduta(home, "search", pair[0], "--crop", "0,0,480,32")
    assert done.returncode == 3 and "48 × 32" in done.stderr
    assert run_veduta(home, "search", pair[0], "--crop", "1,2").returncode == 2


def test_one_bad_query_does_not_stop_the_others(home: Path) -> None:
    (home / "page.jpg").write_text("<html>no photo</html>")
    done = run_veduta(
        home, "search", "page.jpg", "photos/class0/photo0000.png", "nowhere.jpg", "--dict"
    )
    assert done.returncode == 3
    assert "page.jpg: " in done.stderr and "HTML" in done.stderr
    assert "nowhere.jpg: " in done.stderr
    assert list(json.loads(done.stdout)) == ["photos/class0/photo0000.png"]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_search_html(home: Path) -> None:
    done = run_veduta(home, "search", "photos/class0/photo0000.png", "--html", "page.html")
    assert done.returncode == 0
    page = (home / "page.html").read_text()
    pictured = page.count("Show matches")
    assert 1 <= pictured <= 5, "the photo itself at least"
    assert page.count("data:image/jpeg;base64,") == 10 + pictured
    assert "photo0000.png" in page


def test_not_an_index(home: Path, tmp_path: Path) -> None:
    done = run_veduta(home, "search", "photos/class0/photo0000.png", "--index", tmp_path)
    assert done.returncode == 4
    assert done.stderr.startswith("veduta: ") and "veduta index FOLDER" in done.stderr
    done = run_veduta(home, "status", "--index", tmp_path / "nothing")
    assert done.returncode == 4 and "does not exist" in done.stderr


def test_another_encoder_is_refused_by_name(home: Path) -> None:
    done = run_veduta(home, "index", "photos", "--encoder", "accurate")
    assert done.returncode == 4
    assert "'fast'" in done.stderr and "'accurate'" in done.stderr
    done = run_veduta(home, "index", "photos", "--encoder", "fastt", "--index", home / "other")
    assert done.returncode == 5 and "fast" in done.stderr
    assert not (home / "other").exists()


@pytest.mark.slow
def test_wrong_calls(home: Path) -> None:
    assert run_veduta(home, "search").returncode == 2
    assert run_veduta(home, "serch").returncode == 2
    assert run_veduta(home, "evaluate").returncode == 2
    done = run_veduta(home, "index", "nowhere")
    assert done.returncode == 3 and "nowhere" in done.stderr


@pytest.mark.slow
def test_status_and_check(home: Path) -> None:
    state = json.loads(run_veduta(home, "status", "--json").stdout)
    assert (state["photos"], state["classes"], state["encoder"]["name"]) == (9, 3, "fast")
    assert "9 photos" in run_veduta(home, "status").stdout
    done = run_veduta(home, "check")
    assert (done.returncode, done.stdout) == (
        0,
        "Every row matches its photo, and every file its checksum.\n",
    )
    assert json.loads(run_veduta(home, "check", "--json").stdout) == []


@pytest.mark.slow
def test_check_and_strict_exit_with_one(home: Path, tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", 1)
    (tmp_path / "photos/b.jpg").write_bytes(b"")
    made = ("--index", tmp_path / "index")
    done = run_veduta(home, "index", tmp_path / "photos", *made, "--encoder", "fast")
    assert done.returncode == 0
    assert "1 file could not be read" in done.stdout and "b.jpg: " in done.stdout
    assert run_veduta(home, "index", *made, "--strict").returncode == 1
    save(tmp_path / "photos/a.png", 2)
    done = run_veduta(home, "check", *made)
    assert done.returncode == 1 and "photo changed" in done.stdout


@pytest.mark.slow
def test_damaged_index_is_said_aloud_and_mended(home: Path, tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", 4)
    made = ("--index", tmp_path / "index")
    run_veduta(home, "index", tmp_path / "photos", *made, "--encoder", "fast")
    save(tmp_path / "photos/late.png", 50)
    run_veduta(home, "index", *made)
    min((tmp_path / "index/photos.lance/_versions").glob("*.manifest")).write_bytes(b"")
    query = tmp_path / "photos/class0/photo0000.png"
    done = run_veduta(home, "search", query, *made)
    assert done.returncode == 0 and "photo0000.png" in done.stdout
    assert "is damaged: version 3 of its table" in done.stderr and "veduta repair" in done.stderr
    done = run_veduta(home, "index", *made)
    assert done.returncode == 4 and "veduta repair" in done.stderr
    assert run_veduta(home, "repair", *made).returncode == 0
    assert "1 added" in run_veduta(home, "index", *made).stdout
    assert run_veduta(home, "check", *made).returncode == 0


@pytest.mark.slow
def test_names_that_are_not_utf8(home: Path, tmp_path: Path) -> None:
    odd = tmp_path / "photos" / os.fsdecode(b"caf\xe9.png")
    save(tmp_path / "photos/x.png", 1).rename(odd)
    made = ("--index", tmp_path / "index")
    assert (
        run_veduta(home, "index", tmp_path / "photos", *made, "--encoder", "fast").returncode == 0
    )
    done = run_veduta(home, "search", odd, *made)
    assert done.returncode == 0 and "caf\\xe9.png" in done.stdout
    (answer,) = json.loads(run_veduta(home, "search", odd, *made, "--json").stdout)
    assert os.fsencode(answer["hits"][0]["path"]) == os.fsencode(odd)
    assert run_veduta(home, "search", odd, *made, "--html", tmp_path / "p.html").returncode == 0


@pytest.mark.slow
def test_evaluate_json_has_the_keys(home: Path, tmp_path: Path) -> None:
    photo_folder(tmp_path / "set", 8, classes=2)
    done = run_veduta(
        home,
        "evaluate",
        tmp_path / "set",
        "--encoder",
        "fast",
        "--json",
        "--html",
        tmp_path / "page.html",
        "--png",
        tmp_path / "rows.png",
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    for key in ("top1", "top3", "top5", "top10", "map", "p10"):
        low, high = figures[f"{key}_interval"]
        assert 0 <= low <= figures[key] <= high <= 1
    assert (figures["queries"], figures["gallery"]) == (8, 8)
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
    text = run_veduta(home, "evaluate", tmp_path / "set", "--encoder", "fast")
    assert f"{figures['map']:.3f}" in text.stdout
    again = run_veduta(home, "evaluate", tmp_path / "set", "--encoder", "fast", "--json")
    assert json.loads(again.stdout) == figures, "a second run, from the cache, says the same"


@pytest.mark.slow
def test_evaluate_two_folders(home: Path, tmp_path: Path) -> None:
    photo_folder(tmp_path / "queries", 2, classes=2)
    photo_folder(tmp_path / "gallery", 6, classes=2)
    (tmp_path / "gallery/class0/broken.jpg").write_bytes(b"")
    done = run_veduta(
        home,
        "evaluate",
        "--queries",
        tmp_path / "queries",
        "--gallery",
        tmp_path / "gallery",
        "--encoder",
        "fast",
        "--json",
        "--distance",
        "euclidean",
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["queries"], figures["gallery"], figures["top1"]) == (2, 6, 1.0)
    assert any("broken.jpg" in problem for problem in figures["problems"])


def test_models(home: Path) -> None:
    listed = json.loads(run_veduta(home, "models", "--json").stdout)
    assert {"fast", "accurate"} <= {encoder["name"] for encoder in listed}
    assert all({"origin", "paper", "input", "measured"} <= set(encoder) for encoder in listed)
    text = run_veduta(home, "models").stdout
    assert "  Top-1 / mAP by the descriptor alone: landmarks30 0." in text
    assert "fast" in text and max(len(line) for line in text.splitlines()) <= 80


@pytest.mark.slow
def test_output_into_a_closed_pipe_is_no_error(home: Path) -> None:
    command = f"{sys.executable} -m veduta search photos --dict | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_interrupt_then_go_on(home: Path, tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", 250)
    made = ("--index", str(tmp_path / "index"))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "veduta",
            "index",
            str(tmp_path / "photos"),
            *made,
            "--encoder",
            "fast",
        ],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "index/index.json").exists():
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, (out, err)
    assert "Run the same command to continue" in err
    assert "Traceback" not in err
    done = run_veduta(home, "index", *made, tmp_path / "photos", "--json")
    report = json.loads(done.stdout)
    assert report["total"] == 250
    assert run_veduta(home, "check", *made).returncode == 0


def test_progress_without_a_total_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from veduta.cli import progress as module

    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with module.stages("rows") as advance:
        for done in (0, 1000, 4000):
            advance("Reading", done, 0)
            now[0] += 10.0
        advance("Collecting", 0, 100)
        now[0] += 10.0
        advance("Collecting", 50, 100)
    assert capsys.readouterr().err.splitlines() == [
        "Reading: 1,000 rows, 100.0 rows/s",
        "Reading: 4,000 rows, 200.0 rows/s",
        "Collecting: 50 of 100 rows, 5.0 rows/s, 10 s left",
    ]
