"""The card of a run for a person: Markdown that also reads as plain text, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from veduta.learn.runs.card import Card
from veduta.learn.training.figures import ClassificationFigures
from veduta.text import count, duration, printable

__all__ = ["card_markdown"]

_WIDTH = 80
_MOST_NAMES = 40  # classes that are listed
_PARTS = {"train": "training", "val": "validation", "test": "test"}


def card_markdown(card: Card) -> str:
    """Return `card.md`."""
    sections = [
        _head(card),
        _photos(card),
        _figures(card),
        _network(card),
        _training(card),
        _terms(card),
        _recipe(card),
    ]
    return "\n".join(line for section in sections for line in section)


def _head(card: Card) -> Iterator[str]:
    yield f"# {_safe(card.recipe)}, trained on {_safe(card.dataset)}"
    yield ""
    if about := str(card.values.get("about", "")):
        yield from _paragraph(about)
    if card.problems:
        yield from _paragraph("What to know of this run:")
        yield from _list(card.problems)


def _photos(card: Card) -> Iterator[str]:
    yield "## Photos"
    yield ""
    counts = ", ".join(f"{card.photos[part]:,} {name}" for part, name in _PARTS.items())
    text = f"{len(card.classes):,} classes; photos: {counts}."
    if card.held_out:
        text += f" The validation photos were taken out of the training photos (seed {card.seed})."
    yield from _paragraph(text)
    names = [_safe(name) for name in card.classes[:_MOST_NAMES]]
    left = len(card.classes) - len(names)
    more = f" and {left:,} more, in card.json" if left else ""
    yield from _paragraph(f"Classes: {', '.join(names)}{more}.")
    yield from _paragraph(f"Digest of photos, labels and parts: {card.dataset_digest}.")


def _figures(card: Card) -> Iterator[str]:
    yield "## Figures"
    yield ""
    parts = [(name, of) for name, of in (("validation", card.val), ("test", card.test)) if of]
    if not parts:
        yield from _paragraph("Neither validation nor test photos: nothing was measured.")
        return
    rows = [("photos", *(f"{of.photos:,}" for _, of in parts))]
    for title, key in (
        ("accuracy", "accuracy"),
        ("balanced accuracy", "balanced_accuracy"),
        ("among 3 likeliest", "top3"),
        ("among 10 likeliest", "top10"),
        ("cross-entropy", "loss"),
        ("squared error of pixels", "reconstruction"),
    ):
        values = [getattr(of, key) for _, of in parts]
        if any(value is not None for value in values):
            rows.append((title, *("-" if value is None else f"{value:.4f}" for value in values)))
    yield from _table(("", *(name for name, _ in parts)), rows)
    if card.answers != "scores":
        yield from _paragraph(
            "The network gives no scores of classes. The answer for a photo is the class of the "
            "training photo whose features are nearest by cosine; the accuracy is of that."
        )
    yield from _paragraph(_honest(card.val, card.test))
    if card.retrieval is not None:
        of = card.retrieval
        text = (
            f"Retrieval: {of.queries:,} test photos looked for among {of.gallery:,} training "
            "photos by the cosine of their features."
        )
        if of.unanswerable:
            text += f" {of.unanswerable:,} more have no photo of their class there."
        yield from _paragraph(text)
        yield from _table(
            ("top-1", "top-3", "top-10", "mAP"),
            [tuple(f"{value:.4f}" for value in (of.top1, of.top3, of.top10, of.map))],
        )
    if card.answers == "scores":
        yield from _paragraph(_confidence(card.confidence_questions, len(card.classes)))


def _honest(val: ClassificationFigures | None, test: ClassificationFigures | None) -> str:
    if val is None:
        return (
            "There were no validation photos: the loss of the training photos chose the epoch that "
            "was kept. The test photos chose nothing: they were looked at once, after training."
        )
    if test is None:
        return (
            "There are no test photos. The validation photos chose the epoch that was kept, so "
            "their figures are better than those of new photos will be."
        )
    return (
        "The validation photos chose the epoch that was kept, and the settings where they were "
        "tuned, so their figures are a little too good. The test photos chose nothing: they were "
        "looked at once, after training."
    )


def _confidence(questions: int, classes: int) -> str:
    if questions:
        text = f"Confidences of the recogniser were fitted on {questions:,} questions made of the "
        if classes > 2:
            return (
                f"{text}validation photos; half of them hide the right class, so that the answer "
                "is unknown."
            )
        return (
            f"{text}validation photos. All of them show one of the two classes: photos of "
            "something else are named too."
        )
    return (
        "Confidences of the recogniser are the network's own probabilities, which are often too "
        "high: there were too few validation photos, or no mistake on them, to fit better ones."
    )


def _network(card: Card) -> Iterator[str]:
    yield "## Network"
    yield ""
    of = card.parameters
    seen, backbone = card.values["input"], str(card.values["network"]["backbone"])
    sees = f"{seen['size']} × {seen['size']} pixels, {seen['fit']}"
    if backbone.startswith("encoder:"):
        sees = f"descriptors of the encoder {backbone.removeprefix('encoder:')}, which is frozen"
    yield from _paragraph(
        f"{of.total:,} parameters, {of.trainable:,} of them trainable and {of.non_trainable:,} not "
        f"(statistics of batch norm among these). Input: {sees}. "
        f"A descriptor has {card.features:,} numbers. model.onnx differs from the "
        f"trained network by {card.onnx_difference:.1e} of the largest number."
    )


def _training(card: Card) -> Iterator[str]:
    yield "## Training"
    yield ""
    ran = card.hardware
    cores = count(ran["cores"], "core")
    where = f"{ran['gpu']}, with {ran['cpu']}" if ran["gpu"] else f"{ran['cpu']}, {cores}, no GPU"
    yield from _paragraph(
        f"{count(card.epochs, 'epoch')} in {duration(card.seconds)}; "
        f"epoch {card.best_epoch} was kept. Ended: {_safe(card.stopped)}. Seed {card.seed}. "
        f"On {where}; {ran['system']}."
    )
    packages = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    yield from _paragraph(f"Versions: {packages}.")
    if card.command:
        yield from _paragraph("Command:")
        yield f"    {_safe(card.command)}"
        yield ""
    if card.generated:
        yield from _paragraph(f"Written {card.generated}.")


def _terms(card: Card) -> Iterator[str]:
    yield "## Terms"
    yield ""
    yield from _paragraph(card.licence)


def _recipe(card: Card) -> Iterator[str]:
    yield "## Recipe"
    yield ""
    text = f"{_safe(card.recipe)}, digest {card.recipe_digest}; recipe.toml and card.json have it."
    if source := str(card.values.get("source", "")):
        text += f" Source: {source}"
    yield from _paragraph(text)


def _safe(text: str) -> str:
    return printable(text)


def _paragraph(text: str) -> Iterator[str]:
    yield from textwrap.wrap(_safe(text), _WIDTH, break_long_words=False, break_on_hyphens=False)
    yield ""


def _list(items: Iterable[str]) -> Iterator[str]:
    for item in items:
        yield from textwrap.wrap(
            _safe(item),
            _WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    widths = [max(len(str(row[at])) for row in [header, *rows]) for at in range(len(header))]
    yield _row(header, widths)
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    yield f"| {' | '.join(rules)} |"
    for row in rows:
        yield _row(row, widths)
    yield ""


def _row(cells: Sequence[Any], widths: Sequence[int]) -> str:
    padded = [
        f"{cell:{width}}" if at == 0 else f"{cell:>{width}}"
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
