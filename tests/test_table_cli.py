"""`veduta table`: rows are trained and measured, kept, done again, or listed with their fault."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorch_lightning")

from tiny import save
from tiny_runs import CLASSES, RunAndCard

from veduta.cli import table as table_command
from veduta.cli.main import run
from veduta.errors import WeightsUnavailable
from veduta.learn.recipe import Recipe, open_recipe, with_values
from veduta.learn.tables import running
from veduta.learn.tables.measuring import digest_of_weights
from veduta.learn.tables.row_record import RowRecord, TrainedOn
from veduta.learn.tables.table_file import open_table

pytestmark = pytest.mark.filterwarnings("default")  # of the exporter, not ours

TABLE = """
about = "A tiny table."
figures = ["top1", "map", "val_accuracy"]
[data.all]
[data.few]
of = "all"
photos_per_class = 3
[[row]]
name = "all"
recipe = "tiny.toml"
reported = { top1 = 0.5, map = 0.25 }
[[row]]
name = "few | photos"
recipe = "tiny.toml"
data = "few"
[[row]]
name = "no weights"
recipe = "resnet18-full"
data = "all"
reported = { top1 = 0.9 }
[[row]]
name = "broken"
recipe = "tiny.toml"
set = { "training.epoch" = 3 }
[[row]]
name = "encoder"
encoder = "fast"
"""


class CopiedRun:
    """Replaces training: copies a finished run, and notes what it was asked to train."""

    def __init__(self, finished: Path) -> None:
        self.finished = finished
        self.trained: list[str] = []
        self.interrupt_at = ""

    def __call__(self, recipe: Recipe, _dataset: Path, out: Path, **options: Any) -> None:
        self.trained.append(out.name)
        if recipe.name == "resnet18-full":
            raise WeightsUnavailable("the weights of resnet18 are away", "Fetch them")
        if out.name == self.interrupt_at:
            out.mkdir(parents=True)
            (out / "recipe.toml").touch()
            raise KeyboardInterrupt
        shutil.copytree(self.finished, out, dirs_exist_ok=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table and its recipe, in which the cache lies too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(TABLE, "utf-8")
    (tmp_path / "tiny.toml").write_text(CLASSES, "utf-8")
    return tmp_path


@pytest.fixture
def training(class_run: RunAndCard, monkeypatch: pytest.MonkeyPatch) -> CopiedRun:
    copied = CopiedRun(class_run[0])
    monkeypatch.setattr(running, "train", copied)
    return copied


def rows_of(folder: Path) -> dict[str, Any]:
    return {row["row"]: row for row in json.loads((folder / "table.json").read_text())["rows"]}


def states(folder: Path) -> dict[str, str]:
    return {name: row["state"] for name, row in rows_of(folder).items()}


@pytest.mark.slow
def test_a_table_is_filled_kept_and_done_again(
    home: Path, training: CopiedRun, run_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, queries = run_home / "photos", home / "queries"
    shutil.copytree(photos / "test", queries)
    folders = ["--queries", "queries", "--gallery", str(photos / "train")]
    call = ["table", "mine.toml", "--data", str(photos), *folders, "--out", "T"]
    assert run([*call, "--plan", "--json"]) == 0
    plan = {one["row"]: one["todo"] for one in json.loads(capsys.readouterr().out)}
    assert plan["all"] == "to train" and plan["encoder"] == "to measure"
    assert plan["no weights"] == "weights to fetch"
    assert "did you mean 'training.epochs'" in plan["broken"]
    assert not (home / "T").exists()

    assert run(call) == 3  # two rows have no figures
    told = capsys.readouterr()
    assert max(map(len, told.out.splitlines())) <= 80
    assert re.search(r"^  report +0\.500 [+-]0\.\d{3}  0\.250 ", told.out, re.MULTILINE)
    assert "The photos of the report are not available" in told.out
    for way in ("Connect once", '"network.weights" = "FILE', '"network.weights" = "none"'):
        assert way in " ".join(told.out.split())
    assert "2 rows without figures: no weights, broken" in told.err
    assert states(home / "T") == {
        "all": "done",
        "few | photos": "done",
        "no weights": "weights missing",
        "broken": "failed",
        "encoder": "done",
    }
    rows = rows_of(home / "T")
    # The figures are those of `veduta evaluate` with the run as the encoder, re-ranked by nothing.
    figures = rows["all"]["figures"]
    evaluated = ["evaluate", *folders, "--encoder", "T/runs/all", "--rerank", "none"]
    assert run([*evaluated, "--json"]) == 0
    bare = json.loads(capsys.readouterr().out)
    assert figures["top1"]["value"] == bare["top1"] and figures["map"]["value"] == bare["map"]
    assert figures["top1"]["interval"] == bare["top1_interval"]
    assert figures["top1"]["difference"] == bare["top1"] - 0.5
    assert figures["val_accuracy"]["value"] is not None
    assert "subset: 15 of 70 training photos" in rows["few | photos"]["notes"][0]
    with (home / "T/table.csv").open(newline="") as file:
        table = {row["row"]: row for row in csv.DictReader(file)}
    assert float(table["all"]["top1_difference"]) == bare["top1"] - 0.5
    assert table["no weights"]["top1"] == "" and table["no weights"]["top1_reported"] == "0.9"
    assert "| few \\| photos |" in (home / "T/table.md").read_text("utf-8")

    # Files elsewhere are those of the folder.
    assert run([*call, "--csv", "-", "--markdown", "there.md"]) == 3
    assert capsys.readouterr().out == (home / "T/table.csv").read_text("utf-8")
    assert (home / "there.md").read_bytes() == (home / "T/table.md").read_bytes()
    training.trained.clear()

    # All that is finished is kept.
    before = (home / "T/rows/all.json").read_bytes()
    training.trained.clear()
    assert run([*call, "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["incomplete"] == ["no weights", "broken"]
    assert training.trained == ["no weights"]
    assert (home / "T/rows/all.json").read_bytes() == before

    # Another recipe: only its row is trained again, and the run before is moved away.
    training.trained.clear()
    changed = TABLE.replace('name = "all"', 'name = "all"\nset = { "training.batch" = 8 }')
    (home / "mine.toml").write_text(changed, "utf-8")
    assert run([*call, "--only", "all", "--only", "encoder"]) == 0
    assert training.trained == ["all"]
    assert "the recipe has changed" in rows_of(home / "T")["all"]["notes"][0]
    assert len(list((home / "T/replaced").glob("all-*/card.json"))) == 1
    capsys.readouterr()

    # Another query: nothing is trained, and the figures are measured again.
    training.trained.clear()
    save(queries / "zoo/new.png", 5)
    assert run([*call, "--only", "all", "--only", "encoder"]) == 0
    assert training.trained == []
    rows = rows_of(home / "T")
    assert rows["all"]["queries"] == rows["encoder"]["queries"] == 41
    assert "measured again" in rows["all"]["notes"][-1]
    # A row that was left out says that it is not like the others.
    written = (home / "T/table.md").read_text("utf-8")
    assert "other queries or another gallery than the rest" in written
    assert "run them again: few" in written


def test_a_changed_weights_file_is_noticed_under_the_same_name(tmp_path: Path) -> None:
    record = RowRecord("a", "done")
    for key, name in (("network.weights", "w.safetensors"), ("network.backbone", "e.onnx")):
        file = tmp_path / name
        value = f"encoder:{file}" if name == "e.onnx" else str(file)
        recipe = with_values(Recipe("r"), {key: value})
        assert digest_of_weights(recipe) == ""
        digests = set()
        for content in (b"one", b"two"):
            file.write_bytes(content)
            digests.add(digest_of_weights(recipe))
            trained = replace(record, trained_on=TrainedOn(recipe.digest(), "", min(digests)))
        assert len(digests) == 2
        assert running._has_recipe(trained, recipe) == (digest_of_weights(recipe) == min(digests))
    settings = tmp_path / "e.json"
    settings.write_text("{}", "utf-8")
    assert digest_of_weights(recipe) not in digests
    assert digest_of_weights(Recipe("r")) == ""


@pytest.mark.slow
def test_an_interrupted_table_goes_on(
    home: Path, training: CopiedRun, run_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.interrupt_at = "second"
    text = "[data.all]\n" + "".join(
        f'[[row]]\nname = "{name}"\nrecipe = "tiny.toml"\n' for name in ("first", "second")
    )
    (home / "mine.toml").write_text(text, "utf-8")
    call = ["table", "mine.toml", "--data", str(run_home / "photos"), "--out", "T"]
    assert run(call) == 130
    assert "T is kept; the same command continues it" in capsys.readouterr().err
    assert states(home / "T") == {"first": "done", "second": "not run"}
    assert run([*call, "--plan"]) == 0
    told = capsys.readouterr().out
    assert "first   kept" in told and "second  to continue" in told
    training.interrupt_at = ""
    assert run(call) == 0
    assert training.trained == ["first", "second", "second"]
    assert states(home / "T") == {"first": "done", "second": "done"}
    assert (home / "T/table.html").is_file()
    # Without its photos, a finished table is kept as it is.
    before = (home / "T/table.csv").read_bytes()
    assert run(["table", "mine.toml", "--out", "T"]) == 0
    assert (home / "T/table.csv").read_bytes() == before
    # Rows of another recipe are named where they are not run again.
    assert run([*call, "--only", "first", "--set", "training.batch=8", "--json"]) == 0
    assert "of an earlier recipe, and were not run this time: second" in (
        home / "T/table.md"
    ).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
def test_a_training_goes_on_where_it_was_interrupted(
    home: Path, class_run: RunAndCard, run_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    def interrupt(epoch: Any) -> None:
        epochs.append(epoch.number)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(table_command, "_print_epoch", interrupt)
    text = '[data.all]\n[[row]]\nname = "a"\nrecipe = "tiny.toml"\n'
    (home / "mine.toml").write_text(text, "utf-8")
    call = ["table", "mine.toml", "--data", str(run_home / "photos"), "--out", "T"]
    assert run(call) == 130
    assert run(call) == 0
    assert epochs[-1] == 4 and len(epochs) < 4 + 4
    # The weights are those of `veduta train` without an interruption.
    trained = [folder / "model.safetensors" for folder in (home / "T/runs/a", class_run[0])]
    assert trained[0].read_bytes() == trained[1].read_bytes()


@pytest.mark.slow
def test_a_run_from_elsewhere_is_used(
    home: Path,
    training: CopiedRun,
    class_run: RunAndCard,
    run_home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = '[data.all]\n[[row]]\nname = "a"\nrecipe = "tiny.toml"\n'
    (home / "mine.toml").write_text(text, "utf-8")
    shutil.copytree(class_run[0], home / "T/runs/a")
    call = ["table", "mine.toml", "--data", str(run_home / "photos"), "--out", "T"]
    assert run(call) == 0
    assert training.trained == []
    assert "the run was found in its folder" in capsys.readouterr().out
    # A run of another recipe is not.
    (home / "T/rows/a.json").write_text("{", "utf-8")
    assert run([*call, "--set", "training.batch=8"]) == 0
    assert training.trained == ["a"]
    assert (home / "T/replaced/a-unknown/card.json").is_file()


@pytest.mark.slow
def test_queries_among_the_training_photos_are_refused(
    home: Path, training: CopiedRun, run_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = run_home / "photos"
    queries = shutil.copytree(photos / "test", home / "queries")
    copied = next((photos / "train").glob("zoo/*.png"))
    shutil.copy(copied, queries / "zoo" / "copy.png")
    (home / "mine.toml").write_text('[[row]]\nname = "a"\nrecipe = "tiny.toml"\n', "utf-8")
    call = ["table", "mine.toml", "--data", str(photos), "--out", "T"]
    call += ["--queries", "queries", "--gallery", str(photos / "train")]
    assert run(call) == 3
    assert "1 query is also among the training photos" in capsys.readouterr().out
    assert training.trained == []
    assert run([*call, "--allow-leak"]) == 0
    assert rows_of(home / "T")["a"]["queries"] == 41


def test_wrong_calls(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> str:
        assert run(["table", *arguments]) == 3
        return capsys.readouterr().err

    assert "did you mean 'report-004'" in told("report-4")
    assert "no path for the data set first; give --data first=PATH" in told("report-004")
    assert "does not exist" in told("report-004", "--data", "nowhere")
    assert "no row is called 'brokn'; did you mean 'broken'" in told("mine.toml", "--only", "brokn")
    assert "both --queries and --gallery" in told("report-004", "--queries", "Q")
    save(home / "other/photo.png", 1)
    assert "not a table" in told("mine.toml", "--data", "other", "--out", "other")
    assert not (home / "tables").exists()
    # Photos without test photos measure nothing.
    for code in range(2):
        for number in range(3):
            save(home / f"plain/class{code}/{number}.png", 10 * code + number)
    (home / "mine.toml").write_text('[data.a]\n[[row]]\nname = "e"\nencoder = "fast"\n', "utf-8")
    assert run(["table", "mine.toml", "--data", "plain"]) == 3
    assert "6 training photos and no test photo" in " ".join(capsys.readouterr().out.split())


def test_the_tables_are_listed_and_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["table"]) == 0
    told = capsys.readouterr().out
    assert "report-004" in told and max(map(len, told.splitlines())) <= 80
    assert run(["table", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) >= 4
    for name in ("report-001", "report-002", "report-003", "report-004"):
        assert run(["table", name, "--print"]) == 0
        (home / "copy.toml").write_text(capsys.readouterr().out, "utf-8")
        assert open_table("copy.toml").rows() == open_table(name).rows()


def test_the_page_fits_desk_and_phone(
    home: Path, open_page: Callable[..., Any], training: CopiedRun
) -> None:
    from veduta.learn.tables.figures import Value
    from veduta.learn.tables.row_record import RowRecord, write_record
    from veduta.learn.tables.running import open_table_run
    from veduta.learn.tables.table_files import write_table_files

    text = TABLE.replace("A tiny table.", "<b>Tiny</b>").replace("few | photos", "<i>few</i>" * 9)
    (home / "mine.toml").write_text(text, "utf-8")
    done = {"top1": Value(0.5, 0.25, 0.75), "map": Value(0.4, 0.3, 0.5)}
    write_record(home / "T", RowRecord("all", "done", figures=done, queries=40, epochs=1))
    write_record(home / "T", RowRecord("broken", "failed", error="<script>x</script>"))
    write_table_files(open_table_run(open_table("mine.toml"), home / "T"), "veduta table mine.toml")
    for width in (1280, 360):
        page = open_page(home / "T/table.html", width, 800)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        cells = page.locator("tbody tr").first.locator("td").all_inner_texts()
        assert [one.split() for one in cells[:2]] == [
            ["0.500", "0.250", "to", "0.750"],
            ["0.500", "+0.000"],
        ]
        assert page.locator("tbody tr").count() == 5
        assert page.locator("svg[role=img], figure.chart svg").count() >= 1
        assert "<script>x</script>" in page.inner_text("body")


def test_one_recipe_without_a_table_of_data(home: Path) -> None:
    (home / "mine.toml").write_text('[[row]]\nname = "a"\nrecipe = "tiny.toml"\n', "utf-8")
    table = open_table("mine.toml").with_paths(["P"], None, None)
    assert [row.data for row in table.rows()] == ["photos"]
    assert table.data_set("photos").path == "P"
    assert open_recipe(table.rows()[0].recipe).name == "tiny"
