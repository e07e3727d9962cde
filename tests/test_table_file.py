"""Files of tables: those of the package, grids, paths, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from veduta.errors import LearnError
from veduta.learn.recipe import open_recipe, recipe_names
from veduta.learn.tables.table_file import (
    Row,
    open_table,
    row_recipe,
    table_names,
)


def written(folder: Path, text: str) -> str:
    file = folder / "mine.toml"
    file.write_text(text, "utf-8")
    return str(file)


def test_the_tables_of_the_package() -> None:
    names = table_names()
    assert {f"report-00{number}" for number in (1, 2, 3, 4)} <= set(names)
    for name in names:
        table = open_table(name)
        assert table.about.endswith(".") and table.source
        for row in table.rows():
            if row.recipe:
                assert row.recipe in recipe_names()
                row_recipe(row)
            assert not set(row.reported) - set(table.figures)
    rows = {row.name: row for row in open_table("report-004").rows()}
    assert len(rows) == 17
    assert rows["Resnext101_32x8d-last_layer"].reported == {
        "top1": 0.898,
        "top3": 0.932,
        "top10": 0.943,
    }
    # "Not pretrained", "last layer" and "full layer" are what the names say.
    for row in rows.values():
        network = row_recipe(row).network
        assert (network.weights == "none") == row.name.endswith("not_pretrained")
        assert (network.train == "none") == row.name.endswith("last_layer")
    assert rows["Resnet18_small-df"].data == "small"
    small = open_table("report-004").data_set("small")
    assert small.photos_per_class and not small.path


def test_a_grid_stands_for_its_rows(tmp_path: Path) -> None:
    text = """
    [data.a]
    path = "photos"
    [data.b]
    of = "a"
    photos_per_class = 5
    subset_seed = 2
    [grid]
    recipes = ["resnet18", "transfer"]
    variants = ["full", "last-layer", "not-pretrained"]
    set = { training = { epochs = 2 } }
    """
    table = open_table(written(tmp_path, text))
    rows = table.rows()
    assert [row.name for row in rows[:3]] == [
        "resnet18-full on a",
        "resnet18-full on b",
        "resnet18-last-layer on a",
    ]
    assert len(rows) == 2 * 2 * 3
    of_name = {row.name: row_recipe(row, ["training.batch=7"]) for row in rows}
    # A packaged variant is used as it is, another recipe is changed.
    assert of_name["resnet18-full on a"].augment == open_recipe("resnet18-full").augment
    made = [of_name[f"transfer-{one} on b"] for one in ("full", "last-layer", "not-pretrained")]
    assert [one.network.train for one in made] == ["all", "none", "all"]
    assert [one.network.weights for one in made] == ["pretrained", "pretrained", "none"]
    assert {(one.training.epochs, one.training.batch) for one in of_name.values()} == {(2, 7)}
    # Paths are relative to the file. A subset has the photos of the other data set.
    assert table.data_set("b").path == str(tmp_path / "photos")
    assert (table.data_set("b").photos_per_class, table.data_set("b").subset_seed) == (5, 2)


def test_paths_of_the_command_line() -> None:
    table = open_table("report-004").with_paths(["P", "second=x=y"], Path("Q"), Path("G"))
    assert [table.data_set(name).path for name in ("first", "second", "small")] == ["P", "x=y", "P"]
    assert (table.queries, table.gallery) == ("Q", "G")
    # A path with an equals sign is not taken for a name.
    assert open_table("report-004").with_paths(["a=b"], None, None).data["first"].path == "a=b"
    with pytest.raises(LearnError, match="both --queries and --gallery"):
        open_table("report-004").with_paths([], Path("Q"), None)
    with pytest.raises(LearnError, match="photos of first"):
        open_table("report-004").with_paths(["small=P"], None, None)


ROW = '[[row]]\nname = "a"\nrecipe = "cnn-1"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no \\[\\[row\\]\\] and no \\[grid\\]"),
        ("figures = 3\n" + ROW, "figures: expected a list"),
        ('figures = ["top2"]\n' + ROW, "no figure is called 'top2'; did you mean 'top"),
        ("colour = 1\n" + ROW, "unknown key colour"),
        ('name = "b"\n' + ROW, "the name of a table is that of its file"),
        (ROW + "recipee = 1", "unknown key row.0.recipee; did you mean 'row.0.recipe'"),
        (ROW + ROW, "two rows are called 'a'"),
        (ROW + ROW.replace('"a"', '"A"'), "two rows are called 'A'"),
        (ROW + "reported = { top1 = true }", "row.0.reported.top1: expected a number"),
        (ROW + "reported = { top2 = 0.1 }", "no figure is called 'top2'"),
        (ROW + 'encoder = "fast"', "row 'a': a recipe makes its own encoder"),
        (ROW + 'data = "x"', "row 'a': no data set is called 'x'"),
        ('[[row]]\nname = "a"', "row 'a': give a recipe, an encoder or a method"),
        ('[[row]]\nencoder = "fast"', "a row has no name"),
        ('[[row]]\nname = "a"\nmethod = "surff"', "did you mean 'surf'"),
        ('[[row]]\nname = "a"\nencoder = "fast"\nmethod = "surf"', "without an encoder"),
        ('queries = "Q"\n' + ROW, "give both queries and gallery"),
        (ROW + '[data.x]\nof = "y"', "data.x.of is 'y'"),
        (ROW + '[data.y]\n[data.x]\nof = "y"\ncolumn = "c"', "no path, labels, exclude or column"),
        (ROW + "[data.x]\nsubset_seed = 1", "data.x.subset_seed draws no subset without"),
        (ROW + "[data.x]\nphotos_per_class = -1", "data.x.photos_per_class: expected a whole"),
        ('[grid]\nrecipes = ["cnn-1"]\nvariants = ["half"]', "grid.variants.0: expected one of"),
        ("[[row", "cannot be read as TOML"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LearnError, match=message) as error:
        open_table(written(tmp_path, text))
    assert "mine.toml" in str(error.value)


def test_wrong_names() -> None:
    with pytest.raises(LearnError, match="did you mean 'report-004'"):
        open_table("report-04")
    with pytest.raises(LearnError, match="expected KEY=VALUE"):
        row_recipe(Row("a", "cnn-1"), ["training.epochs"])
    with pytest.raises(LearnError, match=r"training\.epochs: expected a whole number"):
        row_recipe(Row("a", "cnn-1", set={"training": {"epochs": "many"}}))
