"""What a run leaves in its folder; all of it appears together, once it is whole.

recipe.toml                     what was trained
model.onnx, model.json          the encoder: `veduta index --encoder RUN`
model.safetensors               the weights
encoder.safetensors, decoder.safetensors, decoder.onnx      of a network that reconstructs
recognizer/                     `veduta recognize --model RUN`; of a network with classes
card.json, card.md              what was trained on what, and what came of it
history.csv, accuracy.png, loss.png                         epoch by epoch
answers.csv, classification.txt, confusion.csv, confusion.png        photo by photo
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from veduta.encoders import load_encoder
from veduta.encoders.sources import RUN_MODEL
from veduta.evaluation.classification import classification_figures
from veduta.files import atomic_files
from veduta.keypoints.xfeat import LONG_SIDE
from veduta.learn.runs.card import (
    CARD,
    Card,
    Parameters,
    hardware,
    versions,
    weights_licence,
)
from veduta.learn.runs.card_text import card_markdown
from veduta.learn.runs.curves import write_curves, write_history
from veduta.learn.runs.prediction_files import (
    ANSWERS,
    classification_text,
    write_confusion,
    write_csv,
)
from veduta.learn.training import scoring
from veduta.learn.training.checkpoint import remove_checkpoint
from veduta.learn.training.figures import ClassificationFigures
from veduta.learn.training.scoring import Predictions
from veduta.recognize.model import IN_A_RUN, Model
from veduta.recognize.network_scores import fit_confidence

if TYPE_CHECKING:
    from veduta.learn.data.image_cache import ImageCache
    from veduta.learn.data.splits import DatasetSplits
    from veduta.learn.models.networks import Net
    from veduta.learn.recipe import Recipe
    from veduta.learn.training.loop import Epoch, TrainingResult

__all__ = ["PARTS", "Learned", "Scored", "write_leavings", "write_run"]

PARTS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a network gives for the photos of each of `PARTS`, in the order of the part's rows.

    `features`: (n, D) float32. `probabilities`: (n, C) float64; None of a network without scores.
    `reconstruction`: mean squared error of the pixels of a part, of a network that reconstructs.
    """

    features: Mapping[str, NDArray[np.float32]]
    probabilities: Mapping[str, NDArray[np.float64]] | None
    reconstruction: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Learned:
    """How training went: `best` is the number of the epoch that was kept, `seconds` all it took.

    `device`: "cpu", or the name of the GPU. `stopped`: why it ended.
    """

    history: Sequence[Epoch]
    best: int
    seconds: float
    device: str
    stopped: str
    parameters: Parameters


def write_run(
    folder: Path,
    recipe: Recipe,
    parts: DatasetSplits,
    trained: TrainingResult,
    pictures: ImageCache,
    *,
    command: str,
) -> Card:
    """Score a trained network, and write what the run leaves; then the checkpoint goes.

    Args:
        folder: of the run.
        recipe: that was trained.
        parts: the photos, without unreadable ones.
        trained: what came of it.
        pictures: of `parts`.
        command: how the run was asked for.

    Raises:
        LearnError: the network cannot be exported.
        OSError: the folder cannot be written to.
    """
    from veduta.learn.runs.export import export

    scored = _scored(recipe, parts, trained.net, pictures)
    learned = Learned(
        trained.history,
        trained.best_epoch,
        trained.seconds,
        trained.device,
        trained.stop_reason,
        _parameters(trained.net),
    )
    return write_leavings(
        folder,
        recipe,
        parts,
        scored,
        learned,
        lambda draft: export(trained.net, recipe, draft),
        command=command,
    )


def write_leavings(
    folder: Path,
    recipe: Recipe,
    parts: DatasetSplits,
    scored: Scored,
    learned: Learned,
    write_network: Callable[[Path], float],
    *,
    command: str,
) -> Card:
    """Write what any run leaves, whatever trained it.

    Args:
        folder: of the run; a checkpoint in it goes at the end.
        recipe, parts: what was trained on what.
        scored: what the network gives for the photos.
        learned: how training went.
        write_network: writes `model.onnx` and `model.json` into the folder it is given, whose
            output "logits" (N, C) must be there when `scored` has probabilities, and returns how
            far they are from the trained network.
        command: how the run was asked for.

    Raises: as `write_run`.
    """
    answers = _answers(parts, scored)
    judged = next((part for part in ("test", "val") if part in answers), "")
    figures = {part: _figures(parts, scored, answers[part], part) for part in answers}
    with atomic_files(folder, last=CARD) as draft:
        difference = write_network(draft)
        questions = _write_recognizer(draft, parts, scored)
        card = Card(
            recipe=recipe.name,
            values=recipe.as_json(),
            recipe_digest=recipe.digest(),
            dataset=parts.root.resolve().name,
            dataset_digest=parts.digest,
            photos={part: len(getattr(parts, part)) for part in PARTS},
            classes=parts.class_names,
            held_out=parts.held_out,
            seed=recipe.training.seed,
            answers="scores" if scored.probabilities is not None else "nearest training photo",
            judged=judged,
            val=figures.get("val"),
            test=figures.get("test"),
            retrieval=scoring.evaluate_retrieval(
                scored.features["test"],
                parts.class_ids[parts.test],
                scored.features["train"],
                parts.class_ids[parts.train],
            ),
            features=int(scored.features["train"].shape[1]),
            parameters=learned.parameters,
            epochs=len(learned.history),
            best_epoch=learned.best,
            seconds=learned.seconds,
            stopped=learned.stopped,
            onnx_difference=difference,
            versions=versions(),
            hardware=hardware(learned.device),
            licence=weights_licence(recipe.as_json()["network"]),
            confidence_questions=questions,
            problems=parts.problems,
            command=command,
            generated=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_history(learned.history, draft / "history.csv")
        write_curves(learned.history, learned.best, recipe.name, draft)
        if judged:
            _write_judged(draft, parts, answers[judged], judged)
        (draft / "card.md").write_text(card_markdown(card), "utf-8")
        (draft / CARD).write_text(json.dumps(card.as_json(), indent=1) + "\n", "utf-8")
    remove_checkpoint(folder)
    return card


def _scored(recipe: Recipe, parts: DatasetSplits, net: Net, pictures: ImageCache) -> Scored:
    """Ask the network about all photos, on the GPU where there is one."""
    import torch

    features, probabilities, reconstruction = {}, {}, {}
    if torch.cuda.is_available():
        net.cuda()
    for part in PARTS:
        rows = getattr(parts, part)
        features[part], shares = scoring.run_network(net, pictures, rows)
        if shares is not None:
            probabilities[part] = shares
        if recipe.network.decoder:
            reconstruction[part] = scoring.reconstruction_error(net, pictures, rows)
    net.cpu()
    return Scored(features, probabilities or None, reconstruction)


def _answers(parts: DatasetSplits, scored: Scored) -> dict[str, Predictions]:
    """Return the answers to the photos of "val" and "test", as far as there are any."""
    found = {}
    for part in ("val", "test"):
        if not len(getattr(parts, part)):
            continue
        if scored.probabilities is not None:
            found[part] = scoring.predict_by_scores(scored.probabilities[part])
        else:
            found[part] = scoring.predict_by_nearest(
                scored.features[part], scored.features["train"], parts.class_ids[parts.train]
            )
    return found


def _figures(
    parts: DatasetSplits, scored: Scored, answers: Predictions, part: str
) -> ClassificationFigures:
    return scoring.evaluate_predictions(
        answers,
        parts.class_ids[getattr(parts, part)],
        parts.class_names,
        scored.reconstruction.get(part),
    )


def _write_recognizer(draft: Path, parts: DatasetSplits, scored: Scored) -> int:
    """Write the recogniser, if there are scores; return how many questions its confidence is of."""
    if scored.probabilities is None:
        return 0
    # Their logarithms are logits too.
    logits = np.log(np.maximum(scored.probabilities["val"], 1e-300))
    confidence = fit_confidence(logits, parts.class_ids[parts.val])
    encoder = load_encoder(str(draft / RUN_MODEL))
    # An index with keypoints decodes as many pixels, and so does training.
    model = Model(encoder, parts.class_names, None, confidence, max(encoder.long_side, LONG_SIDE))
    model.save(draft / IN_A_RUN)
    return confidence.examples


def _write_judged(draft: Path, parts: DatasetSplits, answers: Predictions, part: str) -> None:
    rows = getattr(parts, part)
    labels = [parts.class_names[code] for code in parts.class_ids[rows].tolist()]
    given = [parts.class_names[code] for code in answers.class_ids.tolist()]
    paths = [parts.paths[row] for row in rows.tolist()]
    sure = [f"{value:.6f}" for value in answers.confidence.tolist()]
    table = zip(paths, labels, given, sure, strict=True)
    write_csv(draft / ANSWERS, ["path", "label", "answer", "confidence"], table)
    figures = classification_figures(labels, given)
    named = {"test": "test", "val": "validation"}[part]
    (draft / "classification.txt").write_text(classification_text(figures, named), "utf-8")
    write_confusion(figures, named, draft)


def _parameters(net: Net) -> Parameters:
    from veduta.learn.models.summary import count

    net.backbone_learns(True)  # it may be frozen still, where it was to learn later
    learn, fixed = count(net)
    return Parameters(learn + fixed, learn)
