"""The file of a table: its rows, its data sets, and what a report says of the same rows.

A row trains a recipe on a data set, or names an encoder or a method that needs no training. A grid
stands for the rows of all its recipes on all its data sets in all its variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta

from veduta.errors import LearnError, RecipeError, readable
from veduta.evaluation.keypoint_methods import METHODS as KEYPOINT_METHODS
from veduta.learn.packaged_files import toml_file, toml_names
from veduta.learn.recipe import (
    Recipe,
    check_keys,
    mismatch,
    open_recipe,
    parse_value,
    recipe_names,
    shown_value,
    with_values,
)
from veduta.learn.tables.figures import FIGURES
from veduta.recognize import METHODS as RECOGNITION_METHODS
from veduta.safe_names import case_folded, safe_name
from veduta.text import did_you_mean
from veduta.validation import InvalidValue, convert, read_toml

__all__ = [
    "DataSet",
    "Grid",
    "Row",
    "Table",
    "open_table",
    "row_recipe",
    "table_file",
    "table_names",
]

TABLES_FOLDER = Path(__file__).parent

T = TypeVar("T")

Variant = Literal["full", "last-layer", "not-pretrained"]

_CHANGES_OF_VARIANT: dict[str, dict[str, Any]] = {
    "full": {"network.train": "all"},
    # What only a trained backbone uses has its default.
    "last-layer": {
        "network.train": "none",
        "training.unfreeze_after": 0,
        "training.backbone_rate": 1.0,
    },
    "not-pretrained": {"network.train": "all", "network.weights": "none"},
}


@dataclass(frozen=True, slots=True)
class DataSet:
    """Photos to train on.

    Attributes:
        path: the data set, as for `veduta train`; "" if the command line names it.
        of: the name of another data set of the table, whose photos these are. This one may have
            a subset of them.
        labels: the CSV file in the folder `path`; "" for `labels.csv`.
        column: the column of the CSV file with the splits.
        exclude: patterns of photos and folders that are left out.
        photos_per_class: the largest number of training photos of a class; 0: all.
        subset_seed: decides which photos of a class are in the subset.
    """

    path: str = ""
    of: str = ""
    labels: str = ""
    column: str = "split"
    exclude: tuple[str, ...] = ()
    photos_per_class: Annotated[int, Meta(ge=0)] = 0
    subset_seed: Annotated[int, Meta(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        name: its name, which no other row has.
        recipe: the recipe that is trained, by its name or the path of its .toml file; "" for none.
        data: the name of the data set that it is trained on; "": the first one.
        set: changes of the recipe: "training.epochs" → 3.
        encoder: without a recipe: the encoder that makes the descriptors.
        method: without a recipe: a method of `veduta evaluate`, by keypoints, or to recognise.
        reported: what a report says of this row: key of a figure → value.
        note: a sentence about the row.
    """

    name: str = ""
    recipe: str = ""
    data: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""
    method: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def is_recognition(self) -> bool:
        """Whether the row names the queries by a method that needs no training."""
        return self.method in RECOGNITION_METHODS


@dataclass(frozen=True, slots=True)
class Grid:
    """A row for each recipe, data set and variant.

    A variant of a recipe is the recipe of the package called NAME-VARIANT. If there is none, it is
    the recipe with all of the backbone trained ("full"), none of it ("last-layer"), or all of it
    from random weights ("not-pretrained").

    Attributes:
        recipes: their names or paths.
        data: names of data sets; empty for all.
        variants: empty for each recipe as it is.
        set: changes of all the recipes.
    """

    recipes: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """A table to fill.

    Attributes:
        name: the name of the file.
        about: what the table is, in one sentence.
        source: the report that the table is from; "" for none.
        note: what a reader of the figures should know.
        figures: the keys of the figures that are shown, of `veduta.learn.tables.figures.FIGURES`.
        queries: a folder of class folders; "": the test photos of the first data set.
        gallery: a folder of class folders; "": the training photos of the first data set.
        data: name → data set.
        row: the rows that are written one by one.
        grid: the others, which come last.
    """

    name: str
    about: str = ""
    source: str = ""
    note: str = ""
    figures: tuple[str, ...] = ("top1", "top3", "top10", "map")
    queries: str = ""
    gallery: str = ""
    data: Mapping[str, DataSet] = field(default_factory=dict)
    row: tuple[Row, ...] = ()
    grid: Grid | None = None

    def rows(self) -> tuple[Row, ...]:
        """Return all rows in their order, each with the name of its data set."""
        rows = [*self.row, *self._grid_rows()]
        first = next(iter(self.data), "")
        return tuple(replace(row, data=row.data or first) if row.recipe else row for row in rows)

    def data_set(self, name: str) -> DataSet:
        """Return a data set with the photos of the data set that it is `of`.

        Args:
            name: of the data set.
        """
        data = self.data[name]
        if not data.of:
            return data
        whole = self.data_set(data.of)
        return replace(
            data,
            path=whole.path,
            labels=whole.labels,
            column=whole.column,
            exclude=whole.exclude,
        )

    def with_paths(self, data: Sequence[str], queries: Path | None, gallery: Path | None) -> Table:
        """Return the table with the photos that the command line names.

        Args:
            data: each NAME=PATH of a data set, or the path of the first one.
            queries: the folder of the queries; None: that of the table.
            gallery: the folder of the gallery; None: that of the table.

        Raises:
            LearnError: there is no data set to give a path to, or one of the two folders is
                missing.
        """
        sets = dict(self.data)
        if data and not sets:
            sets["photos"] = DataSet()
        for text in data:
            name, equals, path = text.partition("=")
            if not equals or name not in sets:
                name, path = next(iter(sets)), text
            if sets[name].of:
                raise LearnError(
                    f"--data {name}: has the photos of {sets[name].of}; give the path of that one"
                )
            sets[name] = replace(sets[name], path=path)
        changed = replace(
            self,
            data=sets,
            queries=str(queries) if queries else self.queries,
            gallery=str(gallery) if gallery else self.gallery,
        )
        if bool(changed.queries) != bool(changed.gallery):
            raise LearnError("give both --queries and --gallery, or neither")
        return changed

    def _grid_rows(self) -> Iterator[Row]:
        if self.grid is None:
            return
        grid = self.grid
        data = grid.data or tuple(self.data) or ("",)
        packaged = set(recipe_names())
        for recipe in grid.recipes:
            for variant in grid.variants or ("",):
                named = f"{recipe}-{variant}"
                is_packaged = named in packaged
                changes = {} if is_packaged else _CHANGES_OF_VARIANT.get(variant, {})
                title = f"{Path(recipe).stem}-{variant}" if variant else Path(recipe).stem
                for one in data:
                    yield Row(
                        name=f"{title} on {one}" if len(data) > 1 else title,
                        recipe=named if is_packaged else recipe,
                        data=one,
                        set={**changes, **grid.set},
                    )


def table_names() -> list[str]:
    """Return the sorted names of the tables in the package."""
    return toml_names(TABLES_FOLDER)


def table_file(name: str) -> Path:
    """Return the file of a table.

    Args:
        name: the name of a table in the package, or the path of a .toml file.

    Raises:
        LearnError: there is no such table.
    """
    if (file := toml_file(TABLES_FOLDER, name)) is not None:
        return file
    advice = did_you_mean(name, table_names()) or "`veduta table` lists those of the package."
    raise LearnError(f"no table is called {readable(name)!r}; {advice} A path must end in .toml.")


def open_table(name: str) -> Table:
    """Read a table. Paths in a file are relative to its folder.

    Args:
        name: the name of a table in the package, or the path of a .toml file.

    Raises:
        LearnError: there is no such table, it is not valid TOML, or a key or value is wrong.
    """
    file = table_file(name)
    shown = readable(file)
    try:
        values = read_toml(file)
    except (OSError, ValueError) as error:
        raise LearnError(f"{shown}: cannot be read as TOML: {error}") from error
    _check_all_keys(values, shown)
    table = _converted(values | {"name": file.stem}, Table, shown)
    _check(table, shown)
    return _relative_to(table, file.parent)


def row_recipe(row: Row, changes: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a row, changed as the row and then as the command line says.

    Args:
        row: a row with a recipe.
        changes: each "key=value", as for `open_recipe`.

    Raises:
        RecipeError: there is no such recipe, or a key or value is wrong.
    """
    values = _flat(row.set)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {change}: expected KEY=VALUE, such as training.epochs=3")
        values[key.strip()] = parse_value(text)
    return with_values(open_recipe(row.recipe), values)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as keys with dots, which `with_values` takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _converted(values: Mapping[str, Any], kind: type[T], file: str, prefix: str = "") -> T:
    """Return a table of the file as its dataclass; raise `LearnError` if a value is wrong."""
    try:
        return convert(values, kind)
    except InvalidValue as error:
        raise LearnError(f"{file}: {prefix}{mismatch(values, kind, error.key)}") from error


def _check_all_keys(values: Mapping[str, Any], file: str) -> None:
    """Raise `LearnError` for an unknown key, and for a wrong value in a table of named values."""
    if "name" in values:
        raise LearnError(f"{file}: unknown key name; the name of a table is that of its file")
    check_keys(Table, values, file)
    rows = values.get("row", [])
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict):
            check_keys(Row, row, file, f"row.{number}.")
            _check_reported(row.get("reported"), f"{file}: row.{number}.reported")
    data = values.get("data", {})
    for name, one in data.items() if isinstance(data, dict) else ():
        if isinstance(one, dict):
            check_keys(DataSet, one, file, f"data.{name}.")
            _converted(one, DataSet, file, f"data.{name}.")
    if isinstance(values.get("grid"), dict):
        check_keys(Grid, values["grid"], file, "grid.")


def _check_reported(reported: Any, start: str) -> None:
    for key, value in reported.items() if isinstance(reported, dict) else ():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise LearnError(f"{start}.{key}: expected a number, not {shown_value(value)}")


def _check(table: Table, file: str) -> None:
    """Raise `LearnError` if names do not fit each other."""
    for key in (*table.figures, *(key for row in table.row for key in row.reported)):
        if key not in FIGURES:
            advice = did_you_mean(key, FIGURES) or f"known are {', '.join(FIGURES)}"
            raise LearnError(f"{file}: no figure is called {key!r}; {advice}")
    for name, data in table.data.items():
        if data.of and (data.of not in table.data or table.data[data.of].of):
            raise LearnError(
                f"{file}: data.{name}.of is {data.of!r}; it must be a data set with its own photos"
            )
        own = (data.path, data.labels, data.exclude, data.column)
        if data.of and own != ("", "", (), DataSet().column):
            raise LearnError(
                f"{file}: data.{name} has the photos of {data.of}, so no path, labels, exclude or "
                f"column; give them to data.{data.of}"
            )
        if data.subset_seed and not data.photos_per_class:
            raise LearnError(
                f"{file}: data.{name}.subset_seed draws no subset without photos_per_class; set "
                "that too, or leave the seed out"
            )
    if bool(table.queries) != bool(table.gallery):
        raise LearnError(f"{file}: give both queries and gallery, or neither")
    rows = table.rows()
    if not rows:
        raise LearnError(f"{file}: there is no [[row]] and no [grid]")
    seen: dict[str, str] = {}
    for row in rows:
        _check_row(row, table, file)
        folder = case_folded(safe_name(row.name))
        if folder in seen:
            raise LearnError(f"{file}: two rows are called {row.name!r}")
        seen[folder] = row.name


def _check_row(row: Row, table: Table, file: str) -> None:
    start = f"{file}: row {row.name!r}"
    if not row.name.strip():
        raise LearnError(f"{file}: a row has no name")
    if row.recipe and (row.encoder or row.method):
        raise LearnError(f"{start}: a recipe makes its own encoder; remove encoder and method")
    if not (row.recipe or row.encoder or row.method):
        raise LearnError(f"{start}: give a recipe, an encoder or a method")
    if not row.recipe and (row.set or row.data):
        raise LearnError(f"{start}: set and data go with a recipe")
    if row.data and row.data not in table.data:
        advice = (
            did_you_mean(row.data, table.data) or f"known are {', '.join(table.data) or 'none'}"
        )
        raise LearnError(f"{start}: no data set is called {row.data!r}; {advice}")
    if row.method and row.method not in {*KEYPOINT_METHODS, *RECOGNITION_METHODS}:
        known = [*KEYPOINT_METHODS, *RECOGNITION_METHODS]
        advice = did_you_mean(row.method, known) or f"known are {', '.join(known)}"
        raise LearnError(f"{start}: no method is called {row.method!r}; {advice}")
    if row.encoder and row.method in KEYPOINT_METHODS:
        raise LearnError(f"{start}: {row.method} ranks by keypoints alone, without an encoder")


def _relative_to(table: Table, folder: Path) -> Table:
    """Return the table with paths that are relative to the working directory, or absolute."""

    def path(text: str) -> str:
        return str(folder / text) if text else ""

    def recipe(name: str) -> str:
        return path(name) if name.endswith(".toml") else name

    grid = table.grid
    return replace(
        table,
        data={name: replace(one, path=path(one.path)) for name, one in table.data.items()},
        queries=path(table.queries),
        gallery=path(table.gallery),
        row=tuple(replace(row, recipe=recipe(row.recipe)) for row in table.row),
        grid=grid and replace(grid, recipes=tuple(map(recipe, grid.recipes))),
    )
