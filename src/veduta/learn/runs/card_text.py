"""The card of a run for a person: Markdown that also reads as plain text, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from veduta.learn.runs.card import Card, Start
from veduta.learn.training.figures import RetrievalFigures
from veduta.text import count, duration, printable

__all__ = ["card_markdown"]

_WIDTH = 80
_MAX_CLASSES_LISTED = 40
_SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test", "unknown": "unknown"}
_FIGURE_TITLES = {
    "accuracy": "accuracy",
    "gap": "GAP",
    "balanced_accuracy": "balanced accuracy",
    "top3": "among 3 likeliest",
    "top10": "among 10 likeliest",
    "loss": "cross-entropy",
    "reconstruction": "squared error of pixels",
}


def card_markdown(card: Card) -> str:
    """Return `card.md`."""
    sections = [
        _title_section(card),
        _photos_section(card),
        _figures_section(card),
        _network_section(card),
        _training_section(card),
        _terms_section(card),
        _recipe_section(card),
    ]
    return "\n".join(line for section in sections for line in section)


def _title_section(card: Card) -> Iterator[str]:
    yield f"# {printable(card.recipe)}, trained on {printable(card.dataset)}"
    yield ""
    if about := str(card.values.get("about", "")):
        yield from _paragraph(about)
    if card.problems:
        yield from _paragraph("Notes on this run:")
        yield from _list(card.problems)


def _photos_section(card: Card) -> Iterator[str]:
    yield "## Photos"
    yield ""
    counts = ", ".join(
        f"{card.photos.get(split, 0):,} {name}"
        for split, name in _SPLIT_NAMES.items()
        if split != "unknown" or card.photos.get(split)
    )
    text = f"{count(len(card.classes), 'class', 'classes')}; photos: {counts}."
    if card.held_out:
        text += f" The validation photos were taken out of the training photos (seed {card.seed})."
    yield from _paragraph(text)
    names = [printable(name) for name in card.classes[:_MAX_CLASSES_LISTED]]
    hidden = len(card.classes) - len(names)
    more = f" and {hidden:,} more, in card.json" if hidden else ""
    yield from _paragraph(f"Classes: {', '.join(names)}{more}.")
    yield from _paragraph(f"Digest of photos, labels and splits: {card.dataset_digest}.")


def _figures_section(card: Card) -> Iterator[str]:
    yield "## Figures"
    yield ""
    columns = {
        name: figures
        for name, figures in (("validation", card.val), ("test", card.test))
        if figures is not None
    }
    if not columns:
        yield from _paragraph("There are no validation and no test photos: nothing was measured.")
        return
    rows = [("photos", *(f"{figures.photos:,}" for figures in columns.values()))]
    for key, title in _FIGURE_TITLES.items():
        values = [getattr(figures, key) for figures in columns.values()]
        if any(value is not None for value in values):
            rows.append((title, *("-" if value is None else f"{value:.4f}" for value in values)))
    yield from _table(("", *columns), rows)
    if card.answers != "scores":
        yield from _paragraph(
            "The network gives no scores of classes. The answer for a photo is the class of the "
            "training photo whose features are nearest by cosine. The accuracy counts these "
            "answers."
        )
    yield from _paragraph(_meaning_of_figures(card))
    if any(figures.gap is not None for figures in columns.values()):
        yield from _paragraph(_meaning_of_gap(card))
    if card.retrieval is not None:
        yield from _retrieval(card.retrieval)
    if card.answers == "scores":
        yield from _paragraph(_meaning_of_confidence(card))


def _retrieval(retrieval: RetrievalFigures) -> Iterator[str]:
    text = (
        f"Retrieval: a search for {count(retrieval.queries, 'test photo')} among "
        f"{count(retrieval.gallery, 'training photo')} by the cosine of their features."
    )
    if retrieval.unanswerable:
        text += f" {retrieval.unanswerable:,} more have no photo of their class there."
    yield from _paragraph(text)
    figures = {
        "top-1": retrieval.top1,
        "top-3": retrieval.top3,
        "top-5": retrieval.top5,
        "top-10": retrieval.top10,
        "mAP": retrieval.map,
    }
    shown = {name: value for name, value in figures.items() if value is not None}
    yield from _table(tuple(shown), [tuple(f"{value:.4f}" for value in shown.values())])


def _meaning_of_figures(card: Card) -> str:
    val, test = card.val, card.test
    if card.epoch_chosen_by == "test":
        return (
            "The test photos chose the epoch that was kept and ended the training, because "
            'training.epoch_chosen_by is "test". So their figures are optimistic: those of new '
            "photos will be lower. They cannot be compared with the figures of runs whose "
            "validation photos chose the epoch."
        )
    if val is None:
        return (
            "There are no validation photos: the epoch that was kept is the one with the lowest "
            "loss on the training photos. The test photos were used once, after training."
        )
    if card.epoch_chosen_by == "train":
        return (
            "The training photos chose the epoch that was kept. The validation photos calibrated "
            "the recogniser, if there is one. The test photos were used once, after training."
        )
    if test is None:
        return (
            "There are no test photos. The validation photos chose the epoch that was kept, so "
            "the figures of new photos will be lower than theirs."
        )
    return (
        "The validation photos chose the epoch that was kept, and the settings if these were "
        "tuned, so their figures are a little too good. The test photos chose nothing: they were "
        "used once, after training."
    )


def _meaning_of_gap(card: Card) -> str:
    text = (
        "GAP (global average precision): all answers in one list, the surest first; the precision "
        "at each right answer, summed, over the number of photos that show one of the classes."
    )
    if card.test is not None and card.test.unknown:
        photos = count(card.test.unknown, "more photo shows", "more photos show")
        text += f" {photos} none of the classes: the answers to them are wrong."
    if card.answers != "scores":
        text += " The confidence in an answer is the cosine."
    return (
        f"{text} `veduta score submission.csv solution.csv` in this folder gives the same number "
        f"for the {_SPLIT_NAMES[card.judged]} photos."
    )


def _meaning_of_confidence(card: Card) -> str:
    split = "test" if card.epoch_chosen_by == "test" else "validation"
    if not card.confidence_questions:
        return (
            "The recogniser's confidence is the network's own probability, which is often too "
            f"high. There were too few {split} photos to calibrate it, or the network made no "
            "mistake on them."
        )
    text = (
        f"The recogniser's confidence was fitted to {card.confidence_questions:,} examples from "
        f"the {split} photos"
    )
    if split == "test":
        text += ", so it fits these photos better than new ones"
    if len(card.classes) > 2:
        return (
            f"{text}. Each photo counts twice, the second time with its class hidden, so that the "
            "right answer is unknown."
        )
    return (
        f"{text}. All of them show one of the two classes, so photos of other things also get one "
        "of these names."
    )


def _network_section(card: Card) -> Iterator[str]:
    yield "## Network"
    yield ""
    parameters = card.parameters
    seen, backbone = card.values["input"], str(card.values["network"]["backbone"])
    network_input = f"{seen['size']} × {seen['size']} pixels, {seen['fit']}"
    if backbone.startswith("encoder:"):
        name = backbone.removeprefix("encoder:")
        network_input = f"descriptors of the encoder {name}, which is not trained"
    yield from _paragraph(
        f"{parameters.total:,} parameters: {parameters.trainable:,} trainable and "
        f"{parameters.non_trainable:,} not, which include the statistics of batch norm. "
        f"Input: {network_input}. A descriptor has {card.features:,} numbers. "
        f"model.onnx differs from the trained network by {card.onnx_difference:.1e} of the "
        "largest number."
    )


def _training_section(card: Card) -> Iterator[str]:
    yield "## Training"
    yield ""
    if card.start is not None:
        yield from _start(card.start, card.dataset_digest)
    machine = card.hardware
    if machine["gpu"]:
        device = f"{machine['gpu']}, with {machine['cpu']}"
    else:
        device = f"{machine['cpu']}, {count(machine['cores'], 'core')}, no GPU"
    yield from _paragraph(
        f"{count(card.epochs, 'epoch')} in {duration(card.seconds)}; epoch {card.best_epoch} was "
        f"kept{_best_figure(card)}. End of the training: {printable(card.stopped)}. "
        f"Seed {card.seed}. Machine: {device}; {machine['system']}."
    )
    packages = ", ".join(f"{name} {number}" for name, number in card.versions.items())
    yield from _paragraph(f"Versions: {packages}.")
    if card.command:
        yield from _paragraph("Command:")
        yield f"    {printable(card.command)}"
        yield ""
    if card.generated:
        yield from _paragraph(f"Written {card.generated}.")


def _start(start: Start, dataset_digest: str) -> Iterator[str]:
    text = start.text()
    yield from _paragraph(f"{text[0].upper()}{text[1:]}.")
    yield from _paragraph("Where these weights come from, the latest first:")
    yield from _list(
        f"{one.name}, digest {one.digest}"
        + (f": {one.recipe}, trained on {one.dataset}" if one.recipe else "")
        for one in start.chain()
    )
    if any(one.dataset_digest != dataset_digest for one in start.chain()):
        yield from _paragraph(
            "Not all of them were trained on exactly the training photos of this run, and which "
            "photos they saw is not checked. If validation or test photos are among those, their "
            "figures are optimistic."
        )


def _best_figure(card: Card) -> str:
    """Return by which figure the epoch was chosen; empty for the card of an older version."""
    if not card.best_figure:
        return ""
    part, _, quantity = card.best_figure.partition("_")
    return f", by the {quantity} of the {_SPLIT_NAMES[card.epoch_chosen_by or part]} photos"


def _terms_section(card: Card) -> Iterator[str]:
    yield "## Terms"
    yield ""
    yield from _paragraph(card.licence)


def _recipe_section(card: Card) -> Iterator[str]:
    yield "## Recipe"
    yield ""
    text = (
        f"{printable(card.recipe)}, digest {card.recipe_digest}. The whole recipe is in "
        "recipe.toml and card.json."
    )
    if source := str(card.values.get("source", "")):
        text += f" Source: {source}"
    yield from _paragraph(text)


def _paragraph(text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        printable(text), _WIDTH, break_long_words=False, break_on_hyphens=False
    )
    yield ""


def _list(items: Iterable[str]) -> Iterator[str]:
    for item in items:
        yield from textwrap.wrap(
            printable(item),
            _WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    yield ""


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    yield _row(header, widths)
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    yield f"| {' | '.join(rules)} |"
    for row in rows:
        yield _row(row, widths)
    yield ""


def _row(cells: Sequence[Any], widths: Sequence[int]) -> str:
    padded = [
        f"{cell:{width}}" if column == 0 else f"{cell:>{width}}"
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
