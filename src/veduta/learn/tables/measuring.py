"""The figures of one row: those of its training, and those of the search for the queries."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from veduta.encoders import DEFAULT
from veduta.encoders.model_spec import weights_digest
from veduta.encoders.settings import settings_file
from veduta.encoders.sources import RUN_MODEL
from veduta.evaluation import evaluate, evaluate_recognition
from veduta.learn.recipe import names_file
from veduta.learn.runs.card import read_card
from veduta.learn.runs.history import HISTORY_FILE, read_history
from veduta.learn.tables.figures import Value
from veduta.learn.tables.table_file import Row
from veduta.learn.tables.table_photos import MeasuredPhotos
from veduta.photos import content_hash

if TYPE_CHECKING:
    from veduta.evaluation.dataset_index import OnProgress
    from veduta.evaluation.figures import Figures
    from veduta.learn.recipe import Recipe

__all__ = [
    "Measurement",
    "digest_of_weights",
    "figures_of_row",
    "figures_of_run",
    "identity_of_method",
]

_TRAINING_FIGURES = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")


@dataclass(slots=True)
class Measurement:
    """The figures of a row.

    Attributes:
        figures: key → value.
        queries: the number of queries that the figures of the search are over.
        gallery: the number of gallery photos.
        notes: sentences that a reader of the figures should know.
    """

    figures: dict[str, Value] = field(default_factory=dict)
    queries: int = 0
    gallery: int = 0
    notes: tuple[str, ...] = ()


def figures_of_run(run: Path) -> dict[str, Value]:
    """Return the figures of a training, from the files of its run.

    Args:
        run: the folder of a finished run.

    Raises:
        LearnError: it is not a finished run.
    """
    card = read_card(run)
    figures: dict[str, Value] = {}
    if card.test is not None:
        figures["test_accuracy"] = Value(card.test.accuracy)
        if card.test.gap is not None:
            figures["gap"] = Value(card.test.gap)
    for epoch in read_history(run / HISTORY_FILE):
        if epoch.number == card.best_epoch:
            for key in _TRAINING_FIGURES:
                value = getattr(epoch, key)
                if value is not None and math.isfinite(value):
                    figures[key] = Value(value)
    return figures


def figures_of_row(
    row: Row, run: Path | None, photos: MeasuredPhotos, on_progress: OnProgress | None
) -> Measurement:
    """Search for the queries of a table in its gallery, by the descriptor or the method alone.

    Args:
        row: the row.
        run: the folder of its finished run; None for a row without a recipe.
        photos: the queries and the gallery.
        on_progress: called with (stage, done, total).

    Raises:
        DatasetError: the queries and the gallery do not fit each other.
        EncoderError: the encoder is not available.
    """
    if row.is_recognition:
        named = evaluate_recognition(
            photos.dataset,
            encoder=row.encoder or DEFAULT,
            method=row.method,
            on_progress=on_progress,
        )
        values = _values(named.summary)
        figures = {
            key: values[of]
            for key, of in (("test_accuracy", "guess_right"), ("gap", "gap"))
            if of in values
        }
        return Measurement(figures, named.summary.known, len(named.gallery_paths), named.problems)
    if row.method:
        found = evaluate(photos.dataset, method=row.method, on_progress=on_progress)
    else:
        encoder = str(run) if run is not None else row.encoder
        found = evaluate(photos.dataset, encoder=encoder, rerank="none", on_progress=on_progress)
    summary = found.summary
    return Measurement(_values(summary), summary.queries, summary.gallery, found.problems)


def identity_of_method(row: Row) -> str:
    """Return what decides the figures of a row without a recipe, as far as files can change it.

    Args:
        row: a row with an encoder or a method.
    """
    return json.dumps([row.encoder, row.method, _digest_of_encoder(row.encoder or DEFAULT)])


def digest_of_weights(recipe: Recipe) -> str:
    """Return a digest of the files whose weights a recipe takes; "" if it names none.

    Args:
        recipe: the recipe. A file that does not exist has no digest.
    """
    weights = Path(recipe.network.weights)
    digest = ""
    if names_file(recipe.network.weights) and weights.is_file():
        # The same as in the card of the run.
        digest = content_hash(weights.read_bytes()).hex()[:16]
    return digest + _digest_of_encoder(recipe.network.encoder)


def _digest_of_encoder(name: str) -> str:
    """Return a digest of the files of an encoder; "" if the name is not that of a file or run."""
    model = Path(name).expanduser()
    if model.is_dir():
        model /= RUN_MODEL
    if not name or not model.is_file():
        return ""
    settings = settings_file(model)
    content = bytes.fromhex(weights_digest(model))
    return content_hash(content + (settings.read_bytes() if settings else b"")).hex()[:16]


def _values(summary: Figures) -> dict[str, Value]:
    return {
        key: Value(value, low, high)
        for key, (value, (low, high)) in summary.figures.items()
        if math.isfinite(value)
    }
