"""Fills a table: trains what is not trained, measures what is not measured, and keeps the rest.

```
DIR/
  rows/NAME.json     the figures of a row and what decides them
  runs/NAME/         the run of a row with a recipe, as `veduta train` leaves it
  replaced/NAME-…/   a run whose recipe or photos have changed
  table.html, table.md, table.csv, table.json
```
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.errors import (
    CannotWrite,
    EncoderUnavailable,
    LearnError,
    VedutaError,
    WeightsUnavailable,
    readable,
)
from veduta.files import remove_path
from veduta.learn.runs.card import CARD_FILE, RECIPE_FILE, read_card
from veduta.learn.runs.train import train
from veduta.learn.tables.figures import RETRIEVAL_KEYS
from veduta.learn.tables.measuring import (
    Measurement,
    digest_of_weights,
    figures_of_row,
    figures_of_run,
    identity_of_method,
)
from veduta.learn.tables.row_record import (
    RECORDS_FOLDER,
    RowRecord,
    TrainedOn,
    read_record,
    write_record,
)
from veduta.learn.tables.table_file import Row, Table, row_recipe
from veduta.learn.tables.table_photos import TablePhotos
from veduta.photos import content_hash
from veduta.safe_names import safe_name
from veduta.text import count, did_you_mean

if TYPE_CHECKING:
    from veduta.evaluation.dataset_index import OnProgress
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.schedule import Epoch

__all__ = ["PlannedRow", "RowResult", "TableRun", "fill_table", "open_table_run"]

RUNS_FOLDER, REPLACED_FOLDER, LOCK_FILE = "runs", "replaced", ".lock"


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row of a table with what is known of it.

    Attributes:
        row: the row.
        record: its figures, or why there are none.
        run: the folder of its run; None without a finished run.
    """

    row: Row
    record: RowRecord
    run: Path | None


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """What a run will do for a row.

    Attributes:
        row: the row.
        recipe: its recipe with all changes; None without one, or if it is wrong.
        todo: "kept", "to train", "to continue", "to measure", "weights to fetch", or why the row
            cannot be run.
        possible: whether the row can be run.
    """

    row: Row
    recipe: Recipe | None
    todo: str
    possible: bool = True


@dataclass(slots=True)
class TableRun:
    """A table that is being filled.

    Attributes:
        table: the table with the paths of its photos.
        folder: where its files are.
        only: the names of the rows to run; empty for all.
        changes: of all recipes, each "key=value".
        photos: reads the photos of the table.
        results: of all rows, in their order.
    """

    table: Table
    folder: Path
    only: tuple[str, ...]
    changes: tuple[str, ...]
    photos: TablePhotos
    results: list[RowResult]

    def run_folder(self, row: Row) -> Path:
        """Return the folder of a row's run."""
        return self.folder / RUNS_FOLDER / safe_name(row.name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and hold its lock.

        Raises:
            LearnError: another process fills the table.
            OSError: the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / LOCK_FILE, timeout=0):
                yield
        except Timeout:
            raise LearnError(
                f"{readable(self.folder)}: another process is filling this table"
            ) from None

    def is_selected(self, row: Row) -> bool:
        """Return whether a row is to be run."""
        return not self.only or row.name in self.only

    @property
    def incomplete(self) -> list[RowResult]:
        """The rows to be run that have no figures."""
        return [
            one for one in self.results if self.is_selected(one.row) and one.record.state != "done"
        ]

    def plan(self) -> list[PlannedRow]:
        """Return what there is to do for each row that is to be run."""
        selected = [one.row for one in self.results if self.is_selected(one.row)]
        return [self._planned(row) for row in selected]

    def wants_search(self, row: Row) -> bool:
        """Return whether the queries are searched for in the gallery."""
        return not row.recipe or bool(set(self.table.figures) & RETRIEVAL_KEYS)

    def is_finished(self, row: Row) -> bool:
        """Return whether a row has figures, and they are of its recipe as it is now."""
        record = read_record(self.folder, row.name)
        if record.state != "done" or not row.recipe:
            return record.state == "done"
        try:
            recipe = row_recipe(row, self.changes)
        except LearnError:
            return False
        return _has_recipe(record, recipe)

    def _planned(self, row: Row) -> PlannedRow:
        """Return what there is to do for a row."""
        recipe = None
        obstacle = self.photos.missing_queries() if self.wants_search(row) else ""
        if row.recipe:
            obstacle = self.photos.missing(row.data) or obstacle
            try:
                recipe = row_recipe(row, self.changes)
            except LearnError as error:
                obstacle = str(error)
        if obstacle and not self.is_finished(row):
            return PlannedRow(row, recipe, obstacle, possible=False)
        return PlannedRow(row, recipe, self._todo(row, recipe))

    def _todo(self, row: Row, recipe: Recipe | None) -> str:
        """Return what there is to do for a row that can be run."""
        record, run = read_record(self.folder, row.name), self.run_folder(row)
        is_same = recipe is not None and _has_recipe(record, recipe)
        if recipe is None or (is_same and (run / CARD_FILE).exists()):
            return "kept" if record.state == "done" else "to measure"
        if is_same and record.state == "unfinished" and (run / RECIPE_FILE).exists():
            return "to continue"
        from veduta.learn.models.backbones import weights_on_machine

        network = recipe.network
        is_here = weights_on_machine(network.backbone, network.weights)
        return "to train" if is_here else "weights to fetch"


def open_table_run(
    table: Table,
    folder: Path,
    *,
    only: Sequence[str] = (),
    changes: Sequence[str] = (),
    allow_leak: bool = False,
) -> TableRun:
    """Read what is known of the rows of a table. Nothing is written.

    Args:
        table: the table with the paths of its photos.
        folder: it is new, or holds an earlier run of the table.
        only: the names of the rows to run; empty for all.
        changes: of all recipes, each "key=value".
        allow_leak: a query with the same bytes as a training photo is no error.

    Raises:
        LearnError: a name is that of no row, or the folder holds something else.
    """
    rows = table.rows()
    names = [row.name for row in rows]
    for name in only:
        if name not in names:
            advice = did_you_mean(name, names) or f"the rows are {', '.join(names)}"
            raise LearnError(f"--only: no row is called {readable(name)!r}; {advice}")
    ours = {LOCK_FILE, RECORDS_FOLDER, RUNS_FOLDER, REPLACED_FOLDER}
    if folder.is_dir():
        others = {path.name for path in folder.iterdir()}
        if others and not others & ours:
            raise LearnError(f"{readable(folder)}: not empty and not a table; name a new folder")
    photos = TablePhotos(table, allow_leak=allow_leak)
    run = TableRun(table, folder, tuple(only), tuple(changes), photos, [])
    run.results = [_result(run, row, read_record(folder, row.name)) for row in rows]
    return run


def fill_table(
    run: TableRun,
    *,
    on_row: Callable[[Row, int, int], None] | None = None,
    on_result: Callable[[RowResult, float], None] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: OnProgress | None = None,
    command: str = "",
) -> None:
    """Run the rows of a table one after the other. A row that fails does not stop the others.

    Args:
        run: the table. Its results are replaced one by one.
        on_row: called before each row with (row, its number from 1, number of rows).
        on_result: called after each row with (result, seconds so far).
        on_epoch: called after each epoch of a training.
        on_progress: called with (stage, done, total).
        command: the command line, for the cards of the runs.

    Raises:
        CannotWrite: the folder of the table cannot be written.
    """
    positions = [at for at, one in enumerate(run.results) if run.is_selected(one.row)]
    start = time.monotonic()
    for number, position in enumerate(positions, 1):
        row = run.results[position].row
        if on_row:
            on_row(row, number, len(positions))
        record = _filled(run, row, on_epoch, on_progress, command)
        write_record(run.folder, record)
        result = run.results[position] = _result(run, row, record)
        if on_result:
            on_result(result, time.monotonic() - start)


def _result(run: TableRun, row: Row, record: RowRecord) -> RowResult:
    folder = run.run_folder(row)
    is_finished = bool(row.recipe) and (folder / CARD_FILE).is_file()
    return RowResult(row, record, folder if is_finished else None)


def _filled(
    run: TableRun,
    row: Row,
    on_epoch: Callable[[Epoch], None] | None,
    on_progress: OnProgress | None,
    command: str,
) -> RowRecord:
    """Return the record of a row after it was run, or after it failed."""
    record = read_record(run.folder, row.name)
    try:
        missing = run.photos.missing(row.data) if row.recipe else ""
        if run.wants_search(row):
            missing = missing or run.photos.missing_queries()
        if missing and run.is_finished(row):
            return record  # A table with several data sets may be filled one by one.
        if row.recipe:
            if missing:
                return replace(_without_figures(record), state="photos missing", error=missing)
            record = _trained(run, row, record, on_epoch, on_progress, command)
        return _measured(run, row, record, on_progress)
    except (WeightsUnavailable, EncoderUnavailable) as error:
        record = read_record(run.folder, row.name)
        reason = error.reason if isinstance(error, WeightsUnavailable) else str(error)
        return replace(_without_figures(record), state="weights missing", error=readable(reason))
    except CannotWrite:
        raise
    except Exception as error:  # noqa: BLE001 - a fault in one row must not cost the others
        record = read_record(run.folder, row.name)
        is_ours = isinstance(error, VedutaError)
        text = str(error) if is_ours else f"{type(error).__name__}: {error}"
        return replace(
            _without_figures(record),
            state="failed",
            error=readable(" ".join(text.split())) or repr(error),
        )


def _has_recipe(record: RowRecord, recipe: Recipe) -> bool:
    """Return whether a row was trained by this recipe from the same weights."""
    old = record.trained_on
    return old is not None and (old.recipe, old.weights) == (
        recipe.digest(),
        digest_of_weights(recipe),
    )


def _without_figures(record: RowRecord) -> RowRecord:
    return RowRecord(record.row, trained_on=record.trained_on)


def _trained(
    run: TableRun,
    row: Row,
    record: RowRecord,
    on_epoch: Callable[[Epoch], None] | None,
    on_progress: OnProgress | None,
    command: str,
) -> RowRecord:
    """Train a row if there is no run of its recipe and photos. Return the record of the run."""
    recipe = row_recipe(row, run.changes)
    splits = run.photos.splits(row.data, recipe)
    wanted = TrainedOn(recipe.digest(), splits.digest, digest_of_weights(recipe))
    folder = run.run_folder(row)
    notes: tuple[str, ...] = ()
    if record.trained_on != wanted:
        if record.trained_on is None and _card_identity(folder) == wanted:
            notes = ("the run was found in its folder, and was not trained by this table",)
        else:
            notes = _set_aside(run, row, record.trained_on, wanted)
        record = RowRecord(row.name, state="unfinished", trained_on=wanted, notes=notes)
        # It is written before the training, so that an unfinished run can be told from another.
        write_record(run.folder, record)
    if not (folder / CARD_FILE).exists():
        if run.wants_search(row):
            run.photos.check_leak(row.data, splits)
        options = run.table.data_set(row.data)
        train(
            recipe,
            Path(options.path),
            folder,
            labels=options.labels or None,
            exclude=options.exclude,
            column=options.column,
            allow_leak=run.photos.allow_leak,
            photos_per_class=options.photos_per_class or None,
            subset_seed=options.subset_seed,
            devices=1,
            on_epoch=on_epoch,
            on_progress=on_progress,
            command=command,
        )
        record = replace(record, state="unfinished", measured_on="")
    card = read_card(folder)
    notes += tuple(note for note in splits.problems if note.startswith("subset:"))
    if card.epoch_chosen_by == "test":
        notes += ("the test photos chose the epoch, so the figures of test photos are optimistic",)
    return replace(
        record,
        parameters=card.parameters.total,
        epochs=card.epochs,
        seconds=card.seconds,
        notes=notes,
    )


def _card_identity(folder: Path) -> TrainedOn | None:
    """Return what the run in a folder was trained on, according to its card; None without one."""
    try:
        card = read_card(folder)
    except LearnError:
        return None
    start = card.start
    weights = "" if start is None else start.weights.digest
    return TrainedOn(card.recipe_digest, card.dataset_digest, weights)


def _set_aside(
    run: TableRun, row: Row, old: TrainedOn | None, wanted: TrainedOn
) -> tuple[str, ...]:
    """Move a run of another recipe or of other photos away, and say so."""
    folder = run.run_folder(row)
    if not folder.exists():
        return ()
    if old is None:
        why, digest = "it was not known what it was trained on", "unknown"
    elif old.recipe != wanted.recipe:
        why, digest = "the recipe has changed", old.recipe
    elif old.weights != wanted.weights:
        why, digest = "the weights that it begins with have changed", old.weights or "unknown"
    else:
        why, digest = "the training photos have changed", old.photos
    target = run.folder / REPLACED_FOLDER / f"{folder.name}-{digest[:8]}"
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        remove_path(target)
    folder.rename(target)
    return (f"trained again: {why}; the run before is in {REPLACED_FOLDER}/{target.name}",)


def _measured(
    run: TableRun, row: Row, record: RowRecord, on_progress: OnProgress | None
) -> RowRecord:
    """Measure a row if its figures are not those of its run and of the photos."""
    photos = run.photos.measured() if run.wants_search(row) else None
    of_weights = record.trained_on if row.recipe else identity_of_method(row)
    key = json.dumps([str(of_weights), photos.digest if photos else ""])
    identity = content_hash(key.encode()).hex()[:16]
    if record.state == "done" and record.measured_on == identity:
        return record
    notes = record.notes
    if record.measured_on and record.measured_on != identity:
        notes = (*notes, "measured again: the queries, the gallery or the encoder have changed")
    folder = run.run_folder(row) if row.recipe else None
    measured = Measurement()
    if photos is not None:
        measured = figures_of_row(row, folder, photos, on_progress)
    figures = measured.figures | (figures_of_run(folder) if folder is not None else {})
    if measured.notes:
        left_out = count(len(measured.notes), "note")
        notes = (*notes, f"{left_out} on the photos, such as: {measured.notes[0]}")
    return replace(
        record,
        state="done",
        measured_on=identity,
        photos=photos.digest if photos else "",
        figures=figures,
        queries=measured.queries,
        gallery=measured.gallery,
        notes=notes,
        error="",
    )
